"""A bandit whose every quantity is known: one state, one action, a Gaussian policy that starts at
0, and success within 0.3 of 0.5, which by symmetry is where its mean belongs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import SPEC, make_episode, tiny_size
from torch import nn

from robostack.learn import rl
from robostack.learn.rl.config import ClipConfig, GroupConfig, NFTConfig, RLPDConfig
from robostack.learn.rl.loop import ALGORITHMS
from robostack.learn.rl.policy_gradient import loss
from robostack.learn.rl.replay import Replay
from robostack.learn.rl.step_nft import loss as nft_loss
from robostack.policy import flow
from robostack.policy.chunking import ChunkRunner
from robostack.policy.vla import VLA
from robostack.protocols import Scores

ACTING = rl.Acting(execute=1, steps=3, level=0.7)
DEVIATION, AIM, REACH = 0.3, 0.5, 0.3
STATE = make_episode(0, steps=1, terminated=True)
CONFIG = rl.RLConfig(
    iterations=5,
    episodes=64,
    updates=8,
    batch=32,
    lr=0.03,
    warmup=0,
    average=0.5,
    critic_updates=5,
    critic_batch=32,
    clip=ClipConfig(most_kl=1.0),
    group=GroupConfig(tries=16, bank=0, least=0, most=1),
    nft=NFTConfig(trust=0.01),
)


class Blind(nn.Module):
    """In the place of a backbone, and of what it sees: there is but one state."""

    def forward(self, images, tasks):
        return self

    def repeat(self, times):
        return self


class Gaussian(nn.Module):
    """In the place of an expert: the exact velocity field of chunks N(mean, DEVIATION^2)."""

    def __init__(self, horizon):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(horizon, SPEC.action_dim))

    def memory(self, prefix):
        return prefix

    def forward(self, prefix, state, x, time):
        t = time.reshape(-1, 1, 1)
        return -self.mean + slope(t) * (x - (1 - t) * self.mean)

    def features(self, prefix, state, x, time):
        return x.new_zeros(len(x), 2, 2)


def slope(t):
    """Of the velocity in x; in the mean it is -(1 + (1 - t) slope)."""
    return (t - (1 - t) * DEVIATION**2) / (t**2 + (1 - t) ** 2 * DEVIATION**2)


@pytest.fixture
def policy():
    """Of chunks of two actions, of which one is executed."""
    torch.manual_seed(0)
    vla = VLA(tiny_size(horizon=2, layers=1), SPEC).eval()
    vla.backbone, vla.expert = Blind(), Gaussian(2)
    return vla


def pull(algorithm, seed):
    """A try by the policy that acts."""
    with algorithm.acting() as vla:
        runner = ChunkRunner(vla, 1, ACTING.steps, ACTING.level, once=True)
        runner.reset(seed)
        action = runner.act(STATE.observation(0))
    hit = bool(abs(action[0, 0] - AIM) < REACH)
    return replace(STATE, actions=action, success=hit, seed=seed, group=f"{seed // 16}")


def practise(policy, config):
    """Returns the algorithm after all iterations."""
    replay, flat = Replay(SPEC, 2, config), Scores(np.zeros(2, np.float32), np.ones(2, np.float32))
    replay.add(replace(STATE, success=True), flat)
    torch.manual_seed(0)
    algorithm = ALGORITHMS[config.algorithm](config, policy, replay, 0, ACTING)
    for iteration in range(config.iterations):
        first, begin = len(replay), iteration * config.episodes
        seeds = list(range(begin, begin + config.episodes))
        for seed in seeds:
            replay.add(pull(algorithm, seed), flat)
        fresh = range(first, len(replay))
        algorithm.learn(iteration, fresh, seeds, lambda count: iter(range(count)))
    return algorithm


@pytest.mark.parametrize("name", ["ppo", "grpo", "nft"])
def test_the_mean_comes_to_the_middle_of_what_succeeds(policy, name):
    algorithm = practise(policy, replace(CONFIG, algorithm=name))
    with algorithm.acting() as vla:
        mean = vla.expert.mean.detach()
    assert float(mean[0, 0]) == pytest.approx(AIM, abs=0.15)
    assert not mean[1].any()  # was never executed, so nothing is to be learned of it


def test_critics_come_to_the_chance_of_success_and_choose_by_it(policy):
    own = RLPDConfig(critics=4, width=32, proposals=8, reach=0.3, batch=64, lr=3e-3, average=0.1)
    config = rl.RLConfig(algorithm="rlpd", iterations=2, episodes=64, updates=100, rlpd=own)
    algorithm = practise(policy, config)
    edits, seen = algorithm.edits, algorithm.chunks.seen[0][:1]
    places = torch.tensor([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0]])[:, None]
    with torch.no_grad():
        worth = edits.judge(seen.repeat(2, 1), places).mean(0)
        chosen = edits.best(seen, places[None])[0, 0, 0]
        moved = edits.nudge(seen, torch.tensor([[[0.1, 0.0, 0.0]]]))[0, 0, 0]
    assert float(worth[0]) == pytest.approx(0, abs=0.2)  # a one-step problem: r, and nothing after
    assert float(worth[1]) == pytest.approx(1, abs=0.3)
    assert abs(float(chosen) - AIM) < REACH and moved > 0.15


@pytest.fixture
def drawn(policy):
    """Six windows and a stochastic step of each, of which one or both actions were executed; its
    residual in variances, and by how much its mean goes with that of the policy."""
    replay = Replay(SPEC, 2, CONFIG)
    flat = Scores(np.zeros(7, np.float32), np.ones(7, np.float32))
    replay.add(make_episode(1, steps=6), flat)
    batch, generator = replay.data.batch(np.arange(6)), torch.Generator().manual_seed(0)
    noise, jitter = (torch.randn(6, 2, 3, generator=generator) for _ in range(2))
    valid = torch.tensor([[True, True], [True, False]] * 3)
    at = torch.tensor([0, 0, 0, 1, 1, 1])
    field = lambda x, t: policy.expert(None, None, x, t)  # noqa: E731
    with torch.no_grad():
        _, step = flow.integrate_once(field, noise, 3, 0.7, at, jitter, valid)
        mean, deviation = step.moments(field(step.before, step.time))
    t, variance = step.time.reshape(-1, 1, 1), deviation.reshape(-1, 1, 1) ** 2
    sigma2 = variance / step.step
    with_mean = step.step * (1 + sigma2 * (1 - t) / (2 * t)) * (1 + (1 - t) * slope(t))
    return batch, step, valid[..., None] * (step.after - mean) / variance, with_mean


ADVANTAGE = torch.tensor([1.0, -2.0, 3.0, -1.0, 0.5, 2.0])


def test_the_gradient_of_the_surrogate_is_the_policy_gradient_in_closed_form(policy, drawn):
    """-mean of A (after - mean) / variance * d mean / d b, over what was executed."""
    batch, step, residual, with_mean = drawn
    value, told = loss(policy, batch, step, ADVANTAGE, CONFIG.clip)
    assert told["ratio"] == 1 and told["kl"] == 0 == told["clipped"]
    value.backward()
    wanted = -(ADVANTAGE.reshape(-1, 1, 1) * residual * with_mean).mean(0)
    assert torch.allclose(policy.expert.mean.grad, wanted, rtol=1e-4, atol=1e-6)


def test_the_first_gradient_of_nft_is_the_policy_gradient_of_its_labels(policy, drawn):
    """beta times it, by each chunk's count of executed numbers, since its distance is a mean."""
    batch, step, residual, with_mean = drawn
    old = policy.expert(None, None, step.before, step.time).detach()
    label, beta = ADVANTAGE.sign(), 0.5
    value, _ = nft_loss(policy, batch, step, old, label, NFTConfig(beta=beta, trust=3.0))
    value.backward()
    count = 3 * step.valid.sum(1)
    weight = (beta * label / count).reshape(-1, 1, 1)
    wanted = -(weight * residual * with_mean).mean(0)
    assert torch.allclose(policy.expert.mean.grad, wanted, rtol=1e-4, atol=1e-6)
