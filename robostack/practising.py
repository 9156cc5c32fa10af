"""The stage that improves a policy on its own rollouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from robostack import rl_report
from robostack.assist import Led
from robostack.config import to_dict
from robostack.data.store import read_episodes, require_episodes
from robostack.exam.results import Trust
from robostack.learn import rl
from robostack.learn.reward import RewardConfig
from robostack.learn.run import Existing, Run, finished
from robostack.policy.checkpoint import policy_folder
from robostack.policy.vla import VLA
from robostack.protocols import Reward, Scores
from robostack.rewards.combine import combine, explained, require_caution
from robostack.rewards.load import LEARNED, load_reward
from robostack.rewards.saved import RewardError
from robostack.sim.arena import Arena
from robostack.sim.worker import RunnerConfig
from robostack.stages import EvaluateConfig, Simulated, require_policy, success_of, train_reward
from robostack.types import Episode

TRIED = ("execute", "steps", "temperature")  # of a runner: what trials do as rollouts do
ACTING = ("execute", "steps", "level")  # of a runner: what a rollout's likelihood depends on


@dataclass(frozen=True)
class TrainRLConfig:
    """Online fine-tuning in simulation."""

    rl: rl.RLConfig = field(default_factory=rl.RLConfig)
    weights: dict[str, float] = field(
        default_factory=lambda: {"keypoints": 0.5, "progress": 0.25, "world_model": 0.25}
    )
    gate: float = 0.0  # confidence below which a reward counts less; 0: all count fully
    pessimism: float = 0.0  # spreads between the rewards that are subtracted
    runner: RunnerConfig = field(default_factory=lambda: RunnerConfig(level=0.5))
    refresh_steps: int = 200  # of a learned reward, every rl.refresh iterations
    check: bool = False  # try the start and each iteration's policy on `trials`, and keep the best
    trials: EvaluateConfig = field(
        default_factory=lambda: EvaluateConfig(episodes=40, first_seed=90_000)
    )

    def __post_init__(self) -> None:
        require_caution(self.gate, self.pessimism)
        if self.check:
            self._require_apart()

    def _require_apart(self) -> None:
        """Raise ValueError where a policy would be tried on what it practises on."""
        tries = self.rl.group.tries if self.rl.algorithm == "grpo" else 1
        starts = self.rl.iterations * (self.rl.episodes // tries)
        practised = range(self.rl.first_seed, self.rl.first_seed + starts)
        tried = range(self.trials.first_seed, self.trials.first_seed + self.trials.episodes)
        if practised.start < tried.stop and tried.start < practised.stop:
            raise ValueError(
                f"check: trials on the starts {tried.start} to {tried.stop - 1} and rollouts from "
                f"{practised.start} to {practised.stop - 1}: expected none of both; move "
                "trials.first_seed or rl.first_seed"
            )

    def trying(self) -> EvaluateConfig:
        """How trials are made: where nothing else is said, chunks are executed for as long and
        sampled in as many steps and at the same temperature as in rollouts."""
        if self.trials.runner != RunnerConfig():
            return self.trials
        way = {name: getattr(self.runner, name) for name in TRIED}
        return replace(self.trials, runner=RunnerConfig(**way))

    def way(self) -> RunnerConfig:
        """How rollouts are executed. Raises ValueError where they could not be learned from."""
        runner, algorithm = self.runner, self.rl.algorithm
        tried = self.trying().runner.execute
        if algorithm == "rlpd" and self.check and tried != runner.execute:
            raise ValueError(
                f"trials.runner.execute={tried}: rlpd learns to edit chunks of which as many "
                f"actions are executed as in rollouts; expected {runner.execute}"
            )
        if algorithm not in rl.LIKELIHOOD:
            return runner
        plain = replace(RunnerConfig(), **{n: getattr(runner, n) for n in ACTING})
        if replace(runner, once=False) != plain or runner.level <= 0 or runner.steps < 2:
            raise ValueError(
                f"algorithm={algorithm} needs the likelihood of what was drawn: expected "
                f"runner.level above 0, runner.steps of 2 or more, and nothing else of the "
                f"runner but execute, got {runner}"
            )
        return replace(plain, once=True)


@dataclass(frozen=True)
class TrainRLCommand(Simulated, TrainRLConfig):
    pass


def train_rl(
    arena: Arena,
    config: TrainRLConfig,
    policy: Path,
    rewards: dict[str, Reward],
    demonstrations: list[Path],
    out: Path,
    seed: int = 0,
    existing: Existing = "refuse",
    label: str = "train rl",
    trust: Trust | None = None,
) -> dict:
    """Raises RewardError where a weight is of no reward, or of one that is not to be trusted."""
    way = config.way()
    require_policy(policy)
    require_episodes(demonstrations)
    missing = sorted(set(config.weights) - set(rewards))
    if missing:
        raise RewardError(
            f"weights name {missing}; given rewards: {', '.join(rewards) or 'none'}; without any, "
            "weights={} learns from bare success"
        )
    judges = Judges(rewards, config, trust or Trust())
    settings = to_dict(config) | {"env": to_dict(arena.config), "policy": str(policy)}
    run = Run(out, "train rl", settings, seed, existing)
    if run.done:
        return run.done
    start = VLA.load(policy_folder(policy))

    def roll(folder: Path, seeds: list[int], tries: int, led: Led) -> Iterator[Episode]:
        # a start that always hangs would be met again by whoever goes on with the run
        return arena.rollouts(folder, way, seeds, f"{label}: rollouts", tries, led, spare=True)

    def refresh(iteration: int) -> rl.Score:
        judges.refresh([*demonstrations, run.path / "store"], run.path, iteration, seed)
        return judges.score

    def page(summary: dict | None) -> None:
        rl_report.write(run.path, summary)

    check = success_of(arena, config.trying()) if config.check else None
    learning = refresh if judges.learned else None
    outside = rl.Outside(roll, judges.score, check, learning, lambda: arena.lost, page)
    acting = rl.Acting(**{name: getattr(way, name) for name in ACTING})
    demos = read_episodes(demonstrations)
    try:
        rl.train(config.rl, start, outside, demos, run, seed, label, acting)
    except ValueError:  # settings that cannot be
        run.abandon()
        raise
    return finished(out)


class Judges:
    """The rewards that have a say, and those of them that can go on learning. Raises RewardError
    for those that are not to be trusted, now or once they have."""

    def __init__(self, rewards: dict[str, Reward], config: TrainRLConfig, trust: Trust):
        self.config, self.trust = config, trust
        self.rewards = {name: rewards[name] for name in config.weights}
        self.learned = [name for name in self.rewards if name in LEARNED]
        trust.require(self.rewards)
        if trust.strict and config.rl.refresh and self.learned:
            raise RewardError(
                f"--strict: rl.refresh={config.rl.refresh} has {', '.join(self.learned)} go on "
                "learning from the rollouts, and what comes of that has sat no exam; expected 0"
            )

    def score(self, episode: Episode) -> Scores:
        if not self.rewards:  # bare success
            flat = np.zeros(len(episode) + 1, np.float32)
            return Scores(flat, np.ones_like(flat))
        said = {name: explained(reward, episode) for name, reward in self.rewards.items()}
        return combine(said, self.config.weights, self.config.gate, self.config.pessimism)

    def refresh(self, data: list[Path], run: Path, iteration: int, seed: int) -> None:
        """Let them learn from demonstrations and all rollouts so far, each from where it was."""
        for name in self.learned:
            out = run / "rewards" / f"{iteration:03d}" / name
            learning = RewardConfig(kind=name, steps=self.config.refresh_steps)
            start = self.rewards[name].home
            train_reward(learning, data, out, seed, existing="reuse", start=start)
            self.rewards[name] = load_reward(out)
        self.trust.require({name: self.rewards[name] for name in self.learned})
