"""What every device for teleoperation tells, and how one is opened by name."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

SESSION = ("start", "stop", "keep", "discard", "redo", "success", "failure", "undo", "quit")


class DeviceError(RuntimeError):
    """A device that is not there or cannot be opened. Says what to do."""


class Poll(NamedTuple):
    """What a device tells at one instant."""

    command: dict[str, float]  # axis -> [-1, 1]; of trackers x y z [m] qw qx qy qz; joints [rad]
    buttons: frozenset[str]  # held now
    alive: bool  # False: lost, or silent for too long; nothing is held then


LOST = Poll({}, frozenset(), False)


@runtime_checkable
class TeleopDevice(Protocol):
    def poll(self, now: float) -> Poll:
        """`now` [s] on the monotonic clock that never goes back."""

    def close(self) -> None: ...


KINDS = ("browser", "keyboard", "gamepad", "evdev", "spacemouse")  # that this machine may have
MESSAGES = ("joy", "pose", "leader")  # that ROS topics bring
SCRIPTED = "scripted"


def open_device(kind: str, hold: float, path: str = "") -> TeleopDevice:
    """A device of this machine; the browser's is `browser.BrowserInput`, which a page feeds.

    `hold` [s] is how long a key of a terminal counts as held, `path` names one of several devices.
    Raises DeviceError where there is none.
    """
    if kind == "keyboard":
        from robostack.real.teleop.keyboard import TerminalKeyboard

        return TerminalKeyboard(hold)
    if kind == "gamepad":
        from robostack.real.teleop.gamepad import Gamepad

        return Gamepad(path)
    if kind == "evdev":
        from robostack.real.teleop.kernel import KernelDevice

        return KernelDevice(path)
    if kind == "spacemouse":
        from robostack.real.teleop.spacemouse import SpaceMouse

        return SpaceMouse(path)
    if kind in MESSAGES:
        raise DeviceError(f"device {kind} comes from ROS topics; start `teleop_node` with it")
    raise DeviceError(f"device {kind!r}: expected one of {', '.join(KINDS)}")
