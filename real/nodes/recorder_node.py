"""Records episodes: every message as it comes, at its full rate, one rosbag2 folder an episode.

python -m robostack.real.nodes.recorder_node --ros-args -p robot:=configs/robot/sim.yaml \\
    -p folder:=runs/recordings -p task:="lift the red cube"
ros2 service call /recorder/start std_srvs/srv/Trigger
ros2 service call /recorder/success std_srvs/srv/Trigger

Services (std_srvs/Trigger): recorder/start, then one of recorder/keep (outcome unknown), success,
failure, discard (to the trash; nothing is deleted). A start is refused where a topic does not come
at its rate, where the disk is nearly full, or without a task. `robostack data import` makes
episodes of the bags.
"""

from __future__ import annotations

import datetime
import importlib
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String
from std_srvs.srv import Trigger

import robostack
from robostack.real.bags import describe
from robostack.real.nodes.node import (
    COMMAND,
    LATCHED,
    Diagnostics,
    Spin,
    answering,
    beside,
    parameter,
    run,
)
from robostack.real.paths import find
from robostack.real.rates import Rate
from robostack.real.recorded import TOLD_ONCE, recorded
from robostack.real.recording import (
    Recording,
    RecordingError,
    free_space,
    leftovers,
    slow,
)
from robostack.real.robot import RobotConfig

# Best effort matches any publisher. Deep enough for half a second in which this process is held up;
# pictures are large.
PICTURES = QoSProfile(depth=30, reliability=ReliabilityPolicy.BEST_EFFORT)
SENSED = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
GB = 2**30


class Recorder:
    """The node; `data` is a second one, whose thread takes messages while services are answered."""

    def __init__(self, context: Context):
        self.node = Node("recorder", context=context)
        given = partial(parameter, self.node)
        path = find(given("robot", "", "the robot (RobotConfig, YAML)", needed=True))
        self.config = RobotConfig.load(path)
        self.folder = Path(given("folder", "runs/recordings", "where episodes go")).expanduser()
        self._task = given("task", "", "the instruction, until the topic `task` says another")
        self._least = given("least", 0.8, "share of its rate at which a topic must come")
        self._spare = given("spare_gb", 2.0, "space that stays free on the disk [GiB]")
        self._longest = given("longest", 600.0, "an episode is kept and ended after this [s]")
        rates = given("rates", [""], "rates that are expected, as TOPIC=HZ")
        extra = given("topics", [""], "more topics, as TOPIC:PACKAGE/msg/TYPE")
        self.topics = recorded(self.config, rates, extra, self.node.resolve_topic_name)
        self._rates = {topic.name: Rate() for topic in self.topics.values()}
        self._recording: Recording | None = None
        self._asked = ""  # the instruction of the episode that is recorded
        self._latched: dict[str, bytes] = {}  # the last message of each
        self._trouble, self._lock = "", threading.RLock()
        for left in leftovers(self.folder):
            self.node.get_logger().warning(f"{left} was never finished; it stays there")
        self.data = beside(self.node, "data")
        self._listen()
        self._serve()
        self._spins = [Spin(self.node), Spin(self.data)]
        self.node.get_logger().info(
            f"ready: {len(self.topics)} topics into {self.folder}; task: {self._task or 'none yet'}"
        )

    # what is recorded ------------------------------------------------------------------------
    def _listen(self) -> None:
        for name, topic in self.topics.items():
            latched = name in TOLD_ONCE
            heard = partial(self._heard, topic.name, latched)
            qos = PICTURES if topic.type.endswith("Image") else SENSED
            qos, kind = LATCHED if latched else qos, _message_type(topic.type)
            self.data.create_subscription(kind, topic.name, heard, qos, raw=True)
        for quality in (LATCHED, COMMAND):  # said before we were there, or by `ros2 topic pub`
            self.node.create_subscription(String, "task", self._new_task, quality)

    def _heard(self, topic: str, latched: bool, message: bytes) -> None:
        stamp = self.node.get_clock().now().nanoseconds
        self._rates[topic].tick(time.monotonic())
        with self._lock:
            if latched:
                self._latched[topic] = message
            if self._recording is not None:
                self._recording.put(topic, stamp, message)

    def _new_task(self, message: String) -> None:
        self._task = message.data

    def complaints(self) -> list[str]:
        """Of topics that do not come at their rate."""
        return slow(list(self.topics.values()), self._rates, time.monotonic(), self._least)

    # services --------------------------------------------------------------------------------
    def _serve(self) -> None:
        offered: dict[str, Callable[[], str]] = {
            "start": self.start,
            "keep": partial(self.finish, None),
            "success": partial(self.finish, True),
            "failure": partial(self.finish, False),
            "discard": self.discard,
        }
        for name, act in offered.items():
            self.node.create_service(Trigger, f"recorder/{name}", answering(act))
        self.node.create_timer(0.5, self._watch)
        self._diagnostics = Diagnostics(self.node, self._report)

    def start(self) -> str:
        """Raises ValueError, which says what has to be different before anything is recorded."""
        if self._recording is not None:
            raise ValueError(f"already recording {self._recording.number}; keep or discard it")
        if not self._task.strip():
            raise ValueError("no task: set the parameter `task`, or publish it on the topic `task`")
        free = free_space(self.folder.absolute()) / GB
        if free < self._spare:
            raise ValueError(
                f"{self.folder}: {free:.1f} GiB are free, spare_gb={self._spare:g} are to stay so"
            )
        if complaints := self.complaints():
            raise ValueError("; ".join(complaints))
        try:
            recording = Recording(self.folder, list(self.topics.values()))
        except RecordingError as error:
            raise ValueError(str(error)) from None
        with self._lock:
            for topic, message in self._latched.items():
                recording.put(topic, self.node.get_clock().now().nanoseconds, message)
            self._recording, self._asked, self._trouble = recording, self._task, ""
        self.node.get_logger().info(f"recording {recording.path}: {self._task}")
        return f"recording {recording.number}"

    def finish(self, success: bool | None, ended: str = "") -> str:
        """End the episode and keep it. `ended` says what ended it, if nobody asked for it."""
        recording = self._take()
        about = {
            "task": self._asked,
            "success": success,
            "ended": ended,
            "robot": describe(self.config),
            "namespace": self.node.get_namespace(),
            "recorded": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "robostack": robostack.__version__,
        }
        try:
            bag, problems = recording.close(about)
        except RecordingError as error:
            self._trouble = str(error)
            raise
        self._trouble = "; ".join(problems)
        count = sum(track.count for track in recording.tracks.values())
        text = f"kept {bag}: {recording.seconds:.1f} s, {count} messages"
        if problems:
            text += f"; but {self._trouble}"
        (self.node.get_logger().warning if problems else self.node.get_logger().info)(text)
        return text

    def discard(self) -> str:
        text = f"discarded, to {self._take().discard()}"
        self.node.get_logger().info(text)
        return text

    def _take(self) -> Recording:
        with self._lock:
            recording, self._recording = self._recording, None
        if recording is None:
            raise ValueError("nothing is being recorded; call recorder/start first")
        return recording

    # itself ----------------------------------------------------------------------------------
    def _watch(self) -> None:
        """Ends an episode that cannot go on: a full disk, an operator who forgot it."""
        recording = self._recording
        if recording is None:
            return
        free = free_space(self.folder.absolute()) / GB
        if recording.error is not None:
            self.finish(None, f"the disk: {recording.error}")
        elif free < self._spare:
            self.finish(None, f"the disk: {free:.1f} GiB are free")
        elif recording.seconds > self._longest:
            self.finish(None, f"longer than {self._longest:g} s")

    def _report(self):
        recording, now = self._recording, time.monotonic()
        dropped = {name: t.dropped for name, t in recording.tracks.items()} if recording else {}
        values = {topic.name: f"{self._rates[topic.name].hz(now):.1f} Hz"
                  for topic in self.topics.values() if topic.required}  # fmt: skip
        values |= {f"dropped {name}": count for name, count in dropped.items() if count}
        complaints = self.complaints()
        if recording is None:
            state = "ready" if not complaints else "not ready: " + "; ".join(complaints)
            level = Diagnostics.WARN if complaints or self._trouble else Diagnostics.OK
            return level, f"{state}{'; last: ' + self._trouble if self._trouble else ''}", values
        state = f"recording {recording.number}, {recording.seconds:.0f} s"
        if complaints or any(dropped.values()):
            return Diagnostics.ERROR, "; ".join([state, *complaints]), values
        return Diagnostics.OK, state, values

    def close(self) -> None:
        """An episode that is being recorded is kept: whoever discards it can do so later."""
        if self._recording is not None:
            self.finish(None, "the recorder was stopped")
        for spin in self._spins:
            spin.close()
        self.data.destroy_node()
        self.node.destroy_node()


def _message_type(name: str):
    """The class of `package/msg/Type`. Raises ValueError where it is not installed."""
    package, _, kind = name.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"topics: no message type {name!r} ({error})") from None


def main(args: list[str] | None = None) -> int:
    return run(__doc__, Recorder, args, closing=8.0)  # a bag may have much to write


if __name__ == "__main__":
    sys.exit(main())
