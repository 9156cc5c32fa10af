"""How an arm comes to rest that hears no more: the rest of a trajectory after its next point.

A controller that is sent whole trajectories is sent its stop with every one of them. So it rests
within the limits where whoever sent them was killed, and accepts them: since ROS 2 Jazzy
joint_trajectory_controller refuses what does not end at rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from robostack.real import braking
from robostack.real.robot import RobotConfig
from robostack.real.safety import INSIDE

SPACING = 0.01  # [s] between points, at least


@njit(cache=True)
def _steps(v, a, A, J):
    """As many until every axis rests by `braking.brake`."""
    most = 0
    for i in range(len(v)):
        speed, change, n = v[i], a[i], 0
        while n < braking.LONGEST and max(abs(speed), abs(change)) > braking.REST * J[i]:
            change = braking.brake(speed, change, A[i], J[i])
            speed += change
            n += 1
        most = max(most, n)
    return most


@njit(cache=True)
def _path(x, v, a, A, J, n):
    """f64[n + 1, k] positions and velocities, in units of steps, from the present ones on.

    Velocities are those of the instants: half of the step before and half of the one after."""
    places, speeds = np.empty((n + 1, len(x))), np.empty((n + 1, len(x)))
    for i in range(len(x)):
        place, speed, change = x[i], v[i], a[i]
        places[0, i], speeds[0, i] = place, speed + change / 2
        for k in range(1, n + 1):
            change = braking.brake(speed, change, A[i], J[i])
            speed += change
            place += speed
            places[k, i] = place
            speeds[k, i] = speed + braking.brake(speed, change, A[i], J[i]) / 2
        speeds[n, i] = 0.0
    return places, speeds


class Stopping:
    """Of some `absolute` actions of a robot, by the very law by which its commands brake."""

    def __init__(self, robot: RobotConfig, actions: Sequence[str]):
        self.dt = 1 / robot.rate
        given = [robot.actions[name] for name in actions]
        self._acceleration = INSIDE * self.dt**2 * np.array([a.acceleration for a in given])
        self._jerk = INSIDE * self.dt**3 * np.array([a.jerk for a in given])
        self._stride = max(1, round(SPACING / self.dt))
        self.path(np.zeros((3, len(given))))  # compiled now

    def path(self, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From a command on: times f64[n] [s], 0 first, positions and velocities f64[n, k].

        `motion` f64[3, k] is the command and its first two derivatives. The last velocity is 0.
        """
        x, v, a = motion[0], motion[1] * self.dt, motion[2] * self.dt**2
        n = _steps(v, a, self._acceleration, self._jerk)
        places, speeds = _path(x, v, a, self._acceleration, self._jerk, n)
        rows = np.unique(np.append(np.arange(0, n, self._stride), n))
        return rows * self.dt, places[rows], speeds[rows] / self.dt
