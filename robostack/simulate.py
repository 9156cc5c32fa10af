"""What rollout workers do: hold one simulated environment and the policy they were last given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from robostack.learn.run import progress
from robostack.policy.chunking import ChunkRunner
from robostack.policy.vla import VLA
from robostack.pool import Pool
from robostack.rollout import branches, hash_seed, rollout
from robostack.sim.env import EnvConfig, ScriptedExpert, SimEnv, make_env
from robostack.types import Episode


@dataclass(frozen=True)
class RunnerConfig:
    """How a policy is executed."""

    execute: int = 8  # actions of a chunk that are executed before the next look
    steps: int = 5  # of the flow sampler
    level: float = 0.0  # noise of the flow sampler; 0 is the ordinary differential equation


@dataclass(frozen=True)
class BranchConfig:
    """Several tries from the same simulator states."""

    tries: int = 4  # per state
    points: int = 5  # states along one rollout
    every: int = 8  # actions between them
    span: int = 24  # actions of a try, at most


@dataclass
class Worker:
    """The context of a `Pool`."""

    env: SimEnv
    loaded: tuple[str, RunnerConfig] | None = None
    runner: ChunkRunner | None = field(default=None, repr=False)

    def policy(self, folder: str, config: RunnerConfig) -> ChunkRunner:
        if self.loaded != (folder, config):
            vla = VLA.load(folder)
            vla.spec.require_same(self.env.spec, f"the policy {folder}", "the environment")
            self.runner = ChunkRunner(vla, config.execute, config.steps, config.level)
            self.loaded = folder, config
        return self.runner

    def close(self) -> None:
        self.env.close()


def _worker(config: EnvConfig) -> Worker:
    torch.set_num_threads(1)
    return Worker(make_env(config))


def _demonstrate(worker: Worker, seed: int, noise: float) -> Episode:
    return rollout(worker.env, ScriptedExpert(worker.env, noise), seed, source="demo")


def _roll(worker: Worker, folder: str, runner: RunnerConfig, seed: int, attempt: int) -> Episode:
    policy = worker.policy(folder, runner)
    group = f"seed {seed} step 0"
    return rollout(worker.env, policy, seed, policy_seed=hash_seed(seed, attempt), group=group)


def _branch(
    worker: Worker, folder: str, runner: RunnerConfig, branch: BranchConfig, seed: int
) -> list[Episode]:
    return branches(
        worker.env,
        worker.policy(folder, runner),
        seed,
        tries=branch.tries,
        every=branch.every,
        span=branch.span,
        points=branch.points,
    )


class Arena:
    """Rollouts of one simulated environment over worker processes. Results come in the order
    of the seeds and do not depend on the number of workers."""

    def __init__(self, env: EnvConfig, workers: int = 0):
        self.config = env
        self._pool = Pool(partial(_worker, env), workers or os.cpu_count() or 1)

    def demonstrations(self, seeds: list[int], noise: float, label: str) -> Iterator[Episode]:
        jobs = [(seed, noise) for seed in seeds]
        yield from progress(self._pool.run(_demonstrate, jobs), label, len(jobs))

    def rollouts(
        self, policy: str | Path, runner: RunnerConfig, seeds: list[int], label: str, tries: int = 1
    ) -> Iterator[Episode]:
        """`tries` per seed, one after the other."""
        folder = str(Path(policy).resolve())
        jobs = [(folder, runner, seed, k) for seed in seeds for k in range(tries)]
        yield from progress(self._pool.run(_roll, jobs), label, len(jobs))

    def branches(
        self,
        policy: str | Path,
        runner: RunnerConfig,
        branch: BranchConfig,
        seeds: Iterable[int],
        label: str,
    ) -> Iterator[Episode]:
        folder = str(Path(policy).resolve())
        jobs = [(folder, runner, branch, seed) for seed in seeds]
        for episodes in progress(self._pool.run(_branch, jobs), label, len(jobs)):
            yield from episodes

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
