"""Door: turn the handle and pull the door open."""

from collections.abc import Iterator

import numpy as np

from robostack.sim.experts import CLOSE, OPEN, go, hold, turned
from robostack.sim.scene import Scene
from robostack.sim.tasks.task import Task

# gripper in the handle's frame: it points at the door, one finger above the handle and one below
_FACING = np.array([[0, -1, 0], [0, 0, 1], [-1, 0, 0]])
_UNLATCHED = 1.3  # angle of the handle [rad] at which the latch is well clear of the frame


def expert(scene: Scene) -> Iterator[np.ndarray]:
    def grip():
        position, rotation = scene.site("Door_handle")
        return position, rotation @ _FACING

    def before():
        position, rotation = grip()
        return position - 0.1 * rotation[:, 2], rotation

    def held() -> bool:
        return np.linalg.norm(scene.point("site:Door_handle") - scene.gripper()[0]) < 0.04

    def latched() -> bool:
        return held() and scene.joint("Door_latch_joint") < _UNLATCHED - 0.1

    turn = turned(scene, grip, "Door_latch_joint", _UNLATCHED, lead=0.4)
    pull = turned(scene, turn, "Door_hinge", 0.4, lead=0.15)
    while True:
        yield from go(scene, before, OPEN, tolerance=0.02)
        yield from go(scene, grip, OPEN, tolerance=0.01, steps=20)
        yield from hold(scene, CLOSE, 6)
        yield from go(scene, turn, CLOSE, tolerance=0.01, steps=40, while_=latched)
        yield from go(scene, pull, CLOSE, tolerance=0.01, steps=80, while_=held)
        yield from hold(scene, OPEN, 6)


TASK = Task(
    name="Door",
    instruction="turn the handle and open the door",
    keypoints={"object": "site:Door_handle", "target": "Door_frame"},
    horizon=120,
    expert=expert,
)
