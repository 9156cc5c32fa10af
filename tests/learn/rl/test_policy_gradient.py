"""Ratios, clipping and advantages in closed form, and where gradients point."""

import math

import numpy as np
import pytest
import torch
from fakes import SPEC, make_episode

from robostack.data.chunks import ChunkData
from robostack.learn.rl.advantages import (
    EXPLODED,
    SPREAD,
    advantages,
    chunk_advantages,
    clipped,
    divergence,
    group_advantages,
    ratio,
    standardised,
)
from robostack.learn.rl.config import ClipConfig
from robostack.learn.rl.policy_gradient import loss
from robostack.policy import flow


def test_chunks_of_one_action_are_actions():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=7), rng.normal(size=8)
    found = chunk_advantages(rewards, values, np.arange(7), False, 0.9, 0.8)
    running, wanted = 0.0, []
    for t in reversed(range(7)):
        running = rewards[t] + 0.9 * values[t + 1] - values[t] + 0.9 * 0.8 * running
        wanted.append(running)
    assert np.allclose(found, wanted[::-1])
    assert np.allclose(found, advantages(rewards, values, False, 0.9, 0.8))


def test_a_chunk_earns_its_discounted_rewards_and_the_next_begins_later():
    rewards, values = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([3.0, 0, 5.0, 0, 7.0, 9.0])
    found = chunk_advantages(rewards, values, np.array([0, 2, 4]), False, 0.5, 0.0)
    assert np.allclose(
        found, [1 + 0.5 * 2 + 0.25 * 5 - 3, 4 + 0.5 * 8 + 0.25 * 7 - 5, 16 + 4.5 - 7]
    )
    ended = chunk_advantages(rewards, values, np.array([0, 2, 4]), True, 0.5, 0.0)
    assert np.allclose(ended, [*found[:2], 16 - 7])


def test_values_that_are_right_leave_no_advantage_however_chunks_are_cut():
    rewards, gamma = np.array([0.0, 1.0, 0.0, 2.0]), 0.8
    values = np.array([sum(rewards[k] * gamma ** (k - t) for k in range(t, 4)) for t in range(5)])
    for starts in ([0, 1, 2, 3], [0, 2], [0, 3], [0]):
        assert np.allclose(chunk_advantages(rewards, values, np.array(starts), True, gamma, 0.7), 0)


def test_groups_are_compared_within_and_tell_nothing_without_spread():
    advantage, told = group_advantages(np.array([1, 0, 0, 0, 1, 1.0]), list("aaabbb"))
    assert told.tolist() == [True] * 6
    assert advantage[0] == pytest.approx(math.sqrt(2), rel=1e-3)
    assert advantage[:3].sum() == pytest.approx(0, abs=1e-6)
    advantage, told = group_advantages(np.array([1, 1, 0, 1.0]), list("aabb"))
    assert told.tolist() == [False, False, True, True] and not advantage[:2].any()
    assert not group_advantages(np.array([0.3]), ["alone"])[1].any()


def test_a_spread_that_is_small_in_units_of_success_is_not_blown_up():
    """Four failures whose worths differ in the third digit, beside four tries of which one won."""
    worths = np.array([0.0100, 0.0125, 0.0100, 0.0100, 1, 0, 0, 0])
    advantage, told = group_advantages(worths, list("aaaabbbb"))
    assert told.all() and np.abs(advantage[:4]).max() < 0.02
    assert advantage[4] == pytest.approx(math.sqrt(3))
    raw = np.array([-0.2, 0.0, 0.2])
    assert np.allclose(standardised(raw), raw / raw.std())
    assert np.allclose(standardised(0.1 * raw + 7), 0.1 * raw / SPREAD)


@pytest.mark.parametrize("r,a,wanted", [(1, 2, -2), (1.5, 1, -1.2), (0.5, 1, -0.5), (1.5, -1, 1.5)])
def test_the_surrogate_by_hand(r, a, wanted):
    found = clipped(torch.tensor([float(r)]), torch.tensor([float(a)]), 0.2, 0.2)
    assert float(found) == pytest.approx(wanted)


def test_a_bad_chunk_that_became_likely_pushes_only_so_far():
    r = torch.tensor([50.0], requires_grad=True)
    clipped(r, torch.tensor([-1.0]), 0.2, 0.2, dual=3.0).sum().backward()
    assert float(r.grad) == 0
    r = torch.tensor([2.0], requires_grad=True)
    clipped(r, torch.tensor([-1.0]), 0.2, 0.2, dual=3.0).sum().backward()
    assert float(r.grad) == 1


def test_an_exploded_ratio_stays_a_number_and_is_counted():
    r, exploded = ratio(torch.tensor([0.0, 1e4, -1e4, 1.0]), torch.zeros(4))
    assert torch.isfinite(r).all() and float(exploded) == 0.5
    assert float(r.max()) == pytest.approx(math.exp(EXPLODED))


def test_the_divergence_of_gaussians():
    """Samples of N(0, 1) under N(m, 1): KL = m^2 / 2."""
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    for m in (0.0, 0.1, 0.5):
        r = (-0.5 * (x - m) ** 2 + 0.5 * x**2).exp()
        assert float(divergence(r)) == pytest.approx(m**2 / 2, abs=2e-3)


@pytest.fixture
def drawn(vla):
    """A batch of 6 windows and a stochastic step of each."""
    data = ChunkData(SPEC, 4, [make_episode(seed, steps=6) for seed in (1, 2)])
    batch = data.batch(data.rows()[:6])
    generator = torch.Generator().manual_seed(0)
    at, shape = torch.tensor([0, 1, 2, 0, 1, 2]), (6, 4, 3)
    jitter, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    with torch.no_grad():
        prefix, state = vla.encode(batch), vla.normalize_state(batch.state)
        field = lambda x, t: vla.expert(prefix, state, x, t)  # noqa: E731
        _, step = flow.integrate_once(field, noise, 4, 0.7, at, jitter)
        step = flow.Transition(*vars(step).values())
    return batch, step


def test_one_gradient_step_makes_good_chunks_likelier_and_bad_ones_less(vla, drawn):
    batch, step = drawn
    advantage = torch.tensor([1.0, -1, 1, -1, 1, -1])
    value, told = loss(vla, batch, step, advantage, ClipConfig())
    assert told["ratio"] == pytest.approx(1, abs=1e-4) and told["kl"] < 1e-6
    assert float(value) == pytest.approx(0, abs=1e-4)
    value.backward()
    with torch.no_grad():
        for parameter in vla.parameters():
            if parameter.grad is not None:
                parameter -= 1e-4 * parameter.grad
        change = vla.log_prob(batch, step) - step.log_prob
    assert float((change * advantage).sum()) > 0
    assert loss(vla, batch, step, advantage, ClipConfig())[0] < value


def test_the_surrogate_s_gradient_at_ratio_1_is_the_policy_gradient(vla, drawn):
    batch, step = drawn
    advantage = torch.tensor([1.0, -2, 3, -1, 0, 2])
    vla.zero_grad()
    loss(vla, batch, step, advantage, ClipConfig())[0].backward()
    found = vla.expert.action_out.weight.grad.clone()
    vla.zero_grad()
    (-(vla.log_prob(batch, step) * advantage).mean()).backward()
    assert torch.allclose(found, vla.expert.action_out.weight.grad, rtol=1e-3, atol=1e-5)
