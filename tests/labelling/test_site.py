"""The labelling page's server, over HTTP: nothing wrong is taken, and nothing right is lost."""

import json
import re
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
from label_site import CONFIG, said

from robostack.labelling import Handler, Labelling
from robostack.prefer.answers import Ledger
from robostack.prefer.saved import PreferenceError


def test_pairs_come_one_after_the_other_until_all_are_answered(site):
    keys = []
    for number in range(4):
        shown = site.post("next", {"annotator": "ada", "tab": "1"})
        assert (shown["done"], shown["total"]) == (number, 4)
        keys.append(shown["key"])
        assert site.post("answer", said(shown, number=f"{number}")) == {"new": True}
    last = site.post("next", {"annotator": "ada", "tab": "1"})
    assert last == {"done": 4, "total": 4, "waiting": False} and len(set(keys)) == 4
    assert site.post("next", {"annotator": "bob", "tab": "1"})["done"] == 0


def test_two_tabs_of_one_person_are_shown_different_pairs_and_one_tab_the_same(site):
    def shown(tab):
        return site.post("next", {"annotator": "ada", "tab": tab}).get("key")

    keys = [shown(tab) for tab in "1234"]
    assert len(set(keys)) == 4 and [shown(tab) for tab in "1234"] == keys
    assert site.post("next", {"annotator": "ada", "tab": "5"})["waiting"] is True
    assert site.post("next", {"annotator": "bob", "tab": "9"})["key"] in keys


def test_films_are_webm_and_tell_nothing_of_the_outcome(site, store):
    shown = site.post("next", {"annotator": "ada", "tab": "1"})
    with urllib.request.urlopen(site.address + "film/" + shown["left"]) as reply:
        assert reply.headers["Content-Type"] == "video/webm"
        assert reply.read(4) == b"\x1a\x45\xdf\xa3"  # EBML
    same = {name: store.read(i) for name, i in (("a", "000000"), ("b", "000001"))}
    assert {e.success for e in same.values()} == {True, False}
    from robostack import figures

    still = np.zeros((2, 16, 16, 3), np.uint8)
    assert (figures.framed(still, None, 32) == 0).all()
    assert set(shown) == {"key", "left", "right", "task", "digests", "done", "total"}


@pytest.mark.parametrize(
    ("path", "what", "told"),
    [
        ("answer", {"id": "1"}, "missing"),
        ("answer", {"digests": None}, "got none, as from an older page"),
        ("answer", {"answer": "both"}, "left, right, equal, skip"),
        ("answer", {"left": "../../etc/passwd"}, "one of ../../etc/passwd"),
        ("next", {"annotator": "  ", "tab": "1"}, "name of 1 to 60"),
        ("next", {"annotator": "x" * 99, "tab": "1"}, "name of 1 to 60"),
        ("elsewhere", {}, "nothing to ask"),
        ("next", b"{", "Expecting property name"),
        ("next", b"x" * 20_000, "1 to 10000 bytes"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason_and_nothing_is_written(site, path, what, told):
    if path == "answer" and len(what) == 1 and "id" not in what:
        what = {**said(site.post("next", {"annotator": "ada", "tab": "1"})), **what}
    with pytest.raises(urllib.error.HTTPError) as caught:
        site.post(path, what)
    assert caught.value.code == 400 and told in json.load(caught.value)["error"]
    assert site.answers() == []


def test_an_answer_about_another_store_is_a_conflict_and_not_taken(site, other):
    shown = site.post("next", {"annotator": "ada", "tab": "1"})
    beside = Labelling(other, Ledger(other.path / "none.jsonl"), CONFIG)
    foreign = {**said(shown), **beside.again("ada", shown["key"])}
    del foreign["task"]
    for changes in (foreign, {**said(shown), "key": "0-9"}):
        with pytest.raises(urllib.error.HTTPError) as caught:
            site.post("answer", changes)
        assert caught.value.code == 409
        assert re.search("another episode|no pair '0-9'", json.load(caught.value)["error"])
    assert site.answers() == []


def test_a_ledger_about_another_store_is_refused_before_the_page_is_served(site, other):
    site.post("answer", said(site.post("next", {"annotator": "ada", "tab": "1"})))
    with pytest.raises(PreferenceError, match="ada's answer to .* is about another episode"):
        Labelling(other, Ledger(site.path), CONFIG)
    assert Labelling(site.store, Ledger(site.path), CONFIG).questions


def test_a_connection_that_says_nothing_is_closed(site, monkeypatch):
    monkeypatch.setattr(Handler, "timeout", 0.2)
    half = b"POST /next HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    for begun in (b"", half):
        with socket.create_connection(("127.0.0.1", site.port), timeout=10) as silent:
            silent.sendall(begun)
            assert silent.recv(100) == b""
    assert site.post("next", {"annotator": "ada", "tab": "1"})["total"] == 4


def test_other_sites_cannot_answer_in_a_visitors_name(site):
    shown = site.post("next", {"annotator": "ada", "tab": "1"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        site.post("answer", said(shown), kind="text/plain")  # what a form of theirs could send
    assert caught.value.code == 400 and site.answers() == []
