"""Advantages and the weights made of them, against cases that can be worked out by hand."""

import numpy as np
import pytest

from robostack.learn.rl.advantages import LARGEST, advantages, chunk_weights
from robostack.rewards.shaping import shaped_rewards

GAMMA = 0.9
REWARDS = np.array([1.0, 0.0, 2.0])
VALUES = np.array([0.5, 1.0, 2.0, 4.0])


def test_generalised_advantages_by_hand():
    # deltas: 1 + .5 * 1 - .5 = 1;  0 + .5 * 2 - 1 = 0;  2 + .5 * 4 - 2 = 2; decay .5 * .4 = .2
    found = advantages(REWARDS, VALUES, terminated=False, gamma=0.5, trace=0.4)
    assert np.allclose(found, [1 + 0.2 * (0 + 0.2 * 2), 0 + 0.2 * 2, 2])
    # a terminal is worth nothing, whatever the critic says: the last delta is 2 - 2 = 0
    found = advantages(REWARDS, VALUES, terminated=True, gamma=0.5, trace=0.4)
    assert np.allclose(found, [1, 0, 0])


def test_with_trace_and_gamma_one_it_is_the_reward_to_go_minus_the_value():
    found = advantages(REWARDS, VALUES, terminated=True, gamma=1.0, trace=1.0)
    assert np.allclose(found, np.array([3, 2, 2]) - VALUES[:3])


def test_a_time_limit_bootstraps_with_the_value_of_the_last_observation():
    found = advantages(REWARDS, VALUES, terminated=False, gamma=1.0, trace=1.0)
    assert np.allclose(found, np.array([3, 2, 2]) + VALUES[3] - VALUES[:3])


def test_with_trace_zero_it_is_the_one_step_error():
    found = advantages(REWARDS, VALUES, terminated=False, gamma=GAMMA, trace=0.0)
    assert np.allclose(found, REWARDS + GAMMA * VALUES[1:] - VALUES[:-1])


def test_where_a_limit_cuts_does_not_matter_to_a_perfect_critic():
    """Values that satisfy Bellman's equation leave no advantage, cut or not."""
    values = np.array([GAMMA**2 * 2 + 1, GAMMA * 2, 2, 0])  # of REWARDS, then the end
    assert np.allclose(advantages(REWARDS, values, True, GAMMA, 0.7), 0)
    assert np.allclose(advantages(REWARDS[:2], values[:3], False, GAMMA, 0.7), 0)


@pytest.mark.parametrize("terminated", [True, False])
@pytest.mark.parametrize("trace", [0.0, 0.8, 1.0])
def test_potentials_change_no_advantage_once_the_critic_knows_them(terminated, trace):
    rng = np.random.default_rng(0)
    phi, values = rng.random((2, 9))
    bare = np.zeros(8)
    bare[-1] = terminated
    shaped = shaped_rewards(phi, success=terminated, terminated=terminated, gamma=GAMMA)
    assert np.allclose(
        advantages(shaped, values - phi, terminated, GAMMA, trace),
        advantages(bare, values, terminated, GAMMA, trace),
        atol=1e-6,
    )


def test_weights_have_mean_one_and_rise_with_the_advantage():
    advantage = np.sort(np.random.default_rng(0).normal(0, 0.2, 500))
    weight = chunk_weights(advantage, temperature=0.2)
    assert weight.mean() == pytest.approx(1) and (np.diff(weight) >= 0).all()
    assert weight[-1] > 5 * weight[250] > 0


def test_constant_advantages_make_equal_weights_wherever_they_lie():
    for level in (-0.3, 0.0, 0.3):
        assert np.allclose(chunk_weights(np.full(9, level), 0.2), 1)


def test_an_advantage_larger_by_the_temperature_weighs_e_times_as_much():
    weight = chunk_weights(np.array([0.0, 0.2, 0.1]), temperature=0.2)
    assert weight[1] / weight[0] == pytest.approx(np.e)
    assert weight[2] / weight[0] == pytest.approx(np.e**0.5)


def test_one_lucky_chunk_cannot_take_all_the_weight():
    weight = chunk_weights(np.array([100.0] + [0.0] * 99), temperature=0.2)
    assert weight[0] / weight[1] == pytest.approx(LARGEST)


def test_a_higher_temperature_weighs_more_evenly():
    advantage = np.random.default_rng(0).normal(0, 0.2, 500)
    spreads = [chunk_weights(advantage, t).std() for t in (0.1, 0.2, 1.0)]
    assert spreads[0] > spreads[1] > spreads[2]
