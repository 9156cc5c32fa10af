"""Training of the rewards: one loop for those with weights, because each brings its own loss."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

import torch

from robostack.device import device
from robostack.learn.learner import Learner
from robostack.learn.run import Run, progress, rng
from robostack.rewards.deviation import Deviation, DeviationConfig
from robostack.rewards.eye import EyeConfig
from robostack.rewards.keypoints import KeypointAffordance
from robostack.rewards.keypoints.chosen import KeypointsConfig, from_pictures
from robostack.rewards.learned import LearnedReward, RewardData
from robostack.rewards.load import LEARNED
from robostack.rewards.progress import ProgressConfig
from robostack.rewards.saved import RewardError, SavedReward, Starts, noted
from robostack.rewards.success import SuccessConfig
from robostack.rewards.weigh import CombinedConfig, by_hand, fit
from robostack.rewards.world_model import WorldModel, WorldModelConfig
from robostack.types import Episode


@dataclass(frozen=True)
class RewardConfig:
    """Which reward, and how long it learns."""

    kind: Literal["world_model", "progress", "success", "keypoints", "deviation", "combined"] = (
        "progress"
    )
    steps: int = 600
    lr: float = 1e-3
    warmup: int = 20
    average: float = 0.99
    eye: EyeConfig = field(default_factory=EyeConfig)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    progress: ProgressConfig = field(default_factory=ProgressConfig)
    success: SuccessConfig = field(default_factory=SuccessConfig)
    keypoints: KeypointsConfig = field(default_factory=KeypointsConfig)
    deviation: DeviationConfig = field(default_factory=DeviationConfig)
    combined: CombinedConfig = field(default_factory=CombinedConfig)
    log_every: int = 20
    save_every: int = 1000


def train(
    config: RewardConfig,
    episodes: Iterable[Episode],
    run: Run,
    seed: int = 0,
    start: LearnedReward | None = None,
) -> LearnedReward:
    """Train on successes and failures alike, save into `run`, return the averaged reward.

    With `start` its weights are where training begins, and its eye and settings stay: a few steps
    on one demonstration of a new task adapt it.
    """
    torch.manual_seed(seed)
    starts = {} if start is None else deepcopy(start.learned_from)
    episodes = iter(episodes if starts is None else noted(episodes, starts))
    first = next(episodes, None)
    if first is None:
        raise RewardError("no episodes to learn from")
    reward = start
    if reward is None:
        reward = LEARNED[config.kind](first.spec, config.eye, getattr(config, config.kind))
    reward = reward.to(device())
    data = RewardData(_chain(first, episodes), reward.eye)
    statistics = {k: v.clone() for k, v in reward.normalize_state.state_dict().items()}
    reward.fit(data)
    if start is not None:  # what the weights know is in the old units
        reward.normalize_state.load_state_dict(statistics)
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
    reward.learned_from = starts
    reward.save(run.path / "reward")
    run.finish({"kind": config.kind, "fingerprint": reward.fingerprint(), **metrics})
    return reward


def make(
    config: RewardConfig, episodes: Iterable[Episode], members: list[SavedReward], run: Run
) -> SavedReward:
    """A reward without training steps: keypoint programs, demonstrations to deviate from, or a
    combination of `members` by weights by hand or fitted to success. Raises RewardError where
    members are missing."""
    found: dict = {}
    starts: Starts = {}
    if config.kind == KeypointAffordance.name:
        if config.keypoints.cameras:
            reward = from_pictures(config.keypoints, episodes)
            starts = reward.learned_from
        else:
            reward = KeypointAffordance(next(iter(episodes)).spec)
    elif config.kind == Deviation.name:
        models = [member for member in members if isinstance(member, WorldModel)]
        if len(models) != 1:
            raise RewardError("deviation needs one --reward, a world model's, to find states with")
        demos = noted((e for e in episodes if e.success and e.source == "demo"), starts)
        reward = Deviation(models[0], demos, config.deviation.horizon)
    else:
        if not members:
            raise RewardError("combined needs the --reward of every member")
        named = {member.name: member for member in members}
        if len(named) < len(members):
            raise RewardError(
                "combined: two members of one name, of "
                f"{', '.join(member.name for member in members)}"
            )
        if config.combined.weights:
            reward = by_hand(config.combined, named)
        else:
            shown = progress(episodes, "weigh rewards", None)
            reward, found = fit(config.combined, noted(shown, starts), named)
    reward.learned_from = starts
    reward.save(run.path / "reward")
    run.finish({"kind": config.kind, "fingerprint": reward.fingerprint(), **found})
    return reward


def _chain(first: Episode, rest: Iterable[Episode]) -> Iterable[Episode]:
    yield first
    yield from rest
