"""A policy in use: legal actions, reproducible draws, and no silent nonsense."""

import numpy as np
import pytest
import torch
from fakes import LineEnv, make_episode

from robostack.policy.chunking import ChunkRunner
from robostack.protocols import Policy
from robostack.rollout import rollout


@pytest.fixture
def seen():
    return make_episode(3).observation(1)


def test_it_is_a_policy_and_hands_out_the_first_actions_of_a_chunk(vla, seen):
    runner = ChunkRunner(vla, execute=3)
    assert isinstance(runner, Policy)
    actions = runner.act(seen)
    runner.reset(0)
    assert actions.shape == (3, 3) and actions.dtype == np.float32
    assert np.array_equal(runner.propose(seen, 1)[0, :3], actions)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_the_seed_of_reset_fixes_everything_that_is_drawn(vla, seen, level):
    runner = ChunkRunner(vla, 4, level=level)
    runs = []
    for seed in (5, 5, 6):
        runner.reset(seed)
        runs.append(np.concatenate([runner.act(seen), runner.act(seen)]))
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0][:4], runs[0][4:])  # within a try the draws go on


def test_actions_stay_within_the_spec(vla, seen):
    with torch.no_grad():
        vla.expert.action_out.bias += torch.tensor([50.0, -50.0, 0.0])
    chunks = ChunkRunner(vla, 4).propose(seen, 3)
    assert np.array_equal(chunks[:, :, 0], np.full((3, 4), -1)) and (chunks[:, :, 1] == 1).all()
    assert np.abs(chunks[:, :, 2]).max() <= 1


def test_proposals_are_many_and_differ(vla, seen):
    chunks = ChunkRunner(vla, 4).propose(seen, 5)
    assert chunks.shape == (5, 4, 3)
    assert len({chunk.tobytes() for chunk in chunks}) == 5


def test_more_noise_in_the_sampler_spreads_the_proposals_from_one_starting_noise(vla, seen):
    """The same starting noise: the ODE then has one answer, the SDE several."""
    vla.noise = lambda count, generator: torch.ones(count, 4, 3)
    assert np.ptp(ChunkRunner(vla, 4).propose(seen, 4), axis=0).max() < 1e-5
    assert np.ptp(ChunkRunner(vla, 4, level=0.7).propose(seen, 4), axis=0).max(1).min() > 1e-3


@pytest.mark.parametrize("execute", [0, 5])
def test_executing_more_or_less_than_a_chunk_is_refused(vla, execute):
    with pytest.raises(ValueError, match="execute: expected 1 to 4"):
        ChunkRunner(vla, execute)


def test_broken_weights_stop_the_robot_instead_of_moving_it(vla, seen):
    with torch.no_grad():
        vla.expert.action_out.bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        ChunkRunner(vla, 4).act(seen)


def test_a_rollout_of_it_is_a_function_of_its_seeds(vla):
    runner = ChunkRunner(vla, 2)
    tries = [
        rollout(LineEnv(), runner, seed=1, policy_seed=s, max_steps=6).actions for s in (1, 1, 2)
    ]
    assert np.array_equal(tries[0], tries[1]) and not np.array_equal(tries[0], tries[2])
