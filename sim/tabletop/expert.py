"""Scripted experts of the tabletop tasks, for a Panda under OSC_POSE."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from robostack.sim.experts import CLOSE, OPEN, go, hold, pointing_down, raise_by, yaw_matrix
from robostack.sim.scene import Scene
from robostack.sim.tabletop.layout import SHAPES, Thing

_NEUTRAL = yaw_matrix(np.pi / 2) @ np.diag([1.0, -1.0, -1.0])  # mid-range of the last joint
# yaws [rad] at which the fingers fit; round things can be taken at any
_SYMMETRY = {"cube": np.pi / 2, "bar": np.pi, "cylinder": 0.01, "ball": 0.01}
_ABOVE = 0.1  # [m] of the gripper over a thing before it descends on it
_LIFT = 0.13  # [m]: what is carried passes over all that stands on the table


def _body(scene: Scene, thing: Thing) -> tuple[np.ndarray, np.ndarray]:
    return scene.body(f"{thing.body}_main")


def take(scene: Scene, thing: Thing, lift: float) -> Iterator[np.ndarray]:
    """Grasp a thing and raise it by `lift` [m]; a grasp that came up empty is tried again."""
    symmetry = _SYMMETRY[thing.shape]
    top = SHAPES[thing.shape][2]
    grip = max(0.0, top - 0.025)  # [m] over the centre: the palm stays clear of tall things

    def over(height: float):
        def goal():
            position, rotation = _body(scene, thing)
            down = pointing_down(_NEUTRAL, rotation, symmetry)
            return position + [0, 0, height], down

        return goal

    while True:
        before = _body(scene, thing)[0][2]
        yield from go(scene, over(_ABOVE), OPEN, tolerance=0.015, steps=60)
        yield from go(scene, over(grip), OPEN, tolerance=0.006, steps=20)
        yield from hold(scene, CLOSE, 8)
        yield from raise_by(scene, lift, CLOSE)
        if _body(scene, thing)[0][2] > before + lift / 2:
            return
        yield from raise_by(scene, 0.02, OPEN, steps=6)


def carry(scene: Scene, thing: Thing, where: Callable[[], np.ndarray]) -> Iterator[np.ndarray]:
    """Take a thing to f64[3], where its centre shall rest; again if it is not there afterwards."""
    while True:
        yield from take(scene, thing, _LIFT)
        yield from _release(scene, thing, where)
        if np.linalg.norm(where() - _body(scene, thing)[0]) < 0.02:
            return


def _release(scene: Scene, thing: Thing, where: Callable[[], np.ndarray]) -> Iterator[np.ndarray]:
    """Carry the held thing to f64[3], where its centre shall rest, let go and withdraw.

    The held thing is servoed, not the gripper: it may have slipped between the fingers."""

    def over(height: float):
        def goal():
            position, rotation = scene.gripper()
            offset = where() - _body(scene, thing)[0] + [0, 0, height]
            return position + offset, pointing_down(rotation, rotation)

        return goal

    yield from go(scene, over(0.06), CLOSE, tolerance=0.01, steps=90)
    yield from go(scene, over(0.003), CLOSE, tolerance=0.005, steps=40)
    yield from hold(scene, OPEN, 10)
    yield from raise_by(scene, 0.1, OPEN, steps=20)
    yield from hold(scene, OPEN, 6)


def pick(scene: Scene, thing: Thing) -> Iterator[np.ndarray]:
    yield from take(scene, thing, _LIFT)


def place(
    scene: Scene, thing: Thing, goal: Callable[[], np.ndarray], table: float
) -> Iterator[np.ndarray]:
    """Put a thing at f64[2] on the table, whose top is at height `table` [m]."""
    rest = table + SHAPES[thing.shape][2]
    yield from carry(scene, thing, lambda: np.array([*goal(), rest]))


def stack(scene: Scene, thing: Thing, base: Thing) -> Iterator[np.ndarray]:
    """Put a thing on another."""
    height = SHAPES[thing.shape][2] + SHAPES[base.shape][2]
    yield from carry(scene, thing, lambda: _body(scene, base)[0] + [0, 0, height])
