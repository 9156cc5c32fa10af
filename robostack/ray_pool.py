"""The workers of a `Pool` as actors of Ray: on this machine, or on all of a cluster."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from robostack.pool import (
    PATIENCE,
    WINDOW,
    JobQueue,
    Outcome,
    Spare,
    WorkerError,
    Workers,
    attempt,
)


def _ray():
    try:
        import ray
    except ImportError:
        raise ValueError(
            "--workers ray needs Ray, which is not installed: pip install 'robostack[ray]'"
        ) from None
    return ray


def _require_reachable(address: str) -> None:
    """Ray itself would try for minutes. Raises ValueError where nobody answers at host:port."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ValueError(f"--workers ray:{address}: no cluster answers there ({error})") from None


def _line(error: Exception) -> str:
    """What there is to say of an error, whose text may be pages."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


class _Remote:
    """What runs elsewhere: a context, made when the first job comes."""

    def __init__(self, setup: Callable[[], Any]):
        self.setup, self.context = setup, []

    def do(self, function: Callable, job: tuple) -> tuple:
        return attempt(self.context, self.setup, function, job)


class _Actor:
    """A remote, and the one job that it is at: of two nobody could tell which it was lost with,
    because an answer may be lost on its way, too."""

    def __init__(self, make: Callable, setup: Callable[[], Any]):
        self.handle = make(setup)
        self.index: int | None = None
        self.since = 0.0

    def send(self, index: int, function: Callable, job: tuple) -> Any:
        """The reference of the result."""
        self.index, self.since = index, time.monotonic()
        return self.handle.do.remote(function, job)


class RayPool(Workers):
    """Ray's actors.

    It joins the cluster at `address`, or the one that RAY_ADDRESS names, or starts one here.
    `workers` 0 is an actor for each of the cluster's CPUs. Jobs name policies by their folder,
    which every machine must see at the same path.
    """

    def __init__(
        self,
        setup: Callable[[], Any],
        workers: int = 0,
        address: str = "",
        patience: float = PATIENCE,
    ):
        ray = _ray()
        self._started = not ray.is_initialized()
        if self._started:
            _require_reachable(address)
        try:
            if self._started:
                ray.init(address or None, log_to_driver=False, logging_level="error")
            self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        except ray.exceptions.RayError as error:
            where = f"ray:{address}" if address else "ray"
            raise ValueError(f"--workers {where}: {_line(error)}") from error
        self._make = ray.remote(num_cpus=1)(_Remote).remote
        self._setup, self.patience = setup, patience
        self._actors: list[_Actor] = []
        self._busy: dict[Any, _Actor] = {}  # by the reference of what they are at

    def outcomes(
        self,
        function: Callable,
        jobs: Iterable[tuple],
        retries: int = 1,
        spare: Spare | None = None,
    ) -> Iterator[Outcome]:
        """Raises WorkerError where all of Ray is gone, and no actor can be put in another's
        place."""
        try:
            yield from super().outcomes(function, jobs, retries, spare)
        except _ray().exceptions.RayError as error:
            raise WorkerError(f"Ray failed, and with it all actors ({_line(error)})") from error

    def _start(self) -> None:
        while len(self._actors) < self.workers:
            self._actors.append(_Actor(self._make, self._setup))

    def _feed(self, queue: JobQueue, function: Callable) -> bool:
        for actor in self._actors:
            if actor.index is None:
                index = queue.next(WINDOW * self.workers)
                if index is None:
                    break
                queue.tries[index] += 1
                self._busy[actor.send(index, function, queue.taken[index])] = actor
        return bool(queue.taken)

    def _collect(self, queue: JobQueue, retries: int) -> None:
        ray = _ray()
        wait = self.patience + min(a.since for a in self._busy.values()) - time.monotonic()
        ready, _ = ray.wait(list(self._busy), timeout=max(0.01, wait))
        if not ready:
            hung = f"an actor hung: its job was not done after {self.patience:g} s (--patience)"
            for reference, actor in list(self._busy.items()):
                if time.monotonic() - actor.since > self.patience:
                    self._bury(reference, queue, retries, hung)
            return
        try:
            value = ray.get(ready[0])
        except ray.exceptions.RayTaskError as error:  # it or its result could not be sent
            text = f"{_line(error.cause)}\n\n{error}"
            value = None, text, type(error.cause).__name__
        except ray.exceptions.RayError as error:  # of an actor, its machine, or what it said
            self._bury(ready[0], queue, retries, f"an actor was lost ({_line(error)})")
            return
        actor = self._busy.pop(ready[0])
        queue.settle(actor.index, *value)
        actor.index = None

    def _bury(self, reference: Any, queue: JobQueue, retries: int, epitaph: str) -> None:
        actor = self._busy.pop(reference)
        _ray().kill(actor.handle)
        self.lost += 1
        queue.bereave([actor.index], retries, epitaph)
        self._actors[self._actors.index(actor)] = _Actor(self._make, self._setup)
        print(f"warning: {epitaph}; another takes its place", file=sys.stderr, flush=True)

    def _dismiss(self) -> None:
        for actor in self._actors:
            with contextlib.suppress(_ray().exceptions.RayError):  # where Ray is gone, so are they
                _ray().kill(actor.handle)
        self._actors, self._busy = [], {}

    def close(self) -> None:
        self._dismiss()
        if self._started and _ray().is_initialized():
            _ray().shutdown()
