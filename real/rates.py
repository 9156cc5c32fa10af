"""How often messages come, and how old what they tell is by then."""

from __future__ import annotations

import math
import struct
import threading
from collections import deque


class Rate:
    """How often a topic comes, over a sliding window of receive times."""

    def __init__(self, window: float = 2.0):
        self.window = window  # [s]
        self._times: deque[float] = deque()
        self._last = -math.inf
        self._lock = threading.Lock()

    def tick(self, now: float) -> None:
        with self._lock:
            self._times.append(now)
            self._last = now
            self._forget(now)

    def hz(self, now: float) -> float:
        """Messages a second; 0 once none came for the window."""
        with self._lock:
            self._forget(now)
            if len(self._times) < 2:
                return 0.0
            # a stream that has just ended slows down before it is forgotten
            span = max(self._times[-1] - self._times[0], now - self._times[0] - self.window / 2)
            return (len(self._times) - 1) / span if span > 0 else 0.0

    def age(self, now: float) -> float:
        """Seconds since the last one; infinite before the first one."""
        return now - self._last

    def _forget(self, now: float) -> None:
        while self._times and now - self._times[0] > self.window:
            self._times.popleft()


def header_stamp(message: bytes) -> float:
    """[s] of a serialised message that begins with a header (CDR); 0 where nobody set it."""
    sec, nanosec = struct.unpack_from("<iI" if message[1] else ">iI", message, 4)
    return sec + 1e-9 * nanosec
