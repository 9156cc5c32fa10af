"""Success rates that can be trusted: with intervals, and compared on the same seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


def wilson(successes: int, episodes: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a success rate (Wilson 1927): sensible at 0, at 1 and at small n."""
    if not 0 <= successes <= episodes or episodes < 1:
        raise ValueError(f"expected 0 <= successes <= episodes, got {successes} of {episodes}")
    p, n = successes / episodes, episodes
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)  # but for rounding


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Chance that a positive scores above a negative, ties counting half (Mann and Whitney)."""
    if not len(positive) or not len(negative):
        raise ValueError(f"auc: expected some of both, got {len(positive)} and {len(negative)}")
    difference = np.asarray(positive)[:, None] - np.asarray(negative)[None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def stops(succeeded: Iterable[bool], stopped: Iterable[bool]) -> dict[str, int]:
    """How tries ended that had to end by themselves (`robostack.protocols.Stops`)."""
    pairs = [(bool(a), bool(b)) for a, b in zip(succeeded, stopped, strict=True)]
    return {
        "stopped_and_succeeded": pairs.count((True, True)),
        "stopped_wrongly": pairs.count((False, True)),
        "never_stopped": sum(not b for _, b in pairs),
    }


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided p-value that two policies are equally good, from success bool[n] of each on
    the same n seeds (McNemar 1947): only seeds on which they differ count."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape:
        raise ValueError(f"expected the same seeds, got {first.shape} and {second.shape}")
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    n, k = gained + lost, min(gained, lost)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return min(1.0, 2 * tail)


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, draws: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """How much better `second` is than `first`, with its 95 % percentile interval (Efron 1979).

    Success bool[n] of each on the same n seeds; seeds are drawn anew, pairs stay together.
    """
    if np.shape(first) != np.shape(second) or np.ndim(first) != 1 or len(first) == 0:
        raise ValueError(f"expected the same seeds, got {np.shape(first)} and {np.shape(second)}")
    difference = np.asarray(second, float) - np.asarray(first, float)
    # a pair is +1, 0 or -1, so a draw of n pairs is a draw of how many there are of each
    shares = [np.mean(difference == value) for value in (1, 0, -1)]
    counts = np.random.default_rng(seed).multinomial(len(difference), shares, draws)
    means = (counts[:, 0] - counts[:, 2]) / len(difference)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)


@dataclass(frozen=True)
class Evaluation:
    """Outcome of one policy on a list of seeds."""

    seeds: list[int]
    outcomes: list[bool]
    steps: list[int]  # control steps of each episode

    def summary(self) -> dict:
        low, high = wilson(sum(self.outcomes), len(self.outcomes))
        return {
            "success_rate": sum(self.outcomes) / len(self.outcomes),
            "successes": sum(self.outcomes),
            "episodes": len(self.outcomes),
            "ci95": [low, high],
            "mean_steps": float(np.mean(self.steps)),
            "seeds": [self.seeds[0], self.seeds[-1]],
            "outcomes": [int(o) for o in self.outcomes],
        }
