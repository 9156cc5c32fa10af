"""The nouns. Letters used in every shape of the project:

B batch  T control steps of an episode  H steps of an action chunk  A action dims  S state dims
N candidates  K draws or tries  P prefix tokens

An episode has T actions and T+1 observations: observation t is what was seen *before* action t.
Images are uint8[H, W, 3] RGB, quaternions wxyz, lengths metres, angles radians, times seconds.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np

# in an intervention an operator acted in the policy's place, in a led rollout a program did
SOURCES = ("demo", "rollout", "intervention", "led")


class ShapeError(ValueError):
    """An array does not have the shape or dtype that its field promises."""


class SpecMismatch(ValueError):
    """Two parts of the stack (data, checkpoint, environment) disagree about the robot."""


def _check(name: str, array: np.ndarray, dtype: type, shape: tuple[int | None, ...]) -> None:
    ok = isinstance(array, np.ndarray) and array.dtype == dtype and array.ndim == len(shape)
    ok = ok and all(want is None or got == want for got, want in zip(array.shape, shape))
    if not ok:
        got = f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array)
        want = f"{np.dtype(dtype)}{['any' if s is None else s for s in shape]}"
        raise ShapeError(f"{name}: expected {want}, got {got}")


def main_camera(cameras: Iterable[str]) -> str:
    """The one to show people where one is shown: the first by name, if possible not one on the arm;
    "" where there is none."""
    on_arm = re.compile("hand|wrist|gripper", re.IGNORECASE)
    return min(cameras, key=lambda name: (bool(on_arm.search(name)), name), default="")


@dataclass(frozen=True)
class RobotSpec:
    """The contract between data, checkpoint, simulator and robot.

    Saved in every store and checkpoint and compared on load, because a silent mismatch (a gripper
    sign, a camera, a rate) costs more success than most algorithms gain.

    `conventions` holds what numbers alone cannot say, e.g. {"action": "delta", "frame": "base",
    "gripper": "+1 closes", "render": "lean"}.
    """

    robot: str
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    cameras: dict[str, tuple[int, int]]  # name -> (height, width) [px]
    control_hz: float
    conventions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.action_names) == len(self.action_low) == len(self.action_high):
            raise ShapeError(
                f"RobotSpec: {len(self.action_names)} action names, {len(self.action_low)} lower "
                f"and {len(self.action_high)} upper bounds; expected the same number of each"
            )
        for name, low, high in zip(self.action_names, self.action_low, self.action_high):
            if not low < high:
                raise ShapeError(f"RobotSpec: action {name!r} has bounds [{low}, {high}]")

    @property
    def state_dim(self) -> int:
        return len(self.state_names)

    @property
    def action_dim(self) -> int:
        return len(self.action_names)

    def unit(self, name: str) -> float | None:
        """How many metres ("m") or radians ("rad") an action of 1 asks for, as the conventions say
        it: "delta, 1 = 0.05 m or 0.5 rad". None where they do not."""
        told = re.search(rf"([\d.]+(?:e-?\d+)?) {name}\b", self.conventions.get("action", ""))
        return float(told[1]) if told else None

    def clip(self, actions: np.ndarray) -> np.ndarray:
        """Actions limited to the spec's bounds, f32[..., A]."""
        return np.clip(actions, self.action_low, self.action_high).astype(np.float32)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> RobotSpec:
        raw = json.loads(text)
        names = {f.name for f in dataclasses.fields(cls)}
        if set(raw) != names:
            raise SpecMismatch(
                f"robot spec has fields {sorted(raw)}, expected {sorted(names)}; "
                "it was written by another version"
            )
        for key in ("state_names", "action_names", "action_low", "action_high"):
            raw[key] = tuple(raw[key])
        raw["cameras"] = {name: tuple(size) for name, size in raw["cameras"].items()}
        return cls(**raw)

    def require_same(
        self, other: RobotSpec, mine: str, theirs: str, but: tuple[str, ...] = ()
    ) -> None:
        """Raise SpecMismatch naming every field in which the two differ; conventions named in
        `but` may differ."""
        first, second = (_without(spec, but) for spec in (self, other))
        rows = [
            f"  {f.name}: {mine} has {getattr(first, f.name)}, {theirs} has "
            f"{getattr(second, f.name)}"
            for f in dataclasses.fields(self)
            if getattr(first, f.name) != getattr(second, f.name)
        ]
        if rows:
            raise SpecMismatch(f"{mine} and {theirs} do not fit together:\n" + "\n".join(rows))


def _without(spec: RobotSpec, conventions: tuple[str, ...]) -> RobotSpec:
    kept = {k: v for k, v in spec.conventions.items() if k not in conventions}
    return dataclasses.replace(spec, conventions=kept)


@dataclass(frozen=True)
class Observation:
    """What a policy may see at one instant."""

    images: dict[str, np.ndarray]  # camera -> uint8[H, W, 3] RGB
    state: np.ndarray  # f32[S], in the order of RobotSpec.state_names
    task: str  # instruction
    stamp: float  # [s] on the environment's clock

    def __post_init__(self) -> None:
        _check("Observation.state", self.state, np.float32, (None,))
        for name, image in self.images.items():
            _check(f"Observation.images[{name}]", image, np.uint8, (None, None, 3))


CONTACTS = ("contact0", "contact1")  # keypoints: where two fingers best touch what they take


@dataclass(frozen=True)
class Step:
    """The answer of an environment to one action. It carries no reward: judging is not its job.

    `keypoints` is privileged (a simulator's bodies, a motion tracker): rewards may read it, a
    policy never sees it, which is why it is not part of the Observation.
    """

    observation: Observation
    terminated: bool  # the task ended by itself (success, or a failure that cannot be undone)
    truncated: bool  # the time limit cut it
    success: bool | None  # None where nobody can tell
    keypoints: dict[str, np.ndarray] = field(default_factory=dict)  # name -> f32[3] [m] world
    truth: float | None = None  # privileged, too: a simulator's own dense reward in [0, 1]
    executed: np.ndarray | None = None  # f32[A], where somebody else had a hand in it and it was
    # not what the policy asked for


@dataclass(frozen=True)
class Episode:
    """One try, columnar, never edited."""

    states: np.ndarray  # f32[T+1, S]
    images: dict[str, np.ndarray]  # camera -> uint8[T+1, H, W, 3]
    stamps: np.ndarray  # f64[T+1] [s]
    actions: np.ndarray  # f32[T, A], as executed
    task: str
    success: bool | None
    terminated: bool
    source: str  # one of SOURCES
    seed: int  # of the environment's reset
    spec: RobotSpec
    keypoints: dict[str, np.ndarray] = field(default_factory=dict)  # name -> f32[T+1, 3] [m] world
    group: str = ""  # tries that began in the very same simulator state share a non-empty group
    truth: np.ndarray | None = None  # f32[T+1], Step.truth: rewards are examined by it, never fed
    label: str = ""  # what its maker says of it, e.g. "near miss"

    def __post_init__(self) -> None:
        _check("Episode.actions", self.actions, np.float32, (None, self.spec.action_dim))
        n = len(self.actions) + 1
        if n < 2:
            raise ShapeError("Episode.actions: expected at least one action, got none")
        _check("Episode.states", self.states, np.float32, (n, self.spec.state_dim))
        _check("Episode.stamps", self.stamps, np.float64, (n,))
        if set(self.images) != set(self.spec.cameras):
            raise ShapeError(
                f"Episode.images: expected cameras {sorted(self.spec.cameras)}, "
                f"got {sorted(self.images)}"
            )
        for name, (height, width) in self.spec.cameras.items():
            _check(f"Episode.images[{name}]", self.images[name], np.uint8, (n, height, width, 3))
        for name, points in self.keypoints.items():
            _check(f"Episode.keypoints[{name}]", points, np.float32, (n, 3))
        if self.truth is not None:
            _check("Episode.truth", self.truth, np.float32, (n,))
        if self.source not in SOURCES:
            raise ValueError(f"Episode.source: expected one of {SOURCES}, got {self.source!r}")
        for name, array in (("states", self.states), ("actions", self.actions)):
            if not np.isfinite(array).all():
                step = int(np.argwhere(~np.isfinite(array))[0, 0])
                raise ValueError(f"Episode.{name}: not finite at step {step}")

    def __len__(self) -> int:
        """Number of actions T."""
        return len(self.actions)

    @property
    def whole(self) -> bool:
        """Whether it began with a reset, and not at a state on the way that several tries share."""
        return not self.group or self.stamps[0] == 0

    def observation(self, t: int) -> Observation:
        return Observation(
            images={name: frames[t] for name, frames in self.images.items()},
            state=self.states[t],
            task=self.task,
            stamp=float(self.stamps[t]),
        )


@dataclass(frozen=True)
class Clip:
    """Part of an episode that is compared with another: the actions start..stop-1, as executed.

    With `chunk` the actions are others, which were proposed at observation `start` and never
    executed. Frames are referred to and never copied.
    """

    episode: str
    start: int = 0
    stop: int = 0
    chunk: tuple[tuple[float, ...], ...] | None = None  # f32[H, A], raw units

    def __post_init__(self) -> None:
        whole = isinstance(self.start, Integral) and isinstance(self.stop, Integral)
        if not (whole and 0 <= self.start < self.stop):
            raise ValueError(
                f"Clip of episode {self.episode}: expected whole numbers 0 <= start < stop, got "
                f"{self.start!r} and {self.stop!r}"
            )
        if self.chunk is None:
            return
        try:
            chunk = np.array(self.chunk, np.float64)
        except (TypeError, ValueError):  # no numbers, or rows of several lengths
            chunk = np.zeros(0)
        if chunk.ndim != 2 or not chunk.size:
            raise ValueError(
                f"Clip of episode {self.episode}: expected a chunk of one action or more, of as "
                f"many numbers each, got {str(self.chunk)[:60]}"
            )
        if not np.isfinite(chunk).all():
            raise ValueError(f"Clip of episode {self.episode}: its chunk is not finite")


def _finite(value: object) -> bool:
    return isinstance(value, Real) and bool(np.isfinite(value))


@dataclass(frozen=True)
class Preference:
    """From the same observation, what `chosen` did was better than what `rejected` did.

    `terms` tells every reward's part in the decision, chosen minus rejected, in the units of that
    reward. In a tie neither was better, and which is called chosen means nothing.
    """

    chosen: Clip
    rejected: Clip
    margin: float  # > 0, after weighting; 0 in a tie
    terms: dict[str, float]
    group: str
    tie: bool = False
    uncertainty: float = 0.0  # of the margin: the spread of the terms' opinions
    annotator: str = ""  # the person who decided; "": rewards did

    def __post_init__(self) -> None:
        expected = "0" if self.tie else "a positive number"
        if not _finite(self.margin) or (self.margin != 0 if self.tie else self.margin <= 0):
            raise ValueError(
                f"Preference.margin of {self.group}: expected {expected}, got {self.margin!r}"
            )
        for name, value in {**self.terms, "uncertainty": self.uncertainty}.items():
            if not _finite(value):
                raise ValueError(
                    f"Preference of {self.group}: expected a number as {name}, got {value!r}"
                )
        if self.chosen == self.rejected:
            raise ValueError(
                f"Preference of {self.group}: chosen and rejected are both {self.chosen}"
            )
