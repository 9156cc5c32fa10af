"""The algebra of hops, after Robo-Dopamine (arXiv 2512.23703, section 3): relative progress from
one observation to another, chained into a potential that cannot leave [0, 1].

A hop H in [-1, 1] from p to q is the share of what was left that was gained, or, if negative, the
share of what was had that was lost.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from torch import Tensor

SHARPNESS = 4.0  # alpha of the consistency weight: at a relative gap of 0.4 half the trust is gone
TINY = 1e-6


def hop(before: Tensor, after: Tensor) -> Tensor:
    """H from potentials in [0, 1]; 0 where nothing was left to gain, or nothing to lose."""
    gain, loss = after - before, 1 - before
    return torch.where(gain >= 0, gain / loss.clamp_min(TINY), gain / before.clamp_min(TINY))


def land(before: Tensor, hop: Tensor) -> Tensor:
    """The potential after a hop: the inverse of `hop` in its second argument."""
    return before + torch.where(hop >= 0, 1 - before, before) * hop


def two_hot(value: Tensor, low: float, high: float, bins: int) -> Tensor:
    """value f32[...] as a distribution f32[..., bins] over bins from low to high whose mean is the
    value, limited to that range (C51, arXiv 1707.06887)."""
    place = (value.clamp(low, high) - low) / (high - low) * (bins - 1)
    floor = place.floor().clamp(max=bins - 2)
    share = (place - floor)[..., None]
    index = floor.long()[..., None]
    out = value.new_zeros(*value.shape, bins)
    out.scatter_(-1, index, 1 - share)
    return out.scatter_(-1, index + 1, share)


def triangle(potential: Tensor, hops: Tensor) -> Tensor:
    """How far hops f32[B, K, K] between K observations of each of B episodes are from agreeing with
    themselves: the mean |there directly - there by way of a third|, from potentials f32[B, K]."""
    start = potential[:, :, None, None]  # i
    direct = land(start, hops[:, :, None, :])  # i -> k
    stop = land(start, hops[:, :, :, None])  # i -> j
    by_way = land(stop, hops[:, None, :, :])  # j -> k
    return (direct - by_way).abs().mean()


def fuse(
    forward: np.ndarray, backward: np.ndarray, steps: np.ndarray, stride: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a `Fusion` makes of a whole episode."""
    return Fusion(stride).go_on(forward, backward, steps)


class Fusion:
    """One potential from three estimates, of an episode that may still go on.

    `go_on` takes those of the next L observations and returns (potential, confidence, incremental
    estimate), f32[L] each. `forward` and `backward` f32[L] are anchored at the start and at a goal;
    `steps` f32[L] are the hops from `stride` observations before. Where the anchors disagree the
    confidence w = exp(-alpha delta^2), delta = |B - F| / mean, falls and the potential moves less.
    """

    def __init__(self, stride: int):
        self._past: deque[float] = deque(maxlen=stride)  # incremental estimates
        self._fused = 0.0

    def go_on(
        self, forward: np.ndarray, backward: np.ndarray, steps: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean = (forward + backward) / 2
        gap = np.abs(backward - forward) / (mean + 0.25)  # small values may differ by little
        trust = np.exp(-SHARPNESS * gap**2)
        incremental, fused = np.empty(len(mean)), np.empty(len(mean))
        for t in range(len(mean)):
            if not self._past:  # before the start there was the start
                self._past.extend([float(mean[t])] * self._past.maxlen)
                self._fused = incremental[t] = fused[t] = mean[t]
                continue
            before = self._past[0]
            room = 1 - before if steps[t] >= 0 else before
            incremental[t] = before + room * steps[t]
            moved = incremental[t] - self._past[-1]
            fused[t] = self._fused + trust[t] / 2 * (mean[t] - self._fused + moved)
            self._past.append(incremental[t])
            self._fused = fused[t]
        return tuple(np.clip(x, 0, 1).astype(np.float32) for x in (fused, trust, incremental))
