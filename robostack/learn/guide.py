"""Training of the reward that reads noisy chunks, on preferences."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch

from robostack.augment import AugmentConfig
from robostack.data.chunks import Batch
from robostack.device import device
from robostack.learn.dpo import labels, of_decided
from robostack.learn.learner import Learner
from robostack.learn.pairs import PairData, PairLesson
from robostack.learn.run import Run, generator, rng
from robostack.policy import flow
from robostack.policy.vla import VLA
from robostack.rewards.eye import EyeConfig
from robostack.rewards.noisy import NoisyConfig, NoisyReward, tied
from robostack.types import Episode, Preference


@dataclass(frozen=True)
class GuideConfig:
    """How long it learns, and from how much at once."""

    steps: int = 400
    batch: int = 32  # pairs a step
    windows: int = 2  # chunks that are looked at of a clip of several
    draws: int = 4  # noises and times per chunk
    lr: float = 5e-4
    warmup: int = 20
    average: float = 0.99
    smoothing: float = 0.05  # chance that a label is wrong
    eye: EyeConfig = field(default_factory=EyeConfig)
    noisy: NoisyConfig = field(default_factory=NoisyConfig)  # its horizon is the policy's
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # of the images
    log_every: int = 20
    save_every: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "windows", "draws", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")
        if not 0 <= self.smoothing < 0.5:
            raise ValueError(f"smoothing={self.smoothing}: expected 0 to below 0.5")
        if not (0 < self.lr < math.inf and self.warmup >= 0 and 0 <= self.average <= 1):
            raise ValueError(
                "expected lr above 0, warmup of 0 or more and average from 0 to 1, got "
                f"{self.lr}, {self.warmup} and {self.average}"
            )


def values(reward: NoisyReward, side: Batch, lesson: PairLesson, images: dict) -> torch.Tensor:
    """r f32[B] of one side of each pair: the mean over its windows and draws."""
    frames = {name: image.cpu().numpy() for name, image in images.items()}
    looked = reward.looked(frames, side.state, side.tasks).repeat_interleave(lesson.draws, 0)
    drawn = side.repeat(lesson.draws)
    x = flow.interpolate(reward.normalize_action(drawn.chunk), lesson.noise, lesson.time)
    return reward.value(looked, x, lesson.time).reshape(len(lesson), -1).mean(1)


def loss(
    reward: NoisyReward, lesson: PairLesson, label: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Bradley-Terry with ties, of both sides at the same noises and times."""
    chosen = values(reward, lesson.chosen, lesson, lesson.chosen.images)
    same = lesson.rejected.images or lesson.chosen.images
    margin = chosen - values(reward, lesson.rejected, lesson, same)
    return tied(margin, label).mean(), {"accuracy": of_decided((margin > 0).float(), label, 0.5)}


def train(
    config: GuideConfig,
    policy: VLA,
    pairs: list[Preference],
    tries: dict[str, Episode],
    run: Run,
    seed: int = 0,
    label: str = "train guide",
) -> NoisyReward:
    """A reward for chunks of `policy`, whose units it shares. Raises PairError naming a pair that
    cannot be learned from."""
    torch.manual_seed(seed)
    policy = policy.to(device())
    horizon = policy.config.horizon
    data = PairData(policy.spec, horizon, pairs, tries)
    reward = NoisyReward(policy.spec, config.eye, replace(config.noisy, horizon=horizon))
    reward.normalize_action.load_state_dict(policy.normalize_action.state_dict())
    reward.normalize_state.fit(data.data.column("state"))
    reward = reward.to(device())
    wanted = labels(pairs, 0.0, config.smoothing)
    learner = Learner(reward.train(), config.lr, config.steps, config.warmup, config.average)
    metrics: dict[str, float] = {}
    for step in run.steps(learner.resume(run), config.steps, label):
        torch.manual_seed(seed * 1_000_003 + step)
        random = rng(seed, step)
        pick = random.choice(len(pairs), config.batch)
        lesson = data.lesson(
            policy, pick, wanted[pick], config.windows, config.draws, random, generator(seed, step)
        ).augment(config.augment, random)
        metrics = learner.step(loss(reward, lesson, lesson.label) for _ in range(1))
        if step % config.log_every == 0 or step == config.steps - 1:
            run.log(step, metrics)
        if (step + 1) % config.save_every == 0:
            learner.save(run)
    learner.use_average()
    reward.eval().save(run.path / "reward")
    run.finish({"pairs": len(pairs), "fingerprint": reward.fingerprint(), **metrics})
    return reward
