"""What rewards say of an episode, checked, and several of them as one: a mean that lets go where
they are unsure and expects little where they disagree."""

from __future__ import annotations

import numpy as np

from robostack.alarms import SPREAD
from robostack.protocols import Explains, Reward, Scores
from robostack.rewards.saved import RewardError
from robostack.types import Episode


def judged(reward: Reward, episode: Episode) -> np.ndarray:
    """Potential f32[T+1] of any reward. Raises RewardError for what is none."""
    return _checked(reward.score(episode), episode, f"{reward.name}: score")


def explained(reward: Reward, episode: Episode) -> Scores:
    """Scores of any reward; one that does not explain itself is sure of everything. Raises
    RewardError for a potential or a confidence that is none."""
    if not isinstance(reward, Explains):
        potential = judged(reward, episode)
        return Scores(potential, np.ones_like(potential))
    said = reward.explain(episode)
    potential = _checked(said.potential, episode, f"{reward.name}: potential")
    return Scores(
        potential, _checked(said.confidence, episode, f"{reward.name}: confidence"), said.terms
    )


def _checked(said: np.ndarray, episode: Episode, what: str) -> np.ndarray:
    """f32[T+1] of finite values in [0, 1], or RewardError."""
    want = (len(episode) + 1,)
    if not isinstance(said, np.ndarray) or said.shape != want:
        raise RewardError(f"{what}: expected f32{list(want)}, got {np.shape(said)}")
    if not np.isfinite(said).all():
        raise RewardError(f"{what}: not finite at observation {int(np.isfinite(said).argmin())}")
    if said.min() < 0 or said.max() > 1:
        raise RewardError(
            f"{what}: expected values in [0, 1], got {said.min():.3g} to {said.max():.3g}"
        )
    return said.astype(np.float32)


def require_weights(weights: dict[str, float], names: set[str]) -> None:
    """Raise ValueError for a weight of nothing, a negative weight, or no weight at all."""
    missing = sorted(set(weights) - names)
    if missing:
        raise ValueError(f"no potential for {missing}; there are: {sorted(names)}")
    values = np.array(list(weights.values()), np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise ValueError(f"weights: expected non-negative with a positive sum, got {weights}")


def require_caution(gate: float, pessimism: float) -> None:
    """Raise ValueError for a gate that is no confidence, or for optimism."""
    if not (0 <= gate <= 1 and pessimism >= 0):
        raise ValueError(
            f"gate={gate}, pessimism={pessimism}: expected a confidence in [0, 1] and a "
            "factor of 0 or more"
        )


def combine(
    scores: dict[str, Scores],
    weights: dict[str, float],
    gate: float = 0.0,
    pessimism: float = 0.0,
) -> Scores:
    """One potential from several, by name: mean - pessimism * spread, within [0, 1].

    mean        weighted, where a member whose confidence is below `gate` counts by weight times
                confidence; where no member reaches the gate, all count by their weights alone
    spread      standard deviation between the members, weighted alike; of a single member, which
                cannot disagree with others, what it lacks of confidence
    confidence  mean of the members', times 1 - 2 * deviation (0.5 is the largest that there is)

    Pessimism about disagreement is what keeps an ensemble's mistakes from being sought out (the
    R - kappa sigma of offline and model-based reinforcement learning). The terms are the members'
    potentials, and how far the ensemble parts of whichever member tells it (the largest). Raises
    ValueError for weights that make no mean.
    """
    require_weights(weights, set(scores))
    used = [name for name, weight in weights.items() if weight > 0]
    phi = np.stack([scores[name].potential for name in used]).astype(np.float64)  # [members, T+1]
    sure = np.stack([scores[name].confidence for name in used]).astype(np.float64)
    share = gated(np.array([weights[name] for name in used], np.float64), sure, gate)
    mean = (share * phi).sum(0)
    deviation = np.sqrt((share * (phi - mean) ** 2).sum(0))
    confidence = (share * sure).sum(0)
    spread = deviation if len(used) > 1 else 1 - confidence
    parted = [scores[name].terms[SPREAD] for name in used if SPREAD in scores[name].terms]
    return Scores(
        np.clip(mean - pessimism * spread, 0, 1).astype(np.float32),
        np.clip(confidence * (1 - 2 * deviation), 0, 1).astype(np.float32),
        {name: scores[name].potential for name in used}
        | ({SPREAD: np.max(parted, axis=0)} if parted else {}),
    )


def gated(weights: np.ndarray, confidence: np.ndarray, gate: float) -> np.ndarray:
    """Each member's share f64[M, T+1], which sum up to 1, of weights f64[M] under confidences."""
    plain = np.repeat(weights[:, None], confidence.shape[1], 1)
    reached = confidence >= gate
    counted = np.where(reached, plain, plain * confidence)
    counted = np.where(reached.any(0), counted, plain)
    return counted / counted.sum(0)
