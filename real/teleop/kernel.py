"""A keyboard or pad read from Linux itself (evdev): true releases, without a display.

It needs permission to read /dev/input (the group `input`), and hears the keys whichever window has
the focus. Keys have the names of the terminal's; axes are abs_x, abs_y, ...
"""

from __future__ import annotations

import contextlib
import os

from robostack.real.teleop.device import LOST, DeviceError, Poll

NAMES = {"esc": "escape", "leftbrace": "[", "rightbrace": "]", "minus": "-", "equal": "=",
         "comma": ",", "dot": ".", "semicolon": ";", "slash": "/", "kpenter": "enter"}  # fmt: skip
AGAIN = 1.0  # [s] between looks for a lost device


class KernelDevice:
    """The device file `path`, or the first keyboard or pad that may be read.

    One that is unplugged is not alive, and is opened again when it is back. Raises DeviceError.
    """

    def __init__(self, path: str = "", opener=None):
        self._open = opener or (lambda: _opened(path))
        self._again = 0.0
        self._begin(self._open())

    def _begin(self, device) -> None:
        from evdev import ecodes

        self._device, self._codes = device, ecodes
        os.set_blocking(device.fd, False)
        self._held = {_key(ecodes, code) for code in device.active_keys()}
        self._ranges = dict(device.capabilities().get(ecodes.EV_ABS, []))
        self._axes = {_axis(ecodes, c): _scaled(i, i.value) for c, i in self._ranges.items()}

    def poll(self, now: float) -> Poll:
        if self._device is None and now >= self._again:
            self._again = now + AGAIN
            with contextlib.suppress(DeviceError, OSError):  # still away, which LOST tells
                self._begin(self._open())
        if self._device is None:
            return LOST
        self._tapped: set[str] = set()  # goes down, and perhaps up again, between two polls
        try:
            for event in self._device.read():
                self._take(event)
        except BlockingIOError:  # nothing new
            pass
        except OSError:  # ENODEV: unplugged
            self._device, self._again = None, now + AGAIN
            return LOST
        return Poll(dict(self._axes), frozenset(self._held | self._tapped), True)

    def _take(self, event) -> None:
        if event.type == self._codes.EV_KEY:
            name = _key(self._codes, event.code)
            (self._held.add if event.value else self._held.discard)(name)
            if event.value == 1:  # 2 is a repetition
                self._tapped.add(name)
        elif event.type == self._codes.EV_ABS and event.code in self._ranges:
            name = _axis(self._codes, event.code)
            self._axes[name] = _scaled(self._ranges[event.code], event.value)

    def close(self) -> None:
        if self._device is not None:
            self._device.close()
            self._device = None


def _opened(path: str):
    try:
        import evdev
    except ImportError:
        raise DeviceError("device=evdev needs the package evdev: pip install evdev") from None
    if path:
        try:
            return evdev.InputDevice(path)
        except OSError as error:
            raise DeviceError(f"{path} cannot be read: {error.strerror}") from None
    for each in evdev.list_devices():
        device = evdev.InputDevice(each)
        if evdev.ecodes.KEY_A in device.capabilities().get(evdev.ecodes.EV_KEY, []):
            return device
        if evdev.ecodes.EV_ABS in device.capabilities():
            return device
        device.close()
    raise DeviceError(
        "no keyboard or pad may be read below /dev/input; is one plugged in, and are you in the "
        "group `input`? (sudo usermod -aG input $USER, then log in again)"
    )


def _key(ecodes, code: int) -> str:
    name = ecodes.bytype[ecodes.EV_KEY].get(code, f"key{code}")
    name = name if isinstance(name, str) else name[0]
    short = name.removeprefix("KEY_").removeprefix("BTN_").lower()
    return NAMES.get(short, short)


def _axis(ecodes, code: int) -> str:
    name = ecodes.ABS.get(code, f"ABS_{code}")
    return (name if isinstance(name, str) else name[0]).lower()


def _scaled(info, value: int) -> float:
    """-1 to 1 over the range that the device states."""
    span = info.max - info.min
    return 2 * (value - info.min) / span - 1 if span else 0.0
