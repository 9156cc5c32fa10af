"""The keypoint reward: a potential from where named points are, and what it is made of."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from robostack.protocols import Follower, Scores
from robostack.rewards.follow import Whole
from robostack.rewards.keypoints.builtin import PROGRAMS
from robostack.rewards.keypoints.following import KeypointFollower
from robostack.rewards.keypoints.program import Program
from robostack.rewards.keypoints.track import Tracker
from robostack.rewards.keypoints.tracks import KeypointError, Points, Tracks
from robostack.rewards.saved import SavedReward, Starts
from robostack.types import Episode, RobotSpec

THING = "thing:"  # how the points of things that go by a name begin
OPENING = "gripper_opening"  # the state [m] that tells a closed gripper from an open one
ACROSS = ("gripper_xx", "gripper_xy", "gripper_xz")  # the axis along which fingers open


class Source(Protocol):
    """Keypoints from something else than what episodes carry: a Tracker, say."""

    def __call__(self, episode: Episode) -> tuple[Points, np.ndarray]:
        """Points f32[T+1, 3] by name [m], and how sure they are f32[T+1] in [0, 1]."""

    def settings(self) -> dict[str, Any]:
        """Plain data that, with the arrays, decides what is said of an episode."""

    def arrays(self) -> dict[str, np.ndarray]: ...


class KeypointAffordance(SavedReward):
    """Weighted share of a task's stages that an episode has come through.

    After KAGI (arXiv 2407.10341) and ReKep (2409.01652), see robostack.rewards.keypoints.program.
    The potential is the weighted mean of the terms, one a stage; it is 1 where the task is done.
    `programs` are tried in order: the first that fits an instruction judges it. Without a `source`
    the points are those that the episode carries, of which one can be sure.
    """

    name = "keypoints"
    version = 2  # 1 knew no task that is found done
    learned_from: Starts | None = {}  # nothing

    def __init__(
        self,
        spec: RobotSpec | None = None,
        programs: Mapping[str, Program] | None = None,
        source: Source | None = None,
    ):
        self.spec = spec
        self.programs = dict(PROGRAMS if programs is None else programs)
        self.source = source

    def program(self, task: str) -> Program:
        """The program of an instruction. Raises KeypointError where there is none."""
        for program in self.programs.values():
            if program.fits(task):
                return program
        known = [f"{name} ({'; '.join(p.instructions)})" for name, p in self.programs.items()]
        raise KeypointError(f"no keypoint program for {task!r}; there are: {', '.join(known)}")

    def score(self, episode: Episode) -> np.ndarray:
        return self.explain(episode).potential

    def explain(self, episode: Episode) -> Scores:
        """Potential, the source's confidence, and how far each stage has come.

        Raises KeypointError for an instruction without a program and for points that are missing
        or not finite.
        """
        if self.spec is not None:
            self.spec.require_same(episode.spec, "the keypoint reward", "the episode")
        points, confidence = self.points(episode)
        return self.judge(points, confidence, episode.states, episode.task, episode.spec)

    def points(self, episode: Episode) -> tuple[Points, np.ndarray]:
        """What it judges by: points f32[T+1, 3] by name [m], and how sure they are f32[T+1]."""
        if self.source is not None:
            return self.source(episode)
        return episode.keypoints, np.ones(len(episode) + 1, np.float32)

    def judge(
        self,
        points: Points,
        confidence: np.ndarray,
        states: np.ndarray,
        task: str,
        spec: RobotSpec,
    ) -> Scores:
        """The same of points f32[T+1, 3] by name, how sure they are f32[T+1], and states
        f32[T+1, S]."""
        program = self.program(task)
        try:
            tracks = tracked(points, states, task, spec)
            if len(tracks) not in (0, len(states)):
                raise KeypointError(f"{len(tracks)} points for {len(states)} observations")
            progress = program.progress(tracks)
        except KeypointError as error:
            raise KeypointError(f"{task!r}: {error}") from None
        potential = np.clip(progress @ program.shares, 0, 1).astype(np.float32)
        terms = {s.name: progress[:, j].astype(np.float32) for j, s in enumerate(program.stages)}
        return Scores(potential, confidence, terms)

    def terms(self, episode: Episode) -> dict[str, np.ndarray]:
        """How far each stage has come f32[T+1] in [0, 1], in order."""
        return self.explain(episode).terms

    def stops(self, episode: Episode) -> np.ndarray:
        """Where the task is done: bool[T+1]."""
        *_, last = self.explain(episode).terms.values()
        return last == 1

    def follow(self) -> Follower:
        """Raises KeypointError where points come with episodes only, as a simulator's do."""
        if self.source is None:
            raise KeypointError(
                "a try that goes on carries no keypoints; expected a keypoint reward that knows "
                "them from pictures: robostack train reward kind=keypoints keypoints.cameras=FILE, "
                "or robostack propose"
            )
        if self.spec is None:
            raise KeypointError("a keypoint reward that follows a try needs its robot's spec")
        if isinstance(self.source, Tracker):
            return KeypointFollower(self)
        return Whole(self, self.spec)

    def settings(self) -> dict[str, Any]:
        return {
            "programs": [[name, p.to_json()] for name, p in self.programs.items()],
            "source": None if self.source is None else self.source.settings(),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        return {} if self.source is None else self.source.arrays()

    @classmethod
    def restore(
        cls,
        spec: RobotSpec,
        settings: dict[str, Any],
        arrays: dict[str, np.ndarray],
        parts: dict[str, SavedReward],
    ) -> KeypointAffordance:
        programs = {name: Program.from_json(raw) for name, raw in settings["programs"]}
        seen = settings["source"]
        return cls(spec, programs, None if seen is None else Tracker.restore(seen, arrays))

    def save(self, folder: str | Path) -> None:
        """Raises KeypointError without a spec, and with a source other than a Tracker."""
        if self.spec is None:
            raise KeypointError("a keypoint reward is saved with the robot it is for: give it spec")
        if not isinstance(self.source, (Tracker, type(None))):
            raise KeypointError(
                f"a keypoint reward can be saved with a Tracker as its source, not with a "
                f"{type(self.source).__name__}"
            )
        super().save(folder)

    def fingerprint(self) -> str:
        """Also of what each program says of a rehearsal, so that formulas count as well."""
        digest = hashlib.sha256(super().fingerprint().encode())
        for program in self.programs.values():
            digest.update(rehearsed(program))
        return digest.hexdigest()[:16]


def tracked(points: Points, states: np.ndarray, task: str, spec: RobotSpec) -> Tracks:
    """What a program looks at, of points f32[T+1, 3] by name and states f32[T+1, S]."""
    names = spec.state_names
    opening = states[:, names.index(OPENING)] if OPENING in names else None
    across = states[:, [names.index(n) for n in ACROSS]] if {*ACROSS} <= {*names} else None
    return Tracks(asked_for(points, task), spec.control_hz, opening, across)


def asked_for(points: Points, task: str) -> Points:
    """The points with `object` and, where a second thing is named, `target` those of the things
    that the instruction names, where things have names: points "thing:red cube" and the like.

    What somebody else calls the object may not be what these words ask for. Raises KeypointError
    where none of the things is named.
    """
    things = {name.removeprefix(THING): p for name, p in points.items() if name.startswith(THING)}
    if not things:
        return points
    said = task.lower()
    named = sorted((name for name in things if name in said), key=said.index)
    if not named:
        raise KeypointError(f"{task!r} names none of the things: {', '.join(sorted(things))}")
    found = {**points, "object": things[named[0]]}
    same = np.array_equal(found["object"], points["object"])
    if len(named) > 1 and not same:  # where it shall go is known of what was asked first
        found["target"] = things[named[1]]
    return found


@functools.cache  # it takes long, and fingerprints are asked for all the time
def rehearsed(program: Program) -> bytes:
    """What a program and its constraints say of a rehearsal."""
    tracks = rehearsal(program.points)
    said = [program.progress(tracks)]
    for stage in program.stages:
        said += [c.value(tracks) for c in (*stage.goal, *stage.keep)]
    # rounded: processors differ in the last digits
    return b"".join((np.round(v, 4) + 0.0).astype(np.float32).tobytes() for v in said)


def rehearsal(names: set[str], steps: int = 96) -> Tracks:
    """Points that do a pick and place of sorts, shakily: always the same.

    The object lies at 0.2, 0 and is brought to 0, 0.2; other names lie about.
    """
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, steps)
    knots = np.linspace(0, 1, 7)  # start, above, at it, grasped, raised, brought, put down
    path = np.array(
        [
            [-0.1, 0, 0.25],
            [0.2, 0, 0.15],
            [0.2, 0, 0.02],
            [0.2, 0, 0.02],
            [0.2, 0, 0.16],
            [0, 0.2, 0.16],
            [0, 0.2, 0.06],
        ]
    )
    gripper = np.stack([np.interp(x, knots, axis) for axis in path.T], axis=1)
    taken = np.maximum.accumulate(x > knots[3])[:, None]
    still = {name: np.broadcast_to(rng.uniform(-0.1, 0.1, 3), (steps, 3)) for name in sorted(names)}
    moves = {
        "gripper": gripper,
        "object": np.where(taken, gripper, path[2]),
        "target": np.broadcast_to([0, 0.2, 0.02], (steps, 3)),
        "support": np.zeros((steps, 3)),
    }
    shake = rng.normal(0, 0.001, (steps, 3))
    points = {name: (track + shake).astype(np.float32) for name, track in (still | moves).items()}
    opening = np.interp(x, [0, 0.4, 0.45, 0.93, 1], [0.08, 0.08, 0.04, 0.04, 0.08])
    return Tracks(points, 20.0, opening.astype(np.float32))
