"""The labelling page, over HTTP and in a real browser: no press of a key is ever lost."""

import json
import re
import shutil
import threading
import urllib.error
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from browser import Browser, wait
from fakes import SPEC, make_episode, swap

from robostack import cli, labelling
from robostack.data.store import Store
from robostack.labelling import LabelConfig, Labelling, server
from robostack.prefer import saved
from robostack.prefer.answers import Ledger
from robostack.prefer.saved import PreferenceError

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
        for thread in threading.enumerate():  # films that are still being made
            if "process_request_thread" in thread.name:
                thread.join(60)

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
def other(tmp_path):
    """Another store, whose episodes have the same ids."""
    store = Store.create(tmp_path / "other", SPEC)
    for seed in range(50, 58):
        store.append(make_episode(seed, steps=6))
    return store


@pytest.fixture
def site(store, tmp_path):
    site = Site(store, tmp_path / "labels.jsonl")
    yield site
    site.stop()


def said(shown, answer="left", number="1", annotator="ada"):
    sides = {name: shown[name] for name in ("key", "left", "right", "digests")}
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


def test_tries_without_pictures_are_refused_at_the_start(tmp_path, capsys):
    blind = replace(SPEC, cameras={})
    store = Store.create(tmp_path / "blind", blind)
    for seed in range(2):
        store.append(replace(make_episode(seed, steps=6), images={}, spec=blind))
    words = ["label", "--data", str(store.path), "--out", str(tmp_path / "labels.jsonl")]
    assert cli.main(words) == cli.FAILED
    assert "expected tries with pictures, and its robot has no camera" in capsys.readouterr().err


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


def test_labels_of_another_store_and_of_changed_episodes_make_no_preferences(
    site, store, other, tmp_path, capsys
):
    shown = site.post("next", {"annotator": "ada", "tab": "1"})
    site.post("answer", said(shown))
    words = ["--out", str(tmp_path / "p.jsonl"), "--labels", str(site.path), "source=people"]
    assert cli.main(["prefer", "--data", str(other.path), *words]) == 1
    assert f"ada's answer to {shown['key']} is about another episode" in capsys.readouterr().err
    swap(store, shown["left"], make_episode(99, group="seed 0 step 0"))
    assert cli.main(["prefer", "--data", str(store.path), *words]) == 1
    assert f"is about another episode {shown['left']} than" in capsys.readouterr().err
    assert not (tmp_path / "p.jsonl").exists() and not (tmp_path / "p.html").exists()


def test_labels_of_an_older_version_are_taken_with_a_warning_where_the_states_agree(
    store, tmp_path, capsys
):
    labels, out = tmp_path / "labels.jsonl", tmp_path / "p.jsonl"
    old = {"id": "1", "annotator": "ada", "answer": "left", "seconds": 1.0}
    words = ["--data", str(store.path), "--labels", str(labels), "--out", str(out), "source=people"]
    labels.write_text(json.dumps({**old, "key": "000000-000001", "left": "000000",
                                  "right": "000001"}) + "\n")  # fmt: skip
    assert cli.main(["prefer", *words]) == 0
    assert "1 answers in" in (told := capsys.readouterr()).err and "do not name" in told.err
    assert json.loads(told.out)["unnamed"] == 1
    labels.write_text(json.dumps({**old, "key": "000000-000002", "left": "000000",
                                  "right": "000002"}) + "\n")  # fmt: skip
    assert cli.main(["prefer", "--force", *words]) == 1
    assert "ada's answer to 000000-000002 compares tries of different" in capsys.readouterr().err


def test_the_card_of_peoples_pairs_tells_how_they_were_made_and_filtered(site, store, tmp_path):
    for number in range(4):
        shown = site.post("next", {"annotator": "ada", "tab": "1"})
        site.post("answer", said(shown, number=f"{number}"))
    before = site.path.read_bytes()

    def card(name, *keys):
        words = ["--data", str(store.path), "--labels", str(site.path), "source=people", *keys]
        assert cli.main(["prefer", "--out", str(tmp_path / name), *words]) == 0
        return saved.load(tmp_path / name).card

    half = card("half.jsonl", "keep=0.5", "--seed", "3")
    assert half["preferences"] == 2 and half["small"] == 2 and half["seed"] == 3
    assert half["config"]["keep"] == 0.5 and half["config"]["source"] == "people"
    assert card("all.jsonl")["labels"] == half["labels"] and site.path.read_bytes() == before
    site.post("answer", said(shown, "right", number="again"))
    assert card("later.jsonl")["labels"] != half["labels"]
    assert "the margin was small" in (tmp_path / "half.html").read_text()


def test_a_set_is_never_written_over_its_labels(site, store, capsys):
    site.post("answer", said(site.post("next", {"annotator": "ada", "tab": "1"})))
    words = ["--data", str(store.path), "--labels", str(site.path), "source=people", "--force"]
    assert cli.main(["prefer", "--out", str(site.path), *words]) == 1
    assert "got that of the labels" in capsys.readouterr().err and len(site.answers()) == 1


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


def kept(page, name="refused"):
    return page.ask(f"JSON.parse(localStorage['{name}'] || '[]')")


@pytest.mark.slow
def test_an_answer_kept_for_one_store_waits_while_another_is_served_at_its_address(
    browser, site, other, tmp_path
):
    page = log_in(browser, site, "eve")
    shown = key(page)
    site.stop()
    page.press("ArrowLeft")
    wait(lambda: "1 kept here" in page.ask("$('note').textContent"), 60)
    mine, site.store, site.path = (site.store, site.path), other, tmp_path / "other.jsonl"
    site.start()
    wait(lambda: "1 about another store" in page.ask("$('kept').textContent"), 60)
    wait(lambda: not page.ask("busy"))
    press(page, "ArrowRight")  # and the other store's answers are its own
    assert [a[2] for a in site.answers()] == ["right"]
    page.close()
    site.stop()
    site.store, site.path = mine
    site.start()
    page = log_in(browser, site, "eve")
    wait(lambda: site.answers() == [("eve", shown, "left")])
    assert page.ask("$('kept').hidden && unsent().length === 0")
    page.close()


@pytest.mark.slow
def test_an_answer_that_is_refused_stays_in_the_browser_and_is_seen(browser, site):
    page = log_in(browser, site, "may")
    page.ask("pair.digests = null")  # as a page of an older version would send it
    shown = key(page)
    page.press("ArrowLeft")
    wait(lambda: "1 refused (digests: expected" in page.ask("$('kept').textContent"))
    assert [(a["key"], a["answer"]) for a in kept(page)] == [(shown, "left")]
    wait(lambda: not page.ask("busy"))
    press(page, "ArrowRight")
    wait(lambda: not page.ask("busy"))
    assert page.ask("!$('kept').hidden") and len(site.answers()) == 1
    line = page.ask("decodeURIComponent($('kept').lastElementChild.href.split(',', 2)[1])")
    assert json.loads(line)["key"] == shown and "why" not in json.loads(line)
    page.ask("localStorage.removeItem('refused')")
    page.close()


@pytest.mark.slow
def test_a_tab_that_waits_goes_on_when_another_is_closed(browser, site, monkeypatch):
    monkeypatch.setattr(labelling, "LEASE", 5.0)
    pages = [log_in(browser, site, "kim")]
    for _ in range(3):
        press(pages[0], "ArrowLeft")
    last = key(pages[0])  # the only pair that is left
    page = browser.open(site.address)
    wait(lambda: "another tab" in page.ask("$('end').textContent"))
    pages[0].close()
    assert wait(lambda: key(page)) == last
    page.close()


@pytest.mark.slow
def test_a_step_back_is_not_lost_while_the_server_is_down(browser, site):
    page = log_in(browser, site, "ira")
    first = press(page, "ArrowLeft")
    wait(lambda: not page.ask("busy"))
    second = key(page)
    site.stop()
    page.press("Backspace")
    wait(lambda: "go back again" in page.ask("$('note').textContent"), 60)
    assert key(page) == second
    site.start()
    page.press("Backspace")
    wait(lambda: key(page) == first)
    press(page, "ArrowRight")
    assert site.answers() == [("ira", first, "left"), ("ira", first, "right")]
    page.close()
