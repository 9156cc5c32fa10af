"""Real-time chunking: a new chunk that goes on where the robot still follows the old one.

While a chunk is computed the robot executes `delay` more actions of the old one, so a new chunk
must begin with those and may leave them only smoothly. Three ways, all on a velocity field in
normalised units:

guided    Black et al., arXiv 2506.07339: any flow policy, steered at every step of the sampler by
          the gradient of its own clean estimate (a backward pass through the network)
identity  the same without that gradient, as if the estimate moved one to one with the sample: a
          forward pass, the mode that other stacks ship under the name of the first
clamped   arXiv 2512.05964: for policies that were trained with clean beginnings (`clean_prefix`);
          nothing is steered, the old actions simply stand there
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from robostack.policy.flow import Velocity

Jacobian = Literal["true", "identity"]
Realtime = Literal["none", "guided", "identity", "clamped"]
MODES = get_args(Realtime)


def soft_mask(horizon: int, delay: int, overlap: int) -> Tensor:
    """How firmly each step of a chunk is held to the old one, f32[H] (2506.07339, eq. 5).

    1 for the first `delay` steps, which are executed whatever comes; then falling to 0 at
    `overlap`, the number of steps for which the old chunk says anything (H - s in the paper).
    """
    if not 0 <= delay <= overlap <= horizon:
        raise ValueError(
            f"real-time chunking: expected 0 <= delay <= overlap <= {horizon}, got delay={delay} "
            f"and overlap={overlap}"
        )
    step = torch.arange(horizon, dtype=torch.float32)
    share = (overlap - step) / (overlap - delay + 1)
    falling = share * (share.exp() - 1) / (math.e - 1)
    weight = torch.where(step < delay, torch.ones(horizon), falling)
    return torch.where(step < overlap, weight, torch.zeros(horizon))


def gain(time: Tensor, beta: float) -> Tensor:
    """min(beta, (tau^2 + (1 - tau)^2) / (tau (1 - tau))), which is beta at both ends.

    The paper's (1 - t) / t / r^2 with t = 1 - tau and r^2 = tau^2 / (tau^2 + (1 - tau)^2).
    """
    product = time * (1 - time)
    return ((time.square() + (1 - time).square()) / product.clamp(min=1e-9)).clamp(max=beta)


def require_beta(beta: float) -> None:
    """Raise ValueError for a bound on the guidance that is none."""
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta: expected a finite number of 0 or more, got {beta}")


class Guided:
    """A velocity field steered towards a target chunk (2506.07339, eq. 2 to 4).

    With the clean estimate a = x - tau v(x), the weights W and the target Y,

        v' = v - gain(tau) (da / dx)^T W (Y - a).

    The paper's velocity points from noise to data, ours from data to noise: hence the minus.
    `needs_grad` tells the sampler that the field must be differentiable. Callers may be under
    torch.no_grad; under torch.inference_mode the true gradient cannot be had, a RuntimeError.
    """

    def __init__(self, target: Tensor, weights: Tensor, beta: float, jacobian: Jacobian):
        require_beta(beta)
        self.target, self.weights, self.beta = target, weights[:, None], beta
        self.jacobian, self.needs_grad = jacobian, jacobian == "true"

    def __call__(self, velocity: Velocity) -> Velocity:
        return self._true(velocity) if self.jacobian == "true" else self._identity(velocity)

    def _correct(self, x: Tensor, time: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The clean estimate, and how far it is from the target, weighted."""
        clean = x - _along(time) * v
        return clean, self.weights * (self.target - clean)

    def _strength(self, time: Tensor) -> Tensor:
        return _along(gain(time, self.beta))

    def _identity(self, velocity: Velocity) -> Velocity:
        def steered(x: Tensor, time: Tensor) -> Tensor:
            v = velocity(x, time)
            return v - self._strength(time) * self._correct(x, time, v)[1]

        return steered

    def _true(self, velocity: Velocity) -> Velocity:
        def steered(x: Tensor, time: Tensor) -> Tensor:
            if torch.is_inference_mode_enabled():
                raise RuntimeError(
                    "guidance differentiates the policy, which torch.inference_mode forbids: "
                    "sample under torch.no_grad, or with rtc=identity"
                )
            with torch.enable_grad():
                x = x.detach().requires_grad_(True)  # before the network sees it
                v = velocity(x, time)
                clean, off = self._correct(x, time, v)
                (pull,) = torch.autograd.grad(clean, x, off.detach())
            return (v - self._strength(time) * pull).detach()

        return steered


def _along(time: Tensor) -> Tensor:
    """Times f32[B] or f32[B, H] for use with chunks: f32[B, 1 or H, 1]."""
    return time.reshape(len(time), -1, 1)


class Clamped:
    """A velocity field under which the first `delay` steps are clean and stay where they are."""

    def __init__(self, delay: int):
        self.delay = delay

    def __call__(self, velocity: Velocity) -> Velocity:
        def still(x: Tensor, time: Tensor) -> Tensor:
            each = _along(time)[..., 0].expand(x.shape[:2]).clone()
            each[:, : self.delay] = 0
            v = velocity(x, each).clone()
            v[:, : self.delay] = 0
            return v

        return still


def clean_prefix(
    time: Tensor, valid: Tensor, max_delay: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Times f32[B, H] and validity bool[B, H] of samples whose first steps are clean (2512.05964).

    Of each sample the first d steps, d uniform in 0..max_delay, have time 0, so that
    `flow.interpolate` leaves them as they are, and no part in the loss. At least one valid step
    always keeps its part. `time` f32[B], `valid` bool[B, H].
    """
    if not 0 <= max_delay < valid.shape[1]:
        raise ValueError(
            f"max_delay={max_delay}: expected 0 to {valid.shape[1] - 1}, below the chunk's horizon"
        )
    drawn = torch.randint(0, max_delay + 1, (len(time),), generator=generator).to(time.device)
    delay = torch.minimum(drawn, (valid.sum(1) - 1).clamp(min=0))
    clean = torch.arange(valid.shape[1], device=time.device) < delay[:, None]
    return time[:, None].repeat(1, valid.shape[1]).masked_fill(clean, 0.0), valid & ~clean
