"""Rollouts of simulated environments over worker processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from robostack.learn.run import progress
from robostack.policy.checkpoint import CARD, policy_folder
from robostack.policy.chunking import ChunkRunner, Steer
from robostack.policy.implicit import ImplicitReward
from robostack.policy.rtc import Realtime
from robostack.policy.vla import VLA
from robostack.pool import Pool
from robostack.protocols import ChunkReward, Policy, Stops, Watcher
from robostack.rewards.keypoints.camera import Camera, write_cameras
from robostack.rewards.noisy import NoisyReward
from robostack.rollout import STOPPED, branches, hash_seed, rollout
from robostack.sim.cases import CaseConfig, Cases
from robostack.sim.env import EnvConfig, ScriptedExpert, SimEnv, make_env
from robostack.types import Episode, Observation, RobotSpec

if TYPE_CHECKING:
    from robostack.policy.client import RemotePolicy
    from robostack.rewards.saved import SavedReward

EXPERT, RANDOM = "expert", "random"  # policies that are no folders
REMOTE = ("ws://", "wss://")  # how the address of a served one begins
MAY_DIFFER = ("render",)  # between a policy and its environment: a warning, not an error


@dataclass(frozen=True)
class RunnerConfig:
    """How a policy is executed."""

    execute: int = 8  # actions of a chunk that are executed before the next look
    steps: int = 5  # of the flow sampler
    level: float = 0.0  # noise of the flow sampler; 0 is the ordinary differential equation
    delay: int = 0  # control steps that a chunk takes to compute, while the old one goes on; the
    # perturbation of that name delays every single action instead
    rtc: Realtime = "none"  # how a chunk takes the delay into account, see policy/rtc.py
    best_of: int = 1  # chunks that are sampled, of which the judge's favourite is executed
    judge: str = ""  # folder of a reward that ranks chunks, or of a policy: what that learned more
    # than `reference`
    reference: str = ""  # folder of a policy, of a judge that is one; the acting one if not named
    guide: str = ""  # folder of a reward that reads noisy chunks (`robostack train guide`), whose
    # gradient steers the sampler
    guidance: float = 1.0  # how strongly it does
    stop: str = ""  # folder of a reward that says when a try is done, in the place of the
    # simulator, which then lets it run on to the time limit

    def __post_init__(self) -> None:
        if self.execute < 1 or self.steps < 1 or not self.level >= 0:
            raise ValueError(
                "runner: expected execute and steps of 1 or more and a level of 0 or more, got "
                f"{self.execute}, {self.steps} and {self.level}"
            )
        if self.best_of < 1 or (self.best_of > 1) != bool(self.judge):
            raise ValueError(
                f"runner: best_of={self.best_of} with judge={self.judge!r}: expected 1 without a "
                "judge, or more with one"
            )
        if self.reference and not self.judge:
            raise ValueError("runner: a reference is for a judge that is a policy; name that, too")
        if self.delay < 0 or (self.rtc != "none" and self.delay == 0):
            raise ValueError(
                f"runner: delay={self.delay} with rtc={self.rtc}: expected a delay of 0 or more, "
                "and of 1 or more for rtc to have an effect"
            )


@dataclass(frozen=True)
class BranchConfig:
    """Several tries from the same simulator states."""

    tries: int = 4  # per state
    points: int = 5  # states along one rollout
    every: int = 8  # actions between them
    span: int = 24  # actions of a try, at most


class RandomPolicy:
    """Uniform actions: what success is worth that anybody has."""

    def __init__(self, spec: RobotSpec):
        self.spec = spec
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def act(self, observation: Observation) -> np.ndarray:
        return self._rng.uniform(self.spec.action_low, self.spec.action_high).astype(np.float32)[
            None
        ]


class Timed:
    """A policy and how long each of its answers took [s]."""

    def __init__(self, policy: Policy):
        self.policy, self.seconds = policy, []

    def reset(self, seed: int) -> None:
        self.policy.reset(seed)

    def act(self, observation: Observation) -> np.ndarray:
        begin = time.perf_counter()
        actions = self.policy.act(observation)
        self.seconds.append(time.perf_counter() - begin)
        return actions


def profile_warning(label: str, trained: str, render: str) -> str:
    """What to tell of a policy that sees other pictures than it was trained on; "" if it does
    not."""
    if not trained or trained == render:
        return ""
    return (
        f"{label} was trained on {trained} pictures and is evaluated on {render} ones; "
        f"env.render={trained} gives it its own"
    )


class Unplayable(RuntimeError):
    """A policy and a task that cannot be brought together; no other seed would change that."""


@dataclass
class Worker:
    """The context of a `Pool`: one environment at a time, and every policy it was given."""

    config: EnvConfig | None = None
    opened: SimEnv | None = field(default=None, repr=False)
    loaded: dict[str, VLA] = field(default_factory=dict, repr=False)
    served: dict[str, RemotePolicy] = field(default_factory=dict, repr=False)
    judges: dict[str, SavedReward] = field(default_factory=dict, repr=False)  # by folder

    def env(self, config: EnvConfig, runner: RunnerConfig | None = None) -> SimEnv:
        """Where a runner has a judge to stop it, success alone ends nothing."""
        if self.config != config:
            self.close()
            self.opened, self.config = make_env(config), config
        self.opened.ends = runner is None or not runner.stop
        return self.opened

    def watcher(self, runner: RunnerConfig, env: SimEnv) -> Watcher | None:
        """A new one for a try, of the runner's judge if it has one."""
        if not runner.stop:
            return None
        judge = self._reward(runner.stop, env)
        if not isinstance(judge, Stops):
            raise ValueError(
                f"runner.stop={runner.stop}: a reward of kind {judge.name} cannot stop a try; "
                "expected one with `watch`, such as success"
            )
        return judge.watch()

    def policy(self, folder: str, runner: RunnerConfig, env: SimEnv) -> Policy:
        if folder.startswith(REMOTE):
            return self._served(folder, runner, env)
        vla = self._load(folder)
        vla.spec.require_same(env.spec, f"the policy {folder}", "the environment", MAY_DIFFER)
        return ChunkRunner(
            vla,
            runner.execute,
            runner.steps,
            runner.level,
            runner.rtc,
            runner.delay,
            candidates=runner.best_of,
            score=self._judge(vla, runner, env).rank if runner.judge else None,
            steer=self._steer(vla, runner, env) if runner.guide else None,
        )

    def _steer(self, vla: VLA, runner: RunnerConfig, env: SimEnv) -> Steer:
        guide = self._reward(runner.guide, env)
        if not isinstance(guide, NoisyReward):
            raise ValueError(
                f"runner.guide={runner.guide}: a reward of kind {guide.name} cannot read noisy "
                "chunks; expected one of `robostack train guide`"
            )
        return guide.steer(vla.config.horizon, runner.guidance)

    def _judge(self, vla: VLA, runner: RunnerConfig, env: SimEnv) -> ChunkReward:
        better = policy_folder(runner.judge)
        if (better / CARD).is_file():
            reference = vla
            if runner.reference:
                reference = self._load(str(policy_folder(runner.reference)))
            return ImplicitReward(self._load(str(better)), reference)
        if runner.reference:
            raise ValueError(f"runner.reference: {runner.judge} is no policy, and takes none")
        judge = self._reward(runner.judge, env)
        if not isinstance(judge, ChunkReward):
            raise ValueError(
                f"runner.judge={runner.judge}: a reward of kind {judge.name} cannot rank chunks; "
                "expected a policy, or a reward that does, such as world_model"
            )
        return judge

    def _load(self, folder: str) -> VLA:
        if folder not in self.loaded:
            self.loaded[folder] = VLA.load(folder)
        return self.loaded[folder]

    def _reward(self, folder: str, env: SimEnv) -> SavedReward:
        from robostack.rewards.load import load_reward  # only where it is asked for

        if folder not in self.judges:
            self.judges[folder] = load_reward(folder)
        judge = self.judges[folder]
        judge.spec.require_same(env.spec, f"the reward {folder}", "the environment")
        return judge

    def _served(self, url: str, runner: RunnerConfig, env: SimEnv) -> Policy:
        from robostack.policy.client import RemotePolicy  # it needs the extra `serve`

        if url not in self.served:
            self.served[url] = RemotePolicy(url)
        remote = self.served[url]
        remote.spec.require_same(env.spec, f"the policy {url}", "the environment", MAY_DIFFER)
        if runner.delay or runner.rtc != "none" or runner.judge or runner.guide:
            raise ValueError(
                f"{url}: runner.delay, .rtc, .judge and .guide are for policies in a folder; a "
                "served one takes the time that it takes, and its own choice"
            )
        if (remote.steps, remote.level) != (runner.steps, runner.level):
            raise ValueError(
                f"{url} samples with steps={remote.steps} and level={remote.level:g}, which is the "
                f"server's choice; got runner.steps={runner.steps} and "
                f"runner.level={runner.level:g}, give the same"
            )
        return remote.executing(runner.execute)

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()
        self.opened = self.config = None


def make_worker() -> Worker:
    torch.set_num_threads(1)
    return Worker()


@dataclass(frozen=True)
class Trial:
    """One episode to be played for an evaluation."""

    policy: str  # EXPERT, RANDOM, an address or a folder
    env: EnvConfig
    runner: RunnerConfig
    noise: float  # of the expert
    seed: int
    film: bool  # whether the pictures are wanted


@dataclass(frozen=True)
class Played:
    """What came of a Trial."""

    success: bool
    steps: int  # control steps
    seconds: float  # of the whole episode
    act_ms: tuple[float, ...]  # of each answer of the policy
    film: np.ndarray | None  # u8[T+1, H, W, 3] of the first camera
    stopped: bool | None = None  # by the runner's judge; None: it has none


def play(worker: Worker, trial: Trial) -> Played:
    """Raises Unplayable where policy and task do not fit; any other error is this episode's."""
    try:
        env = worker.env(trial.env, trial.runner)
        watcher = worker.watcher(trial.runner, env)
        if trial.policy == EXPERT:
            env.plan()  # says so if there is none
            policy = ScriptedExpert(env, trial.noise)
        elif trial.policy == RANDOM:
            policy = RandomPolicy(env.spec)
        else:
            policy = worker.policy(trial.policy, trial.runner, env)
    except MemoryError:  # of the moment
        raise
    except Exception as error:  # whatever it is, the next seed would meet it again
        raise Unplayable(str(error) or type(error).__name__) from error
    timed, begin = Timed(policy), time.perf_counter()
    # a policy draws what it draws in `_roll`, so that a stage's evaluation is this one's
    drawn = trial.seed if trial.policy in (EXPERT, RANDOM) else hash_seed(trial.seed, 0)
    episode = rollout(env, timed, trial.seed, policy_seed=drawn, stop=watcher)
    film = next(iter(episode.images.values()), None) if trial.film else None
    return Played(
        success=bool(episode.success),
        steps=len(episode),
        seconds=time.perf_counter() - begin,
        act_ms=tuple(1e3 * s for s in timed.seconds),
        film=film,
        stopped=episode.label == STOPPED if watcher is not None else None,
    )


def _demonstrate(worker: Worker, config: EnvConfig, seed: int, noise: float) -> Episode:
    env = worker.env(config)
    return rollout(env, ScriptedExpert(env, noise), seed, source="demo")


def _roll(
    worker: Worker, config: EnvConfig, folder: str, runner: RunnerConfig, seed: int, attempt: int
) -> Episode:
    env = worker.env(config, runner)
    policy, drawn = worker.policy(folder, runner, env), hash_seed(seed, attempt)
    watcher, group = worker.watcher(runner, env), f"seed {seed} step 0"
    return rollout(env, policy, seed, policy_seed=drawn, group=group, stop=watcher)


def _branch(
    worker: Worker,
    config: EnvConfig,
    folder: str,
    runner: RunnerConfig,
    branch: BranchConfig,
    seed: int,
) -> list[Episode]:
    env = worker.env(config)
    return branches(
        env,
        worker.policy(folder, runner, env),
        seed,
        tries=branch.tries,
        every=branch.every,
        span=branch.span,
        points=branch.points,
    )


def _cases(worker: Worker, env: EnvConfig, config: CaseConfig, seed: int) -> list[Episode]:
    return Cases(worker.env(env), config).play(seed)


def _calibrate(worker: Worker, env: EnvConfig) -> dict[str, Camera]:
    opened = worker.env(env)
    opened.reset(0)
    renderer = opened.renderer
    if renderer is None:
        return {}
    return {n: renderer.calibration(n) for n in renderer.cameras if renderer.is_fixed(n)}


class Arena:
    """Rollouts of one simulated environment over worker processes. Results come in the order
    of the seeds and do not depend on the number of workers."""

    def __init__(self, env: EnvConfig, workers: int = 0):
        self.config = env
        self._warned: set[str] = set()
        self._pool = Pool(make_worker, workers or os.cpu_count() or 1)

    def _folder(self, policy: str | Path) -> str:
        """Of a saved policy; warns once if it will see pictures of another kind than it knows."""
        trained = VLA.read_spec(policy).conventions.get("render", "")
        text = profile_warning(str(policy), trained, self.config.render)
        if text and trained not in self._warned:
            self._warned.add(trained)
            print(f"warning: {text}", file=sys.stderr, flush=True)
        return str(Path(policy).resolve())

    def demonstrations(self, seeds: list[int], noise: float, label: str) -> Iterator[Episode]:
        jobs = [(self.config, seed, noise) for seed in seeds]
        yield from progress(self._pool.run(_demonstrate, jobs), label, len(jobs))

    def rollouts(
        self, policy: str | Path, runner: RunnerConfig, seeds: list[int], label: str, tries: int = 1
    ) -> Iterator[Episode]:
        """`tries` per seed, one after the other."""
        folder = self._folder(policy)
        jobs = [(self.config, folder, runner, s, k) for s in seeds for k in range(tries)]
        yield from progress(self._pool.run(_roll, jobs), label, len(jobs))

    def branches(
        self,
        policy: str | Path,
        runner: RunnerConfig,
        branch: BranchConfig,
        seeds: Iterable[int],
        label: str,
    ) -> Iterator[Episode]:
        if runner.stop:
            raise ValueError(
                "runner.stop: tries that branch end after `span` actions; leave it out"
            )
        folder = self._folder(policy)
        jobs = [(self.config, folder, runner, branch, seed) for seed in seeds]
        for episodes in progress(self._pool.run(_branch, jobs), label, len(jobs)):
            yield from episodes

    def calibrate(self, env: EnvConfig, path: Path) -> None:
        """Write where the cameras of `env` stand, those that do not move, to a file. Cameras that
        differ from episode to episode have no such place."""
        cameras = {}
        if not env.perturb.get("camera"):
            (cameras,) = self._pool.run(_calibrate, [(env,)])
        if cameras:
            write_cameras(path, cameras)

    def cases(
        self, env: EnvConfig, config: CaseConfig, seeds: Iterable[int], label: str
    ) -> Iterator[Episode]:
        """Scripted episodes of known outcome in `env`, which need not be this arena's own."""
        jobs = [(env, config, seed) for seed in seeds]
        for episodes in progress(self._pool.run(_cases, jobs), label, len(jobs)):
            yield from episodes

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
