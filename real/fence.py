"""A box that points of an arm which is told joints do not leave: its hand, its elbow, whatever is
named.

As in robostack.real.braking, only what can still stop is allowed: a step of all joints is granted
if from where it leads, every joint braking by its own law, no point leaves the box until the arm
rests. Otherwise it is cut back towards the step that brakes, and that one is always the next of a
path that was looked at before. What counts is where commands lead; an arm that lags, bends or is
carried beyond them is its controller's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from robostack.config import ConfigError
from robostack.real import braking
from robostack.real.kinematics import Joint, Vector, arrays, place

HALVINGS = 12
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Point:
    behind: str  # which joint of the chain; it moves with it
    xyz: Vector = (0.0, 0.0, 0.0)  # [m] in that joint's frame


@dataclass(frozen=True)
class Fence:
    """What of an arm stays where. Distances in metres, in the frame of the chain's base."""

    chain: dict[str, Joint]  # from the base on, by the arm's `joints`
    points: dict[str, Point]
    box: dict[str, tuple[float, float]]  # x, y or z -> from, to

    def __post_init__(self) -> None:
        if not (self.chain and self.points and self.box):
            raise ConfigError("expected chain, points and box")
        for name, point in self.points.items():
            if point.behind not in self.chain:
                raise ConfigError(
                    f"points.{name}: there is no joint {point.behind!r}; there are "
                    f"{', '.join(self.chain)}"
                )
        for axis, (low, high) in self.box.items():
            if axis not in AXES or not low < high:
                raise ConfigError(
                    f"box.{axis}: expected x, y or z, and from < to, got [{low}, {high}]"
                )

    @property
    def movable(self) -> list[str]:
        return [name for name, joint in self.chain.items() if joint.type != "fixed"]


@njit(cache=True)
def _within(q, geometry, low, high, places):
    place(q, *geometry, places)
    for point in places:
        for k in range(3):
            if not low[k] <= point[k] <= high[k]:
                return False
    return True


@njit(cache=True)
def _stays(states, limits, geometry, low, high, places):
    """Whether no point leaves the box while every joint brakes from its state until all rest."""
    x, v, a = states[:, 0].copy(), states[:, 1].copy(), states[:, 2].copy()
    for _ in range(braking.LONGEST):
        if not _within(x, geometry, low, high, places):
            return False
        moves = False
        for i in range(len(x)):
            A, J = limits[i, 3], limits[i, 4]
            if abs(v[i]) > braking.REST * J or abs(a[i]) > braking.REST * J:
                moves = True
                a[i] = braking.brake(v[i], a[i], A, J)
                v[i] += a[i]
                x[i] += v[i]
        if not moves:
            return True
    return False


@njit(cache=True)
def _mixed(before, wished, share, limits, out):
    """A step between the one that brakes (0) and the wished one (1); whether it is legal."""
    legal = True
    for i in range(len(before)):
        x, v, a = before[i, :3]
        V, A, J = limits[i, 2:5]
        good = braking.brake(v, a, A, J)
        a = good + share * (wished[i, 2] - good)
        low, high = wished[i, 5:7]
        out[i, :3] = x + (v + a), v + a, a
        legal &= share == 0 or braking.safe(out[i, 0], out[i, 1], a, low, high, V, A, J)
    return legal


@njit(cache=True)
def _kept(before, wished, limits, geometry, low, high, places):
    """The share of the wished step that is granted; `wished` becomes that step, in place."""
    if _stays(wished, limits, geometry, low, high, places):
        return 1.0
    out, good, bad = before.copy(), 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (good + bad) / 2
        if _mixed(before, wished, middle, limits, out) and _stays(
            out, limits, geometry, low, high, places
        ):
            good = middle
        else:
            bad = middle
    _mixed(before, wished, good, limits, out)
    wished[:, :3] = out[:, :3]
    return good


class Guard:
    """Keeps the joints of one arm behind its fence; `rows` are theirs among the axes."""

    def __init__(self, fence: Fence, rows: Sequence[int], limits: np.ndarray):
        self.rows, self._limits = np.array(rows), limits[rows]
        points = [(point.behind, point.xyz) for point in fence.points.values()]
        self._geometry = arrays(fence.chain, fence.movable, points)
        box = [fence.box.get(axis, (-np.inf, np.inf)) for axis in AXES]
        self._box = self._legal = np.array(box, np.float64).T
        self._places = np.empty((len(points), 3))
        self.holds, self.held = False, 0  # cuts the last command back; how many it did
        still = np.zeros((len(rows), 9))
        _kept(still, still.copy(), self._limits, self._geometry, *self._box, self._places)
        _kept(still, still.copy(), self._limits, self._geometry, *self._box + 1e9, self._places)

    def places(self, states: np.ndarray) -> np.ndarray:
        """f64[m, 3] [m]: where the points are, of the states of all axes."""
        place(states[self.rows, 0].copy(), *self._geometry, self._places)
        return self._places.copy()

    def found(self, states: np.ndarray) -> None:
        """The arm is at rest where somebody else has put it: outside it may only move back in."""
        places = self.places(states)
        self._legal = np.array(
            [np.minimum(self._box[0], places.min(0)), np.maximum(self._box[1], places.max(0))]
        )

    def keep(self, before: np.ndarray, after: np.ndarray) -> bool:
        """Cuts a step of all axes back, in place; True where it had to."""
        rows = self.rows
        start, wished = before[rows], after[rows]
        if self._legal is not self._box and self._stays(start, self._box):
            self._legal = self._box
        share = _kept(start, wished, self._limits, self._geometry, *self._legal, self._places)
        after[rows] = wished
        self.holds = share < 1
        self.held += self.holds
        return self.holds

    def _stays(self, states: np.ndarray, box: np.ndarray) -> bool:
        return bool(_stays(states, self._limits, self._geometry, *box, self._places))


def guards(arms: Mapping, axes: Sequence[str], limits: np.ndarray) -> dict[str, Guard]:
    """Of the arms that have a fence; `axes` are the actions that rows of `limits` are of."""
    found = {}
    for name, arm in arms.items():
        if arm.fence is not None:
            action = dict(zip(arm.joints or arm.actions, arm.actions))
            rows = [axes.index(action[joint]) for joint in arm.fence.movable]
            found[name] = Guard(arm.fence, rows, limits)
    return found
