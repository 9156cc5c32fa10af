"""Worker processes that change nothing but the time it takes, and whose death loses nothing."""

from __future__ import annotations

import abc
import contextlib
import itertools
import multiprocessing
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

DIED = "died"  # kind of the outcome of a job that its worker did not survive
PATIENCE = 1800.0  # [s] that a job may take; whatever takes longer hangs, and its worker is killed
AHEAD = 2  # jobs that a worker has at hand, so that it need not wait for the parent
WINDOW = 4  # results a worker may be ahead of the one that is waited for: images are large
Spare = Callable[..., tuple]  # of a job's arguments: a job to do in its place


class WorkerError(RuntimeError):
    """A job failed in a worker process, or the process died; carries the traceback if any."""


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    value: Any = None
    error: str = ""  # "" where it succeeded; else one line, and the traceback after an empty line
    kind: str = ""  # name of the exception's class; DIED for a process that is gone
    attempts: int = 1


def attempt(context: list, setup: Callable, function: Callable, job: tuple) -> tuple:
    """(value, error, kind). A context that a job failed in is closed and made anew for the next:
    nobody knows what state it is in."""
    try:
        if not context:
            context.append(setup())
        return function(context[0], *job), "", ""
    except Exception as error:
        what = f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}"
        with contextlib.suppress(Exception):
            while context:
                context.pop().close()
        return None, what, type(error).__name__


def _work(setup: Callable[[], Any], pipe: connection.Connection) -> None:
    context: list = []
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            index, function, job = pipe.recv()
            pipe.send((index, *attempt(context, setup, function, job)))


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


class _Worker:
    """A process, our end of its pipe, and the jobs it has been sent, first come first served."""

    def __init__(self, setup: Callable[[], Any]):
        spawn = multiprocessing.get_context("spawn")  # GL contexts and threads do not survive fork
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(setup, theirs), daemon=True)
        with _uninterrupted():
            self.process.start()
        theirs.close()  # only then does a dead worker's pipe end
        self.sent: deque[int] = deque()
        self.since = time.monotonic()  # it is at the first of these

    def overdue(self, patience: float) -> bool:
        return bool(self.sent) and time.monotonic() - self.since > patience

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(timeout=5)
        self.process.kill()  # whoever hangs need not hear the first
        self.pipe.close()

    def epitaph(self, patience: float) -> str:
        if self.overdue(patience):
            return (
                f"a worker hung: its job was not done after {patience:g} s (--patience), and it "
                "was killed"
            )
        self.process.join(timeout=5)
        code = self.process.exitcode
        if code == -signal.SIGKILL:
            return (
                "a worker was killed (signal 9), most likely because the machine ran out of "
                "memory; use fewer --workers or smaller images"
            )
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"a worker died with {how}"


@dataclass
class JobQueue:
    """Jobs of one run: what is waiting, what was tried how often, what is done."""

    jobs: Iterator[tuple]
    spare: Spare | None = None
    taken: dict[int, tuple] = field(default_factory=dict)
    again: deque[int] = field(default_factory=deque)
    tries: dict[int, int] = field(default_factory=dict)
    done: dict[int, Outcome] = field(default_factory=dict)
    wanted: int = 0  # the next result to hand out
    spared: set[int] = field(default_factory=set)  # those that another job was put in the place of

    def next(self, limit: int) -> int | None:
        """The next job to send, at most `limit` ahead of the wanted one."""
        if self.again:
            return self.again.popleft()
        index = len(self.tries)
        if index >= self.wanted + limit:
            return None
        for job in itertools.islice(self.jobs, 1):
            self.taken[index] = job
            self.tries[index] = 0
            return index
        return None

    def settle(self, index: int, value: Any, error: str, kind: str) -> None:
        del self.taken[index]
        self.done[index] = Outcome(value, error, kind, self.tries[index])

    def bereave(self, sent: list[int], retries: int, epitaph: str) -> None:
        """A worker is gone with the jobs that it was sent, the first of which it died of: that one
        is tried `retries` more times, then a spare one as often; the rest as if not sent."""
        killer, *rest = sent
        for index in rest:
            self.tries[index] -= 1
        self.again.extendleft(reversed(rest))
        if self.tries[killer] <= retries:
            self.again.appendleft(killer)
        elif self.spare is not None and killer not in self.spared:
            self.spared.add(killer)
            self.taken[killer], self.tries[killer] = self.spare(*self.taken[killer]), 0
            self.again.appendleft(killer)
        else:
            self.settle(killer, None, epitaph, DIED)


class Workers(abc.ABC):
    """Whoever does jobs elsewhere: processes (`Pool`), or Ray's actors.

    Each holds what `setup()` returns: anything with a close(). Results come in the order of the
    jobs, whatever the order they finish in, so they never depend on the number of workers. One that
    dies, or that has been at one job for `patience` seconds, is replaced; `lost` counts them.
    """

    patience: float
    lost: int = 0

    def run(
        self, function: Callable, jobs: Iterable[tuple], spare: Spare | None = None
    ) -> Iterator[Any]:
        """function(context, *job) of every job. Raises WorkerError at the first that fails. One
        whose worker was lost is done once more; one that two were lost with is replaced by a
        `spare`, if there is any, or has failed."""
        with contextlib.closing(self.outcomes(function, jobs, spare=spare)) as outcomes:
            for outcome in outcomes:
                if outcome.error:
                    raise WorkerError(f"a rollout worker failed: {outcome.error}")
                yield outcome.value

    def outcomes(
        self,
        function: Callable,
        jobs: Iterable[tuple],
        retries: int = 1,
        spare: Spare | None = None,
    ) -> Iterator[Outcome]:
        """Like `run`, but a job that fails is reported and the rest goes on; one whose worker was
        lost is done `retries` more times."""
        jobs = iter(jobs)
        first = list(itertools.islice(jobs, 1))
        if not first:  # nobody need be started
            return
        queue, complete = JobQueue(itertools.chain(first, jobs), spare), False
        try:
            self._start()
            while self._feed(queue, function):
                self._collect(queue, retries)
                while queue.wanted in queue.done:
                    yield queue.done.pop(queue.wanted)
                    queue.wanted += 1
            complete = True
        finally:
            if not complete:  # abandoned or failed: unread results must not reach the next run
                self._dismiss()

    @abc.abstractmethod
    def _start(self) -> None: ...

    @abc.abstractmethod
    def _feed(self, queue: JobQueue, function: Callable) -> bool:
        """Give every worker something to do; False once nothing is left to wait for."""

    @abc.abstractmethod
    def _collect(self, queue: JobQueue, retries: int) -> None:
        """Wait for one result, a loss, or the end of patience."""

    @abc.abstractmethod
    def _dismiss(self) -> None:
        """End all, whatever they are at."""

    @abc.abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Pool(Workers):
    """Worker processes. `setup` and the functions must be importable by name. With one worker
    everything runs in this process, where nobody notices that it hangs, unless `isolate` asks for a
    process that may hang and die. `patience` is in seconds."""

    def __init__(
        self,
        setup: Callable[[], Any],
        workers: int,
        isolate: bool = False,
        patience: float = PATIENCE,
    ):
        if workers < 1 or not patience > 0:
            raise ValueError(
                f"workers={workers}, patience={patience}: expected 1 or more, and above 0"
            )
        self.patience = patience
        self._setup, self.workers, self._here = setup, workers, workers == 1 and not isolate
        self._workers: list[_Worker] = []
        self._context: list = []

    def run(
        self, function: Callable, jobs: Iterable[tuple], spare: Spare | None = None
    ) -> Iterator[Any]:
        if not self._here:
            yield from super().run(function, jobs, spare)
            return
        if not self._context:
            self._context.append(self._setup())
        for job in jobs:
            yield function(self._context[0], *job)

    def outcomes(
        self,
        function: Callable,
        jobs: Iterable[tuple],
        retries: int = 1,
        spare: Spare | None = None,
    ) -> Iterator[Outcome]:
        if not self._here:
            yield from super().outcomes(function, jobs, retries, spare)
            return
        for job in jobs:
            yield Outcome(*attempt(self._context, self._setup, function, job))

    def _start(self) -> None:
        while len(self._workers) < self.workers:
            self._workers.append(_Worker(self._setup))

    def _feed(self, queue: JobQueue, function: Callable) -> bool:
        for rank, worker in itertools.product(range(AHEAD), self._workers):
            if len(worker.sent) > rank:
                continue
            index = queue.next(WINDOW * self.workers)
            if index is None:
                break
            worker.sent.append(index)
            queue.tries[index] += 1
            if len(worker.sent) == 1:
                worker.since = time.monotonic()
            with contextlib.suppress(OSError):  # it has just died: _collect will find out
                worker.pipe.send((index, function, queue.taken[index]))
        return bool(queue.taken)

    def _collect(self, queue: JobQueue, retries: int) -> None:
        pipes = {worker.pipe: worker for worker in self._workers if worker.sent}
        oldest = min(worker.since for worker in pipes.values())
        wait = max(0.0, oldest + self.patience - time.monotonic())
        ready = connection.wait(list(pipes), wait + 0.01)
        for worker in [] if ready else [w for w in pipes.values() if w.overdue(self.patience)]:
            self._bury(worker, queue, retries)
        for pipe in ready:
            worker = pipes[pipe]
            try:
                index, value, error, kind = pipe.recv()
            except (EOFError, OSError):
                self._bury(worker, queue, retries)
                continue
            worker.sent.remove(index)
            worker.since = time.monotonic()
            queue.settle(index, value, error, kind)

    def _bury(self, worker: _Worker, queue: JobQueue, retries: int) -> None:
        """Replace a dead worker, or one that hangs."""
        epitaph, self.lost = worker.epitaph(self.patience), self.lost + 1
        queue.bereave(list(worker.sent), retries, epitaph)
        print(f"warning: {epitaph}; another takes its place", file=sys.stderr, flush=True)
        worker.stop()
        self._workers[self._workers.index(worker)] = _Worker(self._setup)

    def _dismiss(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def close(self) -> None:
        self._dismiss()
        while self._context:
            self._context.pop().close()
