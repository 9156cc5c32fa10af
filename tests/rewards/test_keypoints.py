"""Keypoint terms at points where they can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import LIFT, STACK, make_episode

from robostack.protocols import Reward
from robostack.rewards import keypoints
from robostack.rewards.keypoints import TERMS, KeypointAffordance, KeypointError, Term

REWARD = KeypointAffordance()
TABLE = (0.0, 0.0, 0.8)


def episode(task, **points):
    """A two-step episode, each keypoint given once a step or once for all."""
    wide = {n: np.broadcast_to(np.array(p, np.float32), (3, 3)).copy() for n, p in points.items()}
    return make_episode(0, steps=2, task=task, keypoints=wide)


def at_height(height, **others):
    points = {"gripper": (0, 0, 1), "object": (0, 0, 0.8 + height), "support": TABLE}
    return episode(LIFT, **(points | others))


def test_reach_is_one_at_the_object_and_falls_with_a_tenth_of_a_metre():
    far, near, there = (0.1, 0, 0.82), (0.05, 0, 0.82), (0, 0, 0.82)
    value = REWARD.terms(at_height(0.02, gripper=[far, near, there]))["reach"]
    assert np.allclose(value, [1 - np.tanh(1), 1 - np.tanh(0.5), 1], atol=1e-5)


@pytest.mark.parametrize(
    ("height", "value"), [(0.0, 0), (0.03, 0), (0.035, 0.25), (0.04, 0.5), (0.05, 1), (0.3, 1)]
)
def test_lift_is_linear_over_two_centimetres_above_where_cubes_are_dropped(height, value):
    assert np.allclose(REWARD.terms(at_height(height))["lift"], value, atol=1e-4)


def test_align_counts_the_horizontal_distance_only():
    objects = [(0, 0, 0.9), (0.1, 0, 0.9), (0, 0.1, 2.0)]
    points = {"gripper": (0, 0, 1), "support": TABLE, "target": (0, 0, 0.82)}
    value = REWARD.terms(episode(STACK, object=objects, **points))["align"]
    assert np.allclose(value, [1, 1 - np.tanh(1), 1 - np.tanh(1)], atol=1e-5)


def test_the_score_is_the_weighted_sum_and_one_when_all_is_done():
    done = at_height(0.06, gripper=(0, 0, 0.86))
    assert np.allclose(REWARD.score(done), 1, atol=1e-5)
    half = at_height(0.04, gripper=(0.1, 0, 0.84))
    assert np.allclose(REWARD.score(half), 0.4 * (1 - np.tanh(1)) + 0.6 * 0.5, atol=1e-4)


def test_align_counts_only_for_an_object_off_the_table():
    points = {"gripper": (0, 0, 0.82), "support": TABLE, "target": (0, 0, 0.82)}
    pushed = episode(STACK, object=(0, 0, 0.82), **points)
    assert np.allclose(REWARD.terms(pushed)["align"], 1)
    assert np.allclose(REWARD.score(pushed), 0.2, atol=1e-5)  # reach alone
    held = {**points, "gripper": (0, 0, 0.87)}
    assert np.allclose(REWARD.score(episode(STACK, object=(0, 0, 0.87), **held)), 1, atol=1e-5)


@pytest.mark.parametrize("task", list(TERMS))
def test_scores_and_terms_stay_in_range_wherever_things_are(task):
    rng = np.random.default_rng(0)
    names = ("gripper", "object", "support", "target")
    points = {n: rng.normal(0, 0.1, (400, 3)).astype(np.float32) for n in names}
    wild = make_episode(0, steps=399, task=task, keypoints=points)
    score = REWARD.score(wild)
    assert score.shape == (400,) and score.dtype == np.float32
    for value in (score, *REWARD.terms(wild).values()):
        assert (value >= 0).all() and (value <= 1).all() and np.ptp(value) > 0.1


@pytest.mark.parametrize(("name", "axis"), [("gripper", 0), ("object", 2)])
def test_coming_nearer_and_lifting_are_never_punished(name, axis):
    steps = np.linspace(0, 1, 50)
    path = np.zeros((50, 3), np.float32)
    path[:, 2] = 0.82
    path[:, axis] += (0.3 * (1 - steps)) if name == "gripper" else 0.06 * steps
    lifted = path if name == "object" else np.full((50, 3), (0, 0, 0.82), np.float32)
    points = {"gripper": path, "object": lifted, "support": np.full((50, 3), TABLE, np.float32)}
    assert (np.diff(REWARD.score(make_episode(0, steps=49, keypoints=points))) >= -1e-6).all()


def test_moving_the_whole_scene_changes_nothing():
    here = at_height(0.03, gripper=(0.05, 0.02, 0.9))
    moved = {n: p + np.float32([0.3, -0.2, 0.1]) for n, p in here.keypoints.items()}
    assert np.allclose(REWARD.score(here), REWARD.score(replace(here, keypoints=moved)), atol=1e-4)


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(KeypointError, match="'fold the shirt'") as caught:
        REWARD.score(episode("fold the shirt", object=TABLE))
    assert all(task in str(caught.value) for task in TERMS)


def test_a_missing_keypoint_is_named_and_the_others_listed():
    with pytest.raises(KeypointError, match="'gripper'.*has: object, support"):
        REWARD.score(episode(LIFT, object=TABLE, support=TABLE))


@pytest.mark.parametrize(
    "changed",
    [
        Term("reach", 0.5, keypoints.near("gripper", "object", 0.1)),
        Term("reach", 0.4, keypoints.near("gripper", "object", 0.2)),
        Term("reach", 0.4, keypoints.near("gripper", "support", 0.1)),
    ],
    ids=["weight", "scale", "keypoint"],
)
def test_the_fingerprint_changes_whenever_the_scores_do(monkeypatch, changed):
    here = at_height(0.03, gripper=(0.05, 0, 0.9))
    score, fingerprint = REWARD.score(here), REWARD.fingerprint()
    monkeypatch.setitem(TERMS, LIFT, (changed, TERMS[LIFT][1]))
    assert not np.allclose(REWARD.score(here), score)
    assert REWARD.fingerprint() != fingerprint


def test_it_is_a_reward_whose_fingerprint_is_the_same_every_time():
    assert isinstance(REWARD, Reward)
    assert REWARD.fingerprint() == KeypointAffordance().fingerprint()
