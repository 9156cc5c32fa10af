"""The page of an exam in a real browser."""

import shutil

import pytest
from browser import Browser, wait
from examinees import Deaf, Oracle

from robostack.exam.sit import sit

ERRORS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_the_card_is_drawn_whole_and_in_silence(little, tmp_path, config):
    sit({"oracle": Oracle(), "deaf": Deaf()}, [little], tmp_path / "card", config)
    (tmp_path / "profile").mkdir()
    browser = Browser(tmp_path / "profile")
    try:
        page = browser.open("about:blank")
        page.call("Runtime.enable")
        page.call("Log.enable")
        page.call("Page.navigate", url=(tmp_path / "card" / "index.html").as_uri())
        wait(lambda: page.ask("document.readyState") == "complete" and page.ask("!!document.body"))
        wait(lambda: page.ask("document.querySelector('h1')?.textContent") == "Reward exam")
        # traces of two kinds and tasks, and of each reward its controls, detection and words
        drawn = "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect())"
        sizes = f"{drawn}.map(r => Math.min(r.width, r.height))"
        assert page.ask(f"{sizes}.length") == 2 * 2 + 2 * 3
        assert page.ask(f"Math.min(...{sizes})") > 50
        images = "[...document.images]"
        assert page.ask(f"{images}.length") == 4
        assert page.ask(f"{images}.every(i => i.complete && i.naturalWidth > 0)")
        text = page.ask("document.body.innerText")
        assert "Task by task" in text and "deaf met" in text and "undefined" not in text
        assert [event for event in page.events if event["method"] in ERRORS] == []
    finally:
        browser.close()
