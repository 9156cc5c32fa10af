"""The pages show every episode and what is wrong with it, and work in a browser."""

import shutil
from dataclasses import replace

import pytest
from browser import Browser, wait
from fakes import SPEC, make_episode

from robostack import contact_sheet, episode_page
from robostack.contact_sheet import InspectConfig
from robostack.data.store import Store, StoreError
from robostack.episode_page import PlayConfig


def through(items, label, total):
    return iter(items)


@pytest.fixture
def store(tmp_path):
    """Success, failure with a blank camera, unknown; the first has a name that is no HTML."""
    store = Store.create(tmp_path / "store", SPEC)
    for seed, success in enumerate((True, False, None)):
        episode = make_episode(seed, 12, success=success, task=f"<b>task {seed}</b>")
        images = episode.images["top"].copy()
        images[4:6] = 0 if success is False else images[4:6]
        store.append(replace(episode, images={"top": images}, actions=0.5 * episode.actions))
    return store


def test_the_sheet_holds_all_episodes_and_their_findings(store, tmp_path):
    told = contact_sheet.write(store, tmp_path / "page.html", InspectConfig(), through)
    assert told == {"episodes": 3, "error": 1, "warning": 0, "note": 1}
    text = (tmp_path / "page.html").read_text()
    assert text.count("class='card'") == 3 and text.count("data:image/jpeg") == 3
    assert "2 pictures are of one colour (steps 4 to 5)" in text
    assert "<b>task" not in text and "&lt;b&gt;task 0" in text
    assert text.count("data-found='clean'") == 1


def test_what_cannot_be_read_has_a_card_that_says_so(store, tmp_path):
    for number, file in (("000000", "zarr.json"), ("000002", "actions/c/0/0")):
        (store.path / "episodes" / number / file).write_bytes(b"\xff")
    told = contact_sheet.write(store, tmp_path / "page.html", InspectConfig(), through)
    assert told["episodes"] == 3 and told["error"] == 3  # the blank camera and these two
    text = (tmp_path / "page.html").read_text()
    assert text.count("cannot be read</span>") == 2 and text.count("data:image/jpeg") == 1
    cards = [text.index(f"id='e00000{k}'") for k in range(3)]
    assert cards == sorted(cards) and "&#x27;actions&#x27; is damaged" in text


def test_the_sheet_proposes_what_to_cut(store, tmp_path):
    whole = make_episode(7, 40)
    states, actions = whole.states.copy(), 0.5 * whole.actions
    states[30:], actions[30:] = states[30], 0
    store.append(replace(whole, states=states, actions=actions))
    contact_sheet.write(store, tmp_path / "page.html", InspectConfig(), through)
    assert "trim auto=true leaves steps 0 to 31" in (tmp_path / "page.html").read_text()


def test_what_is_shown_can_be_chosen(store, tmp_path):
    page = tmp_path / "page.html"
    assert (
        contact_sheet.write(store, page, InspectConfig(only="failures"), through)["episodes"] == 1
    )
    assert contact_sheet.write(store, page, InspectConfig(episodes=2), through)["episodes"] == 2
    with pytest.raises(StoreError, match="the store has top"):
        contact_sheet.write(store, page, InspectConfig(camera="wrist"), through)


def test_a_store_without_cameras_has_a_sheet_and_a_page(tmp_path):
    spec = replace(SPEC, cameras={})
    store = Store.create(tmp_path / "store", spec)
    store.append(make_episode(0, spec=spec, images={}))
    contact_sheet.write(store, tmp_path / "sheet.html", InspectConfig(), through)
    episode_page.write(store, "000000", tmp_path / "page.html", PlayConfig())
    assert "<polyline" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_the_pages_work_in_a_browser_and_fit_a_telephone(store, tmp_path):
    contact_sheet.write(store, tmp_path / "sheet.html", InspectConfig(), through)
    episode_page.write(store, "000000", tmp_path / "page.html", PlayConfig())
    (tmp_path / "profile").mkdir()
    browser = Browser(tmp_path / "profile")
    try:
        for name in ("sheet", "page"):
            page = browser.open((tmp_path / f"{name}.html").as_uri())
            size = dict(width=400, height=900, deviceScaleFactor=1, mobile=True)
            page.call("Emulation.setDeviceMetricsOverride", **size)
            assert page.ask("document.documentElement.scrollWidth") <= 400
            if name == "sheet":
                page.ask("document.querySelector('.bar input[value=failure]').click()")
                shown = "[...document.querySelectorAll('.card')].filter(c => c.offsetHeight).length"
                assert page.ask(shown) == 2
            else:
                page.ask(
                    "document.querySelector('#at').value = 7; "
                    "document.querySelector('#at').dispatchEvent(new Event('input'))"
                )
                assert page.ask("document.querySelector('#time').textContent") == (
                    "step 7 of 12, 0.70 s"
                )
                page.ask("document.querySelector('#play').click()")
                time = "document.querySelector('#time').textContent"
                wait(lambda page=page, time=time: page.ask(time).startswith("step 12"), 30)
    finally:
        browser.close()
