"""Signed constraints over named points: c <= 0 means satisfied, and c [m] says by how much not.

The form is ReKep's (arXiv 2409.01652): what a task wants at the end of a stage and what must go on
holding during it are functions of keypoints. There each is code that a model wrote; here each is
a kind from the table `KINDS` with its numbers, so that nothing is executed to read one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from robostack.rewards.keypoints.reading import PRIMITIVE, Length, read_fields, several
from robostack.rewards.keypoints.tracks import KeypointError, Tracks, Waypoint, project

SHUT, WIDE = 0.008, 0.07  # [m] between the fingers of a Panda: around nothing, too wide to hold


class Constraint:
    """Base of the kinds. A kind adds fields and `value`."""

    def value(self, tracks: Tracks) -> np.ndarray:
        """Signed f64[T+1] [m]."""
        raise NotImplementedError


def _apart(tracks: Tracks, a: str, b: str) -> np.ndarray:
    return np.linalg.norm(tracks[a] - tracks[b], axis=-1)


@dataclass(frozen=True)
class Near(Constraint):
    """`a` is at most `within` [m] from `b`."""

    a: str
    b: str
    within: Length

    def value(self, tracks: Tracks) -> np.ndarray:
        return _apart(tracks, self.a, self.b) - self.within


@dataclass(frozen=True)
class Apart(Constraint):
    """`a` is at least `distance` [m] from `b`."""

    a: str
    b: str
    distance: Length

    def value(self, tracks: Tracks) -> np.ndarray:
        return self.distance - _apart(tracks, self.a, self.b)


@dataclass(frozen=True)
class Over(Constraint):
    """`a` is at most `within` [m] from the vertical line through `b`."""

    a: str
    b: str
    within: Length

    def value(self, tracks: Tracks) -> np.ndarray:
        return np.linalg.norm((tracks[self.a] - tracks[self.b])[:, :2], axis=-1) - self.within


@dataclass(frozen=True)
class Above(Constraint):
    """`a` is at least `height` [m] higher than `b`."""

    a: str
    b: str
    height: float

    def value(self, tracks: Tracks) -> np.ndarray:
        return self.height - (tracks[self.a] - tracks[self.b])[:, 2]


@dataclass(frozen=True)
class Level(Constraint):
    """The heights of `a` and `b` differ by at most `within` [m]."""

    a: str
    b: str
    within: Length

    def value(self, tracks: Tracks) -> np.ndarray:
        return np.abs((tracks[self.a] - tracks[self.b])[:, 2]) - self.within


@dataclass(frozen=True)
class Still(Constraint):
    """`a` has moved by at most `speed` [m/s] since the observation before."""

    a: str
    speed: Length

    def value(self, tracks: Tracks) -> np.ndarray:
        return np.linalg.norm(tracks.moved(self.a), axis=-1) - self.speed / tracks.hz


@dataclass(frozen=True)
class Held(Constraint):
    """The gripper is closed around `a`: near it, and `a` goes where the gripper goes.

    `slip` [m/s] is how fast the two may move relative to each other; between openings `shut` and
    `wide` [m], by default a Panda's, the fingers can hold something. Where the opening is unknown,
    nearness and motion decide alone, and then resting beside it looks the same.
    """

    a: str
    gripper: str = "gripper"
    within: Length = 0.07
    slip: Length = 0.1
    shut: Length = SHUT
    wide: Length = WIDE

    def value(self, tracks: Tracks) -> np.ndarray:
        relative = tracks.moved(self.a) - tracks.moved(self.gripper)
        slipped = np.linalg.norm(relative, axis=-1) - self.slip / tracks.hz
        parts = [_apart(tracks, self.a, self.gripper) - self.within, slipped]
        grip = tracks.grip(self.shut, self.wide)
        return np.max(parts if grip is None else [*parts, grip], axis=0)


@dataclass(frozen=True)
class Released(Constraint):
    """The fingers move, are open or shut around nothing, or are `distance` [m] from `a`."""

    a: str
    gripper: str = "gripper"
    distance: Length = 0.07
    shut: Length = SHUT
    wide: Length = WIDE

    def value(self, tracks: Tracks) -> np.ndarray:
        away = self.distance - _apart(tracks, self.a, self.gripper)
        grip = tracks.grip(self.shut, self.wide)
        return away if grip is None else np.minimum(away, -grip)


@dataclass(frozen=True)
class Path(Constraint):
    """`a` is at most `within` [m] from the polyline through `waypoints`, two or more."""

    a: str
    waypoints: tuple[Waypoint, ...]
    within: Length

    def value(self, tracks: Tracks) -> np.ndarray:
        corners = np.stack([waypoint.at(tracks) for waypoint in self.waypoints], axis=1)
        off = [project(p, c)[1].min() for p, c in zip(tracks[self.a], corners)]
        return np.array(off) - self.within


KINDS: dict[str, type[Constraint]] = {
    kind.__name__.lower(): kind
    for kind in (Near, Apart, Over, Above, Level, Still, Held, Released, Path)
}


def _waypoint(raw: Any, where: str) -> Waypoint:
    return read_fields(Waypoint, raw, where, PRIMITIVE)


READERS = PRIMITIVE | {"tuple[Waypoint, ...]": several(_waypoint, least=2)}


def read_constraint(raw: Any, where: str) -> Constraint:
    """A constraint from {"kind": ..., its fields}. Raises KeypointError that begins with `where`
    for an unknown kind or key, a missing key, or a value of another type."""
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise KeypointError(
            f"{where}: expected a constraint {{'kind': ...}} of one of the kinds "
            f"{', '.join(KINDS)}; got {raw!r}"
        )
    rest = {key: value for key, value in raw.items() if key != "kind"}
    return read_fields(KINDS[kind], rest, f"{where}: {kind}", READERS)


def plain(constraint: Constraint) -> dict[str, Any]:
    """The inverse of `read_constraint`, of nothing but what JSON knows."""
    raw = {"kind": type(constraint).__name__.lower(), **dataclasses.asdict(constraint)}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in raw.items()}


def points_of(constraint: Constraint) -> set[str]:
    """Names of the points that it looks at."""
    names = {v for v in vars(constraint).values() if isinstance(v, str)}
    return names | {w.point for w in getattr(constraint, "waypoints", ())}
