"""The progress estimator on held-out squares: time, rewinding, wrong instructions, failures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import backwards, square_episode

from robostack.rewards.progress import BINS, CEILING, CLIP, _clip, two_hot

HELD_OUT = range(100, 104)


def order(values):
    """Spearman's correlation with time."""
    rank = np.argsort(np.argsort(values))
    return np.corrcoef(rank, np.arange(len(values)))[0, 1]


@pytest.mark.parametrize("seed", HELD_OUT)
def test_progress_rises_over_an_unseen_success(progress, seed):
    score = progress.score(square_episode(seed))
    assert order(score) > 0.8 and score[-1] - score[0] > 0.4


@pytest.mark.parametrize("seed", HELD_OUT)
def test_a_reversed_video_is_seen_as_a_loss(progress, seed):
    assert order(progress.score(backwards(square_episode(seed)))) < -0.8


@pytest.mark.parametrize("seed", HELD_OUT)
def test_the_same_video_is_less_progress_under_another_instruction(progress, seed):
    episode = square_episode(seed)
    other = progress.score(replace(episode, task="open the door"))
    assert other[-1] < progress.score(episode)[-1] - 0.3 and other.mean() < 0.3


def test_a_failure_does_not_count_as_complete(progress):
    ends = [progress.score(square_episode(s, success=False))[-1] for s in HELD_OUT]
    assert max(ends) < min(CEILING, *(progress.score(square_episode(s))[-1] for s in HELD_OUT))


def test_the_score_of_an_observation_does_not_depend_on_what_comes_after(progress):
    episode = square_episode(100)
    cut = replace(
        episode,
        images={"top": episode.images["top"][:9]},
        states=episode.states[:9],
        actions=episode.actions[:8],
        stamps=episode.stamps[:9],
    )
    assert np.allclose(progress.score(cut), progress.score(episode)[:9], atol=1e-5)


def test_the_mean_of_a_two_hot_distribution_is_its_value():
    value = torch.tensor([[0.0, 0.05, 0.123], [0.5, 0.99, 1.0]])
    spread = two_hot(value)
    assert spread.shape == (2, 3, BINS)
    assert torch.allclose(spread @ torch.linspace(0, 1, BINS), value, atol=1e-6)
    assert torch.allclose(spread.sum(-1), torch.ones(2, 3)) and (spread >= 0).all()
    assert ((spread > 0).sum(-1) <= 2).all()


def test_a_two_hot_value_outside_the_range_is_the_end_of_it():
    assert torch.equal(two_hot(torch.tensor([-3.0, 7.0])), two_hot(torch.tensor([0.0, 1.0])))


@pytest.mark.parametrize("length", [2, 3, 13, 80])
def test_clips_stay_inside_the_episode_and_only_rewound_ones_go_back(length):
    random = np.random.default_rng(0)
    for rewound in (False, True):
        clips = np.stack([_clip(length, random, rewound) for _ in range(200)])
        assert clips.shape == (200, CLIP) and clips.min() >= 0 and clips.max() < length
        assert bool((np.diff(clips, axis=1) < 0).any()) == rewound
