"""The labelling page in a real browser: no press of a key is ever lost."""

import json

import pytest
from browser import wait

from robostack import labelling
from robostack.prefer.answers import Ledger


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
def test_the_field_for_a_name_keeps_no_key_though_the_tab_is_not_drawn(browser, site):
    page, front = browser.open(site.address), browser.open("about:blank")
    front.call("Page.bringToFront")
    page.ask("localStorage.annotator = 'bo'; begin()")
    wait(lambda: key(page))
    assert page.ask("document.activeElement.tagName") == "BODY"
    press(page, "ArrowLeft")
    page.close()
    front.close()


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
