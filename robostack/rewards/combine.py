"""Several potentials as one, and potentials as rewards that cannot change what is optimal.

Ng, Harada and Russell 1999: adding gamma Phi(s') - Phi(s) to a reward leaves the optimal policies
alone. That needs two things which robot learning code tends to forget (methods of Robo-Dopamine,
arXiv 2512.23703): Phi of a true terminal is 0, and a time limit is no terminal.
"""

from __future__ import annotations

import numpy as np


def combine(potentials: dict[str, np.ndarray], weights: dict[str, float]) -> np.ndarray:
    """Weighted mean f32[T+1] of potentials in [0, 1]; stays in [0, 1].

    Raises ValueError for a weight without a potential, a negative weight, or no weight at all.
    """
    missing = sorted(set(weights) - set(potentials))
    if missing:
        raise ValueError(f"no potential for {missing}; there are: {sorted(potentials)}")
    total = sum(weights.values())
    if min(weights.values(), default=0) < 0 or total <= 0:
        raise ValueError(f"weights: expected non-negative with a positive sum, got {weights}")
    return sum(w / total * potentials[n] for n, w in weights.items()).astype(np.float32)


def shaped_rewards(
    potential: np.ndarray, success: bool, terminated: bool, gamma: float
) -> np.ndarray:
    """Reward f32[T] of each action: 1 for succeeding, plus gamma Phi(s') - Phi(s).

    A terminated episode ends with Phi = 0, so what the potential lent is paid back in full. A
    truncated one keeps its last Phi, because it went on, unseen; the learner bootstraps there.
    """
    following = potential[1:].astype(np.float64).copy()
    if terminated:
        following[-1] = 0.0
    rewards = gamma * following - potential[:-1]
    rewards[-1] += float(bool(success))
    return rewards.astype(np.float32)
