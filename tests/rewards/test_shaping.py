"""Potential shaping leaves the optimal policy alone, terminals and time limits included.

The chain has six states. 0 is a cliff and 5 is success, both terminal. A step slips and goes the
other way one time in five; the last one, from 4 to 5, is a leap that mostly ends below the cliff,
and still the best there is. The naive shaping phi' - phi is the control that must fail.
"""

import numpy as np
import pytest

from robostack.rewards.shaping import SURE, discount, shaped_rewards

GAMMA, STATES = 0.9, 6


def bare(phi, success, terminated):
    return float(success)


def shaped(phi, success, terminated):
    return float(shaped_rewards(np.array(phi), success, terminated, GAMMA)[0])


def naive(phi, success, terminated):
    return phi[1] - phi[0] + float(success)


def outcomes(s, step):
    """(probability, next state) of a step to the left (-1) or to the right (1)."""
    if (s, step) == (4, 1):
        return (0.3, 5), (0.7, 0)
    return (0.8, s + step), (0.2, s - step)


def backup(reward, phi, value):
    """Q[s, left or right] of the inner states, given the values of what follows."""
    q = np.zeros((STATES, 2))
    for s in range(1, STATES - 1):
        for action, step in enumerate((-1, 1)):
            for chance, to in outcomes(s, step):
                ends = to in (0, STATES - 1)
                r = reward((phi[s], phi[to]), to == STATES - 1, ends)
                q[s, action] += chance * (r + (0 if ends else GAMMA * value[to]))
    return q[1:-1]


def optimal(reward, phi):
    value = np.zeros(STATES)
    for _ in range(150):
        q = backup(reward, phi, value)
        value[1:-1] = q.max(1)
    return q, value


POTENTIALS = np.random.default_rng(0).random((12, STATES))


def policies(reward):
    return np.array([optimal(reward, phi)[0].argmax(1) for phi in POTENTIALS])


def test_shaping_shifts_the_optimal_values_by_the_potential_and_nothing_else():
    q, _ = optimal(bare, np.zeros(STATES))
    for phi in POTENTIALS[:5]:
        assert np.allclose(optimal(shaped, phi)[0], q - phi[1:-1, None], atol=1e-5)


def test_the_optimal_policy_survives_shaping_but_not_the_naive_difference():
    best = optimal(bare, np.zeros(STATES))[0].argmax(1)
    assert (policies(shaped) == best).all()
    assert not (policies(naive) == best).all()


def test_the_optimal_policy_survives_a_time_limit_unless_that_is_taken_for_a_terminal():
    """The limit cuts the next transition; the learner bootstraps from V - phi, as it learned it."""
    best, value = optimal(bare, np.zeros(STATES))

    def taken_for_terminal(phi, success, terminated):
        return shaped(phi, success, True)

    def chosen(reward):
        return np.array([backup(reward, phi, value - phi).argmax(1) for phi in POTENTIALS])

    assert (chosen(shaped) == best.argmax(1)).all()
    assert not (chosen(taken_for_terminal) == best.argmax(1)).all()


def test_a_time_limit_changes_no_reward():
    phi = np.random.default_rng(3).random(9).astype(np.float32)
    whole = shaped_rewards(phi, True, True, GAMMA)
    assert np.array_equal(shaped_rewards(phi[:5], False, False, GAMMA), whole[:4])


@pytest.mark.parametrize("success", [True, False])
def test_the_return_of_a_terminated_episode_telescopes(success):
    phi = np.random.default_rng(1).random(9).astype(np.float32)
    rewards = shaped_rewards(phi, success, True, GAMMA)
    assert rewards.shape == (8,) and rewards.dtype == np.float32
    discounted = (GAMMA ** np.arange(8) * rewards).sum()
    assert discounted == pytest.approx(GAMMA**7 * success - phi[0], abs=1e-6)


def test_the_return_of_a_truncated_episode_keeps_what_it_reached():
    phi = np.random.default_rng(2).random(9).astype(np.float32)
    discounted = (GAMMA ** np.arange(8) * shaped_rewards(phi, False, False, GAMMA)).sum()
    assert discounted == pytest.approx(GAMMA**8 * phi[8] - phi[0], abs=1e-6)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_hovering_near_the_goal_loses_against_a_risky_finish(p):
    """At potential 0.9: stay there for ever, or finish and fail with probability 1 - p."""

    def stay(reward):
        return reward((0.9, 0.9), False, False) / (1 - GAMMA)

    def finish(reward):
        return p * reward((0.9, 1.0), True, True) + (1 - p) * reward((0.9, 0.0), False, True)

    assert finish(bare) > stay(bare)
    assert finish(shaped) - stay(shaped) == pytest.approx(finish(bare) - stay(bare), abs=1e-6)


def test_the_naive_difference_would_rather_hover():
    p, success, failure, stay = 0.2, 1.0 - 0.9, 0.0 - 0.9, naive((0.9, 0.9), False, False)
    assert p * success + (1 - p) * failure < stay  # success as the end of the potential alone
    with_bonus = p * naive((0.9, 1.0), True, True) + (1 - p) * naive((0.9, 0.0), False, True)
    assert with_bonus < stay


def test_an_episode_is_not_changed_by_being_judged():
    phi = np.linspace(0, 1, 5, dtype=np.float32)
    shaped_rewards(phi, True, True, GAMMA)
    assert np.array_equal(phi, np.linspace(0, 1, 5, dtype=np.float32))


# the semantic trap: 200 steps at most, progress of 1/40 a step, hovering begins at 0.9 ------------

TRAP, REACHED, LIMIT, FINISH = 0.99, 36, 200, 40
RISE = np.arange(FINISH + 1) / FINISH
HOVER = np.append(RISE[: REACHED + 1], np.full(LIMIT - REACHED, 0.9))
ATTEMPT = np.append(RISE[:-1], 0.0)  # fails at the last step, and all is lost


def paid(rewards):
    return float((TRAP ** np.arange(len(rewards)) * rewards).sum())


def test_paid_by_differences_hovering_beats_all_but_a_nearly_certain_finish():
    finish, hover, failure = (paid(np.diff(phi)) for phi in (RISE, HOVER, ATTEMPT))
    assert finish == pytest.approx(0.828, abs=5e-4) and hover == pytest.approx(0.759, abs=5e-4)
    assert (hover - failure) / (finish - failure) == pytest.approx(0.90, abs=5e-3)


def test_paid_by_shaping_an_attempt_that_works_one_time_in_five_beats_hovering():
    finish = paid(shaped_rewards(RISE, True, True, TRAP))
    failure = paid(shaped_rewards(ATTEMPT, False, True, TRAP))
    hover = paid(shaped_rewards(HOVER, False, False, TRAP))
    assert finish == pytest.approx(0.676, abs=5e-4) and hover == pytest.approx(0.121, abs=5e-4)
    attempt = 0.2 * finish + 0.8 * failure
    assert attempt == pytest.approx(0.135, abs=5e-4) and attempt > hover


def test_a_terminal_that_kept_its_potential_would_double_the_pay_for_finishing():
    kept = paid(TRAP * RISE[1:] - RISE[:-1]) + TRAP ** (FINISH - 1)
    assert kept == pytest.approx(1.345, abs=5e-4)


# the gate ---------------------------------------------------------------------------------------


def test_full_confidence_is_no_gate():
    phi = np.random.default_rng(4).random(9).astype(np.float32)
    gated = shaped_rewards(phi, True, True, GAMMA, np.ones(9, np.float32))
    assert np.array_equal(gated, shaped_rewards(phi, True, True, GAMMA))


def test_without_confidence_only_success_is_paid():
    phi = np.random.default_rng(5).random(9).astype(np.float32)
    low = np.full(9, SURE - 0.01, np.float32)
    low[-1] = 0
    assert np.array_equal(shaped_rewards(phi, False, False, GAMMA, low), np.zeros(8))
    gated = shaped_rewards(phi, True, False, GAMMA, low)
    assert np.array_equal(gated, [0] * 7 + [1])


def test_one_unsure_observation_closes_the_two_steps_beside_it_and_no_other():
    phi = np.linspace(0.1, 0.9, 9).astype(np.float32)
    sure = np.ones(9, np.float32)
    sure[4] = 0.2
    bare = shaped_rewards(phi, False, False, GAMMA)
    gated = shaped_rewards(phi, False, False, GAMMA, sure)
    assert (gated[[3, 4]] == 0).all() and np.array_equal(
        np.delete(gated, [3, 4]), bare[[*range(3), 5, 6, 7]]
    )


def test_what_was_lent_before_a_terminal_is_paid_back_though_its_picture_is_unsure():
    phi = np.linspace(0.1, 0.9, 5).astype(np.float32)
    sure = np.array([1, 1, 1, 1, 0], np.float32)
    assert shaped_rewards(phi, False, True, GAMMA, sure)[-1] == pytest.approx(-phi[3])


def test_a_gate_of_places_can_change_what_is_optimal_which_is_why_it_is_off_by_default():
    """Unsure at some states of the chain: F is dropped there, and no telescope is left."""

    def gated(phi, success, terminated):
        sure = np.array([phi[0] > 0.5, phi[1] > 0.5], np.float32)
        return float(shaped_rewards(np.array(phi), success, terminated, GAMMA, sure)[0])

    best = optimal(bare, np.zeros(STATES))[0].argmax(1)
    assert not (policies(gated) == best).all()


# the discount -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hz", [5.0, 20.0, 50.0])
def test_a_reward_is_worth_1_over_e_after_the_time_constant_at_every_control_rate(hz):
    assert discount(hz, 4.0) ** (4.0 * hz) == pytest.approx(1 / np.e)


@pytest.mark.parametrize("hz, seconds", [(0.0, 1.0), (20.0, 0.0), (20.0, np.inf), (-5.0, 1.0)])
def test_a_discount_that_cannot_be_is_refused(hz, seconds):
    with pytest.raises(ValueError, match="above 0"):
        discount(hz, seconds)
