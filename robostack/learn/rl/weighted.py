"""Imitating one's own rollouts by what they were worth.

The velocity field is regressed on every action chunk so far, demonstrations included, drawn in
proportion to exp(advantage / temperature) (AWR, arXiv 1910.00177; Flow-RWR, 2501.13918). It

* needs no likelihood, so no stochastic sampler in training and no ratio to clip;
* re-uses every rollout for the rest of the run, where PPO throws it away after one update;
* degrades to cloning what the policy did: with a constant reward all weights are equal, which is
  what makes that control arm exact.

Its price is that it cannot push a chunk away, only stop imitating it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robostack.augment import augment
from robostack.device import device
from robostack.learn import bc
from robostack.learn.bc import Lesson
from robostack.learn.rl.advantages import chunk_weights
from robostack.learn.rl.flow_learner import FlowLearner, Steps
from robostack.learn.run import generator, rng


class Weighted(FlowLearner):
    def learn(
        self, iteration: int, fresh: Sequence[int], seeds: Sequence[int], steps: Steps
    ) -> dict[str, float]:
        config, data, metrics = self.config, self.replay.data, {}
        weight, told = self.weigh(iteration)
        rows, random = data.rows(), rng(self.seed, iteration, 1)
        parts = self.learner.parts(config.batch)
        for k in steps(config.updates):
            draws = generator(self.seed, iteration, k)
            pick = random.choice(rows, config.batch, p=weight / weight.sum())
            batch = augment(data.batch(pick).to(device()), config.augment, random)
            lesson = Lesson.draw(self.vla.train(), batch, config.draws, draws)
            metrics = self.learner.step(self.learner(bc.loss, lesson.part(p)) for p in parts)
        share = float(weight.sum() ** 2 / (weight**2).sum() / len(weight))
        return metrics | told | {"effective_share": share}

    def weigh(self, iteration: int) -> tuple[np.ndarray, dict[str, float]]:
        """Of every row at which a window can begin."""
        error = self.fit_critic(iteration)
        advantage, _ = self.replay.targets(self.critic)
        rows = self.replay.data.rows()
        return chunk_weights(advantage[rows], self.config.temperature), {"critic_error": error}


class Filtered(Weighted):
    """Success-filtered cloning: all that ended well weighs the same, and nothing else anything.
    The baseline that every other algorithm has to beat."""

    def relive(self, iteration: int, fresh: Sequence[int]) -> None:
        pass  # there is no critic

    def weigh(self, iteration: int) -> tuple[np.ndarray, dict[str, float]]:
        data = self.replay.data
        good = np.array([bool(episode.success) for episode in data.episodes])
        if self.config.constant_reward:
            good[:] = True
        if not good.any():
            raise ValueError(
                "filtered: neither a demonstration nor a rollout succeeded, so there is nothing to "
                "imitate; give demonstrations that do, or another algorithm"
            )
        weight = good[data.column("episode")[data.rows()]].astype(np.float64)
        return weight, {"successes": int(good.sum())}
