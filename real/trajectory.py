"""A chunk of actions as a function of time: smooth where numbers are targets, stepped elsewhere."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from robostack.real.messages import Chunk

SLACK = 1e-6  # [s] by which stamps and clocks are rounded


class Plan:
    """What a chunk asks for at a time; it begins where the arm is commanded to be.

    Row i is for `stamp + offsets[i]`; rows whose time has passed are never asked for. Smooth
    columns run through the rows as a C2 cubic spline that comes to rest one period after the last.
    Onto it goes a quintic that takes what the arm was doing at `begin` (`motion` f64[3, A]: the
    command and its first and second derivative) to 0 in `blend` seconds: so chunks join in C2, too.
    Other columns keep each row until the next one's time.
    """

    def __init__(
        self,
        chunk: Chunk,
        smooth: np.ndarray,  # bool[A]
        period: float,
        begin: float,
        motion: np.ndarray,
        blend: float,
    ):
        self.stamp, self.actions = chunk.stamp, chunk.actions
        self._times = chunk.offsets  # [s] after the stamp, to keep their digits
        self.end, self.joined = chunk.stamp + chunk.offsets[-1] + period, begin + blend
        self._begin, self._smooth, self._spline = begin, smooth, None
        if smooth.any():
            rows = self.actions[:, smooth]
            knots = np.append(self._times, self._times[-1] + period)
            self._spline = CubicSpline(
                knots, np.vstack([rows, rows[-1:]]), bc_type=("natural", "clamped")
            )
            s = self._inside(begin)
            there = np.stack([self._spline(s, order) for order in range(3)])
            self._offset = _fade(motion[:, smooth] - there, blend)

    def late(self, now: float) -> int:
        """Rows whose time has passed."""
        return int((self.stamp + self._times[1:] <= now + SLACK).sum())

    def at(self, now: float) -> np.ndarray | None:
        """The action f64[A] for a time; None after the last row's period."""
        if now > self.end - SLACK:
            return None
        row = np.searchsorted(self._times, now - self.stamp + SLACK, side="right") - 1
        action = self.actions[max(row, 0)].copy()
        if self._spline is not None:
            action[self._smooth] = self._derivative(now, 0)
        return action

    def motion(self, now: float) -> np.ndarray:
        """What is asked for at a time and its first and second derivative f64[3, A]; those of
        columns that are not smooth are 0."""
        found = np.zeros((3, self.actions.shape[1]))
        found[0] = self.at(min(now, self.end - 2 * SLACK))
        if self._spline is not None:
            for order in (1, 2):
                found[order, self._smooth] = self._derivative(now, order)
        return found

    def _derivative(self, now: float, order: int) -> np.ndarray:
        smooth = self._spline(self._inside(now), order)
        if now >= self.joined:
            return smooth
        fade = np.polynomial.polynomial.polyder(self._offset, order) if order else self._offset
        return smooth + np.polynomial.polynomial.polyval(now - self._begin, fade)

    def _inside(self, now: float) -> float:
        """[s] after the stamp; where the spline has not begun yet, its beginning."""
        return max(now - self.stamp, self._times[0])


def _fade(begin: np.ndarray, duration: float) -> np.ndarray:
    """Coefficients f64[6, n] of the quintic in t that has value and two derivatives `begin`
    f64[3, n] at 0, and all three 0 at `duration` [s]."""
    x, v, a = begin
    T = duration
    return np.stack(
        [
            x,
            v,
            a / 2,
            -(10 * x / T**3 + 6 * v / T**2 + 1.5 * a / T),
            15 * x / T**4 + 8 * v / T**3 + 1.5 * a / T**2,
            -(6 * x / T**5 + 3 * v / T**4 + 0.5 * a / T**3),
        ]
    )
