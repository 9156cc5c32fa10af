"""Planning beside acting: a thread computes chunks, the robot takes actions at its own rate."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robostack.types import Observation, RobotSpec

SLACK = 1e-6  # of a step: clocks and stamps are rounded
STALE = 60.0  # [s] no robot acts on what it saw so long ago: the stamp is of another clock


class Planner(Protocol):
    """A `ChunkRunner` here, or a `RemotePolicy` somewhere else."""

    def plan(
        self, observation: Observation, previous: np.ndarray | None, delay: int
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class Statistics:
    """What happened so far."""

    chunks: int
    delay: int  # control steps that the next chunk is expected to take
    latency_ms: float  # median of the recent ones, from an observation's stamp to its chunk
    latency_p99_ms: float
    dropped: int  # steps of chunks whose time had passed when they arrived
    underruns: int  # times that there was no action to take


class AsyncRunner:
    """Offer it observations, take actions from it; neither waits for the policy.

    Row i of a chunk is meant for `stamp + i / control_hz` of its observation. Stamps, the `now` of
    `take` and `clock` must be times of one clock; an environment's own often begins at 0. A chunk
    is asked for once `execute` rows of the last one are due, with what the robot is about to do
    and a delay that is the largest of the last `memory` ones (2506.07339, algorithm 1). What goes
    wrong in the thread is raised by the next `take`.

    `tell(stamp, chunk)` is called in the thread with every chunk f32[H, A], for who does not `take`
    but executes whole chunks somewhere else; it must be quick.
    """

    def __init__(
        self,
        planner: Planner,
        spec: RobotSpec,
        execute: int = 1,
        memory: int = 10,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[float, np.ndarray], None] | None = None,
    ):
        if execute < 1:
            raise ValueError(f"execute: expected 1 or more, got {execute}")
        self.planner, self.execute, self.clock, self.tell = planner, execute, clock, tell
        self.dims = spec.action_dim
        self.period = 1 / spec.control_hz
        self._latencies: deque[float] = deque(maxlen=max(1, memory))
        self._all: deque[float] = deque(maxlen=1000)
        self._lock = threading.Condition()
        self._offered: Observation | None = None
        self._chunk: tuple[float, np.ndarray] | None = None  # stamp of row 0 [s], f32[H, A]
        self._error: BaseException | None = None
        self._chunks = self._dropped = self._underruns = self._forgotten = 0
        self._closed = self._busy = False
        self._thread = threading.Thread(target=self._work, name="planner", daemon=True)
        self._thread.start()

    def offer(self, observation: Observation) -> None:
        """The newest observation; it replaces one that no chunk was begun for yet.

        Raises ValueError for a stamp that cannot be of `clock`.
        """
        age = self.clock() - observation.stamp
        if not -self.period <= age <= STALE:
            raise ValueError(
                f"observation: its stamp is {age:.6g} s behind the clock, expected 0 to {STALE:g}; "
                "are they of the same clock?"
            )
        with self._lock:
            self._offered = observation
            self._lock.notify_all()

    def forget(self) -> None:
        """Somebody else has moved the robot, or another try begins: nothing is being executed any
        more, and a chunk that is under way is dropped when it arrives."""
        with self._lock:
            self._offered = self._chunk = None
            self._forgotten += 1

    def check(self) -> None:
        """Raises RuntimeError where the policy failed in its thread."""
        if self._error is not None:
            raise RuntimeError(f"the policy failed: {self._error}") from self._error

    def wants(self, stamp: float) -> bool:
        """Whether a chunk would be begun now for an observation of that time: others need not be
        made."""
        with self._lock:
            return not self._busy and self._outlived(stamp)

    def take(self, now: float) -> np.ndarray | None:
        """The action f32[A] that is due, or None: hold still, there is none."""
        with self._lock:
            self.check()
            if self._chunk is not None:
                row = self._row(self._chunk[0], now)
                if 0 <= row < len(self._chunk[1]):
                    return self._chunk[1][row].copy()
            self._underruns += 1
            return None

    def _row(self, stamp: float, now: float) -> int:
        return math.floor((now - stamp) / self.period + SLACK)

    def statistics(self) -> Statistics:
        with self._lock:
            latencies = 1e3 * np.array(self._all or [0.0])
            return Statistics(
                self._chunks,
                self._delay(),
                float(np.median(latencies)),
                float(np.quantile(latencies, 0.99)),
                self._dropped,
                self._underruns,
            )

    def _delay(self) -> int:
        return math.ceil(max(self._latencies, default=0.0) / self.period - SLACK)

    def settle(self, timeout: float) -> bool:
        """Wait until no chunk is being computed and none is due; False after `timeout` [s]."""
        with self._lock:
            return self._lock.wait_for(
                lambda: self._error is not None or not (self._busy or self._due()), timeout
            )

    def close(self, timeout: float = 10.0) -> bool:
        """Ends the thread after the chunk that it is at; False if that is not there after
        `timeout` [s]: a policy that hangs must not keep a robot's program from ending."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _due(self) -> bool:
        """Whether a chunk is to be begun for what was offered."""
        return self._offered is not None and self._outlived(self._offered.stamp)

    def _outlived(self, stamp: float) -> bool:
        """Whether enough rows of the chunk are due by then."""
        return self._chunk is None or self._row(self._chunk[0], stamp) >= self.execute

    def _work(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._closed or self._due())
                if self._closed:
                    return
                observation, self._offered, self._busy = self._offered, None, True
                previous = self._remainder(observation.stamp)
                delay = 0 if previous is None else min(self._delay(), len(previous))
                forgotten = self._forgotten
            try:
                chunk = self.planner.plan(observation, previous, delay)
                with self._lock:
                    if forgotten == self._forgotten:
                        self._receive(observation.stamp, chunk)
            except BaseException as error:
                with self._lock:
                    self._error = error
                    self._lock.notify_all()
                return
            with self._lock:
                self._busy = False
                self._lock.notify_all()

    def _remainder(self, stamp: float) -> np.ndarray | None:
        """What the robot will do from `stamp` on; None where the old chunk has come to its end."""
        if self._chunk is None:
            return None
        rest = self._chunk[1][max(0, self._row(self._chunk[0], stamp)) :]
        return rest if len(rest) else None

    def _receive(self, stamp: float, chunk: np.ndarray) -> None:
        if chunk.ndim != 2 or chunk.shape[1] != self.dims or not np.isfinite(chunk).all():
            raise ValueError(
                f"expected finite actions f32[H, {self.dims}] of the planner, got "
                f"{chunk.dtype}{list(chunk.shape)}"
            )
        late = max(0.0, self.clock() - stamp)
        self._latencies.append(late)
        self._all.append(late)
        self._dropped += min(len(chunk), max(0, self._row(stamp, stamp + late)))
        self._chunk, self._chunks = (stamp, chunk), self._chunks + 1
        if self.tell is not None:
            self.tell(stamp, chunk.copy())
