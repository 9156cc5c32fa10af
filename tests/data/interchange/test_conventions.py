"""Conventions are read from numbers: each is recognised, and what contradicts it is, too."""

from dataclasses import replace

import numpy as np
import pytest
from exchanged import ARM, arm_episode

from robostack.data.interchange.conventions import check_conventions, unchecked

EPISODES = [arm_episode(seed, 40) for seed in range(6)]


def found(episodes, name):
    (convention,) = [c for c in check_conventions(episodes) if c.name == name]
    return convention


def test_what_is_as_declared_is_confirmed():
    told = {c.name: c for c in check_conventions(EPISODES)}
    assert told["gripper"].found == "+1 closes" and told["gripper"].sure > 0.95
    assert told["action"].found == "delta" and told["action"].sure > 0.9
    assert told["lengths"].found == "metres"
    assert "measured position" in told["frame"].found
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
    assert "targets" in found(absolute, "frame").evidence and not found(absolute, "frame").found


@pytest.mark.parametrize("angle", [90, 180])
def test_a_frame_that_is_turned_is_found_with_its_angle(angle):
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    convention = found(with_actions(lambda a: a @ turn), "frame")
    assert f"{angle} degrees off" in convention.found and convention.contradicted


JOINTS, HAND = ("joint0", "joint1", "joint2", "grip"), ("hand_x", "hand_y", "hand_z", "grip")


@pytest.mark.parametrize(
    ("scale", "names", "name", "usual", "wanted"),
    [
        (1.0, JOINTS, "angles", "radians", "radians"),
        (57.3, JOINTS, "angles", "radians", "degrees"),
        (1.0, HAND, "lengths", "metres", "metres"),
        (1000.0, HAND, "lengths", "metres", "millimetres"),
    ],
)
def test_units_are_told_by_size_and_only_what_was_declared_is_contradicted(
    scale, names, name, usual, wanted
):
    states = [(scale * (e.states + [0.5, 0, 0, 0])).astype("f4") for e in EPISODES]
    for declared in ({}, {name: usual}, {name: wanted}):
        spec = replace(ARM, state_names=names, conventions=declared)
        told = found([replace(e, states=s, spec=spec) for e, s in zip(EPISODES, states)], name)
        odd = wanted != usual
        assert told.found == wanted and told.declared == declared.get(name, "")
        assert told.contradicted == (odd and declared.get(name) == usual)
        assert told.unusual == (odd and not declared)
        assert ("nobody said" in str(told)) == told.unusual
        assert ("CONTRADICTION" in str(told)) == told.contradicted


def test_a_quaternion_must_have_length_one_and_its_scalar_first():
    rng = np.random.default_rng(0)

    def turned(names, scale, **declared):
        rows = rng.normal(size=(41, 4))
        rows *= scale / np.linalg.norm(rows, axis=1, keepdims=True)
        spec = replace(ARM, state_names=names, conventions=declared)
        return [replace(EPISODES[0], states=rows.astype("f4"), spec=spec)]

    first, last = ("qw", "qx", "qy", "qz"), ("qx", "qy", "qz", "qw")
    assert not found(turned(first, 1, quaternion="wxyz"), "quaternion").contradicted
    assert found(turned(last, 1, quaternion="wxyz"), "quaternion").contradicted
    assert found(turned(last, 1), "quaternion").unusual
    assert found(turned(first, 3), "quaternion").sure == 0


def test_what_nothing_is_named_for_is_told_to_be_unchecked():
    spec = replace(ARM, state_names=tuple("abcd"), action_names=tuple("efgh"))
    told = check_conventions([replace(e, spec=spec) for e in EPISODES])
    every = ["gripper", "action", "frame", "angles", "lengths", "quaternion"]
    assert told == [] and unchecked(told) == every
    assert unchecked(check_conventions(EPISODES)) == ["angles", "quaternion"]


def test_what_never_moved_is_not_judged():
    still = [
        replace(e, actions=np.zeros_like(e.actions), states=np.repeat(e.states[:1], len(e) + 1, 0))
        for e in EPISODES
    ]
    for name in ("gripper", "action"):
        assert found(still, name).found == "" and not found(still, name).contradicted


def test_few_votes_are_not_called_sure():
    assert found([arm_episode(0, 12)], "gripper").sure < 0.9
    few = [arm_episode(seed, 12) for seed in range(3)]
    assert not found(few, "frame").found and "give or take" in found(few, "frame").evidence
