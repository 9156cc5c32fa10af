"""What a task file states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from robostack.sim.experts import Goal
from robostack.sim.scene import Scene

Expert = Callable[[Scene], Iterator[np.ndarray]]  # yields legal actions f32[A]


def table_top(suite: Any) -> np.ndarray:
    """Centre of a robosuite table's top f64[3] [m]."""
    return np.asarray(suite.table_offset)


@dataclass(frozen=True)
class Task:
    """A robosuite task: everything that the rest of robostack needs to know of it."""

    name: str  # ours, and robosuite's class
    instruction: str
    keypoints: dict[str, str]  # keypoint -> place, see Scene.point
    horizon: int  # control steps a policy is given
    expert: Expert | None = None
    support: Callable[[Any], np.ndarray] | None = table_top  # what the object rests on at first
    grip: Callable[[Scene], Goal] | None = None  # how a hand best takes the object
    arms: int = 1
    cameras: tuple[str, ...] = ("agentview", "robot0_eye_in_hand")
    spacious: bool = True  # whether objects may start in a wider range than robosuite's
    dense: bool = False  # whether robosuite's shaped reward is a function of the present state
    remembers: tuple[str, ...] = ()  # what robosuite's environment counts along the way
