"""Steering a flow policy's sampler by the gradient of a reward (Flow-NRG, arXiv 2501.13918)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robostack.policy.flow import Velocity

MOST = 5.0  # of tau / (1 - tau), which is infinite where the sampler begins


class RewardGuide:
    """A velocity field that also climbs a reward.

    With the score s = -(x + (1 - tau) v) / tau of the flow, adding w grad r to s is

        v' = v - w tau / (1 - tau) grad_x r(x, tau),

    so that samples come from the policy's distribution times exp(w r). `value` gives r f32[B] of
    normalised noisy chunks f32[B, H, A] at tau f32[B]. The policy itself is not differentiated.
    """

    def __init__(self, value: Callable[[Tensor, Tensor], Tensor], weight: float):
        if not 0 <= weight < float("inf"):
            raise ValueError(f"guidance: expected a weight of 0 or more, got {weight}")
        self.value, self.weight = value, weight

    def __call__(self, velocity: Velocity) -> Velocity:
        def steered(x: Tensor, time: Tensor) -> Tensor:
            v = velocity(x, time)
            if torch.is_inference_mode_enabled():
                raise RuntimeError(
                    "guidance differentiates the reward, which torch.inference_mode forbids: "
                    "sample under torch.no_grad"
                )
            noisiest = time if time.ndim == 1 else time.amax(1)  # of a chunk that is partly clean
            with torch.enable_grad():
                here = x.detach().requires_grad_(True)
                (slope,) = torch.autograd.grad(self.value(here, noisiest).sum(), here)
            strength = (time / (1 - time).clamp(min=1e-6)).clamp(max=MOST)
            return v - self.weight * strength.reshape(len(x), -1, 1) * slope

        return steered
