"""Whether there is anything to judge: words, and pictures that show something."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robostack.rewards.saved import RewardError
from robostack.types import Observation, RobotSpec

LEAST = 6  # observations before a camera can be called dead: it may be slower than the control
MOVED = 1e-3  # of any state, from which on a picture should change


def require_words(task: str) -> None:
    """Raise RewardError for an instruction without a word."""
    if not task.strip():
        raise RewardError("the episode has no instruction")


def drawn(spec: RobotSpec) -> bool:
    """Whether a simulator draws the pictures. They have no noise, so that a camera which the robot
    has left, or has not reached, shows the very same again and is not dead."""
    return "render" in spec.conventions


class Sight:
    """The pictures of one try as it goes on. Of those that are `drawn` a camera alone may always
    show the same, all of them together may not."""

    def __init__(self, drawn: bool = False):
        self._drawn, self._count = drawn, 0
        self._first: dict[str, np.ndarray] = {}
        self._frozen: set[str] = set()  # cameras that have only ever shown their first frame
        self._flat: set[str] = set()  # and those that have only ever shown one colour

    def see(self, observations: Sequence[Observation]) -> None:
        """`take` of single observations."""
        names = observations[0].images
        images = {name: np.stack([look.images[name] for look in observations]) for name in names}
        self.take(images, np.stack([look.state for look in observations]))

    def take(self, images: dict[str, np.ndarray], states: np.ndarray) -> None:
        """The next N observations, {camera: u8[N, H, W, 3]} and f32[N, S]. Raises RewardError where
        the state moves and a camera has shown nothing but its first frame, or nothing but frames of
        one colour: as a cable shows it that came off, or a driver that hangs."""
        if not self._count:
            self._first = {name: frames[0].copy() for name, frames in images.items()}
            self._frozen, self._flat = set(images), set(images)
            self._low, self._high = states[0], states[0]
        self._count += len(states)
        self._low = np.minimum(self._low, states.min(0))
        self._high = np.maximum(self._high, states.max(0))
        self._frozen = {n for n in self._frozen if (images[n] == self._first[n]).all()}
        self._flat = {n for n in self._flat if (images[n] == images[n][:, :1, :1]).all()}
        if self._count < LEAST or not (self._high - self._low > MOVED).any():
            return
        alive = self._drawn and self._frozen != set(images)
        for name in sorted(self._flat if alive else self._flat | self._frozen):
            what = "shows nothing: each of its" if name in self._flat else "is frozen: all its"
            same = "is of one colour" if name in self._flat else "are the same"
            raise RewardError(
                f"the camera {name!r} {what} {self._count} frames {same} while the state changes"
            )
