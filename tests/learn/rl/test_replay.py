"""What actions earned, and how it is told what could still have come."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import SPEC, make_episode

from robostack.learn import rl
from robostack.learn.rl.replay import Replay
from robostack.protocols import Scores
from robostack.rollout import STOPPED, over

VALUE = 5.0  # what the critic here expects everywhere


class Sure:
    def values(self, frames, states):
        return np.full(len(states), VALUE, np.float32)


def flat(episode, potential=0.5):
    return Scores(*np.full((2, len(episode) + 1), potential, np.float32))


def last_target(episode):
    """What is said to have been to come at the last action of an episode."""
    replay = Replay(SPEC, 4, rl.RLConfig())
    replay.add(episode, flat(episode))
    _, returns = replay.targets(Sure())
    return float(returns[replay.data.row(0, len(episode) - 1)]), replay.gamma


@pytest.mark.parametrize(
    "how",
    [
        {"terminated": True, "success": True},
        {"terminated": False, "success": True},  # judged at the time limit
        {"terminated": False, "success": True, "label": STOPPED},
    ],
)
def test_a_success_is_paid_once_and_nothing_comes_after_it(how):
    """A critic that is taught otherwise expects more and more: 1 + gamma V at every success."""
    episode = make_episode(0, steps=6, **how)
    target, _ = last_target(episode)
    assert over(episode) and target == pytest.approx(1 - 0.5)  # the potential is paid back


def test_a_failure_ends_where_it_was_stopped_and_goes_on_past_a_time_limit():
    failed = make_episode(0, steps=6, success=False, terminated=False)
    target, gamma = last_target(failed)
    assert target == pytest.approx(gamma * 0.5 - 0.5 + gamma * VALUE)
    stopped = replace(failed, label=STOPPED)
    assert last_target(stopped)[0] == pytest.approx(-0.5)


def test_of_a_stop_that_nobody_judged_the_end_is_not_known():
    unknown = make_episode(0, steps=6, success=None, terminated=False, label=STOPPED)
    target, gamma = last_target(unknown)
    assert not over(unknown) and target == pytest.approx(gamma * 0.5 - 0.5 + gamma * VALUE)
