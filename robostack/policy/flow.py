"""All flow-matching maths of the project, in one convention:

    tau = 1 is noise, tau = 0 is the action;  x_tau = (1 - tau) a + tau eps;  u = dx/dtau = eps - a

Sampling integrates tau from 1 to 0 in an integer number of equal steps. This agrees with NORA-1.5
(arXiv 2511.14659), pi0 as released, SD3 and Flow-GRPO (2505.05470).

Time is f32[B], or f32[B, H] where the steps of a chunk have times of their own (real-time chunking
keeps the first ones clean).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# (x f32[B, H, A], tau f32[B] or f32[B, H]) -> f32[B, H, A]
Velocity = Callable[[Tensor, Tensor], Tensor]
Method = Literal["euler", "heun"]


def _along(time: Tensor, x: Tensor) -> Tensor:
    return time.reshape(*time.shape, *[1] * (x.ndim - time.ndim))


def interpolate(action: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x_tau at `time` f32[B] or f32[B, H]."""
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


def integrate(velocity: Velocity, noise: Tensor, steps: int, method: Method = "euler") -> Tensor:
    """From tau = 1 to 0 along dx = v dtau, in exactly `steps` equal steps.

    Euler asks for the velocity once a step, Heun twice (the mean of both ends of the step), with
    an error that falls with the square of the step instead of with the step.
    """
    _require_steps(steps)
    if method not in ("euler", "heun"):
        raise ValueError(f"method: expected euler or heun, got {method!r}")
    x = noise
    for k in range(steps):
        slope = velocity(x, _time(1 - k / steps, x))
        if method == "heun":
            ahead = x - slope / steps
            slope = (slope + velocity(ahead, _time(1 - (k + 1) / steps, x))) / 2
        x = x - slope / steps
    return x


def _time(tau: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), tau, dtype=x.dtype, device=x.device)


def sde_moments(
    x: Tensor, velocity: Tensor, time: float | Tensor, step: float, level: float
) -> tuple[Tensor, float | Tensor]:
    """Mean and standard deviation of one stochastic step from `time` to `time - step`.

    Flow-GRPO (arXiv 2505.05470, eq. 9): the noise sigma = level sqrt(tau / (1 - tau)) and a drift
    that keeps every marginal. Where tau = 1 it diverges, and 1 - step stands in for tau there.
    With a time f32[B] of each sample's own the deviation is f32[B], too.
    """
    if isinstance(time, Tensor):
        edge = time.clamp(max=1 - step)
        sigma2 = level**2 * edge / (1 - edge)
        drawn, spread = _along(time, x), _along(sigma2, x)
    else:
        edge = min(time, 1 - step)
        sigma2 = spread = level**2 * edge / (1 - edge)
        drawn = time
    mean = x * (1 - spread * step / (2 * drawn)) - velocity * step * (
        1 + spread * (1 - drawn) / (2 * drawn)
    )
    return mean, (sigma2 * step) ** 0.5


@dataclass(frozen=True)
class Transition:
    """One stochastic step of a sampler, as policy-gradient methods replay it."""

    before: Tensor  # f32[B, H, A], normalised
    after: Tensor  # f32[B, H, A]
    time: float | Tensor  # tau of `before`; f32[B] where each sample has its own
    step: float  # by which tau fell
    level: float
    log_prob: Tensor  # f32[B] of `after` given `before`, summed over valid actions and their dims
    valid: Tensor | None = None  # bool[B, H] which actions of the chunk count; None: all of them

    def part(self, rows: Tensor | slice) -> Transition:
        """Some of its samples."""
        time = self.time[rows] if isinstance(self.time, Tensor) else self.time
        kept = self.before[rows], self.after[rows], time, self.step, self.level
        valid = None if self.valid is None else self.valid[rows]
        return Transition(*kept, self.log_prob[rows], valid)

    def moments(self, velocity: Tensor) -> tuple[Tensor, float | Tensor]:
        """Of the step, under a velocity f32[B, H, A] at `before`."""
        return sde_moments(self.before, velocity, self.time, self.step, self.level)


def _log_prob(
    after: Tensor, mean: Tensor, deviation: float | Tensor, valid: Tensor | None = None
) -> Tensor:
    if isinstance(deviation, Tensor):
        own = _along(deviation, after)
        log_deviation = own.log()
    else:
        own, log_deviation = deviation, math.log(deviation)
    each = -0.5 * ((after - mean) / own).square() - log_deviation - 0.5 * math.log(2 * math.pi)
    if valid is not None:
        each = each.masked_fill(~valid[..., None], 0.0)
    return each.sum((1, 2))


def log_prob(velocity: Velocity, transition: Transition) -> Tensor:
    """log p(after | before) f32[B] under a velocity field, with its gradient.

    Under the very field that sampled the transition, in the same batch, it is `log_prob` of the
    transition bit for bit, so the importance ratio of fresh data is exactly 1.
    """
    t = transition
    time = t.time if isinstance(t.time, Tensor) else _time(t.time, t.before)
    return _log_prob(t.after, *t.moments(velocity(t.before, time)), t.valid)


def integrate_sde(
    velocity: Velocity,
    noise: Tensor,
    steps: int,
    level: float,
    generator: torch.Generator | None = None,
    at: int | None = None,
    trace: list[Transition] | None = None,
) -> Tensor:
    """Like `integrate`, but stochastic with the same marginals: more diverse tries.

    The step that reaches tau = 0 is deterministic, so that actions come out clean. `at` makes
    step number `at` alone stochastic, the others Euler (pi_RL, arXiv 2510.25889: one random step
    a chunk makes an update cost the same however many steps there are). The stochastic steps are
    appended to `trace`.
    """
    _require_steps(steps)
    if at is not None and not 0 <= at < steps - 1:
        raise ValueError(f"at: expected 0 to {steps - 2} (the last step is clean), got {at}")
    x = noise
    for k in range(steps):
        tau = 1 - k / steps
        v = velocity(x, _time(tau, x))
        if k == steps - 1 or at not in (None, k):
            x = x - v / steps
            continue
        mean, deviation = sde_moments(x, v, tau, 1 / steps, level)
        after = mean + deviation * torch.randn(x.shape, generator=generator).to(x)
        if trace is not None:
            drawn = _log_prob(after, mean, deviation)
            trace.append(Transition(x, after, tau, 1 / steps, level, drawn))
        x = after
    return x


def integrate_once(
    velocity: Velocity,
    noise: Tensor,
    steps: int,
    level: float,
    at: Tensor,
    jitter: Tensor,
    valid: Tensor | None = None,
) -> tuple[Tensor, Transition]:
    """`integrate_sde` with one stochastic step of each sample's own: step `at` i64[B], in 0 to
    steps - 2, by the standard normal `jitter` f32[B, H, A]. Returns x and those steps, of which
    the actions `valid` bool[B, H] count."""
    _require_steps(steps)
    if int(at.min()) < 0 or int(at.max()) >= steps - 1:
        raise ValueError(f"at: expected 0 to {steps - 2} (the last step is clean), got {at}")
    x, before, after = noise, torch.zeros_like(noise), torch.zeros_like(noise)
    drawn, tau = noise.new_zeros(len(noise)), noise.new_zeros(len(noise))
    for k in range(steps):
        time = _time(1 - k / steps, x)
        v = velocity(x, time)
        mean, deviation = sde_moments(x, v, time, 1 / steps, level)
        here = _along(at == k, x)
        noisy = mean + _along(deviation, x) * jitter
        before, after = torch.where(here, x, before), torch.where(here, noisy, after)
        log_prob = _log_prob(noisy, mean, deviation, valid)
        drawn, tau = torch.where(at == k, log_prob, drawn), torch.where(at == k, time, tau)
        x = torch.where(here, noisy, x - v / steps)
    return x, Transition(before, after, tau, 1 / steps, level, drawn, valid)
