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
DOWN = np.diag([1.0, -1.0, -1.0])  # rotation of a gripper that points down, its yaw 0
# yaw [rad] half-way between the two ends of the wrist's last joint, which starts at a yaw of 1.57
WRIST_STOP = -0.77
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


def turn_matrix(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation by `angle` [rad] about a unit vector."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def yaw_of(matrix: np.ndarray) -> float:
    """Direction [rad] of a rotation's x axis in the horizontal plane: a downward gripper's fingers
    open along it."""
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def pointing_down(gripper: np.ndarray, target: np.ndarray, symmetry: float = np.pi / 2):
    """The downward rotation nearest to `gripper` whose yaw fits `target` modulo `symmetry`."""
    now = yaw_of(gripper)
    turn = (yaw_of(target) - now + symmetry / 2) % symmetry - symmetry / 2
    return yaw_matrix(now + turn) @ DOWN


def wrist(yaw: float) -> float:
    """The same yaw as the Panda's last joint counts it: it cannot turn past WRIST_STOP."""
    return (yaw - WRIST_STOP) % (2 * np.pi) + WRIST_STOP


def wrist_towards(gripper: np.ndarray, yaw: float) -> np.ndarray:
    """The downward rotation on the way to `yaw`, round the side where the wrist has no stop."""
    now = wrist(yaw_of(gripper))
    return yaw_matrix(now + np.clip(wrist(yaw) - now, -1, 1)) @ DOWN


def towards(scene: Scene, goal: tuple[np.ndarray, np.ndarray], gripper: float) -> np.ndarray:
    position, rotation = scene.gripper()
    action = np.empty(7, np.float32)
    action[:3] = (goal[0] - position) / METRES
    action[3:6] = rotation_vector(goal[1] @ rotation.T) / RADIANS
    action[6] = gripper
    return np.clip(action, -1, 1)


def go(
    scene: Scene,
    goal: Goal,
    gripper: float,
    tolerance: float,
    steps: int = 60,
    while_: Callable[[], bool] = lambda: True,
    angle: float = 0.05,
) -> Iterator[np.ndarray]:
    """Move until within `tolerance` [m] and `angle` [rad] of a goal, which may itself move, or
    until `while_` no longer holds."""
    lag = np.zeros(3)  # [m]: the controller stalls centimetres short where the arm is folded
    for _ in range(steps):
        target, (position, rotation) = goal(), scene.gripper()
        near = np.linalg.norm(target[0] - position) < tolerance
        if near and np.linalg.norm(rotation_vector(target[1] @ rotation.T)) < angle:
            return
        if not while_():
            return
        if np.linalg.norm(target[0] - position) < 0.03:
            lag += 0.1 * (target[0] - position)
        yield towards(scene, (target[0] + lag, target[1]), gripper)


def hold(scene: Scene, gripper: float, steps: int) -> Iterator[np.ndarray]:
    pose = scene.gripper()
    for _ in range(steps):
        yield towards(scene, pose, gripper)


def raise_by(scene: Scene, height: float, gripper: float, steps: int = 20) -> Iterator[np.ndarray]:
    position, rotation = scene.gripper()
    target = position + [0, 0, height], rotation
    yield from go(scene, lambda: target, gripper, tolerance=0.015, steps=steps)


def lifted(goal: Goal, offset: np.ndarray | list[float]) -> Goal:
    """`goal` moved by `offset` f64[3] [m]."""

    def moved():
        position, rotation = goal()
        return position + offset, rotation

    return moved


def on(
    scene: Scene,
    body: str,
    higher: float = -0.002,
    side: float = 0.0,
    symmetry: float = np.pi / 2,
) -> Goal:
    """Where to grip `body` from above: `higher` [m] than its origin, by the faces of its x axis or
    those `side` [rad] further, or a multiple of `symmetry` [rad] further still."""

    def goal():
        position, rotation = scene.body(body)
        target = rotation @ yaw_matrix(side)
        return position + [0, 0, higher], pointing_down(scene.gripper()[1], target, symmetry)

    return goal


def on_beside(scene: Scene, body: str, neighbour: str) -> Goal:
    """Where to grip a cube: with a neighbour closer than 0.1 m by the pair of faces that keeps
    the fingers out of the gap, and off centre, on the far side."""
    gap = (scene.body(neighbour)[0] - scene.body(body)[0]) * [1, 1, 0]
    grip = on(scene, body)
    facing = grip()[1]
    if np.linalg.norm(gap) > 0.1:
        return grip
    if abs(facing[:, 0] @ gap) > abs(facing[:, 1] @ gap):  # the fingers open along x
        facing = _less_turned(scene.gripper()[1], facing)
    shift = -0.008 * np.sign(facing[:, 1] @ gap) * facing[:, 1]
    return lifted(lambda: (grip()[0], pointing_down(facing, scene.body(body)[1])), shift)


def _less_turned(gripper: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """`rotation` turned a quarter to the side that is nearer to `gripper`."""
    sides = [yaw_matrix(side * np.pi / 2) @ rotation for side in (1, -1)]
    return min(sides, key=lambda side: np.linalg.norm(rotation_vector(side @ gripper.T)))


def take(
    scene: Scene, grip: Goal, above: float, height: float, tolerance: float = 0.015
) -> Iterator[np.ndarray]:
    """Go to `above` [m] over `grip`, which follows the object, by `tolerance` [m], descend, close
    the fingers, raise by `height` [m]; a grasp that came up empty is tried again."""
    while True:
        before = grip()[0][2]
        yield from go(scene, lifted(grip, [0, 0, above]), OPEN, tolerance, steps=60)
        yield from go(scene, grip, OPEN, tolerance=0.006, steps=15)
        yield from hold(scene, CLOSE, 8)
        yield from raise_by(scene, height, CLOSE)
        if grip()[0][2] > before + height / 2:
            return
        yield from raise_by(scene, 0.02, OPEN, steps=6)


def brought(scene: Scene, held: str, place: Callable[[], np.ndarray]) -> Goal:
    """Where the gripper has to go for what it holds to be at `place` f64[3] [m]. It looks at the
    held thing, see Scene.point, because that may have slipped between the fingers."""

    def goal():
        position, rotation = scene.gripper()
        return position + place() - scene.point(held), pointing_down(rotation, rotation)

    return goal


def holds(scene: Scene, held: str, within: float) -> Callable[[], bool]:
    """Whether a thing, see Scene.point, is still `within` [m] of the gripper."""
    return lambda: np.linalg.norm(scene.point(held) - scene.gripper()[0]) < within


def turned(scene: Scene, goal: Goal, joint: str, to: float, lead: float) -> Goal:
    """`goal` carried along with a hinge that turns until `to` [rad], `lead` [rad] ahead of it."""

    def ahead():
        position, rotation = goal()
        anchor, axis = scene.axis(joint)
        turn = turn_matrix(axis, np.clip(to - scene.joint(joint), -lead, lead))
        return anchor + turn @ (position - anchor), turn @ rotation

    return ahead
