"""A device that plays a script: for tests, and as a stand-in for a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from robostack.real.teleop.device import Poll


class Scripted:
    """Each poll is the next one of a script; at its end nothing is held.

    `script` is called when an episode begins (`begin`), so that it may look at the scene.
    """

    def __init__(self, script: Callable[[], Iterator[Poll]]):
        self._script = script
        self._left: Iterator[Poll] = iter(())

    def begin(self) -> None:
        self._left = self._script()

    def poll(self, now: float) -> Poll:
        return next(self._left, Poll({}, frozenset(), True))

    def close(self) -> None:
        self._left = iter(())
