"""Robots for the tests of the robot side, and what their limits mean for recorded commands."""

import numpy as np

from robostack.real.robot import Action, Arm, Gripper, RobotConfig, Timeouts

LIMITS = dict(velocity=1.0, acceleration=20.0, jerk=2000.0)


def jointed(hz=20.0, command_hz=100.0, backend="joint_trajectory", **changes):
    """Two joints that are sent targets, and a gripper."""
    joint = dict(low=-1.0, high=1.5, max_error=0.2, **LIMITS)
    return RobotConfig(
        robot="jointed",
        control_hz=hz,
        command_hz=command_hz,
        state={n: f"joint_states:position/{n}" for n in ("a", "b")},
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


def patient(robot):
    """Time-outs that a loaded machine does not reach by itself."""
    return {**vars(robot), "timeouts": Timeouts(state=5.0, alive=5.0, deadman=5.0, chunk=5.0)}


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
