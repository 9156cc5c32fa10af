"""Keys and gamepad of whoever looks at the page. The browser knows presses and releases, tells all
that is held many times a second, and nothing when its window loses the focus."""

from __future__ import annotations

import math
import threading

from robostack.real.teleop.device import LOST, Poll

SILENT = 0.5  # [s] without a word after which nobody drives
MANY = 64  # keys or axes in one message


class BrowserInput:
    """What one page tells, from any thread. `feed` raises ValueError for what is no message."""

    def __init__(self, silent: float = SILENT):
        self.silent = silent
        self._lock = threading.Lock()
        self.gone()

    def feed(self, message: dict, now: float) -> None:
        """{"held": [names], "axes": {name: -1 to 1}, "n": counts up}; an older n than the last one
        is left out. All that is held is told each time, so no release can be missed."""
        number, held, axes = (message.get(k) for k in ("n", "held", "axes"))
        named = isinstance(held, list) and all(isinstance(k, str) and len(k) < 32 for k in held)
        pushed = isinstance(axes, dict) and all(
            isinstance(v, (int, float)) and math.isfinite(v) for v in axes.values()
        )
        if not (isinstance(number, int) and named and pushed and len(held) + len(axes) <= MANY):
            raise ValueError(f"expected n, held and axes, got {str(message)[:80]}")
        with self._lock:
            if number > self._number:
                clipped = {str(k): max(-1.0, min(1.0, float(v))) for k, v in axes.items()}
                self._tapped |= set(held) - self._told.buttons
                self._told, self._at = Poll(clipped, frozenset(held), True), now
                self._number = number

    def gone(self) -> None:
        """The page was closed, or somebody else drives."""
        with self._lock:
            self._told, self._at, self._number = LOST, -math.inf, -1
            self._tapped: frozenset[str] = frozenset()

    def poll(self, now: float) -> Poll:
        """What is held, and what was pressed since the last poll: a quick tap counts, too."""
        with self._lock:
            tapped, self._tapped = self._tapped, frozenset()
            if now - self._at > self.silent:
                return LOST
            return self._told._replace(buttons=self._told.buttons | tapped)

    def close(self) -> None:
        self.gone()
