"""Rollouts of simulated environments over worker processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from robostack.assist import ALONE, Assisted, Led
from robostack.learn.run import progress
from robostack.policy.vla import VLA
from robostack.pool import PATIENCE, Pool, Workers
from robostack.ray_pool import RayPool
from robostack.rewards.keypoints.camera import Camera, write_cameras
from robostack.rollout import LED, STOPPED, branches, hash_seed, rollout
from robostack.sim.cases import CaseConfig, Cases
from robostack.sim.catalog import instruction
from robostack.sim.env import EnvConfig, ScriptedExpert
from robostack.sim.worker import RandomPolicy, RunnerConfig, Timed, Unplayable, Worker, make_worker
from robostack.types import Episode, main_camera

EXPERT, RANDOM = "expert", "random"  # policies that are no folders
SPARE = 1  # with a seed, that of the start to be played in its place


@dataclass(frozen=True)
class BranchConfig:
    """Several tries from the same simulator states."""

    tries: int = 6  # per state
    points: int = 5  # states along one rollout
    every: int = 8  # actions between them
    span: int = 1000  # actions of a try, at most: it goes on until it succeeds or time is up
    spread: float = 0.1  # by which chunks are pulled aside to explore, in half ranges of actions
    led: int = 0  # of the tries, those in which the task's keypoint program leads (assist.py),
    share: float = 0.5  # of the hand's motion in these that is the program's

    def __post_init__(self) -> None:
        if min(self.tries, self.points, self.every, self.span) < 1 or not self.spread >= 0:
            raise ValueError(f"branch: expected counts of 1 or more, spread of 0 or more: {self}")
        if not (0 <= self.led < self.tries and 0 < self.share <= 1):
            raise ValueError(
                f"branch: led={self.led}, tries={self.tries}, share={self.share:g}: expected fewer "
                "that are led than tries (the first is the policy's own), and a share in (0, 1]"
            )


def profile_warning(label: str, trained: str, render: str) -> str:
    """What to tell of a policy that sees other pictures than it was trained on; "" if it does
    not."""
    if not trained or trained == render:
        return ""
    return (
        f"{label} was trained on {trained} pictures and is evaluated on {render} ones; "
        f"env.render={trained} gives it its own"
    )


def unheard(label: str, learned: Collection[str] | None, tasks: Iterable[str], real: str) -> str:
    """What to tell of a policy of which something is asked that it never learned; "" where there
    is no such thing, or nobody knows. A task of a robot (`env.real`) is itself what is asked."""
    if not learned:
        return ""
    asked = {task: task if real else instruction(task) for task in tasks}
    new = {task: what for task, what in asked.items() if what and what not in learned}
    if not new:
        return ""
    task, what = next(iter(new.items()))
    known = min(learned, key=lambda text: (len(text), text))
    return (
        f"{label} learned {known!r}{f' and {len(learned) - 1} more' * (len(learned) > 1)}, and "
        f"never {what!r}, which {task} asks"
        + (f", nor what is asked in {len(new) - 1} more" if len(new) > 1 else "")
    )


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
    how = {"policy_seed": drawn, "stop": watcher, "pictures": trial.film}
    episode = rollout(env, timed, trial.seed, **how)
    film = episode.images.get(main_camera(episode.images)) if trial.film else None
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
    worker: Worker,
    config: EnvConfig,
    folder: str,
    runner: RunnerConfig,
    seed: int,
    attempt: int,
    led: Led,
    pictures: bool,
) -> Episode:
    plain = worker.env(config, runner)
    policy, drawn = worker.policy(folder, runner, plain), hash_seed(seed, attempt)
    watcher, group = worker.watcher(runner, plain), f"seed {seed} step 0"
    env = led.within(plain, drawn)
    how = {"policy_seed": drawn, "group": group, "stop": watcher, "pictures": pictures}
    episode = rollout(env, policy, seed, **how)
    # a program had a hand in it, if anybody: no person intervenes where one leads
    intervened = episode.source == "intervention"
    return replace(episode, source=LED) if intervened and env is not plain else episode


def _elsewhere(env: EnvConfig, folder: str, runner: RunnerConfig, seed: int, *rest) -> tuple:
    """The same of another start, which depends on the seed alone and is nobody else's."""
    other = hash_seed(seed, SPARE)
    print(
        f"warning: start {seed} cost two workers their lives; start {other} is played in its place",
        file=sys.stderr,
        flush=True,
    )
    return (env, folder, runner, other, *rest)


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
        spread=branch.spread,
        led=branch.led,
        leader=Assisted(env, branch.share) if branch.led else None,
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


RAY = "ray"  # workers that are actors: of a cluster at hand, or with ray:ADDRESS of that one


def open_pool(
    make: Callable[[], Worker],
    env: EnvConfig,
    workers: int | str,
    most: int = sys.maxsize,
    isolate: bool = False,
    patience: float = PATIENCE,
) -> Workers:
    """`workers` processes, at most `most`, or Ray's actors where it is "ray" or "ray:ADDRESS"."""
    if not isinstance(workers, str):
        return Pool(make, max(1, min(worker_count(env, workers), most)), isolate, patience)
    if env.real:
        raise ValueError(f"--workers {workers}: {env.real} is one robot; leave --workers out")
    return RayPool(make, 0, workers.removeprefix(RAY).removeprefix(":"), patience)


def worker_count(env: EnvConfig, workers: int) -> int:
    """How many processes act: `workers`, or of 0 one a core; a robot is there once."""
    if workers < 0:
        raise ValueError(f"workers: expected 1 or more, or 0 for all cores, got {workers}")
    if env.real and workers > 1:
        raise ValueError(f"--workers {workers}: {env.real} is one robot, so there is one worker")
    return 1 if env.real else workers or os.cpu_count() or 1


class Arena:
    """Rollouts of one environment over worker processes. Results come in the order of the seeds
    and do not depend on the number of workers, which of a real robot is 1.

    A worker that dies, or that has been at one job (an episode, or all tries of a start) for
    `patience` seconds, is replaced and its job done again; only that of a robot, which is this very
    process, is neither: there RosEnv knows how long to wait. A job that two workers were lost with
    ends the run (WorkerError), except of `rollouts` that may play a spare start.
    """

    isolate = True  # one worker, too, is a process that may hang or die; it takes seconds to start

    def __init__(
        self,
        env: EnvConfig,
        workers: int | str = 0,
        make: Callable[[], Worker] = make_worker,
        patience: float = PATIENCE,
    ):
        self.config = env
        self._warned: set = set()
        apart = self.isolate and not env.real
        self._pool = open_pool(make, env, workers, isolate=apart, patience=patience)

    @property
    def lost(self) -> int:
        """Workers that died or hung so far, each while it was at one try; all were replaced."""
        return self._pool.lost

    def _folder(self, policy: str | Path) -> str:
        """Of a saved policy; warns once if it will see pictures of another kind than it knows, or
        be asked for something else."""
        card, env = VLA.read_card(policy), self.config
        trained, known = card.spec.conventions.get("render", ""), card.instructions
        for why, text in (
            (trained, profile_warning(str(policy), trained, env.render)),
            (known, unheard(str(policy), known, [env.task], env.real)),
        ):
            if text and why not in self._warned:
                self._warned.add(why)
                print(f"warning: {text}", file=sys.stderr, flush=True)
        return str(Path(policy).resolve())

    def demonstrations(self, seeds: list[int], noise: float, label: str) -> Iterator[Episode]:
        jobs = [(self.config, seed, noise) for seed in seeds]
        yield from progress(self._pool.run(_demonstrate, jobs), label, len(jobs))

    def rollouts(
        self,
        policy: str | Path,
        runner: RunnerConfig,
        seeds: list[int],
        label: str,
        tries: int = 1,
        led: Led = ALONE,
        pictures: bool = True,
        spare: bool = False,
    ) -> Iterator[Episode]:
        """`tries` per seed, one after the other. With `spare` a try that two workers were lost with
        is one of another start instead, which its episode's seed tells."""
        folder, how = self._folder(policy), (led, pictures)
        jobs = [(self.config, folder, runner, s, k, *how) for s in seeds for k in range(tries)]
        played = self._pool.run(_roll, jobs, _elsewhere if spare else None)
        yield from progress(played, label, len(jobs))

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
        differ from episode to episode have no such place, and nobody knows those of a robot."""
        cameras = {}
        if not env.perturb.get("camera") and not env.real:
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
