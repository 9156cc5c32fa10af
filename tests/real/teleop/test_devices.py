"""SpaceMouse by its real decoder, Linux events, ROS messages, the browser's messages, scripts."""

import errno
import os
import struct

import pytest

from robostack.real.teleop.browser import BrowserInput
from robostack.real.teleop.device import DeviceError, Poll, TeleopDevice, open_device
from robostack.real.teleop.scripted import Scripted
from robostack.real.teleop.topics import JoyInput, LeaderInput, PoseInput


# SpaceMouse --------------------------------------------------------------------------------------
class Cable:
    """What pyspacemouse reads from: reports in the order of their arrival."""

    product_string = manufacturer_string = serial_number = "test"
    release_number = 1

    def __init__(self):
        self.reports, self.cut = [], False

    def open(self):
        pass

    def close(self):
        pass

    def read(self, size):
        if self.cut:
            raise RuntimeError("Failed to read from HID device: -1")
        return self.reports.pop(0) if self.reports else []


@pytest.fixture
def mouse():
    pyspacemouse = pytest.importorskip("pyspacemouse")
    from robostack.real.teleop.spacemouse import SpaceMouse

    cable = Cable()

    def opened():
        if cable.cut:
            raise DeviceError("no SpaceMouse")
        spec = pyspacemouse.get_device_specs()["SpaceNavigator"]
        info = pyspacemouse.apply_axis_convention(spec, pyspacemouse.AxisConvention.ROS)
        device = pyspacemouse.SpaceMouseDevice(info, cable)
        device.open()
        return device

    return cable, SpaceMouse(opener=opened)


def moved(channel, *values):
    return list(struct.pack("<B3h", channel, *values))


def test_a_spacemouse_tells_the_newest_of_many_reports(mouse):
    cable, device = mouse
    assert device.poll(0.0) == (
        dict.fromkeys(("x", "y", "z", "roll", "pitch", "yaw"), 0.0),
        set(),
        True,
    )
    cable.reports = [moved(1, 0, -35 * i, 0) for i in range(1, 11)] + [[3, 1]]
    poll = device.poll(0.1)
    assert cable.reports == [] and poll.buttons == {"button0"}
    assert abs(poll.command["x"] - 1) < 0.01  # pushed away from the person: forward
    assert all(abs(v) < 0.01 for name, v in poll.command.items() if name != "x")
    cable.reports = [moved(1, 0, 0, 0), [3, 0]]
    assert device.poll(0.2).buttons == frozenset() and abs(device.poll(0.2).command["x"]) < 0.01


def test_an_unplugged_spacemouse_is_lost_and_found_again(mouse):
    cable, device = mouse
    cable.reports = [moved(1, 0, -350, 0)]
    assert device.poll(0.0).command["x"] > 0.9
    cable.cut = True
    assert not device.poll(0.1).alive and not device.poll(2.0).alive
    cable.cut = False
    assert not device.poll(2.1).alive  # it is looked for once a second
    assert device.poll(3.1).alive and device.poll(3.1).command["x"] == 0


# Linux -------------------------------------------------------------------------------------------
@pytest.fixture
def linux():
    evdev = pytest.importorskip("evdev")
    from evdev import AbsInfo, InputEvent, ecodes

    from robostack.real.teleop.kernel import KernelDevice

    class Device:
        def __init__(self):
            self.events, self.error = [], None
            self.fd, self._other = os.pipe()

        def active_keys(self):
            return [ecodes.KEY_LEFTSHIFT]

        def capabilities(self):
            return {ecodes.EV_ABS: [(ecodes.ABS_X, AbsInfo(128, 0, 255, 0, 0, 0))]}

        def read(self):
            if self.error:
                raise OSError(self.error, os.strerror(self.error))
            if not self.events:
                raise BlockingIOError
            events, self.events = self.events, []
            return events

        def put(self, kind, code, value):
            self.events.append(InputEvent(0, 0, kind, code, value))

        def close(self):
            os.close(self.fd)
            os.close(self._other)

    device = Device()
    assert evdev.ecodes.KEY_W == ecodes.KEY_W
    return device, KernelDevice(opener=lambda: device), ecodes


def test_linux_tells_presses_releases_and_axes(linux):
    device, keys, codes = linux
    assert keys.poll(0.0).buttons == {"leftshift"}  # held before we came
    device.put(codes.EV_KEY, codes.KEY_W, 1)
    device.put(codes.EV_KEY, codes.KEY_LEFTSHIFT, 0)
    device.put(codes.EV_ABS, codes.ABS_X, 255)
    assert keys.poll(0.1) == ({"abs_x": 1.0}, {"w"}, True)
    device.put(codes.EV_KEY, codes.KEY_W, 2)
    assert keys.poll(0.2).buttons == {"w"} == keys.poll(0.3).buttons
    device.put(codes.EV_KEY, codes.KEY_W, 0)
    assert keys.poll(0.4).buttons == frozenset()
    for value in (1, 0):
        device.put(codes.EV_KEY, codes.KEY_ESC, value)
    assert keys.poll(0.5).buttons == {"escape"} and keys.poll(0.6).buttons == frozenset()


def test_a_keyboard_that_is_unplugged_is_lost_and_found_again(linux):
    device, keys, codes = linux
    device.put(codes.EV_KEY, codes.KEY_W, 1)
    assert "w" in keys.poll(0.0).buttons
    device.error = errno.ENODEV
    assert keys.poll(0.1) == ({}, set(), False)
    device.error = None
    assert keys.poll(1.2) == ({"abs_x": pytest.approx(0, abs=0.01)}, {"leftshift"}, True)


# ROS messages ------------------------------------------------------------------------------------
def test_a_pad_on_joy_that_falls_silent_is_lost_though_its_last_word_was_full_speed():
    joy = JoyInput(timeout=0.5)
    assert not joy.poll(0.0).alive  # nothing was heard yet
    joy.feed([1.0, -0.5], [0, 1], 1.0)
    assert joy.poll(1.4) == ({"axis0": 1.0, "axis1": -0.5}, {"button1"}, True)
    assert joy.poll(1.51) == ({}, set(), False)
    joy.feed([0.0, 0.0], [0, 0], 2.0)
    assert joy.poll(2.0).alive and joy.poll(2.0).buttons == frozenset()


def test_a_tap_on_joy_between_two_polls_is_seen_once():
    joy = JoyInput()
    joy.feed([], [0], 1.0)
    joy.feed([], [1], 1.01)
    joy.feed([], [0], 1.02)
    assert joy.poll(1.05).buttons == {"button0"} and joy.poll(1.06).buttons == frozenset()


def test_a_hand_needs_its_pose_and_once_it_has_buttons_those_too():
    hand = PoseInput(timeout=0.3)
    hand.feed([1, 2, 3], [1, 0, 0, 0], 1.0)
    assert hand.poll(1.1).command == dict(x=1, y=2, z=3, qw=1, qx=0, qy=0, qz=0)
    hand.feed_joy([0.7], [1], 1.2)
    poll = hand.poll(1.25)
    assert poll.command["axis0"] == 0.7 and poll.buttons == {"button0"}
    hand.feed([1, 2, 3], [1, 0, 0, 0], 1.6)
    assert not hand.poll(1.6).alive  # its buttons are silent
    hand.feed_joy([0.7], [1], 1.7)
    assert hand.poll(1.7).alive and not hand.poll(1.95).alive  # its pose is


@pytest.mark.parametrize("bad", [([float("nan"), 0, 0], [1, 0, 0, 0]), ([0, 0, 0], [0, 0, 0, 0])])
def test_a_tracker_that_has_lost_its_hand_is_as_good_as_silent(bad):
    hand = PoseInput(timeout=0.3)
    hand.feed([1, 2, 3], [1, 0, 0, 0], 1.0)
    for i in range(10):
        hand.feed(*bad, 1.1 + i / 20)
    assert not hand.poll(1.4).alive


def test_a_leader_tells_joints_by_name():
    leader = LeaderInput()
    leader.feed(["b", "a"], [0.2, 0.1], 1.0)
    assert leader.poll(1.1).command == {"a": 0.1, "b": 0.2}
    with pytest.raises(ValueError, match="2 joint names and 1 positions"):
        leader.feed(["b", "a"], [0.2], 1.0)


# the browser -------------------------------------------------------------------------------------
def told(number, held=(), **axes):
    return {"n": number, "held": list(held), "axes": axes}


def test_a_page_is_alive_while_it_speaks_and_nobody_drives_once_it_is_silent():
    page = BrowserInput(silent=0.5)
    assert not page.poll(0.0).alive
    page.feed(told(1, ["w"], left_x=7.0), 1.0)
    assert page.poll(1.5) == ({"left_x": 1.0}, {"w"}, True)
    assert page.poll(1.51) == ({}, set(), False)
    page.feed(told(2), 2.0)
    page.gone()
    assert not page.poll(2.0).alive


def test_messages_that_overtake_each_other_do_not_bring_a_release_back():
    page = BrowserInput()
    page.feed(told(5, ["w"]), 1.0)
    assert page.poll(1.0).buttons == {"w"}
    page.feed(told(7, []), 1.01)
    page.feed(told(6, ["w"]), 1.02)
    assert page.poll(1.03).buttons == frozenset()


def test_a_tap_between_two_polls_is_seen_once_and_a_release_at_once():
    page = BrowserInput()
    for i, held in enumerate(([], ["enter"], [])):
        page.feed(told(i, held), 1.0)
    assert page.poll(1.0).buttons == {"enter"} and page.poll(1.0).buttons == frozenset()
    page.feed(told(4, ["w"]), 1.1)
    assert page.poll(1.1).buttons == {"w"}
    page.feed(told(5, []), 1.2)
    assert page.poll(1.2).buttons == frozenset()


@pytest.mark.parametrize(
    "bad",
    [
        {},
        told("1"),
        told(1, [5]),
        told(1, ["x" * 40]),
        told(1, ["w"] * 65),
        told(1, x=float("nan")),
        {"n": 1, "held": {}, "axes": {}},
        {"n": 1, "held": [], "axes": [1]},
    ],
)
def test_what_is_no_message_is_refused_and_changes_nothing(bad):
    page = BrowserInput()
    with pytest.raises(ValueError, match="expected n, held and axes"):
        page.feed(bad, 1.0)
    assert not page.poll(1.0).alive


# all ---------------------------------------------------------------------------------------------
def test_a_script_begins_anew_with_each_episode_and_holds_nothing_at_its_end():
    scenes = []

    def script():
        scenes.append(len(scenes))
        yield Poll({"dx": float(len(scenes))}, frozenset(), True)

    device = Scripted(script)
    assert device.poll(0.0) == ({}, set(), True)
    for episode in (1.0, 2.0):
        device.begin()
        assert device.poll(0.0).command == {"dx": episode}
        assert device.poll(0.1) == ({}, set(), True)


@pytest.mark.parametrize(
    "device", [BrowserInput(), JoyInput(), PoseInput(), Scripted(lambda: iter(()))]
)
def test_every_device_keeps_the_protocol(device):
    assert isinstance(device, TeleopDevice)
    device.close()
    assert device.poll(0.0).buttons == frozenset()


@pytest.mark.parametrize(("kind", "told"), [("joy", "teleop_node"), ("piano", "one of browser")])
def test_a_device_that_cannot_be_opened_here_is_told(kind, told):
    with pytest.raises(DeviceError, match=told):
        open_device(kind, 0.2)


def test_without_devices_each_says_what_it_needs():
    for kind, told in (("evdev", "group `input`"), ("spacemouse", "SpaceMouse|hidapi")):
        pytest.importorskip({"evdev": "evdev", "spacemouse": "pyspacemouse"}[kind])
        if os.path.exists("/dev/input") or os.path.exists("/dev/hidraw0"):
            pytest.skip("this machine has devices")
        with pytest.raises(DeviceError, match=told):
            open_device(kind, 0.2)
