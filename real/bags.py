"""Recorded bags (rosbag2, MCAP) as episodes. No ROS is needed, and nothing is guessed.

A bag is played through the very streams that a policy sees through (robostack.real.observing): at
each tick every message that had come by then is heard, and the streams are sampled. Ticks are the
instants at which the arm was commanded, so that each action stands beside what was to be seen when
it was begun.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from robostack.real.arm import OPERATOR, POLICY
from robostack.real.bag import BARE, Bag, BagError
from robostack.real.commanded import Commands, commands, foreign_commands
from robostack.real.observing import Senses
from robostack.real.robot import RobotConfig
from robostack.real.samples import StreamError
from robostack.types import Episode, Observation

BEFORE = 1.0  # [s] of messages that are heard before the first tick


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
    given = commands(bag, robot) if is_ours(bag) else foreign_commands(bag, robot)
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


def is_ours(bag: Bag) -> bool:
    """Whether our arm node was there, which tells what it did and for whom."""
    return "robot" in bag.about or bag.last("executed") is not None


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
        seed=int(bag.path.stem) if bag.path.stem.isdigit() else 0,
        spec=robot.spec,
        label=bag.about.get("label", ""),
    )


def _source(who: set[int]) -> str:
    """An operator's alone is a demonstration; one who took over from a policy intervened."""
    if OPERATOR not in who:
        return "rollout"
    return "intervention" if POLICY in who else "demo"


def bags_in(folder: str | Path) -> list[Path]:
    """A bag, or all finished ones of a recorder's folder, or bare files (BARE). Raises BagError
    where there are none."""
    folder = Path(folder)
    if (folder / "metadata.yaml").is_file() or folder.suffix in BARE:
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/metadata.yaml"))
    found = found or sorted(path for end in BARE for path in folder.glob(f"*{end}"))
    if not found:
        raise BagError(
            f"{folder} holds no finished bag (no metadata.yaml in it or one below, no "
            f"{' or '.join(BARE)})"
        )
    return found


def describe(robot: RobotConfig) -> dict:
    """A robot's config as plain data, as `Bag.robot` reads it."""
    return json.loads(json.dumps(dataclasses.asdict(robot)))
