"""Stack: put the small cube on the large one."""

from collections.abc import Iterator

import numpy as np

from robostack.sim.experts import (
    CLOSE,
    OPEN,
    Goal,
    brought,
    go,
    hold,
    holds,
    on_beside,
    pointing_down,
    raise_by,
    take,
)
from robostack.sim.scene import Scene
from robostack.sim.tasks.task import Task


def grip(scene: Scene) -> Goal:
    return on_beside(scene, "cubeA_main", "cubeB_main")


def expert(scene: Scene) -> Iterator[np.ndarray]:
    def over(height: float):
        to = brought(scene, "cubeA_main", lambda: scene.point("cubeB_main") + [0, 0, height])
        return lambda: (to()[0], pointing_down(scene.gripper()[1], scene.body("cubeB_main")[1]))

    held = holds(scene, "cubeA_main", within=0.04)
    while True:
        yield from take(scene, grip(scene), 0.09, height=0.14)
        yield from go(scene, over(0.10), CLOSE, tolerance=0.008, steps=80, while_=held)
        yield from go(scene, over(0.047), CLOSE, tolerance=0.005, steps=40, while_=held)
        yield from hold(scene, OPEN, 8)
        yield from raise_by(scene, 0.10, OPEN, steps=20)
        yield from hold(scene, OPEN, 6)


TASK = Task(
    name="Stack",
    instruction="stack the red cube on the green cube",
    keypoints={"object": "cubeA_main", "target": "cubeB_main"},
    horizon=160,
    expert=expert,
    grip=grip,
    dense=True,
)
