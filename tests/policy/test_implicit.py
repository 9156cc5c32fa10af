"""What a policy learned from preferences says of chunks."""

import copy

import numpy as np
import pytest
import torch
from fakes import SPEC, make_episode, tiny_vla

from robostack.learn import bc
from robostack.learn.run import Run
from robostack.policy.chunking import ChunkRunner
from robostack.policy.implicit import LATE, ImplicitReward
from robostack.protocols import ChunkReward
from robostack.types import SpecMismatch

SEEN = make_episode(0).observation(0)
CHUNKS = np.random.default_rng(0).uniform(-1, 1, (5, 4, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A policy, and itself after it has cloned one chunk at one observation."""
    start = tiny_vla()
    still = make_episode(0, steps=4)
    config = bc.BCConfig(steps=60, batch=8, lr=3e-3, warmup=1, average=0.0)
    run = Run(tmp_path_factory.mktemp("taught") / "bc", "test", {})
    better = bc.train(config, SPEC, [still], run, start=copy.deepcopy(start))
    return better, start, still.actions


def test_the_chunk_that_was_taught_is_worth_most(taught):
    better, start, learned = taught
    judge = ImplicitReward(better, start)
    assert isinstance(judge, ChunkReward)
    ranks = judge.rank(SEEN, np.concatenate([CHUNKS, learned[None]]))
    assert ranks.argmax() == 5 and ranks[5] > 0


def test_a_policy_has_no_preference_over_itself(taught):
    assert (ImplicitReward(taught[1], taught[1]).rank(SEEN, CHUNKS) == 0).all()


def test_swapping_judge_and_reference_turns_every_sign(taught):
    better, start, _ = taught
    there = ImplicitReward(better, start).rank(SEEN, CHUNKS)
    assert np.array_equal(there, -ImplicitReward(start, better).rank(SEEN, CHUNKS))


def test_it_is_the_difference_of_flow_losses_at_the_clean_end(taught):
    better, start, _ = taught
    judge = ImplicitReward(better, start, draws=4)
    assert judge._time.max() <= LATE
    from robostack.policy.chunking import observation_batch

    batch = observation_batch(SEEN, (4, 3))
    wanted = []
    for chunk in CHUNKS:
        batch.chunk = torch.from_numpy(chunk)[None]
        with torch.no_grad():
            pairs = [
                [
                    float(v.flow_loss(batch, judge._noise[k : k + 1], judge._time[k : k + 1]))
                    for k in range(4)
                ]
                for v in (start, better)
            ]
        wanted.append(np.mean(pairs[0]) - np.mean(pairs[1]))
    assert judge.rank(SEEN, CHUNKS) == pytest.approx(wanted, abs=1e-5)


def test_how_many_chunks_are_judged_together_does_not_matter(taught):
    judge = ImplicitReward(*taught[:2])
    alone = [judge.rank(SEEN, chunk[None])[0] for chunk in CHUNKS]
    assert judge.rank(SEEN, CHUNKS) == pytest.approx(alone, abs=1e-5)


def test_the_best_of_several_is_nearer_to_what_was_taught(taught):
    better, start, learned = taught
    apart = []
    for candidates in (1, 16):
        judge = ImplicitReward(better, start)
        score = judge.rank if candidates > 1 else None
        runner = ChunkRunner(start, execute=4, candidates=candidates, score=score)
        runner.reset(0)
        apart.append(np.mean([np.abs(runner.act(SEEN) - learned).mean() for _ in range(10)]))
    assert apart[1] < 0.9 * apart[0]


def test_policies_of_different_robots_or_chunks_are_refused():
    from dataclasses import replace

    other = tiny_vla()
    other.spec = replace(SPEC, control_hz=20.0)
    with pytest.raises(SpecMismatch, match="control_hz"):
        ImplicitReward(tiny_vla(), other)
    short = tiny_vla()
    short.config = replace(short.config, horizon=2)
    with pytest.raises(ValueError, match="chunks of 4 actions.*of 2"):
        ImplicitReward(tiny_vla(), short)
