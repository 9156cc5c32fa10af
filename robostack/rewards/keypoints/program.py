"""A task as stages of constraints, and how far an episode has come through them.

Stages, goals and what must go on holding are ReKep's (arXiv 2409.01652), and so is going back to
the last stage that still holds. Progress on a route is KAGI's dense reward (arXiv 2407.10341): how
far along a path of waypoints, and how far off it. KAGI does not publish its formula; ours is

    (1 - left / length) exp(-off^2 / 2 sigma^2)

on the segments up to the furthest one that was reached, which one does by passing the waypoint
where it begins. So the end of a path is not claimed by a path that leads past it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from robostack.rewards.keypoints import constraints
from robostack.rewards.keypoints.constraints import Constraint, points_of, read_constraint
from robostack.rewards.keypoints.reading import Length, read_fields, several
from robostack.rewards.keypoints.tracks import KeypointError, Tracks, Waypoint, further, project

UNFINISHED = 0.75  # the most that a stage counts before its goals hold
SLACK, PATIENCE = 0.01, 3  # [m], observations in a row: what it takes to break what must hold
PASSED = 0.08  # [m] from a waypoint that count as passing it


@dataclass(frozen=True)
class Route:
    """The path of a stage: `mover` goes from where it was through `via`, each going along with
    its point. `sigma` [m] is how far off the path the progress falls to 0.6.

    A path shorter than `least` [m] counts as the end of one of that length: then a stage that
    begins late, as in tries from the middle of a task, is as far as it would be in a whole one.
    """

    mover: str
    via: tuple[Waypoint, ...]
    least: Length
    sigma: Length = 0.1


@dataclass(frozen=True)
class Stage:
    """A stage ends when all of `goal` hold, and is lost when one of `keep` does not.

    Without a route, progress is 1 - c / scale of the goal that is met least, and at least 0.
    """

    name: str
    goal: tuple[Constraint, ...]
    keep: tuple[Constraint, ...] = ()
    weight: Length = 1.0
    route: Route | None = None
    scale: Length = 0.05  # [m]

    def __post_init__(self) -> None:
        if not self.goal:
            raise KeypointError(f"stage {self.name!r}: expected at least one goal")

    def unmet(self, tracks: Tracks) -> np.ndarray:
        """Signed f64[T+1] [m]: the goal that is met least."""
        return np.max([goal.value(tracks) for goal in self.goal], axis=0)

    def broken(self, tracks: Tracks) -> np.ndarray:
        """Signed f64[T+1] [m]: what must hold and holds least."""
        kept = [keep.value(tracks) for keep in self.keep]
        return np.max(kept, axis=0) if kept else np.full(len(tracks), -np.inf)


@dataclass(frozen=True)
class Program:
    """What to do, in order, when the instruction looks like one of `instructions`.

    Those are shell patterns: * stands for any words, ? for one sign, [?] for itself. Capitals do
    not matter.
    """

    instructions: tuple[str, ...]
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if not (self.stages and self.instructions):
            raise KeypointError("a program needs at least one stage and one instruction")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise KeypointError(f"a program's stages need different names, got {names}")

    @property
    def points(self) -> set[str]:
        """Names of the keypoints that it looks at."""
        routes = [stage.route for stage in self.stages if stage.route]
        looked = {r.mover for r in routes} | {w.point for r in routes for w in r.via}
        for stage in self.stages:
            looked |= {name for c in (*stage.goal, *stage.keep) for name in points_of(c)}
        return looked

    @property
    def shares(self) -> np.ndarray:
        """Weights of the stages f64[S], of sum 1."""
        weights = np.array([stage.weight for stage in self.stages])
        return weights / weights.sum()

    def fits(self, instruction: str) -> bool:
        return any(fnmatchcase(instruction.lower(), like.lower()) for like in self.instructions)

    def progress(self, tracks: Tracks) -> np.ndarray:
        """How far each stage has come f64[T+1, S]: 1 for those that are finished, 0 for those
        that have not begun. Nothing that comes later changes what is said of an observation.

        Raises KeypointError where the tracks lack a point.
        """
        done = np.zeros((len(tracks), len(self.stages)))
        for t, (at, leg) in enumerate(self._walk(tracks)):
            done[t, :at] = 1.0
            if leg is not None:
                done[t, at] = UNFINISHED * leg.progress(t)
        return done

    def present(self, tracks: Tracks) -> Leg | None:
        """The stage that the last observation is in; None where all are done. Raises KeypointError
        where the tracks lack a point."""
        *_, (_, leg) = self._walk(tracks)
        return leg

    def _walk(self, tracks: Tracks) -> Iterator[tuple[int, Leg | None]]:
        """The stage that each observation is in, by its number; after the last there is None. What
        is found done is done; everything else begins with the first stage."""
        walk = [Leg(stage, tracks) for stage in self.stages]
        unmet = [leg.unmet for leg in walk]
        # a task that is done is lost again when its last goals are
        broken = np.stack([*(stage.broken(tracks) for stage in self.stages), unmet[-1]])
        found_done = len(tracks) and max(unmet[-1][0], self.stages[-1].broken(tracks)[0]) <= 0
        at, lost = len(walk) if found_done else 0, 0
        for leg in walk:
            leg.begin(0)
        for t in range(len(tracks)):
            lost = lost + 1 if broken[at, t] > SLACK else 0
            before = at
            while at < len(walk) and unmet[at][t] <= 0:
                at += 1
                if at < len(walk):
                    walk[at].begin(t)
            patience = PATIENCE if at < len(walk) else 1  # what is not done is never called so
            if at > before:
                lost = 0
            elif at > 0 and lost >= patience:
                at = max(j for j in range(at) if j == 0 or broken[j, t] <= 0)
                lost = 0
            yield at, walk[at] if at < len(walk) else None

    def to_json(self) -> dict[str, Any]:
        return {
            "instructions": list(self.instructions),
            "stages": [
                {
                    "name": stage.name,
                    "goal": [constraints.plain(c) for c in stage.goal],
                    "keep": [constraints.plain(c) for c in stage.keep],
                    "weight": stage.weight,
                    "route": None if stage.route is None else _plain_route(stage.route),
                    "scale": stage.scale,
                }
                for stage in self.stages
            ],
        }

    @classmethod
    def from_json(cls, raw: Any, points: set[str] | None = None) -> Program:
        """The inverse of `to_json`. Raises KeypointError that says where and what, also where it
        looks at a point that is none of `points`."""
        program = read_fields(cls, raw, "program", _READERS)
        unknown = sorted(program.points - points) if points is not None else []
        if unknown:
            raise KeypointError(
                f"program: there is no keypoint {unknown[0]!r}; there are: "
                f"{', '.join(sorted(points))}"
            )
        return program


class Leg:
    """One stage of one episode."""

    def __init__(self, stage: Stage, tracks: Tracks):
        self.stage, route = stage, stage.route
        self.unmet = stage.unmet(tracks)
        self._reached, self.begun = 0, 0  # furthest segment, and since when
        if route is not None:
            self._mover = tracks[route.mover]
            self._via = [waypoint.at(tracks) for waypoint in route.via]

    def begin(self, t: int) -> None:
        """The stage begins, for the first time or once more after one before it was lost."""
        self._reached, self.begun = 0, t
        if self.stage.route is not None:
            self._start = self._mover[t]

    def progress(self, t: int) -> float:
        route = self.stage.route
        if route is None:
            return float(np.clip(1 - self.unmet[t] / self.stage.scale, 0, 1))
        corners = self._corners(t)
        left, off = project(self._mover[t], corners)
        apart = np.linalg.norm(corners - self._mover[t], axis=1)
        while self._reached + 1 < len(off) and apart[self._reached + 1] < PASSED:
            self._reached += 1
        length = max(np.linalg.norm(np.diff(corners, axis=0), axis=1).sum(), route.least)
        value = (1 - left / length) * np.exp(-(off**2) / (2 * route.sigma**2))
        return float(value[: self._reached + 1].max())

    def ahead(self, t: int, distance: float) -> np.ndarray:
        """From the route's mover to the place that lies `distance` [m] further along than the one
        nearest to it: f64[3] [m]."""
        return further(self._mover[t], self._corners(t), distance) - self._mover[t]

    def _corners(self, t: int) -> np.ndarray:
        return np.stack([self._start, *(track[t] for track in self._via)])


def _plain_route(route: Route) -> dict[str, Any]:
    return dataclasses.asdict(route) | {"via": [dataclasses.asdict(w) for w in route.via]}


def _route(raw: Any, where: str) -> Route | None:
    return None if raw is None else read_fields(Route, raw, where, _READERS)


def _stage(raw: Any, where: str) -> Stage:
    name = raw.get("name") if isinstance(raw, dict) else None
    return read_fields(Stage, raw, f"{where} ({name})" if name else where, _READERS)


def _waypoint(raw: Any, where: str) -> Waypoint:
    return read_fields(Waypoint, raw, where, _READERS)


_READERS = constraints.READERS | {
    "Route | None": _route,
    "tuple[str, ...]": several(constraints.READERS["str"], least=1),
    "tuple[Waypoint, ...]": several(_waypoint, least=1),
    "tuple[Stage, ...]": several(_stage, least=1),
    "tuple[Constraint, ...]": several(read_constraint, least=0),
}
