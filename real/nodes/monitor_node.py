"""Watches the graph: rates, ages and latencies of its topics, and what its nodes say of themselves.

    python -m robostack.real.nodes.monitor_node --ros-args -p robot:=configs/robot/sim.yaml

Once a second on /diagnostics: `monitor`, the worst of all, with every number that the nodes tell of
themselves (limits hit, chunks refused); `monitor/TOPIC` for each topic of the robot. Read it with
`ros2 topic echo /diagnostics`, rqt_robot_monitor or Foxglove. The age of `chunk` is the latency of
the policy, from the pictures it answers to their actions.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from robostack.real.health import OK, STALE, Health, Pulse, summary
from robostack.real.nodes.listening import MESSAGES
from robostack.real.nodes.node import NEWEST, SENSOR, Spin, beside, now, parameter, run
from robostack.real.observing import Senses
from robostack.real.paths import find
from robostack.real.rates import header_stamp
from robostack.real.robot import RobotConfig

SPOKEN = 5.0  # [s] between two lines in the log
GONE = 3.0  # [s] after which a node that told of itself, and does no longer, is missed


class Monitor:
    """The node; a second one hears, in a thread of its own, without unpacking any picture."""

    def __init__(self, context: Context):
        self.node = Node("monitor", context=context)
        given = partial(parameter, self.node)
        path = find(given("robot", "", "the robot (RobotConfig, YAML)", needed=True))
        least = given("least", 0.8, "share of the control rate at which a topic must come")
        self.config = config = RobotConfig.load(path)
        self.hearing = beside(self.node, "hearing")
        self.pulses: dict[str, Pulse] = {}
        cameras = {camera.topic for camera in config.cameras.values()}
        for topic, kind in Senses(config).topics.items():
            limits = config.camera_limits if topic in cameras else config.state_limits
            self._watch(topic, MESSAGES[kind], Pulse(config.control_hz, limits.max_age, least))
        self._watch("executed", JointState, Pulse(config.control_hz, 0.0, least))
        self._watch("chunk", JointTrajectory, Pulse())
        self._others: dict[str, tuple[float, DiagnosticStatus]] = {}
        self._lock = threading.Lock()
        self._level, self._spoke = -1, time.monotonic()  # what was said last, and when
        self.hearing.create_subscription(DiagnosticArray, "/diagnostics", self._hear, 50)
        self._publisher = self.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.node.create_timer(1.0, self.publish)
        self._spins = [Spin(self.node), Spin(self.hearing)]

    def _watch(self, topic: str, kind, pulse: Pulse) -> None:
        self.pulses[topic] = pulse
        quality = SENSOR if kind in (JointState, JointTrajectory) else NEWEST
        self.hearing.create_subscription(
            kind, topic, partial(self._heard, pulse), quality, raw=True
        )

    def _heard(self, pulse: Pulse, message: bytes) -> None:
        stamp = header_stamp(message)
        pulse.tick(time.monotonic(), now(self.node) - stamp if stamp > 0 else float("nan"))

    def _hear(self, message: DiagnosticArray) -> None:
        """What the nodes of our namespace say of themselves."""
        home = self.node.get_namespace().strip("/")
        with self._lock:
            for status in message.status:
                owner, _, name = status.name.rpartition("/")
                if owner == home and name != self.node.get_name():
                    self._others[name] = time.monotonic(), status

    def healths(self) -> dict[str, Health]:
        """Of every topic and node, by name."""
        heard = time.monotonic()
        found = {topic: pulse.health(heard) for topic, pulse in self.pulses.items()}
        with self._lock:
            others = dict(self._others)
        for name, (when, status) in others.items():
            if heard - when > GONE:
                found[name] = Health(STALE, f"the node {name} has fallen silent")
            else:
                found[name] = Health(status.level[0], status.message, _numbers(status))
        return found

    def publish(self) -> None:
        found = self.healths()
        own = self.node.get_fully_qualified_name().lstrip("/")
        whole = summary(found)
        self._say(whole)
        for name in found.keys() - self.pulses.keys():  # limits hit, chunks refused, latencies, ...
            whole.values.update({f"{name}: {k}": v for k, v in found[name].values.items()})
        array = DiagnosticArray(status=[_status(own, whole)])
        array.status += [_status(f"{own}/{topic}", found[topic]) for topic in self.pulses]
        array.header.stamp = self.node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _say(self, whole: Health) -> None:
        """In the log what has changed, not more often than one can read."""
        log, quiet = self.node.get_logger(), time.monotonic() - self._spoke < SPOKEN
        if whole.level != self._level and not quiet:
            self._level, self._spoke = whole.level, time.monotonic()
            (log.info if whole.level == OK else log.warning)(whole.message)

    def close(self) -> None:
        for spin in self._spins:
            spin.close()
        self.hearing.destroy_node()
        self.node.destroy_node()


def _numbers(status: DiagnosticStatus) -> dict[str, float]:
    found = {}
    for item in status.values:
        with contextlib.suppress(ValueError):  # words
            found[item.key] = float(item.value)
    return found


def _status(name: str, health: Health) -> DiagnosticStatus:
    values = [KeyValue(key=key, value=f"{value:.6g}") for key, value in health.values.items()]
    return DiagnosticStatus(
        level=bytes([health.level]), name=name, message=health.message, values=values
    )


def main(args: list[str] | None = None) -> int:
    return run(__doc__, Monitor, args)


if __name__ == "__main__":
    sys.exit(main())
