"""A robot's senses from live topics, heard in a thread of their own."""

from __future__ import annotations

import threading
import time

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState

from robostack.real.nodes.node import SENSOR, Spin, beside, now
from robostack.real.observing import Senses
from robostack.real.robot import RobotConfig
from robostack.real.streams import Look
from robostack.types import Observation

MESSAGES = {m.__name__: m for m in (Image, CompressedImage, JointState, PoseStamped)}


class Listener:
    """What the robot senses now; safe to ask from any thread."""

    def __init__(self, node: Node, config: RobotConfig):
        self._owner, self._lock = node, threading.Lock()
        self._senses = Senses(config, node.get_logger().warning)
        self._node = beside(node, "senses")
        for topic, kind in self._senses.topics.items():
            self._node.create_subscription(MESSAGES[kind], topic, self._hearing(topic), SENSOR)
        self._spin = Spin(self._node)

    def _hearing(self, topic: str):
        def hear(message) -> None:
            arrived = now(self._owner), time.monotonic()
            with self._lock:
                self._senses.hear(topic, message, *arrived)

        return hear

    @property
    def jumps(self) -> int:
        """How often the clock has gone back."""
        return self._senses.streams.jumps

    def check(self) -> None:
        """Raises StreamError as `look`, which costs more, but not of skew."""
        with self._lock:
            self._senses.streams.check(now(self._owner), time.monotonic())

    def look(self) -> Look:
        """Raises StreamError naming the stream that cannot be trusted now."""
        with self._lock:
            return self._senses.look(now(self._owner), time.monotonic())

    def observe(self, task: str, stamp: float | None = None) -> Observation:
        """What a policy is shown now. Raises StreamError, as `look`."""
        return self._senses.observation(self.look(), task, stamp)

    def clear(self) -> None:
        """Forget what was seen: another try begins."""
        with self._lock:
            self._senses.streams.clear()

    def close(self) -> None:
        self._spin.close()
        self._node.destroy_node()
