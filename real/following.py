"""What a joint_trajectory_controller makes of the messages that it gets, for a simulated robot.

Rules and splines are those of ros2_controllers for ROS 2 Jazzy with default parameters, except for
`interpolate_from_desired_state: true`, without which each message of a stream would begin where the
lagging arm is and not where it was told to be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robostack.real.messages import MessageError, seconds

RESTING = float(np.finfo(np.float32).eps)  # of the last velocities, which have to be 0


def require_valid(message, joints: Sequence[str], now: float) -> None:
    """Raises MessageError where the controller of `joints` would refuse a JointTrajectory."""
    got, points = list(message.joint_names), list(message.points)
    if sorted(got) != sorted(joints):
        raise MessageError(f"expected joints {', '.join(joints)}; got {', '.join(got) or 'none'}")
    if not points:
        raise MessageError("a trajectory without points")
    if any(abs(v) > RESTING for v in points[-1].velocities):
        raise MessageError(f"the last point is not at rest: {list(points[-1].velocities)}")
    stamp, times = seconds(message.header.stamp), [seconds(p.time_from_start) for p in points]
    if stamp and stamp + times[-1] < now:
        raise MessageError(f"it ended {now - stamp - times[-1]:.3g} s ago")
    if (np.diff(times) <= 0).any():
        raise MessageError(f"time_from_start does not increase: {times}")
    for i, point in enumerate(points):
        sizes = len(point.positions), len(point.velocities), len(point.accelerations)
        if sizes[0] != len(got) or not {sizes[1], sizes[2]} <= {0, len(got)} or len(point.effort):
            raise MessageError(
                f"point {i}: expected {len(got)} positions, velocities and accelerations or none "
                f"of the latter, and no efforts; got {sizes} and {len(point.effort)}"
            )


class Following:
    """Where the joints of one controller are to be, in the order of `joints`."""

    def __init__(self, joints: Sequence[str]):
        self.joints = list(joints)
        self._times = self._places = self._speeds = np.zeros(0)

    def hear(self, message, now: float, measured: np.ndarray) -> None:
        """Take a trajectory in the place of the one before. `measured` f64[k] is where it begins
        if there was none. Raises MessageError, and goes on, where the controller would refuse it.
        """
        require_valid(message, self.joints, now)
        order = [list(message.joint_names).index(name) for name in self.joints]
        place, speed = self.at(now) or (np.asarray(measured, float), np.zeros(len(order)))
        begin = seconds(message.header.stamp) or now
        points = [p for p in message.points if begin + seconds(p.time_from_start) > now]
        self._times = np.array([now, *(begin + seconds(p.time_from_start) for p in points)])
        places = [np.asarray(p.positions)[order] for p in points]
        unknown = np.full(len(order), np.nan)
        speeds = [np.asarray(p.velocities)[order] if len(p.velocities) else unknown for p in points]
        self._places, self._speeds = np.array([place, *places]), np.array([speed, *speeds])

    def at(self, now: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Positions and velocities f64[k] that are due; None before the first trajectory."""
        if not len(self._times):
            return None
        i = int(np.searchsorted(self._times, now, side="right")) - 1
        if i < 0 or i == len(self._times) - 1:
            return self._places[i], np.zeros(len(self.joints))
        h = self._times[i + 1] - self._times[i]
        s = (now - self._times[i]) / h
        x, y, v, w = *self._places[i : i + 2], *(h * self._speeds[i : i + 2])
        if np.isnan(v).any() or np.isnan(w).any():  # without velocities it is a line
            v = w = y - x
        place = x + v * s + (3 * (y - x) - 2 * v - w) * s**2 + (2 * (x - y) + v + w) * s**3
        speed = v + 2 * (3 * (y - x) - 2 * v - w) * s + 3 * (2 * (x - y) + v + w) * s**2
        return place, speed / h
