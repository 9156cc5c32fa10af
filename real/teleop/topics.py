"""Devices that ROS messages bring: a pad on `joy`, a tracked hand, a leader arm. Without ROS: the
teleop node calls `feed`, from any thread, and polls like any other device.

Receive times are this machine's monotonic clock, so that a wrong clock of the sender does no harm.
A sender that falls silent is not alive: a pad out of reach would else repeat its last state. `joy`
must therefore repeat: its autorepeat_rate, 20 Hz by default, must not be less than that. How long a
sender may be silent is `timeouts.device` of the robot's file.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np

from robostack.real.teleop.device import LOST, Poll

SILENT = 0.15  # [s], three messages of a pad


class _Heard:
    """What was told last, and when."""

    def __init__(self, timeout: float):
        self.timeout = timeout
        self._lock = threading.Lock()
        self._joy, self._joy_at = Poll({}, frozenset(), True), None
        self._tapped: frozenset[str] = frozenset()  # pressed since the last poll
        self._command: dict[str, float] = {}
        self._at = -math.inf

    def feed_joy(self, axes: Sequence[float], buttons: Sequence[int], now: float) -> None:
        """Fields of a Joy, as axis0.. and button0..; with one, its silence counts, too."""
        command = {f"axis{i}": float(v) for i, v in enumerate(axes)}
        held = frozenset(f"button{i}" for i, v in enumerate(buttons) if v)
        with self._lock:
            self._tapped |= held - self._joy.buttons
            self._joy, self._joy_at = Poll(command, held, True), now

    def _feed(self, command: dict[str, float], now: float) -> None:
        if not all(math.isfinite(v) for v in command.values()):
            return  # a sensor that has lost track says NaN: as good as silence
        with self._lock:
            self._command, self._at = command, now

    def poll(self, now: float) -> Poll:
        with self._lock:
            tapped, self._tapped = self._tapped, frozenset()
            silent = now - self._at > self.timeout
            if silent or (self._joy_at is not None and now - self._joy_at > self.timeout):
                return LOST
            return Poll({**self._joy.command, **self._command}, self._joy.buttons | tapped, True)

    def close(self) -> None:
        with self._lock:
            self._at = -math.inf


class JoyInput(_Heard):
    """A pad: sensor_msgs/Joy."""

    def __init__(self, timeout: float = SILENT):
        super().__init__(timeout)

    def feed(self, axes: Sequence[float], buttons: Sequence[int], now: float) -> None:
        self.feed_joy(axes, buttons, now)
        self._feed({}, now)


class PoseInput(_Heard):
    """A hand: geometry_msgs/PoseStamped, and a Joy with its buttons, in any fixed frame whose z
    axis points up (`yaw` of the mapping turns it to the robot's)."""

    def __init__(self, timeout: float = SILENT):
        super().__init__(timeout)

    def feed(self, position: Sequence[float], quaternion: Sequence[float], now: float) -> None:
        """xyz [m] and wxyz; a quaternion of no length is a tracker that has lost its hand."""
        if not np.linalg.norm(quaternion) > 1e-6:
            return
        values = [*map(float, position), *map(float, quaternion)]
        self._feed(dict(zip(("x", "y", "z", "qw", "qx", "qy", "qz"), values)), now)


class LeaderInput(_Heard):
    """A leader arm: sensor_msgs/JointState, by names; a Joy may bring a pedal."""

    def __init__(self, timeout: float = SILENT):
        super().__init__(timeout)

    def feed(self, names: Sequence[str], positions: Sequence[float], now: float) -> None:
        if len(names) != len(positions):
            raise ValueError(f"{len(names)} joint names and {len(positions)} positions")
        self._feed(dict(zip(names, map(float, positions))), now)
