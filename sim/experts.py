"""Building blocks of scripted experts: generators of OSC_POSE delta actions f32[7].

An action is (dx, dy, dz) / 0.05 m, a rotation vector / 0.5 rad, both in the robot's base frame,
which robosuite aligns with the world, and the gripper: -1 opens, +1 closes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from robostack.sim.scene import Scene

OPEN, CLOSE = -1.0, 1.0
METRES, RADIANS = 0.05, 0.5  # what an action of 1 asks for
Goal = Callable[[], tuple[np.ndarray, np.ndarray]]  # position, rotation matrix


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Axis times angle f64[3] of a rotation matrix, angle in [0, pi)."""
    vector = np.array(
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
    )
    sine, cosine = np.linalg.norm(vector) / 2, (np.trace(matrix) - 1) / 2
    if sine < 1e-9:
        return np.zeros(3)
    return vector / (2 * sine) * np.arctan2(sine, cosine)


def yaw_matrix(yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def pointing_down(gripper: np.ndarray, target: np.ndarray, symmetry: float = np.pi / 2):
    """The downward rotation nearest to `gripper` whose yaw fits `target` modulo `symmetry`."""
    down = np.diag([1.0, -1.0, -1.0])
    upright = gripper @ down
    now = np.arctan2(upright[1, 0], upright[0, 0])
    wanted = np.arctan2(target[1, 0], target[0, 0])
    turn = (wanted - now + symmetry / 2) % symmetry - symmetry / 2
    return yaw_matrix(now + turn) @ down


def towards(scene: Scene, goal: tuple[np.ndarray, np.ndarray], gripper: float) -> np.ndarray:
    position, rotation = scene.gripper()
    action = np.empty(7, np.float32)
    action[:3] = (goal[0] - position) / METRES
    action[3:6] = rotation_vector(goal[1] @ rotation.T) / RADIANS
    action[6] = gripper
    return np.clip(action, -1, 1)


def go(
    scene: Scene, goal: Goal, gripper: float, tolerance: float, steps: int = 60
) -> Iterator[np.ndarray]:
    """Move until within `tolerance` [m] and 0.05 rad of a goal, which may itself move."""
    for _ in range(steps):
        target, (position, rotation) = goal(), scene.gripper()
        near = np.linalg.norm(target[0] - position) < tolerance
        if near and np.linalg.norm(rotation_vector(target[1] @ rotation.T)) < 0.05:
            return
        yield towards(scene, target, gripper)


def hold(scene: Scene, gripper: float, steps: int) -> Iterator[np.ndarray]:
    pose = scene.gripper()
    for _ in range(steps):
        yield towards(scene, pose, gripper)


def grasp(scene: Scene, body: str, above: float, beside: str | None = None) -> Iterator[np.ndarray]:
    """Approach `body` from `above` [m], descend on it, close the fingers.

    A cube can be taken by either pair of faces: with a neighbour `beside` it closer than 0.1 m,
    the pair is chosen that keeps the fingers out of the gap, off centre on the far side.
    """
    position, rotation = scene.body(body)
    turned = pointing_down(scene.gripper()[1], rotation)
    shift = np.zeros(3)
    if beside is not None:
        gap = (scene.body(beside)[0] - position) * [1, 1, 0]
        if np.linalg.norm(gap) < 0.1:
            if abs(turned[:, 1] @ gap) > abs(turned[:, 0] @ gap):  # fingers open along y
                turned = _less_turned(scene.gripper()[1], turned)
            shift = -0.008 * np.sign(turned[:, 0] @ gap) * turned[:, 0]

    def over(height: float) -> Goal:
        def goal():
            position, rotation = scene.body(body)
            return position + shift + [0, 0, height], pointing_down(turned, rotation)

        return goal

    yield from go(scene, over(above), OPEN, tolerance=0.015, steps=40)
    yield from go(scene, over(-0.002), OPEN, tolerance=0.006, steps=15)
    yield from hold(scene, CLOSE, 8)


def _less_turned(gripper: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """`rotation` turned a quarter to the side that is nearer to `gripper`."""
    sides = [yaw_matrix(side * np.pi / 2) @ rotation for side in (1, -1)]
    return min(sides, key=lambda side: np.linalg.norm(rotation_vector(side @ gripper.T)))


def take(
    scene: Scene, body: str, above: float, height: float, beside: str | None = None
) -> Iterator[np.ndarray]:
    """Grasp `body` and raise it by `height` [m]; a grasp that came up empty is tried again."""
    while True:
        before = scene.body(body)[0][2]
        yield from grasp(scene, body, above, beside)
        yield from raise_by(scene, height, CLOSE)
        if scene.body(body)[0][2] > before + height / 2:
            return
        yield from raise_by(scene, 0.02, OPEN, steps=6)


def raise_by(scene: Scene, height: float, gripper: float, steps: int = 20) -> Iterator[np.ndarray]:
    position, rotation = scene.gripper()
    target = position + [0, 0, height], rotation
    yield from go(scene, lambda: target, gripper, tolerance=0.015, steps=steps)
