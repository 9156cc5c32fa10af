"""What critics over chunks are taught, worked out by hand."""

import numpy as np
import pytest
import torch
from fakes import SPEC, make_episode

from robostack.data.chunks import ChunkData
from robostack.learn.rl.rlpd import Chunks, target
from robostack.learn.rl.traces import Acting
from robostack.policy.edits import EditConfig
from robostack.rollout import STOPPED

REWARDS, GAMMA = np.array([1.0, 2.0, 4.0, 8.0, 16.0], np.float32), 0.5


def chunks(**ended):
    """Of 3 actions, of an episode of 5."""
    episode = make_episode(0, steps=5, **ended)
    own = Chunks(None, ChunkData(SPEC, 4, [episode]), EditConfig(execute=3), Acting(execute=3), 0)
    return episode, own._of(0, REWARDS, GAMMA)


@pytest.mark.parametrize(
    "ended", [dict(terminated=True, success=True), dict(terminated=False, label=STOPPED)]
)
def test_chunks_of_an_episode_that_is_over_begin_at_every_step(ended):
    episode, rows = chunks(**ended)
    assert rows["start"].tolist() == [0, 1, 2, 3, 4] and rows["stop"].tolist() == [3, 4, 5, 5, 5]
    assert rows["reward"].tolist() == [1 + 1 + 1, 2 + 2 + 2, 4 + 4 + 4, 8 + 8, 16]
    assert rows["discount"].tolist() == [GAMMA**3, GAMMA**3, 0, 0, 0]  # nothing comes after an end
    a = episode.actions
    assert np.array_equal(rows["chunk"][1], a[1:4])
    assert np.array_equal(rows["chunk"][3], a[[3, 4, 4]])
    assert rows["good"].tolist() == [bool(episode.success)] * 5


def test_chunks_that_a_time_limit_cuts_are_left_out_and_what_was_seen_last_is_worth_something():
    _, rows = chunks(terminated=False, success=False)
    assert rows["start"].tolist() == [0, 1, 2] and rows["stop"].tolist() == [3, 4, 5]
    assert rows["reward"].tolist() == [3, 6, 12]
    assert rows["discount"].tolist() == [GAMMA**3] * 3
    episode = make_episode(0, steps=2, terminated=False)
    own = Chunks(None, ChunkData(SPEC, 4, [episode]), EditConfig(execute=3), Acting(execute=3), 0)
    assert len(own._of(0, REWARDS[:2], GAMMA)["reward"]) == 0  # shorter than a chunk


def test_the_target_is_what_was_earned_and_the_least_of_the_members_asked_of_the_best_chunk():
    best = torch.tensor([[[7.0]], [[9.0]]])

    class Says:
        def best(self, seen, proposals):
            assert seen == "next seen" and proposals == "next proposals"
            return best

        def judge(self, seen, chunk):
            assert seen == "next seen" and chunk is best
            return torch.tensor([[2.0, -1.0], [3.0, 5.0], [-9.0, -9.0], [1.0, 4.0]])

    batch = {
        "next_seen": "next seen",
        "next_proposals": "next proposals",
        "reward": torch.tensor([10.0, 20.0]),
        "discount": torch.tensor([0.5, 0.0]),
    }
    assert target(Says(), batch, np.array([1, 3])).tolist() == [10 + 0.5 * 1, 20]
    assert target(Says(), batch, np.array([0, 1])).tolist() == [10 + 0.5 * 2, 20]
