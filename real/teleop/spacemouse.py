"""A SpaceMouse: axes x (forward), y (left), z (up) and roll, pitch, yaw about them, in ROS's frame;
buttons button0, button1, ..."""

from __future__ import annotations

from robostack.real.teleop.device import LOST, DeviceError, Poll

AXES = ("x", "y", "z", "roll", "pitch", "yaw")
REPORTS = 64  # read in one poll at most; a SpaceMouse sends about 100 a second


class SpaceMouse:
    """The first one, or the one of a name that pyspacemouse knows. One that is unplugged is not
    alive, and is opened again when it is back. Raises DeviceError where there is none."""

    def __init__(self, name: str = "", opener=None):
        self._open = opener or (lambda: _opened(name))
        self._mouse = self._open()
        self._again = 0.0  # when to look for a lost one

    def poll(self, now: float) -> Poll:
        if self._mouse is None and now >= self._again:
            self._again = now + 1.0
            try:
                self._mouse = self._open()
            except DeviceError:  # it is still away, which LOST tells
                self._mouse = None
        if self._mouse is None:
            return LOST
        try:
            state = self._read()
        except Exception:  # easyhid has an exception of its own, which is not an OSError
            self._mouse, self._again = None, now + 1.0
            return LOST
        buttons = frozenset(f"button{i}" for i, held in enumerate(state.buttons) if held)
        return Poll({name: float(getattr(state, name)) for name in AXES}, buttons, True)

    def _read(self):
        """The state after everything that has arrived: a read takes one report."""
        state, before = self._mouse.read(), None
        for _ in range(REPORTS):
            if state.t == before:
                break
            before = state.t
            state = self._mouse.read()
        return state

    def close(self) -> None:
        if self._mouse is not None:
            self._mouse.close()
            self._mouse = None


def _opened(name: str):
    try:
        import pyspacemouse
    except ImportError:
        raise DeviceError(
            "a SpaceMouse needs pyspacemouse: pip install 'robostack[teleop]'"
        ) from None
    except OSError as error:  # the C library below it
        raise DeviceError(f"{error}; install libhidapi (apt install libhidapi-hidraw0)") from None
    try:
        ros = pyspacemouse.AxisConvention.ROS
        return pyspacemouse.open(device=name or None, axis_convention=ros)
    except Exception as error:  # of three libraries
        raise DeviceError(
            f"no SpaceMouse can be opened ({error}). Is libhidapi there (apt install "
            "libhidapi-hidraw0), is it plugged in, and may you read /dev/hidraw*?"
        ) from None
