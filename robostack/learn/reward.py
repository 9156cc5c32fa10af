"""Training of the learned rewards: one loop, because each brings its own loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from robostack.device import device
from robostack.learn.learner import Learner
from robostack.learn.run import Run, rng
from robostack.rewards.learned import LearnedReward, RewardData
from robostack.rewards.load import KINDS
from robostack.types import Episode


@dataclass(frozen=True)
class RewardConfig:
    """Which reward, and how long it learns."""

    kind: Literal["world_model", "progress", "success"] = "progress"
    steps: int = 300
    lr: float = 1e-3
    warmup: int = 20
    average: float = 0.99
    log_every: int = 20
    save_every: int = 1000


def train(
    config: RewardConfig, episodes: Iterable[Episode], run: Run, seed: int = 0
) -> LearnedReward:
    """Train on successes and failures alike, save into `run`, return the averaged reward."""
    torch.manual_seed(seed)
    data = RewardData(episodes)
    reward = KINDS[config.kind](data.spec).to(device())
    reward.fit(data)
    learner = Learner(reward.train(), config.lr, config.steps, config.warmup, config.average)
    label = f"train reward {config.kind}"
    metrics: dict[str, float] = {}
    for step in run.steps(learner.resume(run), config.steps, label):
        torch.manual_seed(seed * 1_000_003 + step)
        loss, metrics = reward.loss(data, rng(seed, step))
        metrics |= learner.step(loss)
        if step % config.log_every == 0 or step == config.steps - 1:
            run.log(step, metrics)
        if (step + 1) % config.save_every == 0:
            learner.save(run)
    learner.use_average()
    reward.eval()
    reward.calibrate(data)
    reward.save(run.path / "reward")
    run.finish({"kind": config.kind, "fingerprint": reward.fingerprint(), **metrics})
    return reward
