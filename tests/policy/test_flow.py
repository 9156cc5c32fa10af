"""Flow matching against a Gaussian, whose exact velocity is known in closed form.

With a ~ N(m, s^2) and eps ~ N(0, 1), the regression of u = eps - a on x_tau = (1 - tau) a + tau eps
is affine in x, so every step of a sampler is an affine map and the mean and the spread of what it
yields can be followed exactly, without drawing anything.
"""

import math

import pytest
import torch

from robostack.policy import flow

M, S = 1.5, 0.5


def exact(x, time):
    t = time.reshape(-1, 1, 1)
    covariance, variance = t - (1 - t) * S**2, (1 - t) ** 2 * S**2 + t**2
    return -M + covariance / variance * (x - (1 - t) * M)


def affine(step):
    """Offset and slope of an affine map of one number."""
    y = step(torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(2, 1, 1)).flatten()
    return float(y[0]), float(y[1] - y[0])


def ode_moments(steps):
    offset, slope = affine(lambda x: flow.integrate(exact, x, steps))
    return offset, abs(slope)


def sde_moments(steps, level):
    """Like the sampler: stochastic steps, then a deterministic one."""
    mean, variance = 0.0, 1.0
    for k in range(steps):
        tau, last, noise = 1 - k / steps, k == steps - 1, []

        def step(x, tau=tau, last=last, noise=noise):
            v = exact(x, torch.full((2,), tau, dtype=x.dtype))
            y, deviation = flow.sde_moments(x, v, tau, 1 / steps, 0 if last else level)
            noise.append(deviation)
            return y

        offset, slope = affine(step)
        mean, variance = offset + slope * mean, slope**2 * variance + noise[0] ** 2
    return mean, math.sqrt(variance)


@pytest.mark.parametrize(("steps", "bound"), [(40, 0.01), (20, 0.02), (10, 0.05)])
def test_the_sde_reproduces_a_gaussian(steps, bound):
    mean, std = sde_moments(steps, level=0.7)
    assert mean == pytest.approx(M, abs=1e-9)
    assert std == pytest.approx(S, rel=bound)


@pytest.mark.parametrize(("steps", "loss"), [(200, 0.0074), (40, 0.0364), (10, 0.1384)])
def test_euler_narrows_a_gaussian_by_a_known_share_that_falls_as_the_steps_shrink(steps, loss):
    mean, std = ode_moments(steps)
    assert mean == pytest.approx(M, abs=1e-9)
    assert std / S - 1 == pytest.approx(-loss, abs=1e-4)


def test_drawn_samples_of_the_sde_have_the_moments_that_were_followed_exactly():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(100_000, 1, 1, generator=generator)
    x = flow.integrate_sde(exact, noise, 10, 0.7, generator)
    mean, std = sde_moments(10, 0.7)
    # 4 standard errors of a mean and of a standard deviation
    assert float(x.mean()) == pytest.approx(mean, abs=4 * std / 100_000**0.5)
    assert float(x.std()) == pytest.approx(std, rel=4 / 200_000**0.5)


def test_the_sde_forgets_its_starting_noise_and_the_ode_does_not():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 1, 1, generator=generator)
    drawn = flow.integrate_sde(exact, noise, 40, 1.5, generator)
    assert torch.corrcoef(torch.cat([noise, drawn], 1).squeeze(-1).T)[0, 1] < 0.5
    kept = flow.integrate(exact, noise, 40)
    assert torch.corrcoef(torch.cat([noise, kept], 1).squeeze(-1).T)[0, 1] > 0.999


def test_the_interpolant_is_noise_at_one_and_the_action_at_zero():
    action, noise = torch.randn(3, 4, 2), torch.randn(3, 4, 2)
    assert torch.equal(flow.interpolate(action, noise, torch.ones(3)), noise)
    assert torch.equal(flow.interpolate(action, noise, torch.zeros(3)), action)


def test_the_target_is_the_time_derivative_of_the_interpolant():
    action, noise = torch.randn(2, 3, 4, 2, dtype=torch.float64)
    at = [flow.interpolate(action, noise, torch.full((3,), t).double()) for t in (0.3, 0.31)]
    assert torch.allclose((at[1] - at[0]) / 0.01, flow.target(action, noise), atol=1e-6)


def test_each_sample_has_its_own_time():
    action, noise, time = torch.randn(3, 4, 2), torch.randn(3, 4, 2), torch.tensor([0.1, 0.5, 0.9])
    for i in range(3):
        alone = flow.interpolate(action[i : i + 1], noise[i : i + 1], time[i : i + 1])
        assert torch.equal(flow.interpolate(action, noise, time)[i], alone[0])


def test_the_velocity_towards_one_action_leads_there_in_any_number_of_steps():
    action, noise = torch.randn(3, 4, 2), torch.randn(3, 4, 2)
    for steps in (1, 3, 10):
        reached = flow.integrate(lambda x, t: noise - action, noise, steps)
        assert torch.allclose(reached, action, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 5, 7])
@pytest.mark.parametrize("level", [0.0, 0.7])
def test_a_sampler_looks_at_exactly_so_many_times_from_one_downwards(steps, level):
    seen = []

    def velocity(x, time):
        seen.append(time)
        return torch.zeros_like(x)

    noise = torch.randn(2, 4, 3)
    if level:
        flow.integrate_sde(velocity, noise, steps, level)
    else:
        flow.integrate(velocity, noise, steps)
    wanted = [torch.full((2,), 1 - k / steps) for k in range(steps)]
    assert len(seen) == steps and torch.allclose(torch.stack(seen), torch.stack(wanted))


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_less_than_one_step_is_refused(level):
    # a sampler of no steps would hand out its noise as actions
    with pytest.raises(ValueError, match="steps"):
        if level:
            flow.integrate_sde(exact, torch.zeros(1, 1, 1), 0, level)
        else:
            flow.integrate(exact, torch.zeros(1, 1, 1), 0)


@pytest.mark.parametrize("time", [1.0, 0.5, 0.2])
def test_at_level_zero_a_stochastic_step_is_the_euler_step(time):
    x, v = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    mean, deviation = flow.sde_moments(x, v, time, 0.2, level=0.0)
    assert torch.equal(mean, x - 0.2 * v) and deviation == 0


def test_a_stochastic_step_has_the_moments_of_flow_grpo_by_hand():
    # tau .5, step .1, level 1: sigma2 = 1; mean = x (1 - .1) - v .1 (1 + .5); std = sqrt(.1)
    mean, deviation = flow.sde_moments(torch.tensor([2.0]), torch.tensor([1.0]), 0.5, 0.1, 1.0)
    assert float(mean) == pytest.approx(1.65) and deviation == pytest.approx(0.1**0.5)


def test_the_last_stochastic_step_is_clean():
    seen = []

    def velocity(x, time):
        seen.append(x)
        return torch.ones_like(x)

    result = flow.integrate_sde(velocity, torch.randn(2, 4, 3), 4, 0.7)
    assert torch.equal(result, seen[-1] - 1 / 4)
    assert not torch.allclose(seen[-1], seen[-2] - 1 / 4)


def test_the_same_generator_draws_the_same_and_another_does_not():
    noise = torch.randn(2, 4, 3)
    a, b, c = (
        flow.integrate_sde(exact, noise, 5, 0.7, torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    )
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_stochastic_step_of_each_sample_s_own_is_what_one_for_all_would_be():
    """`integrate_once` with the same step for all is `integrate_sde` with `at`."""

    def velocity(x, time):
        return 0.7 * x + time.reshape(-1, 1, 1)

    noise = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    for at in (0, 1, 2):
        generator, trace = torch.Generator().manual_seed(5), []
        wanted = flow.integrate_sde(velocity, noise, 4, 0.6, generator, at, trace)
        jitter = torch.randn(noise.shape, generator=torch.Generator().manual_seed(5))
        found, step = flow.integrate_once(velocity, noise, 4, 0.6, torch.full((4,), at), jitter)
        assert torch.allclose(found, wanted, atol=1e-6)
        for name in ("before", "after", "log_prob"):
            theirs = getattr(trace[0], name)
            assert torch.allclose(getattr(step, name), theirs, atol=1e-4), name
        again = flow.log_prob(velocity, step)
        assert torch.allclose(again, step.log_prob, atol=1e-4)
    mixed, _ = flow.integrate_once(velocity, noise, 4, 0.6, torch.tensor([0, 1, 2, 2]), jitter)
    assert torch.allclose(mixed[3], wanted[3], atol=1e-6)  # step 2, as the last of the loop
    with pytest.raises(ValueError, match="expected 0 to 2"):
        flow.integrate_once(velocity, noise, 4, 0.6, torch.tensor([0, 1, 2, 3]), jitter)


@pytest.mark.parametrize("steps", [3, 4, 5, 7])
def test_a_step_s_density_is_that_of_what_counts_in_it_and_is_found_again_to_the_bit(steps):
    generator = torch.Generator().manual_seed(0)
    noise, jitter = torch.randn(2, 6, 4, 3, generator=generator)
    at = torch.randint(steps - 1, (6,), generator=generator)
    valid = torch.arange(4) < torch.tensor([1, 2, 3, 4, 1, 4])[:, None]
    _, step = flow.integrate_once(exact, noise, steps, 0.6, at, jitter, valid)
    assert torch.equal(flow.log_prob(exact, step), step.log_prob)
    mean, deviation = step.moments(exact(step.before, step.time))
    normal = torch.distributions.Normal(mean, deviation.reshape(-1, 1, 1))
    for k, own in enumerate(normal.log_prob(step.after)):
        assert float(step.log_prob[k]) == pytest.approx(float(own[valid[k]].sum()), abs=1e-4)
    part = step.part(torch.tensor([2, 0]))
    assert torch.equal(flow.log_prob(exact, part), step.log_prob[[2, 0]])
