"""The progress estimator on held-out squares: time, rewinding, wrong instructions, failures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import backwards, square_episode

from robostack.protocols import Explains
from robostack.rewards.learned import RewardData
from robostack.rewards.lessons import FAILED, NEAR, RIGHT, WRONG, Lessons, nearest, spread_over
from robostack.rewards.progress import DONE, claimed

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
    assert max(ends) < min(0.9, *(progress.score(square_episode(s))[-1] for s in HELD_OUT))


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


def test_it_explains_itself_by_three_estimates_and_a_confidence(progress):
    scores = progress.explain(square_episode(100))
    assert isinstance(progress, Explains)
    assert set(scores.terms) == {"incremental", "forward", "backward", "done"}
    for values in (scores.potential, scores.confidence, *scores.terms.values()):
        assert values.shape == (17,) and values.min() >= 0 and values.max() <= 1


def test_a_frozen_scene_makes_no_progress(progress):
    episode = square_episode(100)
    still = {name: np.repeat(frames[5:6], 17, 0) for name, frames in episode.images.items()}
    score = progress.score(
        replace(episode, images=still, states=np.repeat(episode.states[5:6], 17, 0))
    )
    assert score.max() - score.min() < 0.1


def test_hops_nearly_undo_themselves(progress):
    """Antisymmetry in the sense of the algebra: there and back again ends where it began."""
    from robostack.rewards.hops import land

    seen, states = progress.look(square_episode(100))
    asked = progress.instruction([square_episode(100).task]).expand(len(seen), -1)
    vectors = progress.eye(seen, states, asked)[None, ::3]
    logits = progress.logits(vectors[:, 0], vectors[:, -1], vectors)
    hops = (logits.softmax(-1) * progress.bins).sum(-1)[0]
    start = (1 + hops[-1].clamp(max=0))[:, None]
    there_and_back = land(land(start, hops), hops.T)
    assert float((there_and_back - start).abs().mean().detach()) < 0.12


@pytest.mark.parametrize(("way", "least", "most"), [(0.1, 0.0, 0.2), (0.6, DONE, 1.0)])
def test_nobody_is_done_who_does_not_look_half_way_there(progress, monkeypatch, way, least, most):
    """The success head may be sure of itself; the estimates have a say, too."""

    def estimates(start, before, vectors, goal):
        one = torch.ones(len(vectors))
        return way * one, way * one, 0 * one, one

    monkeypatch.setattr(progress, "_estimates", estimates)
    potential = progress.score(square_episode(0))
    assert (potential >= least).all() and (potential <= most).all()


@pytest.fixture(scope="module")
def lessons(progress):
    return Lessons(
        RewardData([square_episode(s, success=s % 4 != 3) for s in range(8)], progress.eye),
        frames=5,
        wrong=0.3,
        failed=0.3,
    )


def test_lessons_say_what_is_known_of_each_kind(lessons):
    lesson = lessons.draw(64, np.random.default_rng(0))
    assert lesson.rows.shape == lesson.progress.shape == lesson.done.shape == (64, 7)
    own = lesson.progress[:, 2:]
    assert np.isfinite(own[lesson.kinds == RIGHT]).all()
    assert (own[lesson.kinds == WRONG] == 0).all()
    assert np.isnan(own[lesson.kinds == FAILED]).all()
    assert (lesson.progress[:, 1] == 1).all()
    start, right = lesson.progress[:, 0], lesson.kinds != WRONG
    assert (start[~right] == 0).all()
    assert np.array_equal(start[right], np.nan_to_num(lessons.progress[lesson.rows[right, 0]]))
    assert 0.1 < (start[right] > 0).mean() < 0.6  # some begin on the way
    assert set(lesson.kinds) == {RIGHT, WRONG, FAILED}
    tasks = np.array(lesson.tasks)
    right = square_episode(0).task
    assert (tasks[lesson.kinds == WRONG] != right).all()
    assert (tasks[lesson.kinds != WRONG] == right).all()


def test_lessons_show_small_steps_and_things_that_stand_still(lessons):
    """Some hops of a lesson are from a frame to itself, seen in another way."""
    lesson = lessons.draw(64, np.random.default_rng(1))
    rows, known = lesson.rows[:, 2:], lesson.progress[:, 2:]
    right = (lesson.kinds == RIGHT).nonzero()[0]
    twice = [i for i in right if len(set(rows[i])) < rows.shape[1]]
    assert 0.1 < len(twice) / len(right) < 0.5
    for i in twice:
        assert np.ptp(rows[i]) <= 2 * NEAR
        same = rows[i][:, None] == rows[i]
        assert (np.abs(known[i][:, None] - known[i])[same] == 0).all()
        assert (known[i] == lessons.progress[rows[i]]).all()


def dropped(seed):
    """Grasped, dropped, and grasped once more: usually squares are grasped once."""
    episode = square_episode(seed, steps=40)
    actions = episode.actions.copy()
    actions[10:16, 2] = 1  # closed until step 15
    actions[30:, 2] = 1
    return replace(episode, actions=actions)


def test_what_was_dropped_counts_for_no_more_than_a_new_grasp(progress):
    usual = [square_episode(s, steps=20) for s in range(4)]
    for episode in usual:
        episode.actions[10:, 2] = 1
    data = RewardData([*usual, dropped(4)], progress.eye)
    found = Lessons(data, frames=4, wrong=0.0, failed=0.0)
    own = data.rows(4)
    undone = np.flatnonzero(found.most[own] < 1)
    assert undone[0] == 16 + 3 and found.most[own][undone] == pytest.approx(0.5)
    assert np.isnan(found.progress[own][undone]).all()
    lesson = found.draw(400, np.random.default_rng(0))
    shown = np.isin(lesson.rows, own.start + undone)
    assert shown[:, 2:].any() and not shown[:, :2].any()
    assert lesson.most[shown] == pytest.approx(0.5) and (lesson.most[~shown] == 1).all()
    assert (lesson.done[shown] == 0).all()


def test_tries_that_were_cut_off_before_anybody_was_done_are_no_failures(progress):
    whole = [square_episode(s, success=s % 2 == 0) for s in range(4)]
    short = [square_episode(s, steps=4, success=False) for s in range(4, 8)]
    alone = replace(square_episode(8, steps=4, success=False), group="")  # it ended by itself
    lessons = Lessons(RewardData([*whole, *short, alone], progress.eye), 3, 0.3, 0.3)
    assert lessons.lost.tolist() == [1, 3, 8]
    only = Lessons(RewardData([whole[0], whole[2], *short], progress.eye), 3, 0.3, 0.3)
    assert only.lost.tolist() == [2, 3, 4, 5]  # better than nothing


def test_frames_that_are_done_belong_to_the_end_of_successes(lessons):
    done = np.flatnonzero(lessons.done == 1)
    data = lessons.data
    ends = data.first[data.success] + data.length[data.success] - 1
    assert np.array_equal(done, ends)


def test_the_most_alike_instruction_comes_first():
    tasks = ("open the door", "lift the red cube", "lift the green cube")
    assert nearest("lift the green cube", tasks, 2) == [2, 1]
    assert nearest("lift the blue cube please", tasks, 3)[-1] == 0


def test_what_is_kept_takes_turns_over_the_instructions():
    assert spread_over(["a", "a", "a", "b", "c"], 3) == [0, 3, 4]
    assert spread_over(["a", "b"], 5) == [0, 1]


def test_a_task_counts_as_complete_from_even_odds_on_and_hardly_at_one_in_ten():
    claim = claimed(np.array([0.0, 0.1, 0.49, 0.5, 0.9, 1.0]))
    assert claim[3] == pytest.approx(DONE) and claim[2] < DONE < claim[4]
    assert claim[1] < 0.03 and claim[0] < 1e-6 and claim[5] > 1 - 1e-6
    assert (np.diff(claim) > 0).all()


def played(episode, order):
    """The observations `order` of an episode, each seen anew through the camera's noise."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 30, (len(order), 32, 32, 3), dtype=np.uint8)
    frames = episode.images["top"][order]
    return replace(
        episode,
        images={"top": np.where(frames > 200, frames, noise)},
        states=(0.01 * random.normal(size=(len(order), 1))).astype(np.float32),
        actions=np.resize(episode.actions, (len(order) - 1, 3)),
        stamps=np.arange(len(order)) / 10.0,
    )


@pytest.mark.parametrize("seed", HELD_OUT)
def test_what_is_undone_is_no_longer_worth_what_it_was(progress, seed):
    """To the end, and all the way back: done, and then not."""
    there_and_back = [*range(17), *range(15, -1, -1)]
    score = progress.score(played(square_episode(seed), there_and_back))
    assert score[16] > 0.6 and score[-1] < score[16] - 0.4
    assert order(score[:17]) > 0.8 and order(score[16:]) < -0.8


@pytest.mark.parametrize("seed", HELD_OUT)
@pytest.mark.parametrize("at", [4, 8, 12])
def test_what_is_held_still_for_long_makes_no_progress_meanwhile(progress, seed, at):
    still = [*range(at), *([at] * 60)]
    score = progress.score(played(square_episode(seed), still))[at + 4 :]
    assert np.ptp(score) < 0.15 and abs(score[-10:].mean() - score[:10].mean()) < 0.05
