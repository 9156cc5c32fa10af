"""What a reward says of a try that grows is what it says of the same try once it is over."""

import threading

import numpy as np
import pytest
from fakes import SPEC, make_episode

from robostack.real.scoring import Growing


class Mean:
    """The mean brightness of the last picture, as progress."""

    name = "mean"
    asked = 0

    def score(self, episode):
        self.asked += 1
        return (episode.images["top"].mean((1, 2, 3)) / 255).astype(np.float32)

    def fingerprint(self):
        return "mean"


class Watching(Mean):
    """Says that a try is done once it has seen three observations that were bright."""

    def watch(self):
        return Watcher()


class Watcher:
    def __init__(self):
        self.seen = []

    def see(self, observation):
        self.seen.append(observation.images["top"].mean() > 128)
        return sum(self.seen[-3:]) >= 2


def grown(growing, episode, every=1):
    """Shows an episode; the verdicts after every so many observations."""
    found = []
    for t in range(len(episode) + 1):
        growing.see(episode.observation(t), episode.actions[t - 1] if t else None)
        if t % every == 0:
            found.append(growing.judge())
    return found


def bright(*levels):
    frames = np.stack([np.full((16, 16, 3), level, np.uint8) for level in levels])
    return make_episode(0, len(levels) - 1, images={"top": frames})


def test_progress_is_the_score_of_the_episode_so_far():
    episode = make_episode(3, steps=9)
    first, *verdicts = grown(Growing(Mean(), SPEC, 0.95, 100), episode)
    assert first is None and [v.steps for v in verdicts] == list(range(1, 10))
    np.testing.assert_array_equal([v.progress for v in verdicts], Mean().score(episode)[1:])


def test_without_a_watcher_success_is_now_and_termination_is_for_ever():
    verdicts = grown(Growing(Mean(), SPEC, 0.5, 100), bright(0, 10, 200, 10, 10))[1:]
    assert [v.success for v in verdicts] == [False, True, False, False]
    assert [v.termination for v in verdicts] == [False, True, True, True]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_watcher_sees_every_observation_once_however_often_it_is_asked(every):
    growing = Growing(Watching(), SPEC, 0.5, 100)
    grown(growing, bright(0, 200, 200, 0, 0, 0, 0), every)
    assert len(growing._watcher.seen) == 7 - 6 % every
    assert growing.judge().termination and not growing.judge().success


def test_another_try_begins_with_nothing():
    growing = Growing(Watching(), SPEC, 0.5, 100)
    assert grown(growing, bright(0, 200, 200))[-1].termination
    growing.begin()
    assert len(growing) == 0 and growing.judge() is None and not growing.begun
    assert not grown(growing, bright(0, 0, 0))[-1].termination


def test_a_try_that_begins_while_the_last_is_judged_is_not_judged_by_it():
    growing = Growing(Mean(), SPEC, 0.5, 100)
    grown(growing, bright(0, 0, 200), every=99)
    scoring, begun = threading.Event(), threading.Event()
    score = growing.reward.score

    def slowly(episode):
        scoring.set()
        begun.wait(10)
        return score(episode)

    growing.reward.score = slowly
    judge = threading.Thread(target=growing.judge)
    judge.start()
    scoring.wait(10)
    growing.begin()
    begun.set()
    judge.join()
    assert not grown(growing, bright(0, 10, 10))[-1].termination


def test_actions_and_observations_have_to_alternate():
    growing, episode = Growing(Mean(), SPEC, 0.5, 2), make_episode(0)
    with pytest.raises(ValueError, match="every observation but the first"):
        growing.see(episode.observation(0), episode.actions[0])
    growing.see(episode.observation(0), None)
    with pytest.raises(ValueError, match="every observation but the first"):
        growing.see(episode.observation(1), None)


def test_what_was_seen_while_a_reward_failed_is_not_lost():
    class Unwell(Mean):
        def score(self, episode):
            if self.asked < 1:
                self.asked += 1
                raise RuntimeError("no memory")
            return super().score(episode)

    episode, growing = bright(0, 10, 20, 30), Growing(Unwell(), SPEC, 0.5, 100)
    for t in range(3):
        growing.see(episode.observation(t), episode.actions[t - 1] if t else None)
    with pytest.raises(RuntimeError, match="no memory"):
        growing.judge()
    growing.see(episode.observation(3), episode.actions[2])
    assert growing.judge().progress == Mean().score(episode)[-1]
    assert growing.judge() == growing.judge() and len(growing) == 3
