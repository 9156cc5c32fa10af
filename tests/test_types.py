"""The nouns refuse bad content at birth and say which field it was."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import SPEC, make_episode

from robostack.types import (
    Clip,
    Observation,
    Preference,
    RobotSpec,
    ShapeError,
    SpecMismatch,
    main_camera,
)

IMAGE, STATE = np.zeros((4, 6, 3), np.uint8), np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("states", np.zeros((5, 3), np.float32)),  # T instead of T + 1
        ("states", np.zeros((6, 2), np.float32)),
        ("states", np.zeros((6, 3), np.float64)),
        ("stamps", np.zeros(6, np.float32)),
        ("actions", np.zeros((5, 4), np.float32)),
        ("actions", np.zeros((0, 3), np.float32)),
        ("actions", [[0.0, 0.0, 0.0]] * 5),
        ("images", {"side": np.zeros((6, 16, 16, 3), np.uint8)}),
        ("images", {"top": np.zeros((6, 16, 15, 3), np.uint8)}),
        ("images", {"top": np.zeros((6, 16, 16, 3), np.float32)}),
        ("keypoints", {"object": np.zeros((5, 3), np.float32)}),
        ("source", "teleop"),
    ],
)
def test_a_misshaped_episode_field_is_refused_by_name(episode, field, value):
    with pytest.raises(ValueError, match=f"Episode.{field}"):
        replace(episode, **{field: value})


@pytest.mark.parametrize("field", ["states", "actions"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused_with_its_step(episode, field, bad):
    array = getattr(episode, field).copy()
    array[3, 1] = bad
    with pytest.raises(ValueError, match=f"Episode.{field}: not finite at step 3"):
        replace(episode, **{field: array})


def test_the_image_and_keypoint_errors_name_the_camera_and_the_point(episode):
    with pytest.raises(ShapeError, match=r"images\[top\]: expected uint8\[6, 16, 16, 3\]"):
        replace(episode, images={"top": np.zeros((6, 8, 8, 3), np.uint8)})
    with pytest.raises(ShapeError, match=r"keypoints\[object\]"):
        replace(episode, keypoints={"object": np.zeros((6, 2), np.float32)})


@pytest.mark.parametrize(
    ("field", "images", "state"),
    [
        ("state", {}, np.zeros(3)),
        ("state", {}, np.zeros((1, 3), np.float32)),
        (r"images\[top\]", {"top": IMAGE.astype(np.float32)}, STATE),
        (r"images\[top\]", {"top": IMAGE[..., :1]}, STATE),
        (r"images\[top\]", {"top": IMAGE.transpose(2, 0, 1)}, STATE),
    ],
)
def test_a_misshaped_observation_is_refused_by_name(field, images, state):
    with pytest.raises(ShapeError, match=f"Observation.{field}"):
        Observation(images, state, "task", 0.0)


def test_observation_t_of_an_episode_holds_row_t_of_every_column(episode):
    seen = episode.observation(2)
    assert np.array_equal(seen.images["top"], episode.images["top"][2])
    assert np.array_equal(seen.state, episode.states[2])
    assert (seen.task, seen.stamp) == (episode.task, 0.2)


def test_the_length_of_an_episode_is_its_number_of_actions():
    assert len(make_episode(0, steps=7)) == 7


def test_a_spec_survives_json_exactly():
    spec = replace(SPEC, action_low=(-0.1, -1 / 3, -1e-9), conventions={"frame": "bäse"})
    assert RobotSpec.from_json(spec.to_json()) == spec


def test_a_spec_of_another_version_is_refused():
    with pytest.raises(SpecMismatch, match="conventions"):
        RobotSpec.from_json(SPEC.to_json().replace('"conventions"', '"custom"'))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("control_hz", 20.0),
        ("conventions", {"gripper": "+1 opens"}),
        ("cameras", {"top": (32, 32)}),
        ("state_names", ("speed", "x", "opening")),
        ("action_high", (1.0, 1.0, 2.0)),
    ],
)
def test_require_same_names_the_field_that_differs_and_no_other(field, value):
    with pytest.raises(SpecMismatch) as caught:
        SPEC.require_same(replace(SPEC, **{field: value}), "the data", "the robot")
    named = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert named == [field]
    assert "the data" in str(caught.value) and "the robot" in str(caught.value)


def test_a_spec_fits_itself():
    SPEC.require_same(replace(SPEC), "one", "the other")


def test_bounds_must_be_as_many_as_the_names_and_in_order():
    with pytest.raises(ShapeError, match="3 action names, 2 lower"):
        replace(SPEC, action_low=(-1.0, -1.0))
    with pytest.raises(ShapeError, match="'dy'"):
        replace(SPEC, action_low=(-1.0, 1.0, -1.0))


def test_clip_limits_to_the_bounds_and_leaves_the_inside_alone():
    actions = np.array([[-3.0, 0.25, 9.0]])
    assert np.array_equal(SPEC.clip(actions), np.array([[-1, 0.25, 1]], np.float32))


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_a_preference_without_a_positive_margin_is_refused(margin):
    with pytest.raises(ValueError, match="margin"):
        Preference(Clip("0", 0, 1), Clip("1", 0, 1), margin, {}, "g")


def test_a_preference_of_a_chunk_over_itself_is_refused():
    with pytest.raises(ValueError, match="both"):
        Preference(Clip("0", 3, 5), Clip("0", 3, 5), 1.0, {}, "g")


@pytest.mark.parametrize("margin", [0.1, -0.1, float("nan")])
def test_a_tie_has_no_margin(margin):
    with pytest.raises(ValueError, match="expected 0"):
        Preference(Clip("0", 0, 1), Clip("1", 0, 1), margin, {}, "g", tie=True)
    Preference(Clip("0", 0, 1), Clip("1", 0, 1), 0.0, {}, "g", tie=True)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 2), (3, 1)])
def test_a_clip_without_actions_is_refused(start, stop):
    with pytest.raises(ValueError, match="start < stop"):
        Clip("0", start, stop)


@pytest.mark.parametrize(
    ("cameras", "shown"),
    [
        (("robot0_eye_in_hand", "tableview"), "tableview"),
        (("frontview", "agentview"), "agentview"),
        (("left_wrist", "gripperPOV"), "gripperPOV"),
        ((), ""),
    ],
)
def test_people_are_shown_a_camera_that_is_not_on_the_arm(cameras, shown):
    assert main_camera(cameras) == shown
