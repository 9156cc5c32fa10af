"""What an arm was commanded while a bag was recorded: as our own arm node tells it (`executed`),
or, of bags that others recorded, from the topics that commands go to by the robot's file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robostack.real.arm import HOLD, OPERATOR, POLICY
from robostack.real.bag import Bag, BagError
from robostack.real.messages import MessageError, read_named, seconds
from robostack.real.robot import RobotConfig

PAUSE = 5.0  # control periods without a command that make an episode two
SLACK = 0.05  # of the control rate that commands may be off
Read = Callable[[object], np.ndarray]  # a message -> f64 of the actions that it commands


@dataclass(frozen=True)
class Commands:
    """What the arm was commanded, at the ticks of an episode."""

    stamps: np.ndarray  # f64[T+1] [s] ticks; the last one has no action
    actions: np.ndarray  # f32[T, A]
    sources: np.ndarray  # i64[T], who gave it: see robostack.real.arm


def commands(bag: Bag, robot: RobotConfig) -> Commands:
    """What was executed in every control period, from the first to the last command of a policy or
    an operator. Raises BagError where there is none, or a pause."""
    stamps, rows, sources = [], [], []
    # a quicker arm tells of a period at its last command, and it began at its first
    ahead = (round(robot.rate / robot.control_hz) - 1) / robot.rate
    for _, _, message in bag.messages("executed"):
        try:
            rows.append(read_named(message, tuple(robot.actions)))
        except MessageError as error:
            raise BagError(f"{bag.path}: executed: {error}") from None
        stamps.append(seconds(message.header.stamp) - ahead)
        sources.append(int(message.effort[0]) if len(message.effort) else HOLD)
    if not stamps:
        raise BagError(
            f"{bag.path} has no {bag.resolve('executed')}: what the arm was told is not known"
        )
    moved = np.flatnonzero(np.isin(sources, (POLICY, OPERATOR)))
    if not len(moved):
        raise BagError(f"{bag.path}: neither a policy nor an operator commanded the arm")
    first, end = moved[0], moved[-1] + 1
    period = 1 / robot.control_hz
    last = stamps[end] if end < len(stamps) else stamps[end - 1] + period
    ticks = np.append(stamps[first:end], last)
    require_steady(bag, ticks, period)
    return Commands(ticks, np.array(rows[first:end], np.float32), np.array(sources[first:end]))


def foreign_commands(bag: Bag, robot: RobotConfig) -> Commands:
    """What controllers were told, at the first arm's commands: all of them, or, where they come
    faster, those that are a control period apart; of all other parts what they were told last. Who
    commanded is not known and taken to be an operator. Raises BagError."""
    order = list(robot.actions)
    columns, readers = _readers(bag, robot)
    given: dict[str, list[tuple[float, np.ndarray]]] = {topic: [] for topic in readers}
    for topic, now, message in bag.messages(*readers):
        try:
            given[topic].append((now, readers[topic](message)))
        except (MessageError, AttributeError, IndexError) as error:
            raise BagError(f"{bag.path}: {topic}: {error}") from None
    for topic, found in given.items():
        if not found:
            names = ", ".join(order[i] for i in columns[topic])
            raise BagError(
                f"{bag.path} has neither {bag.resolve('executed')} nor {bag.resolve(topic)}: what "
                f"{names} was told is not known"
            )
    ticks = _ticks(bag, robot, given)
    actions = np.zeros((len(ticks) - 1, len(order)), np.float32)
    for topic, found in given.items():
        times = np.array([time for time, _ in found])
        newest = np.searchsorted(times, ticks[:-1], side="right") - 1
        actions[:, columns[topic]] = np.stack([row for _, row in found])[newest]
    return Commands(ticks, actions, np.full(len(actions), OPERATOR))


def _ticks(bag: Bag, robot: RobotConfig, given: dict[str, list]) -> np.ndarray:
    """f64[T+1] [s] from when all parts have been told something on."""
    period, begin = 1 / robot.control_hz, max(found[0][0] for found in given.values())
    topic = robot.topic(next(iter(robot.arms)))
    times = np.array([time for time, _ in given[topic] if time >= begin])
    if len(times) < 2:
        raise BagError(f"{bag.path}: {topic}: {len(times)} commands after all parts had one")
    require_steady(bag, times, period)
    early, ticks = 0.5 * min(float(np.median(np.diff(times))), period), [times[0]]
    for time in times[1:]:
        if time >= ticks[-1] + period - early:
            ticks.append(time)
    measured = 1 / np.median(np.diff(ticks))
    if abs(measured / robot.control_hz - 1) > SLACK:
        raise BagError(
            f"{bag.path}: {topic}: commands come at {1 / np.median(np.diff(times)):.4g} Hz, of "
            f"which control_hz={robot.control_hz:g} cannot be had; say control_hz: {measured:.3g}"
        )
    return np.append(ticks, ticks[-1] + period)


def require_steady(bag: Bag, ticks: np.ndarray, period: float) -> None:
    """Raise BagError naming the first pause."""
    pauses = np.flatnonzero(np.diff(ticks) > PAUSE * period)
    if len(pauses):
        at = pauses[0]
        raise BagError(
            f"{bag.path}: no command for {np.diff(ticks)[at]:.2f} s, "
            f"{ticks[at] - ticks[0]:.2f} s after the first one"
        )


def _readers(bag: Bag, robot: RobotConfig) -> tuple[dict[str, list[int]], dict[str, Read]]:
    """By topic the actions that it commands, as places among all, and how they are read."""
    order, columns, readers = list(robot.actions), {}, {}
    for name, arm in robot.arms.items():
        joints = arm.joints or arm.actions
        kinds = {robot.actions[action].kind for action in arm.actions}
        if arm.backend not in ARMS or (arm.backend != "action" and kinds - {"absolute", "level"}):
            raise BagError(
                f"{bag.path} has no {bag.resolve('executed')}, and actions cannot be had from what "
                f"arms.{name} is told: expected absolute actions and a back end of "
                f"{', '.join(ARMS)}, got {', '.join(sorted(kinds))} and {arm.backend}"
            )
        columns[robot.topic(name)] = [order.index(action) for action in arm.actions]
        readers[robot.topic(name)] = ARMS[arm.backend](joints)
    for name, gripper in robot.grippers.items():
        if gripper.backend not in GRIPPERS:
            raise BagError(
                f"{bag.path} has no {bag.resolve('executed')}, and goals of grippers.{name}, "
                f"{gripper.backend}, are in no bag: expected {' or '.join(GRIPPERS)}"
            )
        columns[robot.topic(name)] = [order.index(gripper.action)]
        read = GRIPPERS[gripper.backend]([gripper.joint])
        readers[robot.topic(name)] = _opened(read, robot, gripper)
    return columns, readers


def _named(names) -> Read:
    return lambda message: read_named(message, names)


def _numbers(names) -> Read:
    """Of a Float64MultiArray, in the order of the file."""

    def read(message) -> np.ndarray:
        if len(message.data) != len(names):
            raise MessageError(f"{len(message.data)} numbers, expected {', '.join(names)}")
        return np.asarray(message.data, np.float64)

    return read


def _aim(names) -> Read:
    """Of a JointTrajectory of one point: where to go next."""

    def read(message) -> np.ndarray:
        if len(message.points) != 1:
            raise MessageError(f"{len(message.points)} points, expected a stream of single ones")
        place = {name: i for i, name in enumerate(message.joint_names)}
        if missing := [name for name in names if name not in place]:
            raise MessageError(f"no {', '.join(missing)} among {', '.join(place)}")
        return np.array([message.points[0].positions[place[name]] for name in names])

    return read


def _opened(read: Read, robot: RobotConfig, gripper) -> Read:
    """The action that a gripper's controller was told of."""
    action = robot.actions[gripper.action]

    def turned(message) -> np.ndarray:
        closed = (read(message) - gripper.open) / (gripper.closed - gripper.open)
        part = closed if gripper.closes_at == "high" else 1 - closed
        return action.low + (action.high - action.low) * part

    return turned


ARMS = {"action": _named, "joint": _named, "positions": _numbers, "joint_trajectory": _aim}
GRIPPERS = {"topic_float64": _numbers, "joint_trajectory": _aim}
