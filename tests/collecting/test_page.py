"""The page of a session: over its WebSocket, and in a real browser with real keys. In both a person
lifts the cube of robosuite's Lift by nothing but keys, and the demonstration is kept."""

import contextlib
import json
import time
import urllib.error
import urllib.request
from dataclasses import replace

import cv2
import numpy as np
import pytest
from acting import Clock
from browser import wait
from person import Person

from robostack.collecting.command import about
from robostack.collecting.loop import Collector, LoopConfig
from robostack.collecting.page import Page, PageConfig
from robostack.collecting.session import Session
from robostack.collecting.shelves import Shelves
from robostack.collecting.view import View
from robostack.collecting.words import SessionConfig
from robostack.real.teleop.driver import Driver
from robostack.real.teleop.mapping import read_mapping
from robostack.sim.env import EnvConfig, make_env

pytest.importorskip("websockets")
from websockets.exceptions import InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

MAPPING = replace(read_mapping("browser"), speed=0.4)
STATUS = {"state": "ready", "words": ["start"]}


@pytest.fixture
def page():
    page = Page(PageConfig(port=0), {"drives": True, "cameras": ["a", "b"]})
    yield page
    page.close()


@contextlib.contextmanager
def opened(page, **options):
    address = page.address.replace("http", "ws", 1)
    with connect(address, **options) as socket:
        assert "about" in json.loads(socket.recv(10))
        yield socket


def show(page, **status):
    pictures = {"b": np.full((8, 8, 3), 200, np.uint8), "a": np.zeros((8, 6, 3), np.uint8)}
    page.show(lambda: {**STATUS, **status}, lambda: pictures)


def answer(socket, kind):
    """The next text that holds `kind`."""
    while True:
        message = socket.recv(10)
        if isinstance(message, str) and kind in json.loads(message):
            return json.loads(message)[kind]


# over the network --------------------------------------------------------------------------------
def test_a_page_gets_the_status_and_its_cameras_pictures(page):
    with opened(page) as socket:
        show(page)
        assert answer(socket, "status") == STATUS
        jpegs = [socket.recv(10), socket.recv(10)]
    found = [cv2.imdecode(np.frombuffer(jpeg[1:], np.uint8), cv2.IMREAD_COLOR) for jpeg in jpegs]
    assert [jpeg[0] for jpeg in jpegs] == [0, 1]  # numbered as in `about`
    assert found[0].shape == (8, 6, 3) and abs(int(found[1].mean()) - 200) < 4


def test_the_last_status_comes_however_soon_after_the_others_it_was_said(page):
    with opened(page) as socket:
        for kept in range(6):
            show(page, kept=kept)
            time.sleep(0.01)
        while answer(socket, "status")["kept"] != 5:  # a message that does not come ends the test
            pass


def test_nothing_is_drawn_while_nobody_looks(page):
    page.show(lambda: pytest.fail("asked"), lambda: pytest.fail("drawn"))


def test_what_a_page_holds_is_what_the_device_tells_and_a_closed_page_is_lost(page):
    with opened(page) as socket:
        socket.send(json.dumps({"n": 1, "held": ["w"], "axes": {"left_x": 0.5}}))
        poll = wait(lambda: (p := page.input.poll(time.monotonic())).alive and p)
        assert poll.command == {"left_x": 0.5} and poll.buttons == {"w"}
    wait(lambda: not page.input.poll(time.monotonic()).alive)


def test_of_two_pages_one_drives_until_the_other_takes_over(page):
    def drives(socket):
        show(page)
        while True:
            message = socket.recv(10)
            if isinstance(message, str) and "drives" in json.loads(message):
                return json.loads(message)["drives"]

    with opened(page) as first, opened(page) as second:
        assert drives(first) and not drives(second)
        second.send(json.dumps({"n": 1, "held": ["w"], "axes": {}}))
        second.send(json.dumps({"do": "start"}))
        assert "another page drives" in answer(second, "error")
        assert not page.input.poll(time.monotonic()).alive and page.said() == []
        second.send(json.dumps({"drive": True}))
        second.send(json.dumps({"n": 1, "held": ["s"], "axes": {}}))
        wait(lambda: page.input.poll(time.monotonic()).buttons == {"s"})
        first.send(json.dumps({"n": 9, "held": ["w"], "axes": {}}))
        first.send(json.dumps({"do": "start"}))
        assert "another page drives" in answer(first, "error")
        assert page.input.poll(time.monotonic()).buttons == {"s"}


def test_words_are_passed_on_in_their_order(page):
    with opened(page) as socket:
        for word in ("start", "success", "keep"):
            socket.send(json.dumps({"do": word}))
        said = []
        wait(lambda: len(said.extend(page.said()) or said) == 3)
    assert said == [("start",), ("success",), ("keep",)] and page.said() == []


@pytest.mark.parametrize("bad", ["{", "[]", '{"do": "sing"}', '{"n": 1}', "[" * 3000, "7"])
def test_what_is_no_message_is_answered_with_an_error_and_changes_nothing(page, bad):
    with opened(page) as socket:
        socket.send(bad)
        assert answer(socket, "error")
        assert page.said() == [] and not page.input.poll(time.monotonic()).alive
        socket.send(json.dumps({"do": "start"}))  # and the page is still heard
        wait(lambda: page.said() == [("start",)])


def fetched(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as r:
        return r.headers["Content-Type"], r.read().decode()


def test_other_sites_cannot_drive_the_robot(page):
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{page.port + 1}"):
        with pytest.raises(InvalidStatus, match="403"), opened(page, origin=origin):
            pass
    with opened(page, origin=f"http://127.0.0.1:{page.port}"):
        pass
    with pytest.raises(urllib.error.HTTPError, match="403"):  # a name that was made to point here
        fetched(page.address, Host=f"evil.example:{page.port}")


def test_the_page_is_html_and_nothing_else_is_there(page):
    kind, text = fetched(page.address)
    assert kind.startswith("text/html") and "<title>Demonstrations</title>" in text
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetched(page.address + "etc/passwd")


def test_across_the_network_one_needs_the_secret_of_the_address():
    page = Page(PageConfig(host="0.0.0.0", port=0), {"drives": True})
    try:
        address = page.address.replace("0.0.0.0", "127.0.0.1")
        assert "?key=" in address and fetched(address)[0].startswith("text/html")
        bare = address.partition("?")[0]
        for wrong in (bare, bare + "?key=", address[:-1]):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                fetched(wrong)
        with pytest.raises(InvalidStatus, match="403"), connect(bare.replace("http", "ws")):
            pass
    finally:
        page.close()


def test_a_port_that_is_taken_is_told(page):
    with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1:{page.port}"):
        Page(PageConfig(port=page.port), {})


# a person at the page ----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def lift():
    env = make_env(EnvConfig(task="Lift", horizon=10_000))
    yield env
    env.close()


@pytest.fixture
def driven(lift, tmp_path):
    """A session on Lift with a page; each period waits for what the person does in it."""
    page = Page(PageConfig(port=0), about(MAPPING, lift))
    clock = Clock()
    session = Session(SessionConfig(episodes=1), Shelves(tmp_path / "mine", lift.spec), clock())
    collector = Collector(
        lift, Driver(MAPPING, lift.spec), page.input, session, LoopConfig(), page.said, clock=clock
    )
    page.input.poll = lambda now, poll=page.input.poll: poll(time.monotonic())
    collector.view, collector.page = View(lift, 96), page
    yield collector
    page.close()
    session.shelves.close()


def soon(ready):
    """`wait` for what takes milliseconds, hundreds of times."""
    end = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_what_is_shown_is_larger_and_what_is_recorded_stays_as_it_is(lift):
    seen = lift.reset(3).observation.images
    clock = Clock()
    view = View(lift, 96, clock)
    shown = view.pictures(seen)
    assert {name: image.shape for name, image in shown.items()} == dict.fromkeys(seen, (96, 96, 3))
    small = cv2.resize(shown["agentview"], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - seen["agentview"]).mean() < 8  # the same scene
    again = lift.reset(3).observation.images
    assert all(np.array_equal(again[name], seen[name]) for name in seen)
    assert View(lift, 0).pictures(seen) is seen and View(lift, 64).pictures(seen) is seen


def collect(collector, press):
    """Run the session; `press` holds just these keys and returns once the server knows it."""
    person, page = Person(collector, MAPPING), collector.page

    def sleep(seconds):
        press(person.keys())
        collector.clock.sleep(seconds)

    def shown(c):
        page.show(c.status, lambda: c.view.pictures(c.pictures))
        assert c.clock.now < 100 + 60, "a minute of driving was not enough"

    collector.sleep = sleep
    collector.run(shown)
    return collector.session.shelves


def require_lifted(shelves):
    assert shelves.store.ids() == ["000000"]
    episode = shelves.store.read("000000")
    assert episode.success and episode.terminated and episode.source == "demo"
    cube = episode.keypoints["object"][:, 2]
    assert cube[-1] > 0.84 > cube[0] + 0.005  # [m], the height that robosuite asks for
    moving = np.abs(episode.actions[:, :6])
    assert set(np.unique(moving.round(3))) <= {0, np.float32(0.4)}  # keys, and nothing but keys
    assert episode.images["agentview"].shape[1:] == (64, 64, 3)  # whatever was shown


@pytest.mark.slow
def test_a_person_at_the_websocket_lifts_the_cube(driven):
    with opened(driven.page) as socket:
        count = 0

        def press(keys):
            nonlocal count
            count += 1
            socket.send(json.dumps({"n": count, "held": sorted(keys), "axes": {}}))
            wait(lambda: driven.page.input._number == count)

        require_lifted(collect(driven, press))


class Keyboard:
    """Keys of a page in a browser, held and let go."""

    def __init__(self, tab, page):
        self.tab, self.page, self.held = tab, page, set()

    def __call__(self, keys):
        names = {"enter": "Enter", "space": " "}
        for kind, changed in (("keyUp", self.held - keys), ("keyDown", keys - self.held)):
            for key in changed:
                name = names.get(key, key)
                text = {"text": name} if kind == "keyDown" and len(name) == 1 else {}
                self.tab.call("Input.dispatchKeyEvent", type=kind, key=name, **text)
        self.held = set(keys)
        soon(lambda: self.page.input._told.buttons == keys)


def open_tab(browser, page):
    tab = browser.open(page.address)
    tab.call("Emulation.setFocusEmulationEnabled", enabled=True)
    wait(lambda: tab.ask("typeof about !== 'undefined' && about !== null"))
    return tab


@pytest.mark.slow
def test_a_person_at_the_keyboard_of_a_browser_lifts_the_cube(browser, driven):
    tab = open_tab(browser, driven.page)
    driven._back()
    driven.page.show(driven.status, lambda: driven.pictures)
    wait(lambda: tab.ask("drives"))
    require_lifted(collect(driven, Keyboard(tab, driven.page)))
    wait(lambda: tab.ask("document.body.dataset.state") == "over")
    drawn = tab.ask("[...document.querySelectorAll('canvas')].map(c => +c.dataset.drawn)")
    assert len(drawn) == 2 and min(drawn) > 3
    tab.close()


@pytest.fixture
def tab(browser, driven):
    tab = open_tab(browser, driven.page)
    driven._back()
    driven.page.show(driven.status, lambda: driven.pictures)
    wait(lambda: tab.ask("drives"))
    yield tab
    tab.close()


@pytest.mark.slow
def test_a_window_without_the_focus_holds_nothing(tab, driven):
    keyboard = Keyboard(tab, driven.page)
    keyboard({"w"})
    tab.ask("window.dispatchEvent(new Event('blur'))")
    wait(lambda: driven.page.input.poll(0).buttons == frozenset())


@pytest.mark.slow
def test_buttons_of_the_page_say_words_and_hold_keys(tab, driven):
    tab.ask("document.querySelector('[data-word=start]').click()")
    wait(lambda: driven.page.said() == [("start",)])
    event = "new PointerEvent('pointer%s', {pointerId: 7, bubbles: true})"
    button = "document.querySelector('#keys [data-key=w]')"
    tab.ask(f"{button}.setPointerCapture = () => 0; {button}.dispatchEvent({event % 'down'})")
    wait(lambda: driven.page.input.poll(0).buttons == {"w"})
    tab.ask(f"{button}.dispatchEvent({event % 'up'})")
    wait(lambda: driven.page.input.poll(0).buttons == frozenset())


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_fits_its_window(tab, driven, width):
    size = dict(width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    tab.call("Emulation.setDeviceMetricsOverride", **size)
    wait(lambda: tab.ask("innerWidth") == width)
    assert tab.ask("document.documentElement.scrollWidth") <= width
    shown = tab.ask(
        "[...document.querySelectorAll('button, canvas')].every(e => {"
        "const box = e.getBoundingClientRect();"
        f"return box.left >= 0 && box.right <= {width} && box.width > 20 && box.height > 20}})"
    )
    assert shown is True


@pytest.mark.slow
def test_a_page_that_was_cut_off_says_so_and_comes_back(tab, driven):
    tab.ask("socket.close()")
    wait(lambda: "trying again" in tab.ask("$('veil').textContent"))
    wait(lambda: tab.ask("socket.readyState") == 1)
    driven.page.show(driven.status, lambda: driven.pictures)
    wait(lambda: tab.ask("$('veil').hidden"))
