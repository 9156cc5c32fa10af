"""What is imitated: the better of two actions more often, and all alike under a constant reward."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import make_episode

from robostack.augment import AugmentConfig
from robostack.learn import rl
from robostack.learn.rl.advantages import chunk_weights
from robostack.learn.rl.critic import Critic
from robostack.learn.rl.replay import Replay
from robostack.policy.chunking import ChunkRunner
from robostack.protocols import Scores
from robostack.rollout import STOPPED

CONFIG = rl.RLConfig(critic_updates=2, critic_batch=8, draws=2, warmup=1, average=0.5)
DEMOS = [make_episode(seed, steps=6, success=True, terminated=True) for seed in (90, 91)]


def score(episode):
    potential = np.clip(episode.states[:, 0], 0, 1)
    return Scores(potential, np.ones_like(potential))


def replay(vla, episodes, **changes):
    filled = Replay(vla.spec, vla.config.horizon, replace(CONFIG, **changes))
    for episode in episodes:
        filled.add(episode, score(episode))
    torch.manual_seed(0)
    return filled, Critic(filled.data)


def one_step(seed):
    """A bandit: one action, always from the same state, good if its first number is positive."""
    first, drawn = make_episode(0, steps=1, terminated=True), make_episode(seed, steps=1)
    return replace(first, actions=drawn.actions, success=bool(drawn.actions[0, 0] > 0))


def test_weights_concentrate_on_the_better_action_with_and_without_a_critic(vla):
    filled, critic = replay(vla, map(one_step, range(40)), shaping=0.0, critic_updates=60)
    good = np.array([e.success for e in filled.data.episodes])
    assert 5 < good.sum() < 35
    optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-3)
    for taught in (False, True):
        if taught:
            filled.fit_critic(critic, optimizer, np.random.default_rng(0))
        advantage = filled.targets(critic)[0][filled.data.rows()]
        weight = chunk_weights(advantage, 0.2)
        assert weight[good].min() > weight[~good].max()
        assert weight[good].sum() / weight.sum() > 0.9


def test_the_policy_moves_to_the_better_action_unless_the_reward_is_constant(vla, new_run):
    """Half of the tries went left and failed, half went right and succeeded."""

    def tries(_, seeds, tries=1, led=None):
        for seed in seeds:
            actions = np.full((1, 3), 0.8 if seed % 2 else -0.8, np.float32)
            yield replace(one_step(0), actions=actions, success=bool(seed % 2), seed=seed)

    config = replace(CONFIG, iterations=1, episodes=20, updates=50, batch=16, lr=5e-3, shaping=0.0)
    config = replace(config, critic_updates=40, augment=AugmentConfig(shift=0))
    means = []
    for constant in (False, True):
        chosen = replace(config, constant_reward=constant)
        demos = list(tries(None, range(2)))
        trained = rl.train(chosen, vla, rl.Outside(tries, score), demos, new_run(f"{constant}"))
        proposed = ChunkRunner(trained, 4).propose(one_step(0).observation(0), 64)
        means.append(proposed[:, 0, 0].mean())
    assert means[0] > 0.5 and abs(means[1]) < 0.4


def test_a_critic_without_updates_has_no_opinion(vla):
    filled, critic = replay(vla, DEMOS)
    advantage, returns = filled.targets(critic)
    assert np.array_equal(advantage, returns) and advantage.any()


def test_a_critic_s_loss_that_is_no_number_stops_before_it_touches_the_weights(vla, weights):
    filled, critic = replay(vla, DEMOS)
    filled.add(DEMOS[0], Scores(np.full(7, np.nan, np.float32), np.ones(7, np.float32)))
    before, optimizer = weights(critic), torch.optim.AdamW(critic.parameters())
    with pytest.raises(FloatingPointError, match="the critic's loss became nan at its update 0"):
        filled.fit_critic(critic, optimizer, np.random.default_rng(0))
    assert weights(critic) == before


def test_potentials_of_which_nobody_is_sure_pay_nothing_behind_the_gate(vla):
    phi, open_, shut = np.linspace(0, 1, 7, dtype=np.float32), np.ones(7), np.zeros(7)
    for gate, confidence in ((False, shut), (True, open_)):
        filled = Replay(vla.spec, vla.config.horizon, replace(CONFIG, gate=gate))
        filled.add(DEMOS[0], Scores(phi, confidence))
        assert filled.rewards[0][0] == np.float32(filled.gamma / 6)
    filled = Replay(vla.spec, vla.config.horizon, replace(CONFIG, gate=True))
    filled.add(replace(DEMOS[0], terminated=False), Scores(phi, shut))
    assert filled.rewards[0].tolist() == [0, 0, 0, 0, 0, 1]


def test_a_try_that_stopped_itself_is_over_and_pays_back_what_it_was_lent(vla):
    filled = Replay(vla.spec, vla.config.horizon, CONFIG)
    failed = replace(DEMOS[0], success=False)
    stopped = replace(failed, terminated=False, label=STOPPED)
    for episode in (failed, stopped, replace(stopped, label="")):
        filled.add(episode, Scores(np.full(7, 0.9, np.float32), np.ones(7, np.float32)))
    over, stopped, cut = (rewards[-1] for rewards in filled.rewards)
    assert stopped == over < cut


def test_the_control_with_a_constant_reward_weighs_every_chunk_alike(vla):
    filled, critic = replay(vla, DEMOS, constant_reward=True)
    filled.fit_critic(critic, torch.optim.AdamW(critic.parameters()), np.random.default_rng(0))
    advantage, _ = filled.targets(critic)
    assert np.array_equal(chunk_weights(advantage, 0.2), np.ones(14))
