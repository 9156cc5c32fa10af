"""How much better than expected: pure functions of rewards, values and ratios, numpy or torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LARGEST = 20.0  # weight of a chunk, relative to one of advantage 0; the least is LARGEST^-2
SPREAD = 0.1  # [successes] of advantages, as which any smaller one counts
EXPLODED = 20.0  # size of a log ratio beyond which it is cut off, so that exp stays a number


def advantages(
    rewards: np.ndarray, values: np.ndarray, terminated: bool, gamma: float, trace: float
) -> np.ndarray:
    """Generalised advantage estimates f32[T] (Schulman 2016) of rewards f32[T], values f32[T+1].

    The value after a true terminal is 0; after a time limit it is the critic's.
    """
    starts = np.arange(len(rewards))
    return chunk_advantages(rewards, values, starts, terminated, gamma, trace)


def chunk_advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    starts: np.ndarray,
    terminated: bool,
    gamma: float,
    trace: float,
) -> np.ndarray:
    """The same f32[C] where a chunk of actions, begun at observation `starts` i64[C], is one
    action of a semi-Markov process: it earns its discounted rewards, and the next one begins
    gamma^length later. `gamma` is that of a single step, `trace` the lambda of a chunk.
    """
    stops = np.append(starts[1:], len(rewards))
    following = values.astype(np.float64)[stops]
    if terminated:
        following[-1] = 0.0
    powers = gamma ** np.arange(len(rewards), dtype=np.float64)
    out, running = np.empty(len(starts)), 0.0
    for k in range(len(starts) - 1, -1, -1):
        own, length = rewards[starts[k] : stops[k]], stops[k] - starts[k]
        far = gamma ** float(length)
        delta = own @ powers[:length] + far * following[k] - values[starts[k]]
        running = delta + far * trace * running
        out[k] = running
    return out.astype(np.float32)


def chunk_weights(advantage: np.ndarray, temperature: float) -> np.ndarray:
    """exp(A / temperature), limited, with mean 1: how often a chunk is imitated."""
    weight = np.exp(np.clip(advantage / temperature, -np.log(LARGEST) * 2, np.log(LARGEST)))
    return weight / weight.mean()


def group_advantages(
    returns: np.ndarray, groups: list[str], least: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """Returns f[N] of tries, in units of success, as advantages f32[N] within their groups, in
    standard deviations (GRPO), and bool[N] which groups tell anything. One without spread (`least`)
    tells nothing.

    A spread below SPREAD counts as that: where all tries failed, and differ in the third digit of
    what they are worth, they would else weigh as much as tries some of which succeeded.
    """
    names, which = np.unique(np.asarray(groups), return_inverse=True)
    advantage, told = np.zeros(len(returns), np.float32), np.zeros(len(returns), bool)
    for k in range(len(names)):
        own = which == k
        spread = float(np.std(returns[own]))
        if spread > least:
            advantage[own] = standardised(returns[own])
            told |= own
    return advantage, told


def standardised(raw: np.ndarray) -> np.ndarray:
    """Advantages f32[N], in units of success, about their mean in standard deviations, or in
    SPREAD where they differ less: what is left then is the error of what judged them."""
    return ((raw - raw.mean()) / max(float(raw.std()), SPREAD)).astype(np.float32)


def ratio(log_prob: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """p_new / p_old f32[B], and the share of them that had to be cut off (0 in health)."""
    log_ratio = log_prob - before
    exploded = (log_ratio.detach().abs() > EXPLODED).float().mean()
    return log_ratio.clamp(-EXPLODED, EXPLODED).exp(), exploded


def clipped(ratio: Tensor, advantage: Tensor, low: float, high: float, dual: float = 3.0) -> Tensor:
    """PPO's surrogate loss f32[B], to be minimised: nothing is gained by a ratio outside
    [1 - low, 1 + high]. Where the advantage is negative a ratio beyond `dual` pushes no further
    (dual clip, arXiv 1912.09729): a chunk that became likely by accident must not explode."""
    bounded = ratio.clamp(1 - low, 1 + high)
    gain = torch.minimum(ratio * advantage, bounded * advantage)
    return -torch.where(advantage < 0, torch.maximum(gain, dual * advantage), gain)


def divergence(ratio: Tensor) -> Tensor:
    """KL(old | new) of samples of the old policy: mean of r - 1 - log r, which is unbiased and
    never negative (Schulman's k3)."""
    return (ratio - 1 - ratio.log()).mean()
