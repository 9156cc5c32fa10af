"""The world model on held-out squares: it imagines what actions do and knows where goals are."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import square_episode, square_tries
from safetensors.numpy import load_file, save_file
from scipy.stats import spearmanr
from taught import LARGE, teach

from robostack.alarms import SPREAD
from robostack.protocols import ChunkReward, Reward
from robostack.rewards.load import load_reward
from robostack.rewards.ranking import Decided, _logistic, log_odds, weigh
from robostack.rewards.saved import WEIGHTS
from robostack.rewards.world_model import ENERGIES, WorldModel, WorldModelConfig

HELD_OUT = range(100, 120)
HORIZON = 8


def chunks(seed):
    actions = square_episode(seed, jerky=True).actions
    return [torch.from_numpy(actions[t : t + HORIZON])[None] for t in (0, 4, 8)]


@pytest.fixture(scope="module")
def errors(world_model):
    """Mean latent error of imagining true, another episode's, no and reversed actions."""
    rows = []
    for seed in HELD_OUT:
        latents = world_model.encode(square_episode(seed, jerky=True))
        for t, true, other in zip((0, 4, 8), chunks(seed), chunks(seed + 50)):
            truth = latents[t + 1 : t + 1 + HORIZON]
            with torch.no_grad():
                imagined = [
                    world_model.imagine(latents[t : t + 1], a).mean(0)[0]
                    for a in (true, other, 0 * true)
                ]
            rows.append([float((z - truth).abs().mean()) for z in imagined])
    return np.array(rows).T


def test_shuffled_actions_predict_worse_by_a_tenth(errors):
    true, shuffled, _ = errors.mean(1)
    assert shuffled > 1.1 * true


def test_the_true_actions_mostly_predict_better_than_none(errors):
    assert (errors[0] < errors[2]).mean() > 0.6


def test_ends_are_near_the_goals_and_starts_are_far(world_model):
    episodes = [square_episode(s, jerky=True) for s in HELD_OUT]
    goals = world_model.bank.of(episodes[0].task, 4)
    distance = torch.stack([goals.to_end(world_model.encode(e)) for e in episodes])
    assert (distance[:, -1] < distance[:, 0]).all()
    assert distance[:, -1].mean() < distance[:, 0].mean() / 2


def test_what_it_keeps_is_what_it_knows_the_progress_of(world_model):
    goals = world_model.bank.of(square_episode(0).task, 1)
    progress, trust = goals.progress(goals.latents)
    assert torch.allclose(progress, goals.label, atol=1e-5) and torch.equal(
        trust, torch.ones_like(trust)
    )
    assert int(goals.final.sum()) == 18  # one of each success


def test_an_episode_is_never_measured_by_itself(world_model):
    bank, task = world_model.bank, square_episode(0).task
    one = int(bank.episode[0])
    assert len(bank.of(task, 4, without=one).latents) == int((bank.episode != one).sum())


def test_the_weights_of_energies_recover_those_that_decided():
    random = torch.Generator().manual_seed(0)
    differences = torch.randn(20_000, 4, generator=random)
    true = torch.tensor([1.5, 0.5, 0.0, 1.0])
    won = torch.bernoulli((differences @ true).sigmoid(), generator=random) * 2 - 1
    assert (_logistic(differences * won[:, None]) - true).abs().max() < 0.1


@pytest.mark.parametrize("pessimism", [0.0, 0.5, 2.0])
def test_odds_are_those_of_what_was_decided_whatever_pessimism_takes_off(pessimism):
    """1,000 states with four chunks each, of which the one with less true energy is mostly better.
    Members err, each in its own way; the odds that are told of pairs come true as often."""
    random = torch.Generator().manual_seed(0)
    weights, found = torch.tensor([1.5, 0.5, 0.0, 1.0]), []
    one, two = torch.triu_indices(4, 4, 1)
    for _ in range(1000):
        energies = torch.randn(1, 4, 4, generator=random) + torch.randn(3, 4, 4, generator=random)
        true = -(energies.mean(0) @ weights)
        first = torch.bernoulli((true[one] - true[two]).sigmoid(), generator=random).bool()
        found.append(Decided(energies, torch.where(first, one, two), torch.where(first, two, one)))
    fitted = weigh(found[:600], pessimism)
    ahead = [d.margins(log_odds(d.energies, fitted, pessimism)) for d in found[600:]]
    ahead = torch.cat(ahead)
    for low, high in ((0.0, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0)):
        told = ahead[(ahead.abs() >= low) & (ahead.abs() < high)]
        assert float((told > 0).float().mean()) == pytest.approx(
            float(told.abs().sigmoid().mean()), abs=0.07
        )


def test_the_odds_of_unseen_chunks_come_true_as_often_as_they_say(world_model):
    """Tries to the right from states that it never saw: fast ones come further."""
    sure, right = [], []
    for seed in HELD_OUT:
        tries = square_tries(seed, up=False)
        rank = world_model.rank(tries[0].observation(0), np.stack([e.actions for e in tries]))
        truth = np.array([e.truth[-1] for e in tries])
        for i, j in itertools.combinations(range(len(tries)), 2):
            sure.append(1 / (1 + np.exp(-abs(rank[i] - rank[j]))))
            right.append((rank[i] > rank[j]) == (truth[i] > truth[j]))
    assert np.mean(right) == pytest.approx(np.mean(sure), abs=0.15)


def test_what_leads_off_the_way_of_successes_has_more_energy(world_model):
    bank = world_model.bank.of(square_episode(0).task, 4)
    on = bank.to_nearest(world_model.encode(square_episode(100, jerky=True)))
    assert bank.to_nearest(bank.latents[:50]).median() < on.median()
    nowhere = replace(
        square_episode(100, jerky=True),
        images={"top": np.random.default_rng(0).integers(0, 30, (17, 32, 32, 3), dtype=np.uint8)},
    )
    assert bank.to_nearest(world_model.encode(nowhere)).median() > 2 * on.median()
    energies = world_model.energies(bank.latents[:5], bank.latents[:5], bank, "lift the red cube")
    assert energies.shape == (5, len(ENERGIES)) == (5, 4)
    assert torch.allclose(energies[:, 3], bank.to_nearest(bank.latents[:5]) / bank.scale)


def test_members_that_part_take_confidence_away_and_say_so(world_model):
    episode = square_episode(100, jerky=True)
    plain = world_model.explain(episode)
    assert plain.terms[SPREAD][0] == 0  # nothing had come before the first observation
    assert plain.terms[SPREAD].mean() < 0.2  # most is as usual
    odd = copy.deepcopy(world_model)
    with torch.no_grad():
        odd.predictors[0].layers[-1].bias.add_(1.0)
    told = odd.explain(episode)
    assert (told.terms[SPREAD][1:] > plain.terms[SPREAD][1:]).all()
    assert told.terms[SPREAD][1:].mean() > 0.5
    assert np.array_equal(told.potential, plain.potential)
    trust = plain.confidence / (1 - plain.terms[SPREAD])
    assert np.allclose(told.confidence, trust * (1 - told.terms[SPREAD]), atol=1e-5)


def test_the_spread_is_that_of_what_was_imagined_a_chunk_before(world_model):
    episode = square_episode(101, jerky=True)
    latents, found = world_model.encode(episode), world_model.explain(episode).terms[SPREAD]
    actions = torch.from_numpy(episode.actions)
    for t in (3, HORIZON, 13):
        begin = max(t - HORIZON, 0)
        with torch.no_grad():
            ends = world_model.imagine(latents[begin : begin + 1], actions[None, begin:t])[:, 0, -1]
        spread = float(ends.std(0, correction=0).mean())
        assert found[t] == pytest.approx(max(0, 1 - float(world_model.usual) / spread), abs=1e-4)


def test_a_model_of_before_there_were_four_energies_ranks_as_it_did(world_model, tmp_path):
    world_model.save(tmp_path)
    arrays = load_file(tmp_path / WEIGHTS)
    del arrays["usual"]
    arrays["ranking"] = arrays["ranking"][:3].copy()
    save_file(arrays, tmp_path / WEIGHTS)
    loaded, episode = load_reward(tmp_path), square_episode(100, jerky=True)
    assert loaded.ranking.tolist() == [*map(float, arrays["ranking"]), 0.0]
    assert np.allclose(loaded.score(episode), world_model.score(episode), atol=1e-6)
    assert not loaded.explain(episode).terms[SPREAD].any()
    assert loaded.rank(episode.observation(4), chunks_of(6)).shape == (6,)


def chunks_of(count):
    return np.random.default_rng(0).uniform(-1, 1, (count, HORIZON, 3)).astype(np.float32)


def test_the_potential_rises_over_a_success_and_not_over_a_failure(world_model):
    won = [world_model.score(square_episode(s, jerky=True)) for s in HELD_OUT]
    lost = [world_model.score(square_episode(s, success=False, jerky=True)) for s in HELD_OUT]
    assert np.mean([s[-1] - s[0] for s in won]) > 0.5
    assert np.mean([s[-1] - s[0] for s in lost]) < 0.2


def test_chunks_are_ranked_by_where_they_lead(world_model):
    """From the middle, where there is room to the right edge: fast is better than slow."""
    right = []
    for seed in HELD_OUT:
        middle = square_episode(seed, jerky=True).observation(8)
        if middle.state[0] > 0.6:
            continue
        fast, slow = np.zeros((2, HORIZON, 3), np.float32)
        fast[:, 0], slow[:, 0] = 0.8, -0.8
        ranks = world_model.rank(middle, np.stack([fast, slow]))
        right.append(ranks[0] > ranks[1])
    assert len(right) >= 6 and np.mean(right) > 0.9


def choices(model):
    """Rank correlation with the truth of tries that it never saw, each from its own state."""
    found = []
    for seed in HELD_OUT:
        tries = square_tries(seed, up=True)
        rank = model.rank(tries[0].observation(0), np.stack([e.actions for e in tries]))
        found.append(spearmanr(rank, [e.truth[-1] for e in tries])[0])
    return float(np.mean(found))


@pytest.mark.slow
def test_what_came_of_executed_chunks_decides_between_chunks():
    """Progress does not see what makes one try better than another here; its truth does."""
    tries = [e for seed in range(40) for e in square_tries(seed, up=True)]
    config = WorldModelConfig(batch=8, kept=256, members=2)
    told = teach(WorldModel, config, steps=150, lr=3e-3, more=tries, eye=LARGE)
    unknown = [replace(e, truth=None, success=None) for e in tries]
    untold = teach(WorldModel, config, steps=100, lr=3e-3, more=unknown, eye=LARGE)
    assert choices(told) > max(0.6, choices(untold) + 0.2)


def test_it_is_a_reward_of_observations_and_of_chunks(world_model):
    assert isinstance(world_model, Reward) and isinstance(world_model, ChunkReward)


def test_imagining_step_by_step_is_imagining_at_once(world_model):
    latent, actions = torch.randn(2, 48), torch.randn(2, 5, 3)
    with torch.no_grad():
        whole = world_model.imagine(latent, actions)
        latents = latent.expand(len(whole), -1, -1)
        for t in range(5):
            step = actions[:, t : t + 1]
            ends = [p.imagine(x, step)[:, -1] for p, x in zip(world_model.predictors, latents)]
            latents = torch.stack(ends)
            assert torch.allclose(latents, whole[:, :, t], atol=1e-5)


def test_the_slow_encoder_follows_the_fast_one_in_training_only(world_model):
    model = copy.deepcopy(world_model)
    slow, fast = next(model.slow_eye.parameters()), next(model.eye.parameters())
    before = slow.clone()
    model.eval()._follow()
    assert torch.equal(slow, before)
    model.train()._follow()
    assert torch.allclose(slow, 0.98 * before + 0.02 * fast, atol=1e-6)


def test_disagreement_counts_against_a_chunk(world_model):
    observation = square_episode(100, jerky=True).observation(4)
    chunks = chunks_of(6)
    bold = copy.deepcopy(world_model)
    bold.config = type(bold.config)(members=2, pessimism=0.0)
    assert (world_model.rank(observation, chunks) <= bold.rank(observation, chunks)).all()
    assert (world_model.rank(observation, chunks) < bold.rank(observation, chunks)).any()


def test_the_same_episodes_twice_are_no_reason_for_infinities(world_model):
    from robostack.rewards.bank import Bank
    from robostack.rewards.learned import RewardData
    from robostack.rewards.lessons import Lessons

    episodes = [square_episode(s, jerky=True) for s in range(3)] * 2
    data = RewardData(episodes, world_model.eye)

    def latents(rows):
        with torch.no_grad():
            return world_model.slow_eye(*world_model.seen(data, rows))

    bank = Bank(world_model.eye.config.width)
    bank.fill(Lessons(data, 4, 0.2, 0.3), latents, HORIZON, 128)
    progress, trust = bank.of(episodes[0].task, 4).progress(bank.latents)
    assert torch.isfinite(progress).all() and torch.isfinite(trust).all()
    assert torch.isfinite(bank.reach) and float(bank.reach) > 0
