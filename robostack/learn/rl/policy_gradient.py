"""Policy gradients through the one stochastic step of a chunk: PPO with a critic, and GRPO.

A chunk's likelihood is that of this step given the one before it (flow-SDE with a single random
step, pi_RL, arXiv 2510.25889), summed over the numbers that were executed. What was drawn is found
again from the rollout's seed (`traces`), so the ratio of fresh data is 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from robostack.data.chunks import Batch
from robostack.device import device
from robostack.learn.rl.advantages import (
    SPREAD,
    clipped,
    divergence,
    group_advantages,
    ratio,
    standardised,
)
from robostack.learn.rl.config import ClipConfig
from robostack.learn.rl.flow_learner import FlowLearner, Steps
from robostack.learn.rl.self_reference import SelfReference
from robostack.learn.rl.traces import Traces, retrace
from robostack.learn.run import rng
from robostack.policy.flow import Transition
from robostack.policy.vla import VLA


def loss(
    vla: VLA, batch: Batch, step: Transition, advantage: Tensor, clip: ClipConfig
) -> tuple[Tensor, dict[str, float]]:
    """Clipped surrogate of a minibatch of chunks with advantages f32[B]."""
    r, exploded = ratio(vla.log_prob(batch, step), step.log_prob)
    surrogate = clipped(r, advantage, clip.low, clip.high, clip.dual)
    outside = ((r < 1 - clip.low) | (r > 1 + clip.high)).float().mean()
    told = {"kl": divergence(r), "clipped": outside, "exploded": exploded, "ratio": r.mean()}
    return surrogate.mean(), {name: float(value.detach()) for name, value in told.items()}


class PolicyGradient(FlowLearner):
    averages = False  # a ratio is to the policy that acted

    def learn(
        self, iteration: int, fresh: Sequence[int], seeds: Sequence[int], steps: Steps
    ) -> dict[str, float]:
        traces = retrace(self.vla, self.replay.data, fresh, seeds, self.way)
        if self.config.compute.precision != "float32":  # in which rollouts are drawn
            old = self.across(VLA.log_prob, traces)
            traces = replace(traces, step=replace(traces.step, log_prob=old))
        advantage, used, told = self.advantages(iteration, fresh, traces)
        chunks = np.flatnonzero(used)
        if not len(chunks):
            return told | {"updates": 0}  # nothing to tell apart: counted, and the next ones come
        advantage = torch.from_numpy(advantage).to(device())
        updates = self._worthwhile(told["advantage_spread"])
        return told | self._update(iteration, traces, advantage, chunks, steps(updates))

    def _worthwhile(self, spread: float) -> int:
        """How many updates advantages of such a spread, in units of success, are worth. AdamW makes
        as large a step of small ones as of large ones, so what they lack must lack in number."""
        return math.ceil(self.config.updates * min(1.0, spread / SPREAD))

    def advantages(
        self, iteration: int, fresh: Sequence[int], traces: Traces
    ) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        """f32[C] of the chunks, bool[C] which are learned from, and what to log: among it
        advantage_spread, in units of success, wherever there is one to learn from."""
        raise NotImplementedError

    def _update(
        self,
        iteration: int,
        traces: Traces,
        advantage: Tensor,
        chunks: np.ndarray,
        steps: Iterable[int],
    ) -> dict[str, float]:
        """Epochs over the chunks until `steps` end, or the KL from what acted is reached."""
        config, random = self.config, rng(self.seed, iteration, 1)
        size = self.batch_size(len(chunks))
        parts, order, sums, done = self.learner.parts(size), [], {}, 0
        for _ in steps:
            if len(order) < size:
                order = list(random.permutation(chunks))
            pick, order = np.array(order[:size]), order[size:]
            rows = torch.from_numpy(pick).to(device())
            batch = self.replay.data.batch(traces.rows[pick]).to(device())
            step = traces.step.part(rows)
            self.vla.train()
            own = advantage[rows]
            told = self.learner.step(
                self.learner(loss, batch.part(p), step.part(p), own[p], config.clip) for p in parts
            )
            sums, done = {n: sums.get(n, 0.0) + v for n, v in told.items()}, done + 1
            if told["kl"] > config.clip.most_kl:
                break
        means = {name: total / done for name, total in sums.items()}
        return means | {"updates": done, "last_kl": told["kl"]}


class PPO(PolicyGradient):
    """Chunks are compared with what a critic expected of them."""

    def relive(self, iteration: int, fresh: Sequence[int]) -> None:
        self.fit_critic(iteration, fresh)

    def advantages(
        self, iteration: int, fresh: Sequence[int], traces: Traces
    ) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        error = self.fit_critic(iteration, fresh)
        parts = [
            self.replay.chunk_advantages(self.critic, i, traces.start[traces.episode == i])
            for i in fresh
        ]
        raw = np.concatenate(parts)
        spread = float(raw.std())
        told = {"critic_error": error, "advantage_spread": spread}
        if spread < 1e-6:
            return raw, np.zeros(len(raw), bool), told
        return standardised(raw), np.ones(len(raw), bool), told


class GRPO(PolicyGradient):
    """Tries of one start are compared with each other; a failure that looks like a success is
    worth something (SRPO, arXiv 2511.15605), though never as much."""

    def __init__(self, config, start: VLA, replay, seed: int, acting):
        super().__init__(config, start, replay, seed, acting)
        self.tries = config.group.tries
        self.reference = SelfReference(start, config.group.bank, config.group.partial)
        for episode in replay.data.episodes:  # demonstrations solve the cold start
            self.reference.see(episode)

    def relive(self, iteration: int, fresh: Sequence[int]) -> None:
        self._worth(fresh)

    def _worth(self, fresh: Sequence[int]) -> np.ndarray:
        """f32[N] in [0, 1] of the fresh episodes, which are then remembered."""
        episodes = [self.replay.data.episodes[i] for i in fresh]
        if self.config.constant_reward:
            return np.zeros(len(episodes), np.float32)
        for episode in episodes:
            self.reference.see(episode)
        return self.reference.worth(episodes)

    def advantages(
        self, iteration: int, fresh: Sequence[int], traces: Traces
    ) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        config, episodes = self.config.group, [self.replay.data.episodes[i] for i in fresh]
        groups, worth = [episode.group for episode in episodes], self._worth(fresh)
        advantage, told = group_advantages(worth, groups)
        success = np.array([bool(episode.success) for episode in episodes])
        tries = {g: np.array(groups) == g for g in set(groups)}
        share = {g: success[own].mean() for g, own in tries.items()}
        if config.bank == 0 or not self.reference.ready:
            told &= [config.least <= share[g] <= config.most for g in groups]
        else:  # a failure's worth tells a group of failures apart, too
            told &= [share[g] <= config.most for g in groups]
        by_episode = dict(zip(fresh, zip(advantage, told)))
        chunks = [by_episode[i] for i in traces.episode]
        spreads = [float(worth[own].std()) for own in tries.values() if told[own].all()]
        return (
            np.array([a for a, _ in chunks], np.float32),
            np.array([t for _, t in chunks], bool),
            {
                "groups": len(tries),
                "groups_used": len(spreads),
                "advantage_spread": max(spreads, default=0.0),
            },
        )
