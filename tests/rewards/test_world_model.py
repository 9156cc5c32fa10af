"""The world model on held-out squares: it imagines what actions do and knows where goals are."""

import numpy as np
import pytest
import torch
from fakes import square_episode

from robostack.protocols import ChunkReward, Reward
from robostack.rewards.world_model import HORIZON

HELD_OUT = range(100, 120)


def chunks(seed):
    actions = square_episode(seed, jerky=True).actions
    return [torch.from_numpy(actions[t : t + HORIZON])[None] for t in (0, 4, 8)]


@pytest.fixture(scope="module")
def errors(world_model):
    """Mean latent error of imagining true, another episode's, no and reversed actions."""
    rows = []
    for seed in HELD_OUT:
        latents = world_model.encode(*world_model.frames(square_episode(seed, jerky=True)))
        for t, true, other in zip((0, 4, 8), chunks(seed), chunks(seed + 50)):
            truth = latents[t + 1 : t + 1 + HORIZON]
            with torch.no_grad():
                imagined = [
                    world_model.imagine(latents[t : t + 1], a)[0] for a in (true, other, 0 * true)
                ]
            rows.append([float((z - truth).abs().mean()) for z in imagined])
    return np.array(rows).T


def test_shuffled_actions_predict_worse_by_a_tenth(errors):
    true, shuffled, _ = errors.mean(1)
    assert shuffled > 1.1 * true


def test_the_true_actions_mostly_predict_better_than_none(errors):
    assert (errors[0] < errors[2]).mean() > 0.6


def test_goals_have_low_energy_and_starts_high(world_model):
    with torch.no_grad():
        energy = torch.stack(
            [
                world_model.energy(world_model.encode(*world_model.frames(e)))
                for e in (square_episode(s, jerky=True) for s in HELD_OUT)
            ]
        )
    assert (energy[:, -1] < energy[:, 0]).all()
    assert energy[:, -1].mean() < energy[:, 0].mean() / 3


def test_the_potential_is_one_at_every_remembered_goal(world_model):
    goals = world_model.goals[: int(world_model.goal_count)]
    assert len(goals) == 18 and torch.equal(world_model.potential(goals), torch.ones(18))


def test_the_potential_rises_over_a_success_and_not_over_a_failure(world_model):
    won = [world_model.score(square_episode(s, jerky=True)) for s in HELD_OUT]
    lost = [world_model.score(square_episode(s, success=False, jerky=True)) for s in HELD_OUT]
    assert np.mean([s[-1] - s[0] for s in won]) > 0.5
    assert np.mean([s[-1] - s[0] for s in lost]) < 0.2


def test_chunks_are_ranked_by_where_they_lead(world_model):
    """From the middle, on the way to the right edge: fast, as the data does it, and slow."""
    ranks = []
    for seed in HELD_OUT:
        middle = square_episode(seed, jerky=True).observation(8)
        fast, slow = np.zeros((2, HORIZON, 3), np.float32)
        fast[:, 0], slow[:, 0] = 0.8, -0.8
        ranks.append(world_model.rank(middle, np.stack([fast, slow])))
    ranks = np.array(ranks)
    assert ranks.shape == (20, 2) and ranks.mean(0)[0] > ranks.mean(0)[1]


def test_it_is_a_reward_of_observations_and_of_chunks(world_model):
    assert isinstance(world_model, Reward) and isinstance(world_model, ChunkReward)


def test_imagining_step_by_step_is_imagining_at_once(world_model):
    latent, actions = torch.randn(2, 64), torch.randn(2, 5, 3)
    with torch.no_grad():
        whole = world_model.imagine(latent, actions)
        for t in range(5):
            latent = world_model.imagine(latent, actions[:, t : t + 1])[:, -1]
            assert torch.allclose(latent, whole[:, t], atol=1e-5)


def test_the_slow_encoder_follows_the_fast_one_in_training_only(world_model):
    import copy

    model = copy.deepcopy(world_model)
    slow, fast = next(model.slow_encoder.parameters()), next(model.encoder.parameters())
    before = slow.clone()
    model.eval()._follow()
    assert torch.equal(slow, before)
    model.train()._follow()
    assert torch.allclose(slow, 0.98 * before + 0.02 * fast, atol=1e-6)
