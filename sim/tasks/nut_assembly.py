"""NutAssembly: thread a nut on the peg of its shape."""

import itertools
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
    raise_by,
    take,
    wrist,
    wrist_towards,
    yaw_of,
)
from robostack.sim.scene import Scene
from robostack.sim.tasks.task import Expert, Task

# yaw [rad] of a nut on its peg: the handle points at the robot or sideways, because the peg is at
# arm's length and the gripper could not reach behind it
_YAWS = (np.pi, np.pi / 2, -np.pi / 2)
_PEG_TOP = 0.10  # over the peg's origin [m]
_ABOVE, _THREADED = _PEG_TOP + 0.025, _PEG_TOP - 0.03  # of a nut's origin: clear of the peg, on it


def _expert(shape: str, peg: str) -> Expert:
    nut, handle = f"{shape}Nut_main", f"site:{shape}Nut_handle_site"

    def expert(scene: Scene) -> Iterator[np.ndarray]:
        def level() -> bool:
            return scene.body(nut)[1][2, 2] > 0.97

        def around() -> bool:
            return scene.point(nut)[2] < scene.point(peg)[2] + _PEG_TOP - 0.005

        held = holds(scene, handle, within=0.04)
        while True:
            yaw, side = _easiest(scene, yaw_of(scene.body(nut)[1]))
            above = _over(scene, nut, peg, _ABOVE, yaw, side)
            threaded = _over(scene, nut, peg, _THREADED, yaw, side)
            grip = _on_handle(scene, nut, side)
            yield from take(scene, grip, above=0.07, height=0.16, tolerance=0.008)
            if not level():  # it would jam on the peg: put it back
                yield from raise_by(scene, -0.15, CLOSE)
                yield from hold(scene, OPEN, 6)
                continue
            while held() and not around():  # it may come to lie on top of the peg
                yield from go(scene, above, CLOSE, 0.006, steps=120, while_=held, angle=0.1)
                yield from go(scene, threaded, CLOSE, 0.01, steps=25, while_=held, angle=0.1)
            yield from hold(scene, OPEN, 6)
            yield from raise_by(scene, 0.06, OPEN, steps=10)

    return expert


def _on_handle(scene: Scene, nut: str, side: float) -> Goal:
    def goal():
        position, rotation = scene.body(nut)
        point = position + rotation @ [0.06, 0, 0] + [0, 0, 0.004]
        return point, wrist_towards(scene.gripper()[1], yaw_of(rotation) + side)

    return goal


def _over(scene: Scene, nut: str, peg: str, height: float, yaw: float, side: float) -> Goal:
    """Where the gripper holds the nut `height` [m] over the peg's origin, at a `yaw` [rad]."""
    to = brought(scene, nut, lambda: scene.point(peg) + [0, 0, height])

    def goal():
        gripper = scene.gripper()[1]
        # the nut, and not the gripper, is turned to the yaw: it may sit askew between the fingers
        askew = yaw_of(gripper) - yaw_of(scene.body(nut)[1]) - side
        askew = (askew + np.pi) % (2 * np.pi) - np.pi
        return to()[0], wrist_towards(gripper, yaw + side + askew)

    return goal


def _easiest(scene: Scene, nut: float) -> tuple[float, float]:
    """Yaw of the nut on the peg, and of the gripper relative to the nut, a quarter to the left or
    to the right [rad], that ask for the least turning to take the nut and then to turn it."""

    def turning(way: tuple[float, float]) -> float:
        yaw, side = way
        now, taking, placing = yaw_of(scene.gripper()[1]), nut + side, yaw + side
        return abs(wrist(taking) - wrist(now)) + abs(wrist(placing) - wrist(taking))

    return min(itertools.product(_YAWS, (-np.pi / 2, np.pi / 2)), key=turning)


def _task(shape: str, peg: str) -> Task:
    return Task(
        name=f"NutAssembly{shape}",
        instruction=f"put the {shape.lower()} nut on the {shape.lower()} peg",
        keypoints={"object": f"site:{shape}Nut_handle_site", "target": peg},
        horizon=250,
        expert=_expert(shape, peg),
    )


TASKS = [_task("Square", "peg1"), _task("Round", "peg2")]
