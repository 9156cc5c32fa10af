"""Robots for the tests of the robot side, and what their limits mean for recorded commands."""

import dataclasses

import numpy as np

from robostack.real.robot import Action, Arm, Camera, Gripper, RobotConfig
from robostack.types import Observation, Step

LIMITS = dict(velocity=1.0, acceleration=20.0, jerk=2000.0)


def jointed(hz=20.0, command_hz=100.0, backend="joint_trajectory", measured=(), **changes):
    """Two joints that are sent targets, and a gripper; `measured` is what is besides them."""
    joint = dict(low=-1.0, high=1.5, max_error=0.2, **LIMITS)
    return RobotConfig(
        robot="jointed",
        control_hz=hz,
        command_hz=command_hz,
        state={n: f"joint_states:position/{n}" for n in ("a", "b", *measured)},
        actions={
            "a": Action(state="a", **joint),
            "b": Action(state="b", **{**joint, "velocity": 2.0}),
            "gripper": Action(0, 1, "level"),
        },
        arms={"arm": Arm(backend, ("a", "b"))},
        grippers={"hand": Gripper("gripper", "topic_float64")},
        enabled=True,
        **changes,
    )


def moved(hz=20.0, backend="action", command_hz=0.0, **changes):
    """x, y and a rotation that are sent displacements, and a gripper."""
    move = dict(low=-1, high=1, kind="delta", scale=0.05, max_error=0.1, **LIMITS)
    names = ("x", "y", "turn")
    gripper = backend == "action"
    return RobotConfig(
        robot="moved",
        control_hz=hz,
        command_hz=command_hz,
        state={n: f"joint_states:position/{n}" for n in ("x", "y")},
        actions={
            "x": Action(state="x", position=(-0.3, 0.4), **move),
            "y": Action(state="y", position=(0.0, 0.5), **move),
            "turn": Action(-1, 1, "velocity", 0.8, 0.6, 20.0, 2000.0, max_error=0.1),
            "gripper": Action(-1, 1, "level"),
        },
        arms={"arm": Arm(backend, (*names, "gripper") if gripper else names)},
        grippers={} if gripper else {"hand": Gripper("gripper", "topic_float64")},
        enabled=True,
        **changes,
    )


def wide(kind, backend, axes, rng, control_hz=20.0, command_hz=100.0):
    """As many axes of a kind, each with other limits: stops take one step to some hundred."""
    actions = {}
    for i in range(axes):
        velocity = 10 ** rng.uniform(-1, 1)
        acceleration = velocity * 10 ** rng.uniform(0, 2)
        given = dict(
            velocity=velocity,
            acceleration=acceleration,
            jerk=acceleration * 10 ** rng.uniform(0.5, 2.5),
            max_error=rng.uniform(0.05, 1.0),
            state=f"s{i}",
        )
        if kind == "absolute":
            low, high = np.sort(rng.uniform(-2, 2, 2)) + (-0.05, 0.05)
            actions[f"a{i}"] = Action(low, high, kind, **given)
        else:
            span = rng.uniform(-1.0, -0.1), rng.uniform(0.1, 1.0)
            scale = velocity * rng.uniform(0.5, 3) / (control_hz if kind == "delta" else 1)
            actions[f"a{i}"] = Action(-1, 1, kind, scale, position=span, **given)
    return RobotConfig(
        robot=kind,
        control_hz=control_hz,
        command_hz=command_hz,
        state={f"s{i}": f"joint_states:position/s{i}" for i in range(axes)},
        actions=actions,
        arms={"arm": Arm(backend, tuple(actions))},
    )


def served(hz=100.0, **changes):
    """`jointed`, at one rate and with a camera, as a simulated robot serves it."""
    names = ("a", "b", "gripper")
    changed = dict(
        arms={"arm": Arm("action", names)},
        grippers={},
        command_hz=0.0,
        control_hz=hz,
        cameras={"front": Camera("front/image_raw", (12, 16))},
        **changes,
    )
    return dataclasses.replace(jointed(), **changed)


def excess(robot, commands):
    """How far recorded commands f64[T, A], one every 1 / rate s, the first at rest, exceed limits.

    Only the numbers that were sent are looked at: their differences for velocity, acceleration and
    jerk, themselves for bounds and the positions of targets. -> {limit: excess / limit, <= 0}
    """
    found = {}
    for column, (name, action) in enumerate(robot.actions.items()):
        sent = commands[:, column]
        found[f"{name} bounds"] = max((sent - action.high).max(), (action.low - sent).max())
        if action.kind == "level":
            continue
        if action.kind == "absolute":
            speed = np.diff(sent) * robot.rate
        else:
            speed = sent * action.scale * (robot.control_hz if action.kind == "delta" else 1)
        speed = np.concatenate([[0.0, 0.0], speed])  # it was at rest before
        force = np.diff(speed) * robot.rate
        jerk = np.diff(force) * robot.rate
        for limit, values in (("velocity", speed), ("acceleration", force), ("jerk", jerk)):
            found[f"{name} {limit}"] = np.abs(values).max() / getattr(action, limit) - 1
    return found


class Sliding:
    """An environment without physics: targets are followed with a lag, displacements at once.

    `pushed` is added to the state in the next step; `stuck` axes do not move.
    """

    def __init__(self, robot):
        self.robot, self.spec = robot, robot.spec
        self.moving = np.array([a.kind != "absolute" for a in robot.actions.values()])
        self.columns = [i for i, a in enumerate(robot.actions.values()) if a.state]
        self.scale = np.array([a.scale for a in robot.actions.values()])
        self.actions = []  # every one that was executed
        self.stuck, self.success = False, False

    def reset(self, seed):
        self.at, self.steps = np.full(self.spec.state_dim, 0.01 * seed), 0
        return self._look()

    def step(self, action):
        if action.shape != (self.spec.action_dim,) or not np.isfinite(action).all():
            raise ValueError(f"action: expected {self.spec.action_dim} finite numbers")
        self.actions.append(action.astype(np.float64))
        self.steps += 1
        if not self.stuck:
            target = np.where(self.moving, self.scale * action, action)[self.columns]
            lag = np.where(self.moving[self.columns], target, 0.6 * (target - self.at))
            self.at = self.at + lag
        return self._look()

    def _look(self):
        height_width = self.spec.cameras
        images = {n: np.full((*s, 3), self.steps % 256, np.uint8) for n, s in height_width.items()}
        stamp = self.steps / self.spec.control_hz
        seen = Observation(images, self.at.astype(np.float32), "slide", stamp)
        return Step(seen, False, False, self.success)

    def close(self):
        self.closed = True
