"""How much each member of a combined reward should weigh, learned from recorded episodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from robostack.evaluate import auc
from robostack.protocols import Scores
from robostack.rewards.combine import combine, explained, require_weights
from robostack.rewards.combined import Combined
from robostack.rewards.saved import RewardError, SavedReward
from robostack.types import Episode

LEAST, LEAST_OF_A_KIND = 20, 3  # episodes; successes and failures
STEPS, SETTLED = 20_000, 1e-9  # of the fit, and the change of a weight at which it ends


@dataclass(frozen=True)
class CombinedConfig:
    """How members are combined, and their weights fitted."""

    weights: dict[str, float] = field(default_factory=dict)  # by hand; {}: fitted to success
    gate: float = 0.0  # confidence below which a member counts less; 0: all count fully
    pessimism: float = 0.0  # spreads between the members that are subtracted
    ridge: float = 0.01  # pull of the weights towards 0, per episode
    last: int = 3  # observations at the end of an episode whose mean potential is its verdict
    folds: int = 5  # of the held-out comparison; as many as there are seeds: leave one out

    def __post_init__(self) -> None:
        if self.weights:
            require_weights(self.weights, set(self.weights))
        if not (self.ridge > 0 and self.last >= 1 and self.folds >= 2):
            raise ValueError(
                f"ridge={self.ridge}, last={self.last}, folds={self.folds}: expected above 0, 1 or "
                "more, and 2 or more"
            )


def by_hand(config: CombinedConfig, members: dict[str, SavedReward]) -> Combined:
    """Members combined by the weights of the config. Raises RewardError unless these name them
    all."""
    if set(config.weights) != set(members):
        raise RewardError(
            f"combined.weights name {', '.join(config.weights)}; expected the members, and all of "
            f"them: {', '.join(members)}"
        )
    return Combined(members, config.weights, config.gate, config.pessimism)


def fit(
    config: CombinedConfig, episodes: Iterable[Episode], members: dict[str, SavedReward]
) -> tuple[Combined, dict]:
    """Members combined by weights that tell successes from failures, and how well they do.

    Non-negative logistic regression of success on the mean of each member's last potentials. The
    report gives the area under the curve (AUC) on held-out seeds, of the fitted weights ("auc"),
    of equal ones ("auc_equal") and of each member alone ("auc_member"): weights that do not beat
    equal ones are not worth having. Deterministic.

    Raises RewardError for fewer than LEAST episodes with a known outcome, fewer than
    LEAST_OF_A_KIND successes or failures, a single seed, or members none of which rises with
    success.
    """
    if not members:
        raise RewardError("combined: expected at least one member, got none")
    known, scores = [], []
    for episode in episodes:
        if episode.success is not None:
            known.append((bool(episode.success), episode.seed))
            scores.append({n: explained(member, episode) for n, member in members.items()})
    success = np.array([won for won, _ in known], bool)
    seeds = np.array([seed for _, seed in known])
    _require(success, seeds)
    verdicts = np.array([[_last(s[n], config.last) for n in members] for s in scores])
    weights = logistic(verdicts, success, config.ridge)
    if not weights.any():
        raise RewardError(
            f"combined: no member ends higher in successes than in failures ({', '.join(members)});"
            " there is nothing to weigh"
        )
    named = dict(zip(members, map(float, weights / weights.sum())))
    reward = Combined(members, named, config.gate, config.pessimism)
    return reward, {
        "episodes": len(known),
        "successes": int(success.sum()),
        "weights": named,
        **_held_out(config, list(members), scores, verdicts, success, seeds),
    }


def enough(won: int, lost: int) -> bool:
    """Whether so many successes and failures are enough to fit weights to."""
    return won + lost >= LEAST and min(won, lost) >= LEAST_OF_A_KIND


def _require(success: np.ndarray, seeds: np.ndarray) -> None:
    won, lost = int(success.sum()), int((~success).sum())
    if not enough(won, lost):
        raise RewardError(
            f"combined: expected {LEAST} or more episodes with a known outcome, "
            f"{LEAST_OF_A_KIND} or more of them successes and failures each; got {won} successes "
            f"and {lost} failures"
        )
    if (seeds == seeds[0]).all():
        raise RewardError(
            f"combined: all episodes start from seed {seeds[0]}; expected two or more, so that "
            "the weights can be judged on starts that they were not fitted to"
        )


def _held_out(
    config: CombinedConfig,
    names: list[str],
    scores: list[dict[str, Scores]],
    verdicts: np.ndarray,
    success: np.ndarray,
    seeds: np.ndarray,
) -> dict:
    """AUC of the combinations on seeds that the weights were not fitted to."""
    kinds = np.unique(seeds)
    folds = min(config.folds, len(kinds))
    fold = np.searchsorted(kinds, seeds) % folds  # tries of one start stay together
    equal = dict.fromkeys(names, 1.0)
    fitted = np.empty(len(success))
    for k in range(folds):
        weights = logistic(verdicts[fold != k], success[fold != k], config.ridge)
        named = dict(zip(names, weights)) if weights.any() else equal
        for i in np.flatnonzero(fold == k):
            fitted[i] = _verdict(config, scores[i], named)
    plain = np.array([_verdict(config, each, equal) for each in scores])
    return {
        "folds": folds,
        "auc": auc(fitted[success], fitted[~success]),
        "auc_equal": auc(plain[success], plain[~success]),
        "auc_member": {
            name: auc(verdicts[success, m], verdicts[~success, m]) for m, name in enumerate(names)
        },
    }


def _verdict(config: CombinedConfig, scores: dict[str, Scores], weights: dict[str, float]) -> float:
    return _last(combine(scores, weights, config.gate, config.pessimism), config.last)


def _last(scores: Scores, count: int) -> float:
    return float(scores.potential[-count:].mean())


def logistic(features: np.ndarray, success: np.ndarray, ridge: float) -> np.ndarray:
    """Weights f64[M] >= 0 that minimise, over them and a free constant b,

        mean(log(1 + exp(-y (b + features @ w)))) + ridge / 2 |w|^2,   y = 1 or -1

    of features f64[N, M] and outcomes bool[N]; all 0 where one outcome is missing. Accelerated
    projected gradient descent (Nesterov), restarted where it overshoots; the problem is strictly
    convex in w, so there is one answer.
    """
    if success.all() or not success.any():
        return np.zeros(features.shape[1])
    x = np.column_stack([features - features.mean(0), np.ones(len(features))])
    y = np.where(success, 1.0, -1.0)
    pull = np.append(np.full(features.shape[1], ridge), 0.0)
    step = 1 / (0.25 * np.linalg.eigvalsh(x.T @ x / len(x))[-1] + ridge)
    here = ahead = np.zeros(x.shape[1])
    momentum = 1.0
    for _ in range(STEPS):
        slope = -(y / (1 + np.exp(np.clip(y * (x @ ahead), -50, 50)))) @ x / len(x) + pull * ahead
        there = ahead - step * slope
        there[:-1] = np.maximum(there[:-1], 0)
        if (ahead - there) @ (there - here) > 0:
            momentum = 1.0
        if np.abs(there - here).max() < SETTLED and np.abs(there - ahead).max() < SETTLED:
            return there[:-1]
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = there + (momentum - 1) / grown * (there - here)
        here, momentum = there, grown
    return here[:-1]
