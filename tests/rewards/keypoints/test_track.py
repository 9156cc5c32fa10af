"""Tracks of balls whose way is known, and of a cube in the simulator."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import scenes
from scenes import BLUE, CAMERAS, RED

from robostack.rewards.keypoints.follow import Followed, TrackConfig, flow
from robostack.rewards.keypoints.look import Look, colours
from robostack.rewards.keypoints.track import Tracker
from robostack.rewards.keypoints.tracks import KeypointError

PATH = scenes.lift()
EPISODE = scenes.episode(PATH, noise=0)
START = {"object": scenes.starts(PATH[0])}


def away(points, path=PATH):
    """Distances f64[T+1] [m] of the tracked object from its true way."""
    return np.linalg.norm(points["object"] - path, axis=1)


def hidden(episode, steps, views=tuple(CAMERAS)):
    """The episode with the views' pictures emptied at some steps."""
    images = {name: frames.copy() for name, frames in episode.images.items()}
    for view in views:
        images[view][steps] = scenes.picture(view, [])
    return replace(episode, images=images)


def test_a_ball_in_three_noisy_views_is_followed_within_a_few_millimetres():
    points, confidence = Tracker(CAMERAS, START)(EPISODE)
    assert points["object"].dtype == confidence.dtype == np.float32
    assert points["object"].shape == PATH.shape and confidence.shape == (len(PATH),)
    assert (confidence > 0.5).all() and (confidence <= 1).all()
    assert np.median(away(points)) < 0.001 and away(points).max() < 0.004


def test_the_same_episode_has_the_same_tracks():
    first, second = Tracker(CAMERAS, START)(EPISODE), Tracker(CAMERAS, START)(EPISODE)
    assert (first[0]["object"] == second[0]["object"]).all() and (first[1] == second[1]).all()


def test_with_reference_pictures_the_point_is_searched_for_wherever_it_begins():
    reference = {view: frames[0] for view, frames in EPISODE.images.items()}
    path = scenes.lift(start=(-0.1, 0.05, 0.0))
    points, confidence = Tracker(CAMERAS, START, reference)(scenes.episode(path))
    assert (confidence > 0).all() and away(points, path).max() < 0.004


def test_less_light_moves_nothing():
    dark = {name: (0.6 * frames).astype(np.uint8) for name, frames in EPISODE.images.items()}
    reference = {view: frames[0] for view, frames in EPISODE.images.items()}
    points, confidence = Tracker(CAMERAS, START, reference)(replace(EPISODE, images=dark))
    assert (confidence > 0).all() and away(points).max() < 0.003


def test_colours_do_not_depend_on_brightness_but_for_what_is_nearly_black():
    bright = np.full((4, 4, 3), (200, 60, 40), np.uint8)
    assert np.allclose(colours(bright), colours(bright // 2), atol=0.03)
    assert np.allclose(colours(np.zeros((2, 2, 3), np.uint8)), 1 / 3)


@pytest.mark.parametrize("colour", [RED, BLUE], ids=["of the same colour", "of another"])
def test_a_second_ball_is_not_followed(colour):
    other = [(np.array([0.15, -0.2, 0.0]), colour)]
    points, confidence = Tracker(CAMERAS, START)(scenes.episode(PATH, others=other))
    assert (confidence > 0).all() and away(points).max() < 0.004


def test_passing_in_front_of_a_ball_of_the_same_colour_makes_it_less_sure():
    behind = [(np.array([-0.15, 0.1, 0.0]), RED)]  # in two of three pictures
    points, confidence = Tracker(CAMERAS, START)(scenes.episode(PATH, others=behind))
    assert away(points).max() < 0.03
    assert confidence[away(points) > 0.008].max() < 0.6 and confidence[:10].min() > 0.85


def test_a_short_gap_is_bridged_by_a_straight_line_and_counts_nothing():
    gap = np.arange(6, 10)
    points, confidence = Tracker(CAMERAS, START)(hidden(EPISODE, gap))
    assert (confidence[gap] == 0).all() and (np.delete(confidence, gap) > 0).all()
    line = np.linspace(points["object"][5], points["object"][10], 6)
    assert np.allclose(points["object"][5:11], line, atol=1e-6)


def test_in_a_long_gap_the_point_stands_still_where_it_was_last_seen():
    gap = np.arange(6, 13)
    points, confidence = Tracker(CAMERAS, START)(hidden(EPISODE, gap))
    assert (confidence[gap] == 0).all() and confidence[-1] > 0
    assert (points["object"][gap] == points["object"][5]).all()
    assert away(points)[13:].max() < 0.003  # found again


def test_a_point_that_shows_up_later_stands_where_it_is_first_seen():
    late = hidden(EPISODE, np.arange(3))
    reference = {view: frames[0] for view, frames in EPISODE.images.items()}
    points, confidence = Tracker(CAMERAS, START, reference)(late)
    assert (confidence[:3] == 0).all() and (points["object"][:3] == points["object"][3]).all()


def test_two_views_of_three_are_enough_and_one_is_not():
    three = Tracker(CAMERAS, START)(EPISODE)
    two = Tracker(CAMERAS, START)(hidden(EPISODE, np.arange(5, 8), ("left",)))
    one = Tracker(CAMERAS, START)(hidden(EPISODE, np.arange(5, 8), ("left", "front")))
    assert (two[1] > 0).all() and away(two[0]).max() < 0.004
    assert (one[1][5:8] == 0).all() and (three[1][5:8] > 0).all()


def test_a_camera_that_looks_elsewhere_is_outvoted_and_makes_less_sure():
    turned = scenes.looking((0.9, 0.0, 0.3), focal=125.0)  # not what the pictures were made with
    right, wrong = Tracker(CAMERAS, START), Tracker(CAMERAS | {"front": turned}, START)
    (_, sure), (points, unsure) = right(EPISODE), wrong(EPISODE)
    assert unsure.mean() < sure.mean() and np.median(away(points)) < 0.03


def test_the_gripper_is_where_the_state_says():
    points, _ = Tracker(CAMERAS, START | {"gripper": scenes.starts(PATH[0])})(EPISODE)
    assert (points["gripper"] == EPISODE.states[:, :3]).all()


def test_a_camera_that_only_shows_what_the_state_says_is_not_asked_for():
    views = ("left", "right")
    shown = scenes.starts(PATH[0], views)
    tracker = Tracker(CAMERAS, {"object": shown, "gripper": scenes.starts(PATH[0])})
    points, _ = tracker(scenes.episode(PATH, views=views))
    assert away(points).max() < 0.01


def test_fixed_points_stay_and_resting_points_stay_where_another_began():
    tracker = Tracker(CAMERAS, START, fixed={"table": (0, 0, -0.1)}, rests={"support": "object"})
    points, _ = tracker(EPISODE)
    assert (points["table"] == np.float32([0, 0, -0.1])).all() and points["table"].shape == (21, 3)
    assert (points["support"] == points["object"][0]).all()


def test_a_tracker_is_all_in_its_settings_and_arrays():
    reference = {view: frames[0] for view, frames in EPISODE.images.items()}
    tracker = Tracker(CAMERAS, START, reference, {"table": (0, 0, 0)}, {"support": "object"})
    again = Tracker.restore(json.loads(json.dumps(tracker.settings())), tracker.arrays())
    other = scenes.episode(scenes.lift(start=(-0.1, 0.05, 0.0)))
    for episode in (EPISODE, other):
        (first, sure), (second, as_sure) = tracker(episode), again(episode)
        assert first.keys() == second.keys() and (sure == as_sure).all()
        assert all((first[name] == second[name]).all() for name in first)


def test_saved_looks_that_do_not_fit_are_refused():
    reference = {view: frames[0] for view, frames in EPISODE.images.items()}
    tracker = Tracker(CAMERAS, START, reference)
    arrays = tracker.arrays() | {"look.object.left": np.zeros((9, 9, 3), np.uint8)}
    with pytest.raises(KeypointError, match="'object' in 'left'.*uint8.21, 21, 3."):
        Tracker.restore(tracker.settings(), arrays)


def moving(shifts, size=80):
    """Frames of a smooth grey pattern that is shifted as a whole by f64[T+1, 2] pixels."""
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.uniform(0, 255, (size, size)).astype(np.float32), (0, 0), 2)
    grey = (grey - grey.min()) / np.ptp(grey) * 255
    frames = []
    for u, v in shifts:
        frame = cv2.warpAffine(grey, np.float32([[1, 0, u], [0, 1, v]]), (size, size))
        frames.append(np.repeat(np.round(frame)[..., None], 3, 2).astype(np.uint8))
    return np.stack(frames)


SHIFTS = np.linspace([0, 0], [9.3, -6.7], 16)


def test_a_point_without_a_colour_of_its_own_goes_with_its_pattern():
    frames, start = moving(SHIFTS), np.array([37.3, 41.6])
    look = Look.of(frames[0], start, 5)
    assert look.tint is None
    view = Followed(look, start, TrackConfig())
    pixels, likeness = (np.array(column) for column in zip(*map(view.see, frames)))
    assert np.abs(pixels - start - SHIFTS).max() < 0.3 and (likeness > 0.8).all()


def test_a_look_is_found_where_it_was_taken_to_a_part_of_a_pixel():
    frame = moving([(0, 0)])[0]
    for pixel in ([30.0, 40.0], [30.4, 39.7]):
        found, likeness = Look.of(frame, np.array(pixel), 5).find(frame)
        assert np.abs(found - pixel).max() < 0.15 and likeness > 0.99


def test_flow_is_the_shift_and_not_a_number_where_the_way_back_leads_elsewhere():
    before, after = (cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in moving([(0, 0), (2.5, -1.5)]))
    pixels = np.float32([(30, 30), (50, 40), (40, 50)])
    assert np.allclose(flow(before, after, pixels, 11) - pixels, (2.5, -1.5), atol=0.1)
    other = np.random.default_rng(1).integers(0, 255, before.shape).astype(np.uint8)
    assert np.isnan(flow(before, other, pixels, 11)).all()


def frozen(episode):
    stop = {name: np.repeat(f[:1], len(f), 0) for name, f in episode.images.items()}
    return replace(episode, images=episode.images | {"left": stop["left"]})


def black(episode):
    return replace(episode, images=episode.images | {"left": 0 * episode.images["left"]})


def without_left(episode):
    views = ("right", "front")
    images = {view: episode.images[view] for view in views}
    return replace(episode, images=images, spec=scenes.spec_of(views))


def small(episode):
    images = {name: frames[:, ::2, ::2].copy() for name, frames in episode.images.items()}
    return replace(
        episode,
        images=images,
        spec=replace(episode.spec, cameras=dict.fromkeys(CAMERAS, (48, 48))),
    )


def gone(episode):
    return hidden(episode, slice(None))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (frozen, "'left' is frozen"),
        (black, "'left' shows nothing"),
        (without_left, "no camera 'left'; it has: right, front"),
        (small, "96 x 96.*got a picture of 48 x 48"),
    ],
)
def test_an_episode_without_usable_pictures_is_one_clear_error(damage, why):
    with pytest.raises(KeypointError, match=why):
        Tracker(CAMERAS, START)(damage(EPISODE))


def test_a_point_that_no_two_views_see_is_an_error_that_names_it():
    reference = {view: frames[0] for view, frames in EPISODE.images.items()}
    moving = hidden(EPISODE, slice(None))
    for t, frames in enumerate(zip(*moving.images.values())):  # not frozen
        for frame in frames:
            frame[0, t] = 255
    with pytest.raises(KeypointError, match="'object' was never seen.*calibration"):
        Tracker(CAMERAS, START, reference)(moving)


def test_a_robot_at_rest_may_have_pictures_that_are_all_the_same():
    still = scenes.episode(np.repeat(PATH[:1], 4, 0))
    points, confidence = Tracker(CAMERAS, START)(still)
    assert (confidence == confidence[0]).all() and away(points, PATH[:1]).max() < 1e-3


PLAIN = {view: np.full((96, 96, 3), 128, np.uint8) for view in CAMERAS}
HALF = {"left": EPISODE.images["left"][0]}
LEFT, RIGHT = START["object"]["left"], START["object"]["right"]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: Tracker(CAMERAS, {"object": {"left": LEFT}}), "two or more views, got left"),
        (lambda: Tracker(CAMERAS, {"object": {"top": (3, 3)}}), "'top'; known cameras: left"),
        (
            lambda: Tracker(CAMERAS, {"object": {"left": (96, 3), "right": RIGHT}}),
            "outside of the picture of 'left', 96 x 96",
        ),
        (
            lambda: Tracker(CAMERAS, {"object": {"left": (float("nan"), 3), "right": RIGHT}}),
            "outside",
        ),
        (lambda: Tracker(CAMERAS, START, PLAIN), "'object' in 'left': nothing to follow"),
        (lambda: Tracker(CAMERAS, START, HALF), "no reference picture of 'right'"),
        (lambda: Tracker(CAMERAS, START, rests={"support": "cup"}), "'cup'.*followed"),
    ],
)
def test_a_tracker_that_cannot_work_is_refused_when_it_is_made(made, why):
    with pytest.raises(KeypointError, match=why):
        made()


@pytest.mark.parametrize("change", [{"radius": 0}, {"keep": 1.0}, {"gate": -1}, {"fill": -1}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        TrackConfig(**change)


def test_the_simulators_cube_is_followed_to_millimetres_while_it_is_grasped_and_lifted():
    from robostack.rollout import rollout
    from robostack.sim.env import EnvConfig, ScriptedExpert, make_env

    views = ("agentview", "frontview", "sideview")
    env = make_env(EnvConfig(task="Lift", cameras=dict.fromkeys(views, 128)))
    seen = rollout(env, ScriptedExpert(env), 0)
    cameras = {}
    for view in views:
        eye = env.renderer.ids[view]
        focal = 64 / np.tan(0.5 * np.deg2rad(env.renderer.model.cam_fovy[eye]))
        turn = env.renderer.data.cam_xmat[eye].reshape(3, 3) @ np.diag([1, -1, -1])
        place = env.renderer.data.cam_xpos[eye]
        lens = [[focal, 0, 63.5], [0, focal, 63.5], [0, 0, 1]]
        cameras[view] = scenes.Camera(lens, turn, place, 128, 128)
    env.close()
    truth = seen.keypoints["object"]
    starts = {view: tuple(camera.project(truth[0])) for view, camera in cameras.items()}
    points, confidence = Tracker(cameras, {"object": starts})(seen)
    assert (confidence > 0).mean() > 0.9
    assert np.median(away(points, truth)) < 0.005 and away(points, truth).max() < 0.02
    assert points["object"][-1, 2] - points["object"][0, 2] > 0.005  # it was lifted
    assert (points["gripper"] == seen.keypoints["gripper"]).all()
