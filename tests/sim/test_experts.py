"""Scripted experts: their geometry on paper, and their success in the simulator."""

import numpy as np
import pytest

from robostack.rewards.keypoints import KeypointAffordance
from robostack.rollout import rollout
from robostack.sim.env import ScriptedExpert
from robostack.sim.experts import pointing_down, rotation_vector, yaw_matrix

DOWN = np.diag([1.0, -1.0, -1.0])


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2, 3.1])
def test_the_rotation_vector_of_a_yaw_is_its_angle_about_z(angle):
    assert np.allclose(rotation_vector(yaw_matrix(angle)), [0, 0, angle])


def test_the_rotation_vector_of_the_inverse_is_the_opposite():
    turn = yaw_matrix(0.4) @ DOWN @ yaw_matrix(0.9) @ DOWN  # about z, once each way up
    tilted = DOWN @ turn @ np.array([[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]])
    assert np.allclose(rotation_vector(tilted.T), -rotation_vector(tilted))


@pytest.mark.parametrize("now", [0.0, 1.0, -2.5])
@pytest.mark.parametrize("wanted", np.linspace(-3, 3, 7))
def test_pointing_down_fits_the_cube_with_the_least_turn(now, wanted):
    gripper = yaw_matrix(now) @ DOWN
    found = pointing_down(gripper, yaw_matrix(wanted))
    assert np.allclose(found[:, 2], [0, 0, -1])
    turn = rotation_vector(found @ gripper.T)[2]
    assert abs(turn) <= np.pi / 4 + 1e-9
    quarters = (now + turn - wanted) / (np.pi / 2)
    assert quarters == pytest.approx(round(quarters), abs=1e-9)


def test_the_noise_of_an_expert_is_fixed_by_the_seed_and_spares_the_gripper(lift):
    actions = []
    for seed, noise in ((0, 0.2), (0, 0.2), (1, 0.2), (0, 0.0)):
        expert = ScriptedExpert(lift, noise)
        actions.append(rollout(lift, expert, 0, policy_seed=seed, max_steps=4).actions)
    assert np.array_equal(actions[0], actions[1]) and not np.array_equal(actions[0], actions[2])
    assert all(np.array_equal(a[:, 6], actions[3][:, 6]) for a in actions)
    assert all(np.abs(a).max() <= 1 for a in actions)


def test_keypoint_rewards_rise_as_the_expert_lifts(lift):
    episode = rollout(lift, ScriptedExpert(lift), 0)
    score = KeypointAffordance().score(episode)
    assert episode.success and episode.terminated and len(episode) < lift.horizon
    assert score[0] < 0.3 and score[-1] > 0.6 and score.argmax() > len(score) - 4


@pytest.mark.slow
@pytest.mark.parametrize("task", ["lift", "stack"])
def test_the_expert_succeeds_from_twenty_of_twenty_starts(task, request):
    env = request.getfixturevalue(task)
    expert = ScriptedExpert(env)
    assert [seed for seed in range(20) if not rollout(env, expert, seed).success] == []
