"""Recorded bags (rosbag2, MCAP) as episodes. No ROS is needed, and nothing is guessed.

A bag is played through the very streams that a policy sees through (robostack.real.observing): at
each tick every message that had come by then is heard, and the streams are sampled. Ticks are the
instants at which the arm was commanded, so that each action stands beside what was to be seen when
it was begun.
"""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from robostack import config as configs
from robostack.real.arm import HOLD, OPERATOR, POLICY
from robostack.real.messages import MessageError, read_named, seconds
from robostack.real.observing import Senses
from robostack.real.recording import CUSTOM
from robostack.real.robot import RobotConfig
from robostack.real.samples import StreamError
from robostack.types import Episode, Observation

PAUSE = 5.0  # control periods without a command that make an episode two
BEFORE = 1.0  # [s] of messages that are heard before the first tick


class BagError(RuntimeError):
    """A folder that is no finished bag, or a bag that makes no episode."""


class Bag:
    """One bag on the disk. Raises BagError where there is none, or an unfinished one."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            text = (self.path / "metadata.yaml").read_text()
            custom = yaml.safe_load(text)["rosbag2_bagfile_information"].get("custom_data") or {}
            self.about = json.loads(custom.get(CUSTOM, "{}"))
        except OSError:
            raise BagError(
                f"{self.path} is no finished bag: it has no metadata.yaml. What a crash has left "
                "of one can be opened with `mcap recover`"
            ) from None
        except (yaml.YAMLError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise BagError(f"{self.path}: metadata.yaml cannot be read ({error})") from None

    @property
    def robot(self) -> RobotConfig:
        """The robot that was recorded. Raises BagError where the bag does not say."""
        if "robot" not in self.about:
            raise BagError(f"{self.path} does not say which robot it is of; give its config")
        return configs.build(RobotConfig, self.about["robot"])

    def resolve(self, topic: str) -> str:
        """A topic of the config with the namespace that it was recorded in."""
        namespace = self.about.get("namespace", "").strip("/")
        if topic.startswith("/") or not namespace:
            return "/" + topic.strip("/")
        return f"/{namespace}/{topic}"

    def messages(self, *wanted: str) -> Iterator[tuple[str, float, object]]:
        """Topic as in the config, time of arrival [s] and message, in the order of arrival."""
        from rosbags.rosbag2 import Reader, ReaderError
        from rosbags.serde import SerdeError
        from rosbags.typesys import Stores, get_typestore

        names = {self.resolve(topic): topic for topic in wanted}
        types = get_typestore(Stores.ROS2_JAZZY)
        try:
            with Reader(self.path) as reader:
                used = [c for c in reader.connections if c.topic in names]
                for connection, stamp, raw in reader.messages(used) if used else ():
                    message = types.deserialize_cdr(raw, connection.msgtype)
                    yield names[connection.topic], 1e-9 * stamp, message
        except (ReaderError, SerdeError) as error:
            raise BagError(f"{self.path} is damaged: {error}") from None

    def last(self, topic: str) -> object | None:
        """The last message of a topic, if there is one."""
        return next(iter(deque((message for *_, message in self.messages(topic)), maxlen=1)), None)


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
    pauses = np.flatnonzero(np.diff(ticks) > PAUSE * period)
    if len(pauses):
        at = pauses[0]
        raise BagError(
            f"{bag.path}: no command for {np.diff(ticks)[at]:.2f} s, "
            f"{ticks[at] - ticks[0]:.2f} s after the first one"
        )
    return Commands(ticks, np.array(rows[first:end], np.float32), np.array(sources[first:end]))


def observations(bag: Bag, robot: RobotConfig, ticks: np.ndarray, task: str) -> list:
    """An Observation a tick, or the StreamError that a policy would have met there."""
    senses, found = Senses(robot), []

    def look() -> None:
        tick = float(ticks[len(found)])
        try:
            stamp = tick - float(ticks[0])
            found.append(senses.observation(senses.look(tick, tick), task, stamp))
        except StreamError as error:
            found.append(error)

    for topic, now, message in bag.messages(*senses.topics):
        while len(found) < len(ticks) and ticks[len(found)] < now:
            look()
        if len(found) == len(ticks):
            break
        if now > ticks[0] - BEFORE:
            senses.hear(topic, message, now, now)
    while len(found) < len(ticks):
        look()
    return found


def read_episode(path: str | Path, robot: RobotConfig | None = None) -> Episode:
    """The episode that a bag holds.

    Ticks before every stream had begun are left out. Raises BagError where a stream could not be
    trusted later on, and SpecMismatch where `robot` is not the one that was recorded.
    """
    bag = Bag(path)
    if robot is None:
        robot = bag.robot
    elif "robot" in bag.about:
        robot.spec.require_same(bag.robot.spec, "the robot's config", f"the bag {bag.path}")
    given = commands(bag, robot)
    task = bag.about.get("task") or getattr(bag.last("task"), "data", "")
    seen = observations(bag, robot, given.stamps, task)
    start = 0
    while start < len(seen) and isinstance(seen[start], StreamError):
        start += 1
    wrong = [i for i in range(start, len(seen)) if isinstance(seen[i], StreamError)]
    if start >= len(seen) - 1 or wrong:
        at = wrong[0] if wrong else start - 1
        raise BagError(
            f"{bag.path}: {seen[at]} ({given.stamps[at] - given.stamps[0]:.2f} s after the first "
            f"command; {len(wrong) or start} of {len(seen)} instants)"
        )
    return _episode(bag, robot, given, seen[start:], start, task)


def _episode(
    bag: Bag, robot: RobotConfig, given: Commands, seen: list[Observation], start: int, task: str
) -> Episode:
    success = bag.about.get("success")
    if success is None and (said := bag.last("sim/success")) is not None:
        success = bool(said.data)
    stamps = given.stamps[start:] - given.stamps[start]
    sources = set(given.sources[start:].tolist())
    return Episode(
        states=np.stack([look.state for look in seen]),
        images={name: np.stack([look.images[name] for look in seen]) for name in robot.cameras},
        stamps=stamps,
        actions=given.actions[start:],
        task=task,
        success=success,
        terminated=bool(success),
        source=_source(sources),
        seed=int(bag.path.name) if bag.path.name.isdigit() else 0,
        spec=robot.spec,
        label=bag.about.get("label", ""),
    )


def _source(who: set[int]) -> str:
    """An operator's alone is a demonstration; one who took over from a policy intervened."""
    if OPERATOR not in who:
        return "rollout"
    return "intervention" if POLICY in who else "demo"


def bags_in(folder: str | Path) -> list[Path]:
    """A bag, or all finished ones of a recorder's folder. Raises BagError where there are none."""
    folder = Path(folder)
    if (folder / "metadata.yaml").is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/metadata.yaml"))
    if not found:
        raise BagError(f"{folder} holds no finished bag (no metadata.yaml in it or one below)")
    return found


def describe(robot: RobotConfig) -> dict:
    """A robot's config as plain data, as `Bag.robot` reads it."""
    return json.loads(json.dumps(dataclasses.asdict(robot)))
