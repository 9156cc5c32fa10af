"""Whether a policy that is trained on a learned reward gets better, or only better at the reward.

Readings are numbers that rise when it is the reward that gives way; `Alarms` says where each is
too high, and `Watch` keeps them from iteration to iteration. The base is the policy that training
began with. Reward hacking means, as in Correlated Proxies (arXiv 2403.03185): the proxy went up
and the true return went below the base's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

CLAIM = 0.95  # potential at which a reward claims that the task is done
TRIM = 0.01  # share of the largest density ratios that are left out
FEATURES = 64  # random Fourier features beside the linear ones
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # on the weights of the discriminator, to choose from
LARGEST = 30.0  # size of a logit, so that everything stays a number
MOST = 2000  # rows of each side that the discriminator looks at
SMALLEST = 0.05  # deviation of a return, in potential, below which it counts as this
GAP = "gap"
SPREAD = "spread"  # also the name of the term by which a reward tells it


# readings --------------------------------------------------------------------------------------


def divergence(policy: Sequence[np.ndarray], base: Sequence[np.ndarray], seed: int = 0) -> float:
    """chi^2(mu_policy | mu_base) = E_policy[mu_policy / mu_base] - 1 of what two policies visit.

    Each is a list of episodes, two or more, as rows f32[T, F] of features (state and action). A
    logistic discriminator learns d = log(mu_policy / mu_base), on linear and random Fourier
    features; the estimate is the mean of e^d over the policy's rows, without the largest TRIM of
    them, minus 1, never below 0. It is cross-fitted: learned on every other episode, applied to
    the rest, and the reverse, with the ridge that does best there; one that does worse than not to
    tell them apart counts as that, so few episodes say little rather than anything. It is
    calibrated on the base's rows, over which e^d has mean 1. Correlated Proxies (arXiv
    2403.03185) penalises this; it concerns what is visited, not how actions are distributed.
    """
    if min(len(policy), len(base)) < 2:
        raise ValueError(
            f"divergence: expected 2 or more episodes of each, got {len(policy)} and {len(base)}"
        )
    rng = np.random.default_rng(seed)
    halves = [[_rows(side[k::2], rng) for k in (0, 1)] for side in (policy, base)]
    everything = np.concatenate([half for side in halves for half in side])
    lift = _lift(everything, rng)
    mine, theirs = ([lift(half) for half in side] for side in halves)
    ratios = []
    for k in (0, 1):
        tries = [discriminate(mine[k], theirs[k], ridge) for ridge in RIDGES]
        tries.append(np.zeros(mine[k].shape[1]))
        weights = min(tries, key=lambda w: confusion(w, mine[1 - k], theirs[1 - k]))
        logits = (np.clip(side[1 - k] @ weights, -LARGEST, LARGEST) for side in (mine, theirs))
        ratio, level = map(np.exp, logits)
        ratios.append(ratio / level.mean())
    kept = np.sort(np.concatenate(ratios))
    kept = kept[: len(kept) - int(TRIM * len(kept))]
    return max(0.0, float(kept.mean()) - 1)


def _rows(episodes: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    rows = np.concatenate(episodes).astype(np.float64)
    if len(rows) > MOST // 2:
        rows = rows[np.sort(rng.choice(len(rows), MOST // 2, replace=False))]
    return rows


def _lift(rows: np.ndarray, rng: np.random.Generator):
    """Features as the discriminator sees them: standardised, with random cosines, and a 1."""
    mean, deviation = rows.mean(0), rows.std(0)
    deviation = np.where(deviation > 1e-8, deviation, 1.0)
    count = rows.shape[1]
    waves = rng.normal(0, 1 / math.sqrt(count), (count, FEATURES))
    phases = rng.uniform(0, 2 * math.pi, FEATURES)

    def lift(x: np.ndarray) -> np.ndarray:
        z = (x - mean) / deviation
        return np.column_stack([z, math.sqrt(2) * np.cos(z @ waves + phases), np.ones(len(z))])

    return lift


def confusion(weights: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """Mean log-loss of telling rows f64[N, F] from f64[M, F], both sides weighing the same."""
    sides = np.logaddexp(0, -positive @ weights).mean(), np.logaddexp(0, negative @ weights).mean()
    return float(np.mean(sides))


def discriminate(positive: np.ndarray, negative: np.ndarray, ridge: float) -> np.ndarray:
    """Weights f64[F] with the least `confusion` plus ridge / 2 |w|^2: their logit is the logarithm
    of the density ratio of the two sides. Newton's method, with short steps, on a strictly convex
    problem."""
    x = np.concatenate([positive, negative])
    y = np.repeat([1.0, 0.0], [len(positive), len(negative)])
    share = np.repeat([0.5 / len(positive), 0.5 / len(negative)], [len(positive), len(negative)])
    weights = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        slope = x.T @ (share * (p - y)) + ridge * weights
        curve = (x * (share * p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(weights))
        change = np.linalg.solve(curve, slope)
        weights = weights - change * min(1.0, 5 / np.abs(change).max(initial=1e-12))
        if np.abs(change).max() < 1e-8:
            break
    return weights


def gap(
    proxy: np.ndarray, truth: np.ndarray, base_proxy: np.ndarray, base_truth: np.ndarray
) -> float:
    """How much more the proxy's mean return rose over the base's than the true one did, each in
    standard deviations of the base's returns. Arrays f[N] of returns by episode."""
    rises = []
    for now, before in ((proxy, base_proxy), (truth, base_truth)):
        rises.append((np.mean(now) - np.mean(before)) / max(float(np.std(before)), SMALLEST))
    return float(rises[0] - rises[1])


def hallucinated(
    potentials: Sequence[np.ndarray], done: Sequence[np.ndarray]
) -> tuple[float, float]:
    """Where the reward claims completion (CLAIM) though the simulator says no.

    Potentials f32[T+1] and the simulator's predicate bool[T+1] of episodes to the share of their
    observations (EvoVLA's rate of hallucinated stages, arXiv 2511.16166) and the share of episodes
    that hold such a claim and never the real thing.
    """
    false = [(phi >= CLAIM) & ~true for phi, true in zip(potentials, done, strict=True)]
    steps = float(np.concatenate(false).mean())
    return steps, float(np.mean([f.any() and not true.any() for f, true in zip(false, done)]))


def unsureness(confidences: Sequence[np.ndarray]) -> float:
    """Mean of 1 - confidence over all observations."""
    return float(1 - np.concatenate(confidences).mean())


def spread(terms: Sequence[np.ndarray]) -> float:
    """Mean over all observations of how far the members of a learned ensemble part, each in [0, 1]:
    0 where they agree as they did on what they were taught. Where a policy finds what only some of
    them believe in, it is the reward that gives way."""
    return float(np.concatenate(terms).mean())


def velocity_ratio(velocity: np.ndarray, reference: np.ndarray) -> float:
    """|v_theta| / |v_ref| of two flow policies, root mean square over everything, both predicted
    at the same noisy chunks and times. Fine-tuning on a reward that gives way inflates it
    (NormGuard, arXiv 2606.27771)."""
    if velocity.shape != reference.shape:
        raise ValueError(
            f"velocity_ratio: expected the same chunks, got {velocity.shape} and {reference.shape}"
        )
    return float(np.linalg.norm(velocity) / max(float(np.linalg.norm(reference)), 1e-12))


# alarms ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alarms:
    """How high a reading may be. A limit of .inf never raises an alarm."""

    divergence: float = 100.0  # chi^2 of what is visited, against the first iteration
    gap: float = 2.0  # rise of the potential beyond the truth's [deviations of the base]
    unsureness: float = 0.5  # mean of 1 - confidence
    spread: float = 0.5  # mean of how far an ensemble's members part beyond the usual
    hallucinated: float = 0.3  # share of episodes that are claimed done and never are
    velocity: float = 1.5  # norm of the predicted velocity over the base policy's
    rises: int = 3  # iterations in a row in which the gap rose, above 0
    stop: bool = False  # end training at the first alarm, with the last policy without one

    def __post_init__(self) -> None:
        low = [name for name in limits(self) if not limits(self)[name] > 0]
        if low or self.rises < 1:
            raise ValueError(
                f"alarms: expected limits above 0 and rises of 1 or more, got "
                f"{limits(self)} and {self.rises}"
            )


def limits(config: Alarms) -> dict[str, float]:
    """Limits by the name of their reading."""
    return {
        f.name: getattr(config, f.name) for f in fields(config) if f.name not in ("rises", "stop")
    }


class Watch:
    """Readings so far, and what is alarming about the newest.

    `history` is plain data, [[step, {reading: value}], ...]; a watch made from it goes on as the
    one that wrote it would have.
    """

    def __init__(self, config: Alarms, history: Sequence = ()):
        self.config = config
        self.history: list[list] = [[int(step), dict(readings)] for step, readings in history]

    def update(self, step: int, readings: dict[str, float]) -> list[str]:
        """Take note of the readings at `step`, in the place of any from there on, and return a
        sentence for each alarm that they raise. Readings without a limit are only kept; not every
        reading must be there every time."""
        self.history = [row for row in self.history if row[0] < step]
        self.history.append([step, dict(readings)])
        raised = [
            f"{name} is {readings[name]:.3g}, above {limit:g}"
            for name, limit in limits(self.config).items()
            if readings.get(name, -math.inf) > limit
        ]
        if self._risen():
            raised.append(
                f"the potential has outgrown the truth {self.config.rises} times in a row: gap "
                + ", ".join(f"{value:.2f}" for value in self._gaps()[-self.config.rises - 1 :])
            )
        return raised

    def _gaps(self) -> list[float]:
        return [readings[GAP] for _, readings in self.history if GAP in readings]

    def _risen(self) -> bool:
        last = self._gaps()[-self.config.rises - 1 :]
        rising = all(after > before for before, after in zip(last, last[1:]))
        return len(last) == self.config.rises + 1 and rising and last[-1] > 0
