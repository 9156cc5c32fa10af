"""Perturbations: what they change, what they leave alone, and that they can be repeated."""

import numpy as np
import pytest
from played import content, draw, play, same

from robostack.sim.env import EnvConfig, make_env
from robostack.sim.perturb import AXES, VISUAL
from robostack.testing import check_env

SMALL = {"agentview": 32, "robot0_eye_in_hand": 32}


def env_with(**axes):
    return make_env(EnvConfig(cameras=SMALL, perturb=axes))


def images(step):
    return np.concatenate([image.ravel() for image in step.observation.images.values()]).astype(int)


@pytest.mark.parametrize("axis", ["light", "delay"])
def test_a_perturbed_environment_is_still_one(axis):
    env = env_with(**{axis: 2})
    check_env(env)
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("axis", AXES)
def test_every_axis_keeps_the_contract_of_an_environment(axis):
    env = env_with(**{axis: 1})
    check_env(env)
    env.close()


@pytest.mark.parametrize("axis", VISUAL)
def test_a_visual_axis_changes_the_picture_and_not_the_physics(axis, lift):
    env, plain = env_with(**{axis: 1}), make_env(EnvConfig(cameras=SMALL))
    looks = []
    for seed in (0, 1):
        one, other = env.reset(seed), plain.reset(seed)
        assert np.array_equal(env.data.qpos, plain.data.qpos)
        assert np.array_equal(one.observation.state, other.observation.state)
        assert np.abs(images(one) - images(other)).mean() > 1
        looks.append(images(one) - images(other))
    assert not np.array_equal(*looks)  # drawn anew for every episode
    for action in draw(3):
        env.step(action)
        plain.step(action)
    assert np.array_equal(env.data.qpos, plain.data.qpos)
    env.close()
    plain.close()


def test_a_strength_of_zero_is_no_perturbation():
    env, plain = env_with(**dict.fromkeys(AXES, 0)), make_env(EnvConfig(cameras=SMALL))
    for each in (env, plain):
        each.reset(5)
    assert same(play(env, draw(3)), play(plain, draw(3)))
    env.close()
    plain.close()


def test_the_seed_brings_back_the_looks_whatever_came_between():
    env = env_with(camera=1, light=1, texture=1, distractors=1, sensor=1, epsilon=1)
    first = content(env.reset(3))
    env.reset(4)
    assert same(content(env.reset(3)), first)
    kept = env.snapshot()
    after = play(env, draw(3))
    env.reset(9)
    env.restore(kept)
    assert same(play(env, draw(3)), after)
    env.close()


def test_epsilon_noise_stays_within_its_ball_and_stands_still():
    env, plain = env_with(epsilon=0.5), make_env(EnvConfig(cameras=SMALL))
    one, other = images(env.reset(0)), images(plain.reset(0))
    assert np.abs(one - other).max() == 4
    inside = (other > 8) & (other < 247)
    again = images(env.step(np.zeros(7))) - images(plain.step(np.zeros(7)))
    still = inside & (np.abs(again) == 4)
    assert np.array_equal((one - other)[still], again[still]) and still.mean() > 0.3
    env.close()
    plain.close()


def test_hidden_distractors_do_not_move_the_near_plane_of_the_cameras():
    env, plain = env_with(distractors=0.05), make_env(EnvConfig(cameras=SMALL))  # none is placed
    assert np.array_equal(images(env.reset(0)), images(plain.reset(0)))
    env.close()
    plain.close()


def test_a_delay_of_two_executes_what_was_asked_two_steps_ago():
    late, plain = env_with(delay=2), make_env(EnvConfig(cameras=SMALL))
    actions = draw(6)
    late.reset(0)
    plain.reset(0)
    for action in actions:
        late.step(action)
    for action in [np.zeros(7), np.zeros(7), *actions[:4]]:
        plain.step(action)
    assert np.array_equal(late.data.qpos, plain.data.qpos)
    late.close()
    plain.close()


def test_a_wider_placement_spreads_the_objects_and_keeps_their_middle():
    spread = []
    for strength in (0, 2):
        env = make_env(EnvConfig(render="none", perturb={"placement": strength}))
        spread.append(np.array([env.reset(seed).keypoints["object"][:2] for seed in range(30)]))
        env.close()
    assert 2 < spread[1].std() / spread[0].std() < 4
    assert np.allclose(spread[0].mean(0), spread[1].mean(0), atol=0.04)


@pytest.mark.parametrize(
    ("task", "axes", "words"),
    [
        ("Lift", {"lihgt": 1}, "did you mean light"),
        ("Lift", {"light": -1}, "expected 0 to 20"),
        ("Lift", {"delay": 0.5}, "whole number of control steps"),
        ("PickPlaceCan", {"placement": 1}, "no room to spread"),
    ],
)
def test_an_impossible_perturbation_is_refused(task, axes, words):
    with pytest.raises(ValueError, match=words):
        make_env(EnvConfig(task=task, cameras={"agentview": 8}, perturb=axes))


def test_pictures_that_are_not_made_cannot_be_perturbed():
    with pytest.raises(ValueError, match="render=none"):
        EnvConfig(render="none", perturb={"light": 1})
