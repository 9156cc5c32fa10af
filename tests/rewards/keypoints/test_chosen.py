"""Points that were shown in the pictures of one success are known in other episodes, and live."""

import base64
import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import scenes
from fakes import STACK
from scenes import BLUE, CAMERAS, PATH_OF_LIFT, TABLE

from robostack import footage
from robostack.data.store import Store
from robostack.footage import WatchConfig
from robostack.learn.reward import RewardConfig
from robostack.protocols import Follower, Follows
from robostack.rewards.follow import follower
from robostack.rewards.keypoints import KeypointAffordance
from robostack.rewards.keypoints.camera import write_cameras
from robostack.rewards.keypoints.chosen import KeypointsConfig, from_pictures
from robostack.rewards.keypoints.tracks import KeypointError
from robostack.rewards.load import load_reward
from robostack.stages import train_reward

SHOWN = scenes.lifted(seed=3)
LEFT = WatchConfig(camera="left")
ELSEWHERE = scenes.lifted(scenes.lift(start=(-0.1, 0.05, 0.0)), seed=4)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("calibration") / "cameras.json"
    write_cameras(path, CAMERAS)
    return str(path)


@pytest.fixture(scope="module")
def reward(file):
    return from_pictures(KeypointsConfig(file), [SHOWN, ELSEWHERE])


def test_a_demonstrations_own_keypoints_show_what_to_follow_and_what_stands(reward):
    points, confidence = reward.source(ELSEWHERE)
    away = np.linalg.norm(points["object"] - ELSEWHERE.keypoints["object"], axis=1)
    assert away.max() < 0.004 and (confidence > 0.5).all()
    assert (points["support"] == np.float32(TABLE)).all()
    assert reward.learned_from == {SHOWN.task: [SHOWN.seed]}


def test_it_judges_as_the_true_points_do(reward):
    true = KeypointAffordance()
    for episode in (SHOWN, ELSEWHERE):
        seen, known = reward.score(episode), true.score(episode)
        assert known[-1] == 1 and seen[-1] == 1 and np.abs(seen - known).max() < 0.1
    with pytest.raises(KeypointError, match="no keypoint program"):
        reward.score(replace(SHOWN, task=STACK))


def test_a_point_that_lies_elsewhere_in_another_episode_is_followed_though_it_never_moves(file):
    def with_target(episode, at):
        still = np.broadcast_to(np.float32(at), (len(episode) + 1, 3))
        keypoints = {**episode.keypoints, "target": still}
        return replace(episode, keypoints=keypoints, task=STACK)

    at, there = (0.1, -0.2, 0.0), (-0.15, -0.1, 0.0)
    shown = with_target(scenes.lifted(seed=0, others=[(np.array(at), BLUE)]), at)
    other = with_target(scenes.lifted(seed=1, others=[(np.array(there), BLUE)]), there)
    alone = from_pictures(KeypointsConfig(file), [shown])
    assert "target" in alone.source.fixed and "target" not in alone.source.starts
    both = from_pictures(KeypointsConfig(file), [shown, other])
    points, _ = both.source(other)
    assert np.linalg.norm(points["target"] - there, axis=1).max() < 0.005


def test_pixels_and_places_by_hand_do_as_well(file, reward):
    bare = replace(SHOWN, keypoints={})
    by_hand = KeypointsConfig(
        file, {"object": scenes.starts(PATH_OF_LIFT[0])}, {"support": tuple(TABLE)}
    )
    again = from_pictures(by_hand, [bare])
    assert np.array_equal(again.score(ELSEWHERE), reward.score(ELSEWHERE))


def test_it_is_trained_by_its_command_saved_and_loaded(file, tmp_path, reward):
    store = Store.create(tmp_path / "store", SHOWN.spec)
    for episode in (SHOWN, ELSEWHERE):
        store.append(episode)
    config = RewardConfig(kind="keypoints", keypoints=KeypointsConfig(file))
    train_reward(config, [tmp_path / "store"], tmp_path / "run")
    found = load_reward(tmp_path / "run")
    assert found.learned_from == {SHOWN.task: [SHOWN.seed]}
    assert np.array_equal(found.score(ELSEWHERE), reward.score(ELSEWHERE))


@pytest.mark.parametrize("gap", [(), range(4, 6), range(6, 13), range(17, 21)])
def test_what_is_said_of_the_newest_is_what_would_be_said_of_the_whole_try(reward, gap):
    images = {view: frames.copy() for view, frames in ELSEWHERE.images.items()}
    for view, frames in images.items():
        frames[list(gap)] = scenes.picture(view, [])
    episode = replace(ELSEWHERE, images=images)
    judge = follower(reward, episode.spec)
    assert isinstance(reward, Follows) and isinstance(judge, Follower)
    seen = [episode.observation(t) for t in range(len(episode) + 1)]
    for t, look in enumerate(seen):
        said = judge.see([look], episode.actions[max(t - 1, 0) : t])
        if t == 0:
            continue
        until = replace(
            episode,
            images={view: frames[: t + 1] for view, frames in images.items()},
            keypoints={name: track[: t + 1] for name, track in episode.keypoints.items()},
            states=episode.states[: t + 1],
            actions=episode.actions[:t],
            stamps=episode.stamps[: t + 1],
        )
        whole = reward.explain(until)
        assert said.potential == whole.potential[-1:]
        assert said.confidence == whole.confidence[-1:]
        assert said.terms == {name: term[-1:] for name, term in whole.terms.items()}


def test_a_film_shows_the_points_that_are_judged_by(file, reward, tmp_path):
    def filmed(name, episode, calibrated=True):
        store = Store.create(tmp_path / name, episode.spec)
        store.append(episode)
        if calibrated:
            shutil.copy(file, store.path)
        page = footage.write({"seen": reward}, store.path, tmp_path / f"{name}.html", LEFT)
        film = re.search(r"data:video/webm;base64,([^\"]+)", page.read_text())[1]
        (tmp_path / f"{name}.webm").write_bytes(base64.b64decode(film))
        return cv2.VideoCapture(str(tmp_path / f"{name}.webm")).read()[1]

    bare = replace(ELSEWHERE, keypoints={})
    shown, unmarked = filmed("bare", bare), filmed("unmarked", bare, calibrated=False)
    assert np.array_equal(shown, filmed("carried", ELSEWHERE))
    assert (shown != unmarked).any(-1).sum() > 20  # pixels


def test_a_try_that_goes_on_needs_pictures(reward):
    with pytest.raises(KeypointError, match="carries no keypoints.*keypoints.cameras"):
        KeypointAffordance(SHOWN.spec).follow()
    first = SHOWN.observation(0)
    dark = replace(first, images=first.images | {"left": 0 * first.images["left"]})
    with pytest.raises(KeypointError, match="'left' shows nothing"):
        reward.follow().see([dark], SHOWN.actions[:0])


@pytest.mark.parametrize(
    ("damage", "config", "why"),
    [
        (lambda e: replace(e, success=False), {}, "no success to choose points from"),
        (lambda e: scenes.lifted(views=("left",)), {}, "two or more cameras.*got left"),
        (
            lambda e: replace(e, keypoints={"object": e.keypoints["object"]}),
            {},
            "needs object, support; nobody showed support",
        ),
        (lambda e: e, {"points": {"object": {"left": (40, 40)}}}, "nobody showed support"),
        (
            lambda e: e,
            {"points": {"object": {"left": (40, 40)}}, "places": {"support": tuple(TABLE)}},
            "two or more views, got left",
        ),
        (
            lambda e: replace(e, keypoints=e.keypoints | {"object": e.keypoints["object"] + 9}),
            {},
            "'object' has to be seen in two views or more; left: it is outside",
        ),
        (lambda e: replace(e, task="sing"), {}, "no keypoint program for 'sing'"),
    ],
)
def test_what_cannot_be_followed_is_one_clear_error(file, damage, config, why):
    with pytest.raises(KeypointError, match=why):
        from_pictures(KeypointsConfig(file, **config), [damage(SHOWN)])


def test_points_in_pictures_need_a_calibration():
    with pytest.raises(ValueError, match="calibration file"):
        KeypointsConfig(places={"support": (0, 0, 0)})
