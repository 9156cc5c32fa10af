"""The success detector on held-out squares."""

import copy
from dataclasses import replace

import numpy as np
import torch
from fakes import backwards, square_episode

from robostack.rewards.calibrate import platt
from robostack.rewards.success import SuccessConfig, vote

HELD_OUT = range(100, 106)


def test_the_end_of_a_success_is_told_from_its_start_and_from_a_failure(success):
    won = np.stack([success.score(square_episode(s)) for s in HELD_OUT])
    lost = np.stack([success.score(square_episode(s, success=False)) for s in HELD_OUT])
    assert won[:, -1].min() > 0.8
    assert won[:, :8].max() < 0.2 and lost.max() < 0.2


def test_a_done_scene_is_no_success_of_another_task(success):
    for seed in HELD_OUT:
        other = replace(square_episode(seed), task="open the door")
        assert success.score(other)[-1] < 0.2


def test_an_observation_is_judged_alone(success):
    episode = square_episode(100)
    reversed_scores = success.score(backwards(episode))
    assert np.allclose(reversed_scores, success.score(episode)[::-1], atol=1e-5)


def test_the_watcher_stops_where_the_episode_says(success):
    for seed in HELD_OUT:
        episode, watcher = square_episode(seed), success.watch()
        seen = [watcher.see(episode.observation(t)) for t in range(len(episode) + 1)]
        assert seen == success.stops(episode).tolist()


def test_it_needs_the_votes_of_several_frames(success):
    episode = square_episode(100)
    first = int(np.argmax(success.score(episode) >= float(success.threshold)))
    assert not success.stops(episode)[: first + success.config.votes - 1].any()


def test_failures_do_not_stop(success):
    assert not any(success.stops(square_episode(s, success=False)).any() for s in HELD_OUT)


def line(*levels):
    return np.array([0.1, *levels], np.float32)


def threshold(success, precision, lines, since):
    judge = copy.deepcopy(success)
    judge.config = SuccessConfig(precision=precision, votes=1, window=1)
    return judge._threshold(lines, np.array(since))


def test_the_threshold_is_the_least_at_which_enough_stops_are_right(success):
    """Five episodes stop rightly, at .95, .9, .7, .6 and .55; one is no success and reaches .8."""
    lines = [line(x, x) for x in (0.95, 0.9, 0.8, 0.7, 0.6, 0.55)]
    since = [1, 1, 3, 1, 1, 1]
    assert threshold(success, 0.8, lines, since) == np.float32(0.55)
    assert threshold(success, 0.95, lines, since) == np.float32(0.9)


def test_a_stop_before_success_is_a_wrong_one(success):
    early, late = line(0.6, 0.9), line(0.3, 0.7)
    assert threshold(success, 1.0, [early, late], [2, 2]) == np.float32(0.7)


def test_without_any_precise_threshold_nothing_is_beyond_it(success):
    assert threshold(success, 0.9, [line(0.9), line(0.8)], [2, 2]) > 0.9


def test_a_vote_is_the_level_that_enough_of_the_last_frames_reach():
    said = np.array([0.9, 0.2, 0.8, 0.7, 0.1], np.float32)
    assert vote(said, 2, 3).tolist() == np.float32([0, 0.2, 0.8, 0.7, 0.7]).tolist()
    assert vote(said, 1, 1).tolist() == said.tolist()


def test_calibration_undoes_a_change_of_the_logits():
    random = torch.Generator().manual_seed(0)
    true = 2 * torch.randn(20_000, generator=random)
    label = torch.bernoulli(true.sigmoid(), generator=random)
    slope, offset = platt(3 * true - 1, label)
    assert abs(float(slope) - 1 / 3) < 0.02 and abs(float(offset) - 1 / 3) < 0.06
