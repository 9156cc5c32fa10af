"""ROS 2 bags as a foreign data set; robostack.real.bags knows how to read one."""

from __future__ import annotations

from pathlib import Path

from robostack.data.interchange.report import BadEpisode, Convention, FormatError
from robostack.real.bags import Bag, BagError, bags_in, read_episode
from robostack.real.paths import find
from robostack.real.robot import RobotConfig
from robostack.types import Episode


class BagSource:
    """A bag, or all of a recorder's folder, of the robot in a file; by default of the one that the
    first bag was recorded from. Raises FormatError."""

    format = "ROS 2 bags"

    def __init__(self, folder: Path, robot: str = ""):
        try:
            self._bags = bags_in(folder)
            self._robot = RobotConfig.load(find(robot)) if robot else Bag(self._bags[0]).robot
        except BagError as error:
            raise FormatError(f"{error}; e.g. robot=configs/robot/sim.yaml") from None
        self.spec = self._robot.spec

    def names(self) -> list[str]:
        return [path.name for path in self._bags]

    def conventions(self) -> list[Convention]:
        return []

    def read(self, number: int) -> Episode:
        """Raises BadEpisode, whose words are the bag's."""
        try:
            return read_episode(self._bags[number], self._robot)
        except BagError as error:
            raise BadEpisode("bag", str(error)) from None
