"""A pad of SDL's own making, plugged in and out in this process: everything above it is real."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pygame = pytest.importorskip("pygame")

LIBRARIES = list((Path(pygame.__file__).parents[1] / "pygame_ce.libs").glob("libSDL2-2*"))
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="pygame without an SDL of its own")
A, START, SHOULDER = 0, 6, 10  # SDL's numbers of buttons
LEFT_X, LEFT_Y = 0, 1


class VirtualPad:
    def __init__(self, plain=False):
        self.sdl = ctypes.CDLL(str(LIBRARIES[0]))
        self.sdl.SDL_JoystickOpen.restype = ctypes.c_void_p
        self.plain = plain
        self.plug()

    def plug(self):
        kind, axes, buttons, hats = (0, 2, 3, 1) if self.plain else (1, 6, 15, 0)
        self.index = self.sdl.SDL_JoystickAttachVirtual(kind, axes, buttons, hats)
        assert self.index >= 0
        self.handle = ctypes.c_void_p(self.sdl.SDL_JoystickOpen(self.index))

    def unplug(self):
        self.sdl.SDL_JoystickDetachVirtual(self.index)

    def push(self, axis, value):
        value = ctypes.c_int16(round(32767 * value))
        self.sdl.SDL_JoystickSetVirtualAxis(self.handle, axis, value)

    def press(self, button, down=True):
        self.sdl.SDL_JoystickSetVirtualButton(self.handle, button, ctypes.c_uint8(down))


@pytest.fixture
def plugged(monkeypatch):
    """A pad, and the device that reads it."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    from robostack.real.teleop.gamepad import Gamepad

    pygame.joystick.init()
    pad = VirtualPad()
    device = Gamepad()
    yield pad, device
    device.close()
    pad.unplug()


def test_sticks_and_buttons_have_their_names(plugged):
    pad, device = plugged
    pad.push(LEFT_X, 0.5)
    pad.push(LEFT_Y, -1.0)
    pad.press(SHOULDER)
    poll = device.poll(0.0)
    assert poll.alive and poll.buttons == {"right_shoulder"}
    assert np.allclose([poll.command["left_x"], poll.command["left_y"]], [0.5, -1], atol=1e-4)
    assert set(poll.command) == {
        *("left_x", "left_y", "right_x", "right_y", "trigger_left", "trigger_right")
    }


def test_a_tap_between_two_polls_is_seen_once(plugged):
    pad, device = plugged
    device.poll(0.0)
    for down in (True, False):
        pad.press(START, down)
        pygame.event.pump()
    assert device.poll(0.05).buttons == {"start"} and device.poll(0.1).buttons == frozenset()


def test_a_pad_that_is_unplugged_while_driving_holds_the_arm_and_comes_back(plugged):
    from robostack.real.teleop.driver import Driver
    from robostack.real.teleop.mapping import read_mapping
    from robostack.types import RobotSpec

    pad, device = plugged
    names = ("dx", "dy", "dz", "gripper")
    conventions = {"action": "delta", "gripper": "+1 closes"}
    spec = RobotSpec("arm", (), names, (-1.0,) * 4, (1.0,) * 4, {}, 20.0, conventions)
    driver = Driver(read_mapping("gamepad"), spec)
    driver.act(device.poll(0.0), 0.0, [])
    pad.press(SHOULDER)
    pad.push(LEFT_Y, -1.0)
    drive = driver.act(device.poll(0.1), 0.1, [])
    assert drive.engaged and drive.action[0] < 0  # forward, seen from the front of the robot
    pad.unplug()
    drive = driver.act(device.poll(0.2), 0.2, [])
    assert not drive.engaged and np.array_equal(drive.action, [0, 0, 0, -1])
    pad.plug()
    device.poll(0.3)  # it comes back at rest
    assert not driver.act(device.poll(0.4), 0.4, []).engaged
    pad.press(SHOULDER)
    pad.push(LEFT_Y, -1.0)
    assert driver.act(device.poll(0.5), 0.5, []).engaged


def test_without_a_pad_it_is_told_what_there_is():
    code = (
        "from robostack.real.teleop.gamepad import Gamepad\n"
        "from robostack.real.teleop.device import DeviceError\n"
        "try: Gamepad('wheel')\n"
        "except DeviceError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "no gamepad named wheel; SDL sees none: is it plugged in" in done.stdout, done
