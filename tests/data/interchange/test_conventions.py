"""Conventions are read from numbers: each is recognised, and what contradicts it is, too."""

from dataclasses import replace

import numpy as np
import pytest
from exchanged import ARM, arm_episode

from robostack.data.interchange.conventions import check_conventions

EPISODES = [arm_episode(seed, 40) for seed in range(6)]


def found(episodes, name):
    (convention,) = [c for c in check_conventions(episodes) if c.name == name]
    return convention


def test_what_is_as_declared_is_confirmed():
    told = {c.name: c for c in check_conventions(EPISODES)}
    assert told["gripper"].found == "+1 closes" and told["gripper"].sure > 0.95
    assert told["action"].found == "delta" and told["action"].sure > 0.9
    assert told["lengths"].found == "metres"
    assert "measured position" in told["frame of commanded translations"].found
    assert not any(c.contradicted for c in told.values())


def with_actions(change, **spec):
    return [
        replace(e, actions=change(e.actions).astype(np.float32), spec=replace(ARM, **spec))
        for e in EPISODES
    ]


def test_a_gripper_that_is_turned_round_is_a_contradiction():
    flipped = with_actions(lambda a: a * [1, 1, 1, -1])
    assert found(flipped, "gripper").found == "+1 opens"
    assert found(flipped, "gripper").contradicted
    honest = with_actions(lambda a: a * [1, 1, 1, -1], conventions={"gripper": "+1 opens"})
    assert not found(honest, "gripper").contradicted


def test_targets_are_told_from_changes():
    def targets(episode):
        aim = episode.states[1:, :3] + 0.5 * np.diff(episode.states[:, :3], axis=0)
        return np.concatenate([aim, episode.actions[:, 3:]], 1).astype(np.float32)

    spec = replace(ARM, action_names=("x", "y", "z", "gripper"), action_high=(2.0,) * 4)
    absolute = [replace(e, actions=targets(e), spec=spec) for e in EPISODES]
    assert found(absolute, "action").found == "absolute"
    assert found(absolute, "action").contradicted  # the spec says delta


@pytest.mark.parametrize("angle", [90, 180])
def test_a_frame_that_is_turned_is_found_with_its_angle(angle):
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    convention = found(with_actions(lambda a: a @ turn), "frame of commanded translations")
    assert f"{angle} degrees off" in convention.found and convention.contradicted


@pytest.mark.parametrize(
    ("scale", "names", "name", "wanted", "wrong"),
    [
        (1.0, ("joint0", "joint1", "joint2", "grip"), "angles", "radians", False),
        (57.3, ("joint0", "joint1", "joint2", "grip"), "angles", "degrees", True),
        (1000.0, ("hand_x", "hand_y", "hand_z", "grip"), "lengths", "millimetres", True),
    ],
)
def test_units_are_told_by_size(scale, names, name, wanted, wrong):
    spec = replace(ARM, state_names=names)
    episodes = [
        replace(e, states=(scale * (e.states + [0.5, 0, 0, 0])).astype("f4"), spec=spec)
        for e in EPISODES
    ]
    convention = found(episodes, name)
    assert convention.found == wanted and convention.contradicted == wrong


def test_a_quaternion_must_have_length_one_and_its_scalar_first():
    rng = np.random.default_rng(0)

    def turned(names, scale):
        rows = rng.normal(size=(41, 4))
        rows *= scale / np.linalg.norm(rows, axis=1, keepdims=True)
        spec = replace(ARM, state_names=names)
        return [replace(EPISODES[0], states=rows.astype("f4"), spec=spec)]

    assert not found(turned(("qw", "qx", "qy", "qz"), 1), "quaternion").contradicted
    assert found(turned(("qx", "qy", "qz", "qw"), 1), "quaternion").contradicted
    assert found(turned(("qw", "qx", "qy", "qz"), 3), "quaternion").sure == 0


def test_what_never_moved_is_not_judged():
    still = [
        replace(e, actions=np.zeros_like(e.actions), states=np.repeat(e.states[:1], len(e) + 1, 0))
        for e in EPISODES
    ]
    for name in ("gripper", "action"):
        assert found(still, name).found == "" and not found(still, name).contradicted


def test_few_votes_are_not_called_sure():
    assert found([arm_episode(0, 12)], "gripper").sure < 0.9
