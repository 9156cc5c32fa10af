"""All flow-matching maths of the project, in one convention:

    tau = 1 is noise, tau = 0 is the action;  x_tau = (1 - tau) a + tau eps;  u = dx/dtau = eps - a

Sampling integrates tau from 1 to 0 in an integer number of equal steps. This agrees with NORA-1.5
(arXiv 2511.14659), pi0 as released, SD3 and Flow-GRPO (2505.05470).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x f32[B, H, A], tau f32[B]) -> f32[B, H, A]


def _along(time: Tensor, x: Tensor) -> Tensor:
    return time.reshape(-1, *[1] * (x.ndim - 1))


def interpolate(action: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x_tau; `time` is f32[B]."""
    t = _along(time, action)
    return (1 - t) * action + t * noise


def target(action: Tensor, noise: Tensor) -> Tensor:
    """The velocity u that flow matching regresses."""
    return noise - action


def stratified_time(count: int, batch: int, generator: torch.Generator | None = None) -> Tensor:
    """tau f32[count, batch], each column spread over `count` equal quantiles of the law

        tau = 0.999 b + 0.001,  b ~ Beta(1.5, 1),

    which dwells near the noise (pi0, NORA-1.5). Beta(a, 1) has the distribution function b^a, so it
    is drawn by inversion; with a count of 1 the draws are independent.
    """
    offset = torch.rand(count, batch, generator=generator)
    quantile = (torch.arange(count)[:, None] + offset) / count
    return 0.999 * quantile ** (1 / 1.5) + 0.001


def error(velocity: Tensor, action: Tensor, noise: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean squared velocity error of each sample f32[B]: over action dims and valid steps.

    It is a mean, not a sum: every coefficient of the project (beta of DPO, ...) refers to that.
    """
    squared = (velocity - target(action, noise)).square().mean(-1)
    if valid is None:
        return squared.mean(-1)
    weight = valid.to(squared.dtype)
    return (squared * weight).sum(-1) / weight.sum(-1).clamp(min=1)


def _require_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps: expected 1 or more, got {steps}")


def integrate(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Euler from tau = 1 to 0 along dx = v dtau, in exactly `steps` steps."""
    _require_steps(steps)
    x = noise
    for k in range(steps):
        time = torch.full((len(x),), 1 - k / steps, dtype=x.dtype, device=x.device)
        x = x - velocity(x, time) / steps
    return x


def sde_moments(
    x: Tensor, velocity: Tensor, time: float, step: float, level: float
) -> tuple[Tensor, float]:
    """Mean and standard deviation of one stochastic step from `time` to `time - step`.

    Flow-GRPO (arXiv 2505.05470, eq. 9): the noise sigma = level sqrt(tau / (1 - tau)) and a drift
    that keeps every marginal. Where tau = 1 it diverges, and 1 - step stands in for tau there.
    """
    edge = min(time, 1 - step)
    sigma2 = level**2 * edge / (1 - edge)
    mean = x * (1 - sigma2 * step / (2 * time)) - velocity * step * (
        1 + sigma2 * (1 - time) / (2 * time)
    )
    return mean, (sigma2 * step) ** 0.5


def integrate_sde(
    velocity: Velocity,
    noise: Tensor,
    steps: int,
    level: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Like `integrate`, but stochastic with the same marginals: more diverse tries.

    The step that reaches tau = 0 is deterministic, so that actions come out clean.
    """
    _require_steps(steps)
    x = noise
    for k in range(steps):
        tau = 1 - k / steps
        time = torch.full((len(x),), tau, dtype=x.dtype, device=x.device)
        v = velocity(x, time)
        if k == steps - 1:
            return x - v / steps
        mean, deviation = sde_moments(x, v, tau, 1 / steps, level)
        x = mean + deviation * torch.randn(x.shape, generator=generator).to(x)
    return x
