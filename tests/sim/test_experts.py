"""Scripted experts: their geometry on paper, and their success in the simulator."""

import contextlib
import functools
from types import SimpleNamespace

import numpy as np
import pytest

from robostack.rewards.keypoints import KeypointAffordance
from robostack.rollout import rollout
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env
from robostack.sim.experts import (
    DOWN,
    WRIST_STOP,
    on_beside,
    pointing_down,
    rotation_vector,
    turn_matrix,
    wrist,
    wrist_towards,
    yaw_matrix,
    yaw_of,
)
from robostack.types import CONTACTS

SCRIPTED = ("Lift", "Stack", "PickPlaceCan", "NutAssemblySquare", "Door")


@pytest.fixture(scope="module")
def blind():
    """Environments without cameras by task, each built once."""
    with contextlib.ExitStack() as opened:

        @functools.cache
        def get(task: str):
            env = make_env(EnvConfig(task=task, render="none"))
            opened.callback(env.close)
            return env

        yield get


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2, 3.1])
def test_the_rotation_vector_of_a_yaw_is_its_angle_about_z(angle):
    assert np.allclose(rotation_vector(yaw_matrix(angle)), [0, 0, angle])


def test_the_rotation_vector_of_the_inverse_is_the_opposite():
    turn = yaw_matrix(0.4) @ DOWN @ yaw_matrix(0.9) @ DOWN  # about z, once each way up
    tilted = DOWN @ turn @ np.array([[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]])
    assert np.allclose(rotation_vector(tilted.T), -rotation_vector(tilted))


def test_turning_about_an_axis_keeps_the_axis_and_turns_by_the_angle():
    axis = np.array([0.6, 0.0, 0.8])
    assert np.allclose(turn_matrix(axis, 0.7) @ axis, axis)
    assert np.allclose(rotation_vector(turn_matrix(axis, 0.7)), 0.7 * axis)


@pytest.mark.parametrize("now", [-0.7, 1.5, 5.4])
@pytest.mark.parametrize("wanted", np.linspace(-3, 3, 7))
def test_the_wrist_turns_to_any_yaw_without_passing_its_stop(now, wanted):
    gripper = yaw_matrix(now) @ DOWN
    for _ in range(7):
        turned = wrist_towards(gripper, wanted)
        step = rotation_vector(turned @ gripper.T)[2]
        assert WRIST_STOP - 1e-9 <= now + step <= WRIST_STOP + 2 * np.pi + 1e-9
        now, gripper = now + step, turned
    assert now == pytest.approx(wrist(wanted)) and wrist(yaw_of(gripper)) == pytest.approx(now)


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


@pytest.mark.slow
def test_the_noise_of_an_expert_is_fixed_by_the_seed_and_spares_the_gripper(blind):
    lift, actions = blind("Lift"), []
    for seed, noise in ((0, 0.2), (0, 0.2), (1, 0.2), (0, 0.0)):
        expert = ScriptedExpert(lift, noise)
        actions.append(rollout(lift, expert, 0, policy_seed=seed, max_steps=4).actions)
    assert np.array_equal(actions[0], actions[1]) and not np.array_equal(actions[0], actions[2])
    assert all(np.array_equal(a[:, 6], actions[3][:, 6]) for a in actions)
    assert all(np.abs(a).max() <= 1 for a in actions)


def test_keypoint_rewards_rise_as_the_expert_lifts(blind):
    lift = blind("Lift")
    episode = rollout(lift, ScriptedExpert(lift), 0)
    score = KeypointAffordance().score(episode)
    assert episode.success and episode.terminated and len(episode) < lift.horizon
    assert score[0] < 0.3 and score[-1] > 0.6 and score.argmax() > len(score) - 4


@pytest.mark.parametrize("angle", np.linspace(0, 6, 7))
def test_the_fingers_stay_out_of_the_gap_between_two_cubes(angle):
    gap = 0.06 * np.array([np.cos(angle), np.sin(angle), 0])
    cubes = {"a": (np.zeros(3), yaw_matrix(angle)), "b": (gap, np.eye(3))}
    scene = SimpleNamespace(body=cubes.get, gripper=lambda: (np.zeros(3), DOWN))
    position, rotation = on_beside(scene, "a", "b")()
    assert abs(rotation[:, 0] @ gap) < 1e-9  # along which the fingers open
    assert position @ gap < 0


def test_contacts_lie_on_two_faces_of_the_cube_that_its_neighbour_leaves_free(blind):
    stack, close = blind("Stack"), 0
    for seed in range(40):
        points = stack.reset(seed).keypoints
        first, second = (points[name] for name in CONTACTS)
        along, middle = second - first, (first + second) / 2
        assert np.linalg.norm(along) == pytest.approx(0.04, abs=1e-4)
        assert np.linalg.norm(middle - points["object"]) < 0.01
        gap = (points["target"] - points["object"])[:2]
        if np.linalg.norm(gap) <= 0.1:  # the fingers open across it rather than along it
            close += 1
            assert abs(along[:2] @ gap) < 0.8 * np.linalg.norm(along) * np.linalg.norm(gap)
            assert (middle - points["object"])[:2] @ gap < 0  # and the hand keeps away from it
    assert close > 5


@pytest.mark.parametrize("task", SCRIPTED)
def test_the_expert_succeeds_in_good_time_with_legal_actions(task, blind):
    env = blind(task)
    episode = rollout(env, ScriptedExpert(env), 0)
    assert episode.success and len(episode) < 0.9 * env.horizon
    assert np.abs(episode.actions).max() <= 1


@pytest.mark.parametrize("task", ["NutAssemblySquare", "Door"])
def test_the_expert_gets_the_better_of_its_noise(task, blind):
    assert rollout(blind(task), ScriptedExpert(blind(task), 0.15), 1).success


def test_a_can_that_is_lost_on_the_way_is_fetched_again(blind):
    env = blind("PickPlaceCan")
    step, expert = env.reset(0), ScriptedExpert(env)
    joint = env.model.joint("Can_joint0").qposadr[0]
    start, lost = env.data.qpos[joint : joint + 7].copy(), 0
    while not (step.terminated or step.truncated):
        step = env.step(expert.act(step.observation)[0])
        if not lost and step.keypoints["object"][1] > 0:
            env.data.qpos[joint : joint + 7] = start
            lost += 1
    assert lost and step.success


@pytest.mark.slow
@pytest.mark.parametrize("task", SCRIPTED)
def test_the_expert_succeeds_from_twenty_of_twenty_starts(task, blind):
    env = blind(task)
    expert = ScriptedExpert(env)
    assert [seed for seed in range(20) if not rollout(env, expert, seed).success] == []
