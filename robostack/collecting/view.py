"""What a person is shown. A policy may do with 64 pixels, a hand needs more: in simulation the same
cameras are drawn larger for the page, and what is recorded stays as it is."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from robostack.protocols import Env

SHARE = 1 / 3  # of the time that may be spent on drawing


class View:
    """Pictures of an environment for its operator, `side` pixels high and wide where it can be
    drawn anew, else those of the observation."""

    def __init__(self, env: Env, side: int, clock: Callable[[], float] = time.monotonic):
        self.env, self.clock = env, clock
        renderer = getattr(env, "renderer", None)
        through = getattr(renderer, "through", None)
        smaller = {n: (side, side) for n, size in env.spec.cameras.items() if size[0] < side}
        self._renderer = through(smaller) if through and smaller else None
        self._drawn: dict[str, np.ndarray] = {}
        self._again = 0.0

    def pictures(self, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`seen` are those of the observation. What takes long is drawn less often."""
        if self._renderer is None:
            return seen
        began = self.clock()
        if began >= self._again:
            self._drawn = self._renderer.render(self.env.data.qpos)
            now = self.clock()
            self._again = now + (now - began) * (1 / SHARE - 1)
        return {**seen, **self._drawn}
