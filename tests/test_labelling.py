"""The labelling page, over HTTP and in a real browser: no press of a key is ever lost."""

import json
import shutil
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from browser import Browser, wait
from fakes import SPEC, make_episode

from robostack import cli
from robostack.data.store import Store
from robostack.labelling import LabelConfig, Labelling, server
from robostack.prefer import saved
from robostack.prefer.people import Ledger

CONFIG = LabelConfig(pairs=2)


@pytest.fixture
def store(tmp_path):
    """Four states with two tries each."""
    store = Store.create(tmp_path / "store", SPEC)
    for seed in range(8):
        store.append(make_episode(seed, steps=6))
    return store


class Site:
    """A server that can be stopped and started again at the same address."""

    def __init__(self, store, path):
        self.store, self.path, self.port, self.running = store, path, 0, None
        self.start()

    def start(self):
        self.labelling = Labelling(self.store, Ledger(self.path), CONFIG)
        self.running = server(self.labelling, "127.0.0.1", self.port)
        self.port = self.running.server_address[1]
        threading.Thread(target=self.running.serve_forever, daemon=True).start()

    def stop(self):
        self.running.shutdown()
        self.running.server_close()

    def answers(self):
        return [(a.annotator, a.key, a.answer) for a in Ledger(self.path).answers]

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}/"

    def post(self, path, what, kind="application/json"):
        data = what if isinstance(what, bytes) else json.dumps(what).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)


@pytest.fixture
def site(store, tmp_path):
    site = Site(store, tmp_path / "labels.jsonl")
    yield site
    site.stop()


def said(shown, answer="left", number="1", annotator="ada"):
    sides = {name: shown[name] for name in ("key", "left", "right")}
    return {"id": number, "annotator": annotator, "answer": answer, "seconds": 2.5, **sides}


# without a browser -------------------------------------------------------------------------------
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
    assert set(shown) == {"key", "left", "right", "task", "done", "total"}


@pytest.mark.parametrize(
    ("path", "what", "told"),
    [
        ("answer", {"id": "1"}, "missing"),
        ("answer", {"key": "0-9"}, "no pair '0-9'"),
        ("answer", {"answer": "both"}, "left, right, equal, skip"),
        ("answer", {"left": "../../etc/passwd"}, "no pair"),
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


def test_other_sites_cannot_answer_in_a_visitors_name(site):
    shown = site.post("next", {"annotator": "ada", "tab": "1"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        site.post("answer", said(shown), kind="text/plain")  # what a form of theirs could send
    assert caught.value.code == 400 and site.answers() == []


def test_a_store_without_tries_of_one_state_is_refused_with_advice(tmp_path, capsys):
    store = Store.create(tmp_path / "demos", SPEC)
    store.append(make_episode(0, group=""))
    command = ["label", "--data", str(store.path), "--out", str(tmp_path / "l.jsonl"), "port=0"]
    assert cli.main(command) == 1
    assert "no two tries started from the same state; collect with" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(site, store, tmp_path, capsys):
    command = ["label", "--data", str(store.path), "--out", str(tmp_path / "l.jsonl")]
    assert cli.main([*command, f"port={site.port}"]) == 1
    assert f"cannot listen on 127.0.0.1:{site.port}" in capsys.readouterr().err


def test_labels_become_preferences_from_the_command_line(site, store, tmp_path, capsys):
    for number in range(4):
        shown = site.post("next", {"annotator": "ada", "tab": "1"})
        site.post("answer", said(shown, "right" if number else "equal", f"{number}"))
    words = ["prefer", "--data", str(store.path), "--out", str(tmp_path / "p.jsonl")]
    assert cli.main([*words, "source=people"]) == 1
    assert "source=people needs --labels" in capsys.readouterr().err
    assert cli.main([*words, "--labels", str(site.path)]) == 1
    assert "source=tries takes no --labels" in capsys.readouterr().err
    assert cli.main([*words, "--labels", str(site.path), "source=people"]) == 0
    found = saved.load(tmp_path / "p.jsonl")
    assert [p.tie for p in found.pairs].count(True) == 1 and len(found.pairs) == 4
    assert found.card["answers"] == {"ada": 4} and {p.annotator for p in found.pairs} == {"ada"}
    assert len(found.episodes()) == 8


# in a browser ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def key(page):
    return page.ask("document.body && document.body.dataset.key")


def log_in(browser, site, name="ada"):
    page = browser.open(site.address)
    page.ask(f"localStorage.annotator = '{name}'; begin()")
    wait(lambda: key(page))
    return page


def press(page, name):
    """Presses a key and waits until the page has gone on."""
    before = wait(lambda: key(page))
    page.press(name)
    wait(lambda: key(page) != before)
    return before


@pytest.mark.slow
def test_keys_answer_and_everything_is_on_the_disk(browser, site):
    page = log_in(browser, site)
    wait(lambda: page.ask("$('film-left').videoWidth > 0 && $('film-right').videoWidth > 0"))
    keys = [press(page, name) for name in ("ArrowLeft", "ArrowRight", "e", "s")]
    assert site.answers() == [
        ("ada", *pair) for pair in zip(keys, ("left", "right", "equal", "skip"))
    ]
    wait(lambda: "That was all" in page.ask("$('end').textContent"))
    assert page.ask("$('count').textContent") == "4 of 4"
    page.close()


@pytest.mark.slow
def test_a_name_is_asked_for_once(browser, site):
    page = browser.open(site.address)
    assert page.ask("!$('login').hidden && $('work').hidden")
    page.ask("$('name').value = ' Grace '; $('login').requestSubmit()")
    wait(lambda: key(page))
    assert page.ask("$('who').textContent") == "Grace"
    page.ask("window.unreloaded = true")
    page.reload()
    wait(lambda: page.ask("typeof unreloaded === 'undefined'") and key(page))
    wait(lambda: page.ask("$('login').hidden"))
    press(page, "ArrowLeft")
    assert site.answers()[0][0] == "Grace"
    page.close()


@pytest.mark.slow
def test_nothing_is_lost_when_the_page_is_reloaded(browser, site):
    page = log_in(browser, site)
    first = press(page, "ArrowLeft")
    second = key(page)
    page.ask("window.unreloaded = true")
    page.reload()
    wait(lambda: page.ask("typeof unreloaded === 'undefined'") and key(page))
    assert key(page) == second  # where it was
    press(page, "ArrowRight")
    assert site.answers() == [("ada", first, "left"), ("ada", second, "right")]
    page.close()


@pytest.mark.slow
def test_nothing_is_lost_while_the_server_is_down_and_the_tab_is_closed(browser, site):
    page = log_in(browser, site)
    shown = key(page)
    site.stop()
    page.press("ArrowLeft")
    wait(lambda: "1 kept here" in page.ask("$('note').textContent"), 60)
    page.close()
    assert site.answers() == []
    site.start()  # another process would find the same ledger
    page = log_in(browser, site)
    assert site.answers() == [("ada", shown, "left")] and key(page) != shown
    page.close()


@pytest.mark.slow
def test_two_tabs_answer_different_pairs_and_both_count(browser, site):
    pages = [log_in(browser, site) for _ in range(2)]
    assert key(pages[0]) != key(pages[1])
    keys = [press(pages[k % 2], "ArrowLeft") for k in range(4)]
    assert sorted(site.answers()) == sorted(("ada", k, "left") for k in keys)
    for page in pages:
        page.close()


@pytest.mark.slow
def test_going_back_shows_the_pair_again_and_the_later_answer_counts(browser, site):
    page = log_in(browser, site)
    first = press(page, "ArrowLeft")
    page.press("Backspace")
    wait(lambda: key(page) == first)
    press(page, "ArrowRight")
    assert site.answers() == [("ada", first, "left"), ("ada", first, "right")]
    assert Ledger(site.path).latest()["ada", first].answer == "right"
    page.close()
