"""The node that commands an arm: limits, watchdog and emergency stop are here and nowhere else.

It obeys `operator/chunk` while `operator/deadman` is held, else `chunk` while `alive` is repeated,
and nothing while `estop` is latched; else it decelerates and holds. A software stop is no
safety-rated one: keep the arm's own emergency stop within reach.

  python -m robostack.real.nodes.arm_node --ros-args -p robot:=configs/robot/fr3.yaml

Services: arm/enable (SetBool), arm/hold, arm/estop, arm/estop_reset (Trigger).
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from dataclasses import replace

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from robostack.real.arm import HOLD, STOP, ArmController, Command
from robostack.real.health import doubts
from robostack.real.messages import (
    MessageError,
    read_chunk,
    read_named,
    read_pose,
    seconds,
    write_named,
)
from robostack.real.nodes.backends import BACKENDS
from robostack.real.nodes.grippers import GRIPPERS
from robostack.real.nodes.node import (
    COMMAND,
    LATCHED,
    RECORD,
    SENSOR,
    Diagnostics,
    Spin,
    answering,
    beside,
    now,
    parameter,
    run,
)
from robostack.real.nodes.ticking import Ticking
from robostack.real.paths import find
from robostack.real.robot import RobotConfig, Source

REST = 1.5  # [s] that the arm gets to come to rest when the node ends
POSES = 3  # of which the one in the middle counts: a single one may be wrong


class ArmNode:
    """Wires ArmController to topics and services.

    States, switches and services have one executor, chunks another: however many chunks somebody
    sends, the emergency stop is heard.
    """

    def __init__(self, context: Context, robot: RobotConfig | None = None):
        self.node = Node("arm", context=context)
        self._chunks = beside(self.node, "chunks")
        if robot is None:
            file = parameter(self.node, "robot", "", "the robot's YAML file", needed=True)
            robot = RobotConfig.load(find(file))
        self.node.get_logger().info("preparing (the first time on a machine it compiles)")
        self.robot, self.arm = robot, ArmController(robot)
        self.arms = [BACKENDS[a.backend](self.node, robot, n) for n, a in robot.arms.items()]
        self.grippers = [
            GRIPPERS[g.backend](self.node, robot, n) for n, g in robot.grippers.items()
        ]
        self._poses = {arm.name: deque(maxlen=POSES) for arm in self.arms}
        self._turned: set[str] = set()  # arms that somebody turned while they rested
        self._executed = self.node.create_publisher(JointState, "executed", RECORD)
        self._estop = self.node.create_publisher(Bool, "estop_state", LATCHED)
        self._told: bool | None = None  # the last estop_state
        self._reason = ""
        self._bad: dict[str, str] = {}  # topic -> what was wrong with its last message
        self._stops = self.arm.safety.stops_within
        self._doubts = doubts(robot, self._stops)
        self.node.get_logger().info(f"whatever it does, it rests within {self._stops:.2f} s")
        for doubt in self._doubts:
            self.node.get_logger().warning(doubt)
        self._listen()
        Diagnostics(self.node, self._report)
        self._ticking = Ticking(self.node, robot.rate, self._tick, failed=self._failed)
        self._spins = [Spin(n, failed=self._failed) for n in (self.node, self._chunks)]

    def _listen(self) -> None:
        by_topic: dict[str, dict[str, Source]] = defaultdict(dict)
        for name, source in self.robot.sources.items():
            by_topic[source.topic][name] = source
        for topic, sources in by_topic.items():
            kind = JointState if next(iter(sources.values())).message == "JointState" else None
            hear = self._hear_joints if kind else self._hear_pose
            self._subscribe(self.node, kind or PoseStamped, topic, hear, sources)
        # of whatever publisher, and of a reliable one nothing may be lost
        for qos in (SENSOR, COMMAND):
            self._subscribe(self.node, Bool, "estop", self._hear_switch, self.arm.estop, qos)
        self._subscribe(self.node, Bool, "alive", self._hear_switch, self.arm.alive)
        self._subscribe(self.node, Bool, "operator/deadman", self._hear_switch, self.arm.deadman)
        self._subscribe(self._chunks, JointTrajectory, "chunk", self._hear_chunk, False)
        self._subscribe(self._chunks, JointTrajectory, "operator/chunk", self._hear_chunk, True)
        for name, kind, act in (
            ("arm/enable", SetBool, self._enable),
            ("arm/hold", Trigger, lambda: self._enable(False)),
            ("arm/estop", Trigger, self._stop),
            ("arm/estop_reset", Trigger, self._reset),
        ):
            self.node.create_service(kind, name, answering(act))

    def _subscribe(self, node: Node, kind: type, topic: str, hear, about, qos=SENSOR) -> None:
        """Messages that do not hold what they should are reported, and otherwise not there."""

        def callback(message) -> None:
            try:
                hear(message, about)
            except MessageError as error:
                self._bad[topic] = str(error)
                self.arm.counts["wrong messages"] += 1
                self.node.get_logger().warning(f"{topic}: {error}", throttle_duration_sec=2.0)

        node.create_subscription(kind, topic, callback, qos)

    # what is heard ------------------------------------------------------------------------
    def _hear_joints(self, message: JointState, sources: dict[str, Source]) -> None:
        heard, stamp = time.monotonic(), seconds(message.header.stamp)
        names = set(message.name)
        for field in {source.field for source in sources.values()}:
            there = {n: s.name for n, s in sources.items() if s.field == field and s.name in names}
            if there:
                values = read_named(message, list(there.values()), field)
                self.arm.measure(dict(zip(there, values)), heard, stamp)

    def _hear_pose(self, message: PoseStamped, sources: dict[str, Source]) -> None:
        parts = read_pose(message)
        values, stamp = {n: parts[s.name] for n, s in sources.items()}, message.header.stamp
        self.arm.measure(values, time.monotonic(), seconds(stamp))
        pose = np.array([parts[k] for k in ("x", "y", "z", "qw", "qx", "qy", "qz")])
        for arm in self.arms:
            if any(self.robot.actions[name].state in sources for name in arm.arm.actions):
                self._poses[arm.name].append(pose)
                arm.pose = _middle(self._poses[arm.name])

    def _hear_switch(self, message: Bool, set_it) -> None:
        set_it(message.data, time.monotonic())

    def _hear_chunk(self, message: JointTrajectory, operator: bool) -> None:
        try:
            chunk = read_chunk(message, self.robot.spec.action_names)
        except MessageError as error:
            self.arm.refuse(str(error), operator)
            raise
        self.arm.offer(chunk, now(self.node), operator)

    # services -----------------------------------------------------------------------------
    def _enable(self, on: bool) -> str:
        self.arm.enable(on, now(self.node))
        return "enabled" if on else "holds; arm/enable lets it move again"

    def _stop(self) -> str:
        self.arm.trip("service", "somebody called arm/estop")
        return "stopped; arm/estop_reset ends it"

    def _reset(self) -> str:
        self.arm.reset(now(self.node), time.monotonic())
        return "reset: it holds, and obeys what is said from now on"

    def _failed(self, error: Exception) -> None:
        self.arm.trip("failure", f"this node failed: {type(error).__name__}: {error}")

    # the control thread -------------------------------------------------------------------
    def _tick(self) -> None:
        stamp = now(self.node)
        command = self.arm.tick(stamp, time.monotonic())
        for arm in self.arms:
            if astray := arm.astray():
                if not command.send:
                    self._turned.add(arm.name)
                elif arm.name not in self._turned:
                    self.arm.trip("strayed", astray)
        if command.send:
            self._send(command, stamp)
        if command.executed is not None:
            names = self.robot.spec.action_names
            message = write_named(
                JointState(), names, command.executed, stamp, effort=[float(command.source)]
            )
            self._executed.publish(message)
        self._tell(command)

    def _send(self, command: Command, stamp: float) -> None:
        for arm in self.arms:
            began = command.began or arm.name in self._turned
            arm.send(replace(command, began=began), stamp)
        self._turned.clear()
        if command.source not in (HOLD, STOP):
            for gripper in self.grippers:
                gripper.send(command.action[gripper.column])

    def _tell(self, command: Command) -> None:
        stopped = command.source == STOP
        if stopped != self._told:
            self._told = stopped
            self._estop.publish(Bool(data=stopped))
        if command.reason != self._reason:
            self._reason = command.reason
            log = self.node.get_logger()
            if stopped:
                log.error(f"stopped: {command.reason}")
            else:
                log.info(f"holds: {command.reason}" if command.reason else "moves")

    def _report(self) -> tuple[bytes, str, dict]:
        level = Diagnostics.OK
        if self.arm.causes.latched:
            level = Diagnostics.ERROR
        safety = self.arm.safety
        fenced = ", ".join(safety.at_fence)
        doing = f"held back by the fence of {fenced}" if fenced else "moves"
        if level == Diagnostics.OK and (self.arm.reason or fenced):
            level = Diagnostics.WARN
        limited = {f"limited {n}": k for n, k in safety.limited.items() if k}
        limited |= {f"cut back by the fence of {n}": k for n, k in safety.fenced.items() if k}
        bad = {f"wrong on {topic}": text for topic, text in self._bad.items()}
        for topic, voice in (("chunk", self.arm.policy), ("operator/chunk", self.arm.operator)):
            if voice.refused:
                bad[f"wrong on {topic}"] = voice.refused
        values = {
            **dict(sorted(self.arm.counts.items())),
            **limited,
            "clipped": safety.clipped,
            "missed ticks": self._ticking.pace.missed,
            "stops within [s]": self._stops,
            **{f"doubt {i + 1}": doubt for i, doubt in enumerate(self._doubts)},
            **bad,
        }
        return level, self.arm.reason or doing, values

    def close(self) -> None:
        """Bring the arm to rest, and leave a hold as the last command: of an arm that rests for
        long, and may have been moved since, the one that it was told already."""
        self.arm.enable(False, now(self.node))
        until = time.monotonic() + REST
        while time.monotonic() < until and not self.arm.safety.resting:
            time.sleep(1 / self.robot.rate)
        self._ticking.close()
        stamp = now(self.node)
        command = self.arm.tick(stamp, time.monotonic())
        if command.send:
            self._send(command, stamp)
        for spin in self._spins:
            spin.close()
        for node in (self.node, self._chunks):
            node.destroy_node()


def _middle(poses: deque[np.ndarray]) -> np.ndarray:
    """The one of poses f64[7] that is nearest to the others; of two the newer one."""
    table = np.array(poses)[::-1]
    apart = np.linalg.norm(table[:, None] - table[None], axis=-1).sum(1)
    return table[int(np.argmin(apart))]


def main(args: list[str] | None = None) -> int:
    return run(__doc__, ArmNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
