"""Lift: raise a cube off the table."""

from collections.abc import Iterator

import numpy as np

from robostack.sim.experts import CLOSE, hold, on, take
from robostack.sim.scene import Scene
from robostack.sim.tasks.task import Task


def expert(scene: Scene) -> Iterator[np.ndarray]:
    while True:
        yield from take(scene, on(scene, "cube_main"), above=0.08, height=0.12)
        yield from hold(scene, CLOSE, 10)


TASK = Task(
    name="Lift",
    instruction="lift the red cube",
    keypoints={"object": "cube_main"},
    horizon=80,
    expert=expert,
    dense=True,
)
