"""rollout(env, policy) -> Episode, alone or over worker processes."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robostack.protocols import Env, Policy, Snapshots
from robostack.types import Episode, Step


@dataclass
class Recorder:
    """Collects Steps and actions and turns them into an Episode."""

    env: Env
    source: str
    seed: int
    group: str = ""
    steps: list[Step] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)

    def episode(self) -> Episode:
        seen = [step.observation for step in self.steps]
        last = self.steps[-1]
        return Episode(
            states=np.stack([o.state for o in seen]),
            images={name: np.stack([o.images[name] for o in seen]) for name in seen[0].images},
            stamps=np.array([o.stamp for o in seen], np.float64),
            actions=np.stack(self.actions).astype(np.float32),
            task=seen[0].task,
            success=last.success,
            terminated=last.terminated,
            source=self.source,
            seed=self.seed,
            spec=self.env.spec,
            keypoints={
                name: np.stack([step.keypoints[name] for step in self.steps])
                for name in self.steps[0].keypoints
            },
            group=self.group,
        )


def rollout(
    env: Env,
    policy: Policy,
    seed: int,
    *,
    start: Step | None = None,
    policy_seed: int | None = None,
    max_steps: int | None = None,
    source: str = "rollout",
    group: str = "",
) -> Episode:
    """One try: until the environment ends it or after `max_steps` actions.

    `start` continues from a Step that `env` has just returned (a restored snapshot) instead of
    resetting to `seed`. `policy_seed` fixes what the policy draws; it defaults to `seed`.
    """
    policy.reset(seed if policy_seed is None else policy_seed)
    record = Recorder(env, source, seed, group, [env.reset(seed) if start is None else start])
    while True:
        for action in policy.act(record.steps[-1].observation):
            step = env.step(action)
            record.steps.append(step)
            record.actions.append(np.asarray(action, np.float32))
            full = max_steps is not None and len(record.actions) >= max_steps
            if step.terminated or step.truncated or full:
                return record.episode()


def branches(
    env: Env, policy: Policy, seed: int, *, tries: int, every: int, span: int, points: int
) -> list[Episode]:
    """Several tries from the same simulator states along one rollout of the policy.

    At reset and after every `every` actions, at most `points` times, the full state is kept and
    `tries` rollouts of up to `span` actions start from it. They share a `group` and differ only in
    what the policy draws. The environment must offer snapshots.
    """
    if not isinstance(env, Snapshots):
        raise TypeError(f"{type(env).__name__} has no snapshots; branching needs a simulator")
    found: list[Episode] = []
    env.reset(seed)
    for point in range(points):
        here = env.snapshot()
        now = env.restore(here)
        if now.terminated or now.truncated:
            break
        for k in range(tries):
            episode = rollout(
                env,
                policy,
                seed,
                start=env.restore(here),
                policy_seed=hash_seed(seed, point, k),
                max_steps=span,
                group=f"seed {seed} step {point * every}",
            )
            found.append(episode)
        start = env.restore(here)
        trunk_seed = hash_seed(seed, point, tries)
        rollout(env, policy, seed, start=start, policy_seed=trunk_seed, max_steps=every)
    return found


def hash_seed(*key: int) -> int:
    """One seed from several numbers, without the collisions of adding them up."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0])


class WorkerError(RuntimeError):
    """A worker process failed; carries its traceback."""


def _next(jobs, parent: int) -> tuple | None:
    """The next job, or None once the parent is gone: a killed parent must leave no worker."""
    while os.getppid() == parent:
        try:
            return jobs.get(timeout=2.0)
        except queue.Empty:
            continue
    return None


def _work(setup: Callable[[], Any], jobs, results, parent: int) -> None:
    try:
        context = setup()
        while (task := _next(jobs, parent)) is not None:
            index, function, arguments = task
            results.put((index, function(context, *arguments), None))
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        results.put((-1, None, f"{what}\n\n{traceback.format_exc()}"))


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes started within ignore Ctrl-C: it is the parent's, which stops them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it is interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Pool:
    """Worker processes, each holding what `setup()` returns: anything with a close().

    `run(function, jobs)` yields function(context, *job) in the order of `jobs`, whatever the
    order they finish in, so results never depend on the number of workers. `setup` and `function`
    must be importable by name. With one worker everything runs in this process.
    """

    def __init__(self, setup: Callable[[], Any], workers: int):
        if workers < 1:
            raise ValueError(f"workers: expected 1 or more, got {workers}")
        self._setup, self.workers, self._processes = setup, workers, []
        self._context = None

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")  # GL contexts and threads do not survive fork
        self._jobs, self._results = spawn.Queue(), spawn.Queue()
        self._processes = [
            spawn.Process(
                target=_work,
                args=(self._setup, self._jobs, self._results, os.getpid()),
                daemon=True,
            )
            for _ in range(self.workers)
        ]
        with _uninterrupted():
            for process in self._processes:
                process.start()

    def run(self, function: Callable, jobs: Iterable[tuple]) -> Iterator[Any]:
        if self.workers == 1:
            if self._context is None:
                self._context = self._setup()
            for job in jobs:
                yield function(self._context, *job)
            return
        if not self._processes:
            self._start()
        complete = False
        try:
            yield from self._ordered(function, iter(jobs))
            complete = True
        finally:
            if not complete:  # abandoned or failed: unread results must not reach the next run
                self.close()

    def _ordered(self, function: Callable, jobs: Iterator[tuple]) -> Iterator[Any]:
        sent = 0
        for job in itertools.islice(jobs, 2 * self.workers):  # keep queues short: images are large
            self._jobs.put((sent, function, job))
            sent += 1
        done: dict[int, Any] = {}
        for wanted in itertools.count():
            if wanted == sent:
                return
            while wanted not in done:
                index, value, error = self._receive()
                if error:
                    raise WorkerError(f"a rollout worker failed: {error}")
                done[index] = value
                for job in itertools.islice(jobs, 1):
                    self._jobs.put((sent, function, job))
                    sent += 1
            yield done.pop(wanted)

    def _receive(self) -> tuple:
        while True:
            try:
                return self._results.get(timeout=1.0)
            except queue.Empty:
                dead = [p.exitcode for p in self._processes if not p.is_alive()]
                if dead:
                    raise WorkerError(f"a rollout worker died with exit code {dead[0]}") from None

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(timeout=5)
        self._processes = []
        if self._context is not None:
            self._context.close()
            self._context = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
