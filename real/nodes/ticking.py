"""Doing something at a rate, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rclpy.node import Node

from robostack.real.nodes.node import QUIET


class Pace:
    """Waits for the next multiple of a period; what was missed is skipped and never caught up."""

    def __init__(self, hz: float, clock: Callable[[], float] = time.monotonic):
        self.period, self.clock = 1 / hz, clock
        self.missed = 0  # periods
        self._next = clock()

    def wait(self, stop: threading.Event) -> bool:
        """False where `stop` was set."""
        self._next += self.period
        late = self.clock() - self._next
        if late > 0:
            skipped = int(late / self.period)
            self.missed += skipped
            self._next += skipped * self.period
            return not stop.is_set()
        return not stop.wait(-late)


class Ticking:
    """A thread that calls `tick()` at a rate until it is closed.

    What `tick` raises is reported as `Spin` does, and given to `failed`.
    """

    def __init__(
        self,
        node: Node,
        hz: float,
        tick: Callable[[], None],
        failed: Callable[[Exception], None] | None = None,
    ):
        self.pace, self.failures = Pace(hz), 0
        self._log, self._tick, self._failed = node.get_logger(), tick, failed
        self._stop, self._reported = threading.Event(), -QUIET
        self._thread = threading.Thread(target=self._work, name="ticks", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while self.pace.wait(self._stop):
            try:
                self._tick()
            except Exception as error:
                self.failures += 1
                if time.monotonic() - self._reported >= QUIET:
                    self._reported = time.monotonic()
                    self._log.error(f"a tick failed: {type(error).__name__}: {error}")
                if self._failed is not None:
                    self._failed(error)

    def close(self) -> None:
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(2.0)
