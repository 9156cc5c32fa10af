"""Stack: put the small cube on the large one."""

from collections.abc import Iterator

import numpy as np

from robostack.sim.experts import CLOSE, OPEN, go, hold, pointing_down, raise_by, take
from robostack.sim.scene import Scene
from robostack.sim.tasks.task import Task


def expert(scene: Scene) -> Iterator[np.ndarray]:
    def over(height: float):
        def goal():
            # servo the held cube, not the gripper: it may have slipped between the fingers
            held, base = scene.body("cubeA_main")[0], scene.body("cubeB_main")
            position, rotation = scene.gripper()
            offset = base[0] - held + [0, 0, height]
            return position + offset, pointing_down(rotation, base[1])

        return goal

    yield from take(scene, "cubeA_main", above=0.09, height=0.14, beside="cubeB_main")
    yield from go(scene, over(0.10), CLOSE, tolerance=0.008, steps=80)
    yield from go(scene, over(0.047), CLOSE, tolerance=0.005, steps=40)
    yield from hold(scene, OPEN, 8)
    yield from raise_by(scene, 0.10, OPEN, steps=20)
    yield from hold(scene, OPEN, 6)


TASK = Task(
    name="Stack",
    instruction="stack the red cube on the green cube",
    keypoints={"object": "cubeA_main", "target": "cubeB_main"},
    horizon=160,
    expert=expert,
)
