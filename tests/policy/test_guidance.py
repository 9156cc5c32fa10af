"""Steering a sampler: where everything is Gaussian, what must come out is known."""

import pytest
import torch

from robostack.policy import flow, rtc
from robostack.policy.chunking import ChunkRunner
from robostack.policy.guidance import RewardGuide

MEAN, SPREAD, STEPS, COUNT = 0.5, 0.6, 200, 4000


def variance(time):
    return (1 - time) ** 2 * SPREAD**2 + time**2


def gaussian(x, time):
    """The exact velocity of data N(MEAN, SPREAD^2): E[eps - a | x]."""
    t = time.reshape(-1, 1, 1)
    off = (x - (1 - t) * MEAN) / variance(t)
    return t * off - (MEAN + (1 - t) * SPREAD**2 * off)


def linear(slope):
    """log E[exp(slope a) | x_tau], up to what does not depend on x."""

    def value(x, time):
        t = time.reshape(-1, 1, 1)
        posterior = MEAN + (1 - t) * SPREAD**2 * (x - (1 - t) * MEAN) / variance(t)
        return slope * posterior.sum((1, 2))

    return value


def sampled(guide=None):
    noise = torch.randn(COUNT, 1, 1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return flow.integrate(guide(gaussian) if guide else gaussian, noise, STEPS)


@pytest.mark.parametrize(("slope", "weight"), [(1.0, 1.0), (-2.0, 0.5), (1.0, 2.0)])
def test_samples_come_from_the_policy_times_the_exponential_of_the_reward(slope, weight):
    """N(m, s^2) exp(k a) is N(m + k s^2, s^2): what is liked shifts, how much varies stays."""
    x = sampled(RewardGuide(linear(slope), weight))
    assert float(x.mean()) == pytest.approx(MEAN + weight * slope * SPREAD**2, abs=0.05)
    assert float(x.std()) == pytest.approx(SPREAD, rel=0.06)


def test_without_weight_nothing_is_steered():
    assert torch.equal(sampled(RewardGuide(linear(3.0), 0.0)), sampled())


def test_the_policy_is_not_differentiated():
    def velocity(x, time):
        assert not x.requires_grad and not torch.is_grad_enabled()
        return gaussian(x, time)

    with torch.no_grad():
        x = torch.zeros(2, 1, 1)
        found = RewardGuide(linear(1.0), 1.0)(velocity)(x, torch.full((2,), 0.5))
    assert not found.requires_grad


def test_inference_mode_is_refused_with_advice():
    with torch.inference_mode(), pytest.raises(RuntimeError, match="torch.no_grad"):
        RewardGuide(linear(1.0), 1.0)(gaussian)(torch.zeros(1, 1, 1), torch.ones(1))


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_that_cannot_be_is_refused(weight):
    with pytest.raises(ValueError, match="weight"):
        RewardGuide(linear(1.0), weight)


def test_a_runner_is_steered_at_every_observation(vla, episode):
    seen = []

    def steer(observation):
        seen.append(observation.stamp)
        return RewardGuide(lambda x, time: 50 * x[:, :, 0].sum(1), 1.0)

    first = []
    for guide in (None, steer):
        runner = ChunkRunner(vla, execute=4, steer=guide)
        runner.reset(0)
        first.append([runner.act(episode.observation(t))[:, 0].mean() for t in range(3)])
    assert len(seen) == 3 and min(first[1]) > max(first[0])


def test_two_that_steer_are_refused_and_clamping_still_holds(vla, episode):
    def steer(observation):
        return RewardGuide(lambda x, time: 50 * x[:, :, 0].sum(1), 1.0)

    with pytest.raises(ValueError, match="rtc=guided steers"):
        ChunkRunner(vla, execute=2, delay=1, rtc="guided", steer=steer)
    runner = ChunkRunner(vla, execute=2, delay=1, rtc="clamped", steer=steer)
    previous = runner.plan(episode.observation(0))
    chunk = runner.plan(episode.observation(1), previous, delay=1)
    assert (chunk[0] == previous[0]).all() and "clamped" in rtc.MODES
