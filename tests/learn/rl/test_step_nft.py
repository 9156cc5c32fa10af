"""Towards what went well and away from what did not."""

from dataclasses import replace

import pytest
import torch

from robostack.learn.rl.step_nft import contrast, drift
from robostack.policy.flow import Transition, sde_moments

SHAPE = (3, 4, 2)


def draw(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def step():
    time = torch.tensor([1.0, 0.75, 0.5])
    return Transition(draw(0), draw(1), time, 0.25, 0.7, torch.zeros(3))


def test_where_nothing_moved_neither_is_nearer(step):
    old = draw(2)
    assert torch.equal(contrast(old.clone(), old, step, 1.0), torch.zeros(3))


def test_it_is_linear_in_the_displacement_as_the_paper_s_identity_says(step):
    """E+ - E- = -4 <e, d> / sigma^2, e the residual of the old mean and d the mean's move."""
    old, velocity, beta = draw(2), draw(3), 0.5
    mean, deviation = step.moments(old)
    moved, _ = step.moments(old + beta * (velocity - old))
    residual, displacement = step.after - mean, moved - mean
    scale = deviation.reshape(-1, 1, 1)
    wanted = (-4 * residual * displacement / scale**2).mean((1, 2))
    assert torch.allclose(contrast(velocity, old, step, beta), wanted, rtol=1e-3, atol=1e-4)


def test_only_what_was_executed_is_compared(step):
    old, velocity = draw(2), draw(3)
    valid = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    found = contrast(velocity, old, replace(step, valid=valid), 0.5)
    for k, count in enumerate((4, 2, 1)):
        one = slice(k, k + 1)
        cut = step.part(one)
        short = replace(cut, before=cut.before[:, :count], after=cut.after[:, :count])
        own = contrast(velocity[one, :count], old[one, :count], short, 0.5)
        assert torch.allclose(found[one], own, rtol=1e-4)


def test_gradients_lead_the_mean_to_a_success_and_away_from_a_failure(step):
    old = draw(2)
    before = step.moments(old)[0]
    for label, nearer in ((1.0, True), (-1.0, False)):
        velocity = old.clone().requires_grad_(True)
        torch.nn.functional.softplus(
            label * contrast(velocity, old, step, 1.0) / 2
        ).sum().backward()
        after, _ = step.moments(old - 1e-2 * velocity.grad)
        change = (step.after - after).square().sum() - (step.after - before).square().sum()
        assert (float(change) < 0) == nearer


def test_moments_of_each_sample_s_own_time_are_those_of_that_time(step):
    velocity = draw(5)
    mean, deviation = step.moments(velocity)
    for k, time in enumerate((1.0, 0.75, 0.5)):
        own, spread = sde_moments(step.before[k : k + 1], velocity[k : k + 1], time, 0.25, 0.7)
        assert torch.allclose(mean[k : k + 1], own, atol=1e-6)
        assert float(deviation[k]) == pytest.approx(spread, rel=1e-5)


def test_the_drift_is_the_kl_of_two_gaussians_over_what_was_executed(step):
    old, velocity = draw(2), draw(3)
    valid = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    drawn = replace(step, valid=valid)
    (after, deviation), (before, _) = step.moments(velocity), step.moments(old)
    one, two = (torch.distributions.Normal(m, deviation.reshape(-1, 1, 1)) for m in (after, before))
    each = torch.distributions.kl_divergence(one, two) * valid[..., None]
    assert torch.allclose(drift(velocity, old, drawn), each.sum((1, 2)), rtol=1e-4)
    assert torch.equal(drift(old.clone(), old, step), torch.zeros(3))
