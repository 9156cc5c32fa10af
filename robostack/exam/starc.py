"""STARC: how far two rewards are from asking for the same, whatever their scale and shaping.

Skalse, Farnik, Motwani, Jenner, Gleave, Abate 2024 (arXiv 2309.15257). Their distance bounds the
worst regret of optimising one reward and being judged by the other from both sides.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FEATURES = 200  # random Fourier features
RIDGE = 1e-4  # a transition, on all features but the constant
TRIVIAL = 1e-6  # a canonical reward this small beside the reward itself is none


def levelled(
    rewards: np.ndarray,
    now: np.ndarray,
    following: np.ndarray,
    ended: np.ndarray,
    gamma: float,
    ridge: float = RIDGE,
) -> np.ndarray:
    """Canonical rewards f64[N] of N transitions: value-adjusted levelling, section 3 of the paper.

        c = r + gamma V(s') - V(s)

    V is the value of the policy that made the transitions, found by least squares (LSTD, Bradtke
    and Barto 1996) as a linear function of features f64[N, F] of s (`now`) and s' (`following`),
    whose column 0 is constant. `ended` bool[N]: s' is terminal and worth 0 ever after; a time limit
    is no end. Exact for a column a state and no ridge, once every action of every state is there
    equally often; where transitions are random, rows still stand for themselves, which leaves
    potential shaping without effect but not a shift of reward between successors.
    """
    after = following * ~np.asarray(ended, bool)[:, None]
    left = now.T @ (now - gamma * after)
    penalty = np.full(now.shape[1], ridge * len(now))
    penalty[0] = 0.0
    left[np.diag_indices_from(left)] += penalty
    weights = np.linalg.lstsq(left, now.T @ rewards, rcond=None)[0]
    canonical = rewards + gamma * after @ weights - now @ weights
    small = TRIVIAL * np.linalg.norm(rewards)
    return canonical if np.linalg.norm(canonical) > small else np.zeros_like(canonical)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """In [0, 1] between canonical rewards f64[N]: half the distance of their directions.

    0 for the same order of policies, 1 for the opposite one; a reward that asks for nothing is 1/2
    away from all that ask for something.
    """
    return float(_between(first @ first, second @ second, first @ second))


def _between(first: np.ndarray, second: np.ndarray, both: np.ndarray) -> np.ndarray:
    """From the squared lengths of two vectors and their inner product."""
    both, length = np.asarray(both, float), np.sqrt(np.asarray(first * second, float))
    cosine = np.divide(both, length, out=np.zeros_like(both), where=length > 0)
    something = (np.asarray(first) > 0).astype(float) + (np.asarray(second) > 0)
    return 0.5 * np.sqrt(np.maximum(something - 2 * cosine, 0))


def distance_statistic(
    first: list[np.ndarray], second: list[np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """The distance as a statistic of weights f64[D, N] over N episodes, given the canonical rewards
    of each. The values that levelled them stay as they were fitted to all."""
    inner = [
        np.array([a @ b for a, b in zip(*pair)])
        for pair in ((first, first), (second, second), (first, second))
    ]
    return lambda weights: _between(*(weights @ part for part in inner))


def features(places: np.ndarray, count: int = FEATURES, seed: int = 0) -> np.ndarray:
    """f64[N, 1 + D + count] of places f[N, D]: a constant, the standardised places, and random
    Fourier features of them (Rahimi and Recht 2007) as wide as the median distance."""
    spread = places.std(0)
    scaled = (places - places.mean(0)) / np.where(spread > 1e-6, spread, 1.0)
    rng = np.random.default_rng(seed)
    some = scaled[rng.choice(len(scaled), min(200, len(scaled)), replace=False)]
    gaps = np.linalg.norm(some[:, None] - some[None], axis=-1)
    width = np.median(gaps[gaps > 0]) if (gaps > 0).any() else 1.0
    directions = rng.normal(size=(scaled.shape[1], count)) / width
    waves = np.cos(scaled @ directions + rng.uniform(0, 2 * np.pi, count))
    return np.hstack([np.ones((len(scaled), 1)), scaled, waves * np.sqrt(2 / count)])
