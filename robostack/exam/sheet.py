"""What one reward said in an exam, as the trials read it: potentials and facts, no pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from robostack.exam.metrics import Statistic, bootstrap
from robostack.types import Episode

# the order in which a reward should put how episodes of a task end
CLASSES = {
    "failure": 0,
    "wrong object": 0,
    "near miss": 1,
    "hover": 1,
    "success": 2,
    "recovery": 2,
    "after success": 2,
}
TRY = "try"  # a short episode of a group, judged by the trial of choices alone

Number = dict  # {"value", "low", "high", "n"}: low and high are None where there is no interval


class NotApplicable(Exception):
    """Why a trial says nothing about a reward on these data."""


class ExamError(RuntimeError):
    """Data that no exam can be held on, or an exam at which nothing could be asked."""


@dataclass(frozen=True)
class ExamConfig:
    """How an exam is held."""

    trials: tuple[str, ...] = ()  # those to hold; none named: all
    seed: int = 0  # of what is shuffled and drawn
    draws: int = 1000  # of every bootstrap interval
    episodes: int = 0  # at most so many of a label and store are judged; 0: all
    controls: int = 20  # successes of a store that are also reversed, frozen, asked otherwise, ...
    instructions: int = 12  # at most so many are asked for in turn
    horizon: int = 8  # actions of a chunk that is ranked
    gamma: float = 0.99  # per control step
    early: int = 5  # steps by which a declared success may precede the real one
    repeats: int = 5  # timings
    # {number: {"min": ..., "max": ...}}; see robostack.exam.gate for the defaults
    aims: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least = {"draws": 10, "controls": 1, "instructions": 2, "horizon": 1, "repeats": 1}
        for name, low in {**least, "episodes": 0, "early": 0, "seed": 0}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected {low} or more, got {getattr(self, name)}")
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma: expected a number between 0 and 1, got {self.gamma}")


@dataclass(frozen=True)
class Case:
    """An episode without its pictures."""

    key: str  # of the store and the episode
    store: str
    task: str  # of the store; its instruction, where the store has no name for it
    shift: str
    asked: str  # the instruction
    label: str
    success: bool | None
    terminated: bool
    seed: int
    group: str
    hz: float
    states: np.ndarray  # f32[T+1, S]
    keypoints: dict[str, np.ndarray]  # name -> f32[T+1, 3]
    truth: np.ndarray | None  # f32[T+1]

    @classmethod
    def of(cls, episode: Episode, episode_id: str, store: str, task: str, shift: str) -> Case:
        same = ("label", "success", "terminated", "seed", "group", "states", "keypoints", "truth")
        return cls(
            key=f"{store}/{episode_id}",
            store=store,
            task=task or episode.task,
            shift=shift,
            asked=episode.task,
            hz=episode.spec.control_hz,
            **{name: getattr(episode, name) for name in same},
        )

    @property
    def outcome(self) -> int | None:
        """Its class, see CLASSES; by success alone where the label says nothing; None for a try and
        where nobody knows."""
        if self.label == TRY:
            return None
        if self.label in CLASSES:
            return CLASSES[self.label]
        return None if self.success is None else 2 * int(self.success)


@dataclass
class Sheet:
    """All answers of one reward. A question is (variant, case key); the variants are those of
    robostack.exam.questions."""

    config: ExamConfig
    cases: list[Case] = field(default_factory=list)
    said: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    instructions: list[str] = field(default_factory=list)  # that were asked for in turn

    def tasks(self) -> list[str]:
        """In order; none where there is only one, of which everything is."""
        found = list(dict.fromkeys(case.task for case in self.cases))
        return found if len(found) > 1 else []

    def of_task(self, task: str) -> Sheet:
        """The same answers, about the cases of one task."""
        return replace(self, cases=[case for case in self.cases if case.task == task])

    def answers(
        self, variant: str, wanted: Callable[[Case], bool]
    ) -> list[tuple[Case, np.ndarray]]:
        """Cases that are wanted and were judged in this variant, with what was said."""
        return [
            (case, self.said[variant, case.key])
            for case in self.cases
            if (variant, case.key) in self.said and wanted(case)
        ]

    def require(
        self, variant: str, wanted: Callable[[Case], bool], what: str
    ) -> list[tuple[Case, np.ndarray]]:
        """The same; raises NotApplicable if there is none, with the reward's own reason."""
        found = self.answers(variant, wanted)
        if found:
            return found
        reasons = [
            self.refused[variant, case.key]
            for case in self.cases
            if (variant, case.key) in self.refused and wanted(case)
        ]
        raise NotApplicable("; ".join(dict.fromkeys(reasons)) if reasons else f"no {what}")

    def number(self, statistic: Statistic, strata: np.ndarray) -> Number:
        """A statistic with its interval over episodes; see metrics.bootstrap."""
        drawn = bootstrap(statistic, strata, self.config.draws, self.config.seed)
        value, low, high = drawn
        return {"value": value, "low": low, "high": high, "n": len(strata)}

    def mean(self, values: list[float]) -> Number:
        """The mean of one value an episode."""
        from_all = np.asarray(values, float)
        return self.number(lambda w: w @ from_all / w.sum(1), np.zeros(len(from_all), int))


def codes(*columns: list) -> np.ndarray:
    """A number i[N] for each combination of values: strata of several columns."""
    rows = list(zip(*columns))
    known = {row: i for i, row in enumerate(dict.fromkeys(rows))}
    return np.array([known[row] for row in rows])


def as_asked(case: Case) -> bool:
    """Whole episodes of the unshifted data whose outcome is known."""
    return case.shift == "" and case.outcome is not None


def straight(case: Case) -> bool:
    """A success that is no recovery and ends there: ordered in time."""
    return case.outcome == 2 and case.label not in ("recovery", "after success")


def succeeded(case: Case) -> bool:
    """The straight successes of the unshifted data."""
    return case.shift == "" and straight(case)
