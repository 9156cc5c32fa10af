"""Step-wise negative-aware fine-tuning (pi-StepNFT, arXiv 2603.02083): no critic, no likelihood.

Around the velocity that acted lie two imagined ones, v+ = v_old + beta (v - v_old) and
v- = v_old - beta (v - v_old). Where a chunk went well, the step that was drawn should be nearer to
the mean of v+ than of v-; where it went badly, the reverse: a failure pushes away, which imitation
cannot. The average of the weights acts.

The paper's distance is a sum over the chunk (its release: over an action's numbers, with a softplus
for each action). Here it is the mean over the numbers that were executed, and the trust term a mean
over all of them, so that neither depends on the horizon. Near the velocity that acted the gradient
is the paper's but for that factor, of which AdamW takes no notice. Farther off the softplus
saturates later by it: what holds the policy back is the trust term, the average that acts, and the
KL from what acted, at which an iteration's updates end as those of ppo do: few rollouts, gone
through again and again, are known by heart else, the noise that was drawn in them included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robostack.data.chunks import Batch
from robostack.device import device
from robostack.learn.rl.config import NFTConfig
from robostack.learn.rl.flow_learner import FlowLearner, Steps
from robostack.learn.rl.traces import retrace
from robostack.learn.run import rng
from robostack.policy.flow import Transition
from robostack.policy.vla import VLA


def contrast(velocity: Tensor, old: Tensor, step: Transition, beta: float) -> Tensor:
    """E+ - E- f32[B]: by how much the drawn step is farther from the mean of v+ than from that of
    v-, squared and in its own standard deviations, a mean over the numbers that were executed. It
    is -4 <e, d> / sigma^2 for the residual e of the old mean and the displacement d."""
    away = beta * (velocity - old)
    errors, valid = [], step.valid
    weight = torch.ones_like(old[..., 0]) if valid is None else valid.to(old.dtype)
    for imagined in (old + away, old - away):
        mean, deviation = step.moments(imagined)
        scale = deviation.reshape(-1, 1, 1) if isinstance(deviation, Tensor) else deviation
        squared = ((step.after - mean) / scale).square().mean(2)
        errors.append((squared * weight).sum(1) / weight.sum(1))
    return errors[0] - errors[1]


def drift(velocity: Tensor, old: Tensor, step: Transition) -> Tensor:
    """KL f32[B] of the drawn steps under a velocity from those under the old one, summed over the
    numbers that were executed."""
    (mean, deviation), (before, _) = step.moments(velocity), step.moments(old)
    scale = deviation.reshape(-1, 1, 1) if isinstance(deviation, Tensor) else deviation
    each = ((mean - before) / scale).square() / 2
    if step.valid is not None:
        each = each.masked_fill(~step.valid[..., None], 0.0)
    return each.sum((1, 2))


def velocities(vla: VLA, batch: Batch, step: Transition) -> Tensor:
    """At what the steps began from, f32[B, H, A]."""
    return vla.velocity(vla.encode(batch), batch.state, step.before, step.time).float()


def loss(
    vla: VLA, batch: Batch, step: Transition, old: Tensor, label: Tensor, config: NFTConfig
) -> tuple[Tensor, dict[str, float]]:
    """Of chunks with labels f32[B] in [-1, 1]; `old` f32[B, H, A] is what acted."""
    velocity = velocities(vla, batch, step)
    apart = contrast(velocity, old, step, config.beta)
    moved = (velocity - old).square().mean()
    told = {
        "agreement": float((apart.detach() * label < 0).float().mean()),
        "moved": float(moved.detach()),
        "kl": float(drift(velocity.detach(), old, step).mean()),
    }
    return F.softplus(label * apart / 2).mean() + config.trust * moved, told


class StepNFT(FlowLearner):
    def relive(self, iteration: int, fresh: Sequence[int]) -> None:
        pass  # there is no critic

    def learn(
        self, iteration: int, fresh: Sequence[int], seeds: Sequence[int], steps: Steps
    ) -> dict[str, float]:
        config, data, random = self.config, self.replay.data, rng(self.seed, iteration, 1)
        with self.acting() as acted:
            traces = retrace(acted, data, fresh, seeds, self.way)
            old = self.across(velocities, traces)
        label = self._labels(traces.episode)
        metrics, size, done = {}, self.batch_size(len(traces)), 0
        parts = self.learner.parts(size)
        for _ in steps(config.updates):
            pick = random.choice(len(traces), size, replace=False)
            rows = torch.from_numpy(pick).to(device())
            batch = data.batch(traces.rows[pick]).to(device())
            self.vla.train()
            given = traces.step.part(rows), old[rows], label[rows]
            metrics = self.learner.step(
                self.learner(
                    loss, batch.part(p), given[0].part(p), given[1][p], given[2][p], config.nft
                )
                for p in parts
            )
            done += 1
            if metrics["kl"] > config.clip.most_kl:
                break
        return metrics | {"updates": done, "last_kl": metrics["kl"]}

    def _labels(self, episode: np.ndarray) -> Tensor:
        """1 of chunks of successes, -1 of others (0 in the control, where nothing is to learn)."""
        episodes = self.replay.data.episodes
        label = np.array([1.0 if episodes[i].success else -1.0 for i in episode], np.float32)
        if self.config.constant_reward:
            label[:] = 0
        return torch.from_numpy(label).to(device())
