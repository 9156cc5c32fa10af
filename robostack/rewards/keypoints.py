"""Keypoint affordance: potentials from 3-D points of the gripper, the object and its goal.

After KAGI (arXiv 2407.10341) and ReKep (2409.01652): a task is a list of terms over named
keypoints, each in [0, 1], which can be read, plotted and tested one by one. Keypoints come from
whatever fills `Episode.keypoints`: simulator bodies, or a tracker on a real arm.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robostack.types import Episode

Points = dict[str, np.ndarray]  # name -> f32[T, 3] [m], world frame, z up


class KeypointError(ValueError):
    """An episode lacks a keypoint, or a task has no terms."""


def near(first: str, second: str, scale: float) -> Callable[[Points], np.ndarray]:
    """1 where the two meet, falling as 1 - tanh(distance / scale)."""
    return lambda p: 1 - np.tanh(np.linalg.norm(p[first] - p[second], axis=-1) / scale)


def raised(name: str, above: str, rest: float, height: float) -> Callable[[Points], np.ndarray]:
    """Height of `name` over the plane of `above`: 0 at `rest` [m], 1 at `rest + height`."""
    return lambda p: np.clip((p[name][:, 2] - p[above][:, 2] - rest) / height, 0, 1)


def aligned(upper: str, lower: str, scale: float) -> Callable[[Points], np.ndarray]:
    """1 where `upper` is straight above `lower`."""
    return lambda p: 1 - np.tanh(np.linalg.norm((p[upper] - p[lower])[:, :2], axis=-1) / scale)


# cubes are dropped from 0.03 m above the table at the start of an episode, and robosuite calls
# them lifted at 0.04 m
OFF_TABLE = 0.03, 0.02


@dataclass(frozen=True)
class Term:
    name: str
    weight: float
    value: Callable[[Points], np.ndarray]
    after: str = ""  # this term is multiplied by that one: its stage cannot be skipped


TERMS: dict[str, tuple[Term, ...]] = {
    "lift the red cube": (
        Term("reach", 0.4, near("gripper", "object", 0.1)),
        Term("lift", 0.6, raised("object", "support", *OFF_TABLE)),
    ),
    "stack the red cube on the green cube": (
        Term("reach", 0.2, near("gripper", "object", 0.1)),
        Term("lift", 0.3, raised("object", "support", *OFF_TABLE)),
        Term("align", 0.5, aligned("object", "target", 0.1), after="lift"),
    ),
}


class KeypointAffordance:
    """Weighted sum of a task's terms, each counting as far as the stage before it is reached."""

    name = "keypoints"

    def terms(self, episode: Episode) -> dict[str, np.ndarray]:
        """Each term's own value f32[T+1], before weights."""
        terms = TERMS.get(episode.task)
        if terms is None:
            raise KeypointError(
                f"no keypoint terms for {episode.task!r}; there are terms for: {', '.join(TERMS)}"
            )
        try:
            return {t.name: t.value(episode.keypoints).astype(np.float32) for t in terms}
        except KeyError as missing:
            raise KeypointError(
                f"the episode has no keypoint {missing}; it has: {', '.join(episode.keypoints)}"
            ) from None

    def score(self, episode: Episode) -> np.ndarray:
        values = self.terms(episode)
        total = np.zeros(len(episode) + 1, np.float32)
        for term in TERMS[episode.task]:
            gate = values[term.after] if term.after else 1.0
            total += term.weight * values[term.name] * gate
        return total

    def fingerprint(self) -> str:
        """Of what every term says about points drawn at random, so formulas count as well."""
        points = _Anywhere()
        digest = hashlib.sha256()
        for task, terms in TERMS.items():
            for term in terms:
                digest.update(repr((task, term.name, term.weight, term.after)).encode())
                digest.update(term.value(points).astype(np.float32).tobytes())
        return digest.hexdigest()[:16]


class _Anywhere(dict):
    """f64[64, 3] seeded points within half a metre, the same ones for the same name."""

    def __missing__(self, name: str) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(name.encode())).uniform(-0.5, 0.5, (64, 3))
