"""What was drawn in a rollout is found again from its seed, and from no other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import SPEC, LineEnv, tiny_vla

from robostack.data.chunks import ChunkData
from robostack.learn.rl.traces import Acting, retrace
from robostack.policy.chunking import ChunkRunner
from robostack.rollout import rollout

ACTING = Acting(execute=2, steps=4, level=0.7)


@pytest.fixture(scope="module")
def played():
    """Policy, data of two episodes and their seeds."""
    vla = tiny_vla()
    runner = ChunkRunner(vla, ACTING.execute, ACTING.steps, ACTING.level, once=True)
    episodes = [rollout(LineEnv(7), runner, seed, policy_seed=40 + seed) for seed in (3, 4)]
    return vla, ChunkData(SPEC, vla.config.horizon, episodes), [43, 44]


def test_chunks_begin_where_the_policy_looked(played):
    vla, data, seeds = played
    traces = retrace(vla, data, [0, 1], seeds, ACTING)
    assert traces.start.tolist() == [0, 2, 4, 6] * 2
    assert traces.episode.tolist() == [0] * 4 + [1] * 4
    assert traces.rows.tolist() == [data.row(e, t) for e, t in zip(traces.episode, traces.start)]


def test_the_ratio_of_fresh_data_is_exactly_1(played):
    """To the bit: the learner's pass does what the sampler's did, in the same batch."""
    vla, data, seeds = played
    for index, seed in enumerate(seeds):
        traces = retrace(vla, data, [index], [seed], ACTING)
        again = vla.log_prob(data.batch(traces.rows), traces.step)
        assert torch.equal((again - traces.step.log_prob).exp(), torch.ones(4))
    moved = tiny_vla()
    with torch.no_grad():
        moved.expert.action_out.bias += 1e-2
        again = moved.log_prob(data.batch(traces.rows), traces.step)
    assert ((again - traces.step.log_prob).exp() != 1).all()


def test_of_a_chunk_what_was_executed_counts_and_nothing_else(played):
    """Two of four actions; of the last chunk one, because the time was up."""
    vla, data, seeds = played
    step = retrace(vla, data, [0, 1], seeds, ACTING).step
    assert step.valid.sum(1).tolist() == [2, 2, 2, 1] * 2 and step.valid[:, 0].all()
    rows = retrace(vla, data, [0, 1], seeds, ACTING).rows
    noise = torch.randn(step.after.shape, generator=torch.Generator().manual_seed(0))
    other = torch.where(step.valid[..., None], step.after, noise)
    with torch.no_grad():
        again = [
            vla.log_prob(data.batch(rows), replace(step, after=a)) for a in (step.after, other)
        ]
    assert torch.equal(*again)


def test_the_stochastic_steps_differ_from_chunk_to_chunk_and_are_never_the_last(played):
    vla, data, _ = played
    runner = ChunkRunner(vla, 2, ACTING.steps, ACTING.level, once=True)
    episodes = [rollout(LineEnv(20), runner, 0, policy_seed=k) for k in range(4)]
    own = ChunkData(SPEC, vla.config.horizon, episodes)
    times = retrace(vla, own, range(4), range(4), ACTING).step.time
    assert set(times.tolist()) == {1.0, 0.75, 0.5}


@pytest.mark.parametrize(
    "change", [dict(seeds=[44, 43]), dict(acting=replace(ACTING, level=0.3)), dict(vla=True)]
)
def test_a_rollout_of_another_seed_noise_or_policy_is_refused(played, change):
    vla, data, seeds = played
    if change.get("vla"):
        torch.manual_seed(1)
        vla = type(vla)(vla.config, vla.spec)
    with pytest.raises(ValueError, match="seed 3 is not this policy's: at step 0"):
        retrace(vla, data, [0, 1], change.get("seeds", seeds), change.get("acting", ACTING))


def test_actions_are_compared_as_far_as_they_were_executed(played):
    """The last chunk was cut by the time limit after one of its two actions."""
    vla, data, seeds = played
    assert len(data.episodes[0]) == 7
    assert np.isfinite(retrace(vla, data, [0], seeds[:1], ACTING).step.log_prob).all()
