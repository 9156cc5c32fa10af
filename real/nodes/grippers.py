"""How each kind of gripper controller wants to be told how far to close."""

from __future__ import annotations

import math
import time
from functools import partial

from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robostack.real.messages import doubles, write_seconds
from robostack.real.nodes.backends import control_msgs
from robostack.real.nodes.node import COMMAND
from robostack.real.robot import RobotConfig

REACHED = 0.1  # [s] for a joint_trajectory gripper: its controller goes as fast as it can
AGAIN = 0.5  # [s] until a goal that was refused, or that nobody took, is sent again
GRIPPER_ACTIONS = ("GripperCommand", "ParallelGripperCommand")


class GripperBackend:
    """Sends the gripper's action when it has changed by more than the dead band."""

    def __init__(self, node: Node, robot: RobotConfig, name: str):
        self.gripper, self._topic = robot.grippers[name], robot.topic(name)
        self.column = list(robot.actions).index(self.gripper.action)
        action = robot.actions[self.gripper.action]
        self._low, self._high = action.low, action.high
        self._sent: float | None = None
        self.connect(node)

    def fraction(self, action: float) -> float:
        """How far closed, 0 to 1, a value of the action asks for."""
        part = (action - self._low) / (self._high - self._low)
        return part if self.gripper.closes_at == "high" else 1 - part

    def send(self, action: float) -> bool:
        """Whether it was worth sending."""
        closed = self.fraction(action)
        if self._sent is not None and abs(closed - self._sent) < self.gripper.deadband:
            return False
        value = self.gripper.open + (self.gripper.closed - self.gripper.open) * closed
        before, self._sent = self._sent, closed  # set first: an answer in another thread clears it
        if self.deliver(value):
            return True
        self._sent = before
        return False

    def connect(self, node: Node) -> None:
        raise NotImplementedError

    def deliver(self, value: float) -> bool:
        raise NotImplementedError


class TopicGripper(GripperBackend):
    """A forward_command_controller with one joint."""

    message = Float64MultiArray

    def connect(self, node: Node) -> None:
        self._publisher = node.create_publisher(self.message, self._topic, COMMAND)

    def deliver(self, value: float) -> bool:
        self._publisher.publish(Float64MultiArray(data=doubles([value])))
        return True


class TrajectoryGripper(GripperBackend):
    """A joint_trajectory_controller with one joint."""

    message = JointTrajectory

    def connect(self, node: Node) -> None:
        self._publisher = node.create_publisher(self.message, self._topic, COMMAND)

    def deliver(self, value: float) -> bool:
        point = JointTrajectoryPoint(positions=doubles([value]))
        write_seconds(point.time_from_start, REACHED)
        self._publisher.publish(JointTrajectory(joint_names=[self.gripper.joint], points=[point]))
        return True


class ActionGripper(GripperBackend):
    """The action of its controller, where control_msgs is installed: GripperCommand or, since ROS 2
    Jazzy, ParallelGripperCommand, whichever is offered under its name.

    A goal that is refused is sent again. What becomes of one that was accepted is not asked for:
    fingers that are stopped by what they hold end most of them.
    """

    def connect(self, node: Node) -> None:
        for kind in GRIPPER_ACTIONS:
            control_msgs(kind)  # raises before anything moves
        self._node, self._client, self._kind = node, None, ""
        self._number, self._again = 0, -math.inf  # goals sent; not before [s, monotonic]

    def deliver(self, value: float) -> bool:
        if time.monotonic() < self._again or not self._ready():
            return False
        self._number += 1
        refused = partial(self._answered, self._number)
        self._client.send_goal_async(self._fill(value)).add_done_callback(refused)
        return True

    def _ready(self) -> bool:
        """Whether the controller is there; the first time, which action it offers."""
        from rclpy.action import ActionClient, get_action_names_and_types

        if self._client is None:
            name = self._node.resolve_topic_name(self._topic)
            kinds = dict(get_action_names_and_types(self._node)).get(name, [])
            offered = [kind for kind in GRIPPER_ACTIONS if f"control_msgs/action/{kind}" in kinds]
            if offered:
                self._kind = offered[0]
                self._client = ActionClient(self._node, control_msgs(self._kind), self._topic)
        if self._client is not None and self._client.server_is_ready():
            return True
        self._later("no controller is there")
        return False

    def _fill(self, value: float):
        goal = control_msgs(self._kind).Goal()
        if self._kind == "GripperCommand":
            goal.command.position, goal.command.max_effort = value, self.gripper.effort
        else:
            goal.command.name, goal.command.position = [self.gripper.joint], doubles([value])
            if self.gripper.effort:
                goal.command.effort = doubles([self.gripper.effort])
        return goal

    def _answered(self, number: int, future) -> None:
        if not future.result().accepted and number == self._number:
            self._later("the controller refused a goal")
            self._sent = None

    def _later(self, why: str) -> None:
        self._again = time.monotonic() + AGAIN
        self._node.get_logger().warning(f"gripper {self._topic}: {why}", throttle_duration_sec=5.0)


GRIPPERS = {
    "topic_float64": TopicGripper,
    "joint_trajectory": TrajectoryGripper,
    "action": ActionGripper,
}
