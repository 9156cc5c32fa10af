"""ROS 2 bags as a foreign data set; robostack.real.bags knows how to read one."""

from __future__ import annotations

from pathlib import Path

from robostack.config import ConfigError
from robostack.data.interchange.report import BadEpisode, Convention, FormatError, Report
from robostack.real.bags import Bag, BagError, bags_in, is_ours, read_episode
from robostack.real.paths import find
from robostack.real.robot import RobotConfig
from robostack.types import Episode, SpecMismatch


class BagSource:
    """A bag, a bare file of one, or all in a folder, of the robot in a file; by default of the one
    that the first bag which says it was recorded from. Raises FormatError."""

    format = "ROS 2 bags"

    def __init__(self, folder: Path, report: Report, robot: str = ""):
        self._report = report
        try:
            self._bags = bags_in(folder)
        except BagError as error:
            raise FormatError(str(error)) from None
        self._robot = RobotConfig.load(find(robot)) if robot else _recorded(self._bags)
        self.spec = self._robot.spec

    def names(self) -> list[str]:
        return [path.name for path in self._bags]

    def conventions(self) -> list[Convention]:
        return []

    def read(self, number: int) -> Episode:
        """Raises BadEpisode, whose words are the bag's."""
        path = self._bags[number]
        try:
            episode = read_episode(path, self._robot)
        except BagError as error:
            raise BadEpisode("bag", str(error)) from None
        except SpecMismatch as error:
            raise BadEpisode("robot", " ".join(str(error).split())) from None
        if not is_ours(Bag(path)):
            names = (*self._robot.arms, *self._robot.grippers)
            self._report.note(
                "no `executed`: actions are what was told on "
                f"{', '.join(map(self._robot.topic, names))}, by an operator as it is taken"
            )
        if not episode.task:
            self._report.note("no instruction in some bags: `robostack data relabel` gives one")
        return episode


def _recorded(bags: list[Path]) -> RobotConfig:
    """Of the first bag that says."""
    said = ""
    for path in bags:
        try:
            return Bag(path).robot
        except (BagError, ConfigError) as error:
            said = said or str(error)
    raise FormatError(f"{said}; e.g. robot=configs/robot/sim.yaml")
