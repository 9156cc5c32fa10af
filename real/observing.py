"""A robot's messages, and the observation that they make: the same code for a policy, for a RosEnv
and for the conversion of bags."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robostack.real.cameras import fit
from robostack.real.messages import (
    MessageError,
    read_axes,
    read_compressed,
    read_image,
    read_pose,
    seconds,
)
from robostack.real.robot import JOINT_FIELDS, RobotConfig
from robostack.real.streams import Look, Streams
from robostack.types import Observation

POSE = tuple(f"pose/{name}" for name in ("x", "y", "z", "qw", "qx", "qy", "qz"))


class Senses:
    """Everything that a robot's configuration says it senses, from its messages.

    `topics` are relative names as in the configuration, each with the type of its messages: Image,
    CompressedImage, JointState or PoseStamped. `warn` is told, once each, what is odd about what
    comes. Not thread-safe: callers hold one lock around it.
    """

    def __init__(self, config: RobotConfig, warn: Callable[[str], None] = lambda text: None):
        self.config, self._warn, self._warned = config, warn, set()
        self._sources = list(config.sources.values())
        fields = _fields(config)
        poses = {s.topic for s in self._sources if s.message == "PoseStamped"}
        self.topics = {t: "PoseStamped" if t in poses else "JointState" for t in fields}
        self._cameras: dict[str, list[str]] = {}  # topic -> cameras that look at it
        for name, camera in config.cameras.items():
            self.topics[camera.topic] = "CompressedImage" if camera.compressed else "Image"
            self._cameras.setdefault(camera.topic, []).append(name)
        limits = dict.fromkeys(config.cameras, config.camera_limits)
        limits |= dict.fromkeys(fields, config.state_limits)
        self.streams = Streams(config.cameras, fields, limits, warn)

    def hear(self, topic: str, message, now: float, heard: float) -> None:
        """One message of rclpy or rosbags, which arrived at `now` on the robot's clock and at
        `heard` on a monotonic one. A message that cannot be read is told of and dropped."""
        try:
            self._read(topic, message, seconds(message.header.stamp), now, heard)
        except MessageError as error:
            if (topic, str(error)) not in self._warned:
                self._warned.add((topic, str(error)))
                self._warn(f"{topic}: {error}; such messages are dropped")

    def _read(self, topic: str, message, stamp: float, now: float, heard: float) -> None:
        kind = self.topics[topic]
        if kind in ("Image", "CompressedImage"):
            image = (read_image if kind == "Image" else read_compressed)(message)
            for camera in self._cameras[topic]:
                self.streams.add_image(camera, image, stamp, now, heard)
        elif kind == "PoseStamped":
            values = {f"pose/{name}": value for name, value in read_pose(message).items()}
            self.streams.add_values(topic, values, stamp, now, heard)
        else:
            self.streams.add_values(topic, _joints(message), stamp, now, heard)

    def look(self, now: float, heard: float) -> Look:
        """Raises StreamError naming the stream that cannot be trusted."""
        return self.streams.sample(now, heard)

    def observation(self, look: Look, task: str, stamp: float | None = None) -> Observation:
        """What a policy is shown: pictures at the size of the spec, the state in its order. Its
        stamp is that of the pictures, unless another clock is wanted."""
        cameras = self.config.cameras
        images = {name: fit(image, cameras[name].size) for name, image in look.images.items()}
        state = [_value(look.values[s.topic], s.field, s.name) for s in self._sources]
        stamp = look.stamp if stamp is None else stamp
        return Observation(images, np.array(state, np.float32), task, stamp)


def _fields(config: RobotConfig) -> dict[str, tuple[str, ...]]:
    """Of each topic that a state comes from, what has to be read: of poses everything, since a
    rotation can only be interpolated as a whole."""
    found: dict[str, tuple[str, ...]] = {}
    for source in config.sources.values():
        wanted = POSE if source.message == "PoseStamped" else (f"{source.field}/{source.name}",)
        found[source.topic] = tuple(dict.fromkeys((*found.get(source.topic, ()), *wanted)))
    return found


def _joints(message) -> dict[str, float]:
    """All numbers of a JointState by `field/joint`; drivers leave some fields empty."""
    found: dict[str, float] = {}
    for field in JOINT_FIELDS:
        values = getattr(message, field)
        if len(values) not in (0, len(message.name)):
            raise MessageError(f"{field}: {len(values)} values for {len(message.name)} names")
        found |= {f"{field}/{name}": float(v) for name, v in zip(message.name, values)}
    return found


def _value(values: dict[str, float], field: str, name: str) -> float:
    direct = values.get(f"{field}/{name}")
    if direct is not None:
        return direct
    return read_axes(*(values[f"pose/q{axis}"] for axis in "wxyz"))[name]
