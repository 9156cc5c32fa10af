"""What a task file states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from robostack.sim.scene import Scene


@dataclass(frozen=True)
class Task:
    """A robosuite task: everything that the rest of robostack needs to know of it."""

    name: str  # robosuite's own
    instruction: str
    bodies: dict[str, str]  # keypoint -> MuJoCo body
    horizon: int  # control steps a policy is given
    expert: Callable[[Scene], Iterator[np.ndarray]]  # yields legal actions f32[A]
