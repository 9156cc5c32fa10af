"""Potentials as rewards that cannot change what is optimal.

Ng, Harada and Russell 1999: adding F = gamma Phi(s') - Phi(s) to a reward leaves the optimal
policies alone. That needs two things which robot learning code tends to forget (methods of
Robo-Dopamine, arXiv 2512.23703): Phi of a true terminal is 0, and a time limit is no terminal.
"""

from __future__ import annotations

import math

import numpy as np

SURE = 0.5  # confidence below which a potential is not paid for


def discount(control_hz: float, time_constant: float) -> float:
    """gamma of one control step: exp(-h / time_constant), h = 1 / control_hz [s].

    So that an agent is equally patient at every control rate (Robo-Dopamine's e^(-lambda h)).
    `time_constant` [s] is how long it takes until a reward is worth 1/e.
    """
    if not (control_hz > 0 and 0 < time_constant < math.inf):
        raise ValueError(
            "discount: expected a control rate and a time constant above 0, got "
            f"{control_hz} Hz and {time_constant} s"
        )
    return math.exp(-1 / (control_hz * time_constant))


def shaped_rewards(
    potential: np.ndarray,
    success: bool,
    terminated: bool,
    gamma: float,
    confidence: np.ndarray | None = None,
) -> np.ndarray:
    """Reward f32[T] of each action: 1 for succeeding, plus F = gamma Phi(s') - Phi(s).

    A terminated episode ends with Phi = 0, so what the potential lent is paid back in full. A
    truncated one keeps its last Phi, because it went on, unseen; the learner bootstraps there.

    `confidence` f32[T+1] in [0, 1] is a gate: a step is as sure as the less sure of its two ends
    (a true terminal is known for certain), F is multiplied by that, and is 0 below SURE, where
    only success is paid. **Only with confidence 1 everywhere are the optimal policies strictly
    those of the bare reward**: a gate that opens and closes lends without being paid back.
    """
    following = potential[1:].astype(np.float64).copy()
    if terminated:
        following[-1] = 0.0
    rewards = gamma * following - potential[:-1]
    if confidence is not None:
        rewards *= _gate(confidence, terminated)
    rewards[-1] += float(bool(success))
    return rewards.astype(np.float32)


def _gate(confidence: np.ndarray, terminated: bool) -> np.ndarray:
    after = confidence[1:].astype(np.float64).copy()
    if terminated:
        after[-1] = 1.0
    sure = np.minimum(confidence[:-1], after)
    return np.where(sure < SURE, 0.0, sure)
