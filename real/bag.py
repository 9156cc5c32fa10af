"""One recorded bag (rosbag2, MCAP) on the disk: what it says of itself, and its messages. No ROS is
needed."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import yaml

from robostack import config as configs
from robostack.real.recording import CUSTOM
from robostack.real.robot import RobotConfig

BARE = (".mcap", ".db3")  # files that a bag is made of
DAMAGE = (ValueError, OverflowError, struct.error, sqlite3.Error)  # what rosbags meets in damage


class BagError(RuntimeError):
    """A folder that is no finished bag, or a bag that makes no episode."""


class Bag:
    """One bag on the disk: a folder with metadata.yaml, or a bare file, which says nothing of
    itself. Raises BagError where there is none, or an unfinished one."""

    def __init__(self, path: str | Path):
        self.path, self.about = Path(path), {}
        if self.path.suffix in BARE and self.path.is_file():
            return
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
                if odd := [c for c in used if c.msgtype not in types.fielddefs]:
                    what = f"{odd[0].topic} is of {odd[0].msgtype}, which is none of ROS 2's own"
                    raise BagError(f"{self.path}: {what}")
                for connection, stamp, raw in reader.messages(used) if used else ():
                    message = types.deserialize_cdr(raw, connection.msgtype)
                    yield names[connection.topic], 1e-9 * stamp, message
        except (ReaderError, SerdeError, *DAMAGE) as error:
            raise BagError(f"{self.path} is damaged: {error}") from None

    def last(self, topic: str) -> object | None:
        """The last message of a topic, if there is one."""
        return next(iter(deque((message for *_, message in self.messages(topic)), maxlen=1)), None)
