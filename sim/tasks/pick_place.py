"""PickPlace: carry one grocery from the left bin to its own quarter of the right bin."""

from collections.abc import Iterator

import numpy as np

from robostack.sim.experts import CLOSE, OPEN, brought, go, hold, holds, on, raise_by, take
from robostack.sim.scene import Scene
from robostack.sim.tasks.task import Expert, Task

_RIM = 0.90  # height of the bins' walls [m]
_REACH = 0.80  # of the arm that holds something low over a bin, from the base's axis [m]
_ANY_YAW = 1e-3  # symmetry of a can [rad]


def _reachable(scene: Scene, target: np.ndarray) -> np.ndarray:
    """`target` f64[2] [m], pulled towards the robot's base where the arm would have to stretch."""
    base = scene.point("robot0_base")[:2]
    return base + (target - base) * min(1.0, _REACH / np.linalg.norm(target - base))


def _expert(thing: str, higher: float, bottom: float, **faces: float) -> Expert:
    """Grip `higher` [m] than the origin, from which the thing reaches down by `bottom` [m], by the
    `faces` of robostack.sim.experts.on. The palm is 0.039 m above the grip."""
    body = f"{thing}_main"

    def expert(scene: Scene) -> Iterator[np.ndarray]:
        def over(height: float):
            x, y = _reachable(scene, scene.point(f"Visual{body}")[:2])
            return brought(scene, body, lambda: np.array([x, y, height + bottom]))

        held = holds(scene, body, within=abs(higher) + 0.04)
        grip = on(scene, body, higher, **faces)
        while True:
            rise = _RIM + 0.03 + bottom - scene.point(body)[2]
            yield from take(scene, grip, above=0.09, height=rise)
            yield from go(scene, over(_RIM + 0.04), CLOSE, tolerance=0.03, steps=120, while_=held)
            yield from go(scene, over(_RIM - 0.03), CLOSE, tolerance=0.02, steps=20, while_=held)
            yield from hold(scene, OPEN, 6)
            yield from raise_by(scene, 0.10, OPEN, steps=15)

    return expert


def _task(thing: str, quarter: str, horizon: int, **grip: float) -> Task:
    return Task(
        name=f"PickPlace{thing}",
        instruction=f"put the {thing.lower()} into the {quarter} quarter of the bin on the right",
        keypoints={"object": f"{thing}_main", "target": f"Visual{thing}_main"},
        horizon=horizon,
        expert=_expert(thing, **grip),
        support=lambda suite: suite.bin1_pos,
        spacious=False,
        dense=True,
    )


TASKS = [  # quarters as agentview shows them: the front is near the camera
    _task("Milk", "back left", 200, higher=0.05, bottom=0.062),
    _task("Bread", "front left", 300, higher=0.012, bottom=0.024),
    _task("Cereal", "back right", 200, higher=0.045, bottom=0.076, side=np.pi / 2, symmetry=np.pi),
    _task("Can", "front right", 200, higher=0.02, bottom=0.041, symmetry=_ANY_YAW),
]
