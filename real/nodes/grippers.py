"""How each kind of gripper controller wants to be told how far to close."""

from __future__ import annotations

from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robostack.real.messages import doubles, write_seconds
from robostack.real.nodes.backends import control_msgs
from robostack.real.nodes.node import COMMAND
from robostack.real.robot import RobotConfig

REACHED = 0.1  # [s] for a joint_trajectory gripper: its controller goes as fast as it can


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
        if self.deliver(value):
            self._sent = closed
            return True
        return False

    def connect(self, node: Node) -> None:
        raise NotImplementedError

    def deliver(self, value: float) -> bool:
        raise NotImplementedError


class TopicGripper(GripperBackend):
    """A forward_command_controller with one joint."""

    def connect(self, node: Node) -> None:
        self._publisher = node.create_publisher(Float64MultiArray, self._topic, COMMAND)

    def deliver(self, value: float) -> bool:
        self._publisher.publish(Float64MultiArray(data=doubles([value])))
        return True


class TrajectoryGripper(GripperBackend):
    """A joint_trajectory_controller with one joint."""

    def connect(self, node: Node) -> None:
        self._publisher = node.create_publisher(JointTrajectory, self._topic, COMMAND)

    def deliver(self, value: float) -> bool:
        point = JointTrajectoryPoint(positions=doubles([value]))
        write_seconds(point.time_from_start, REACHED)
        self._publisher.publish(JointTrajectory(joint_names=[self.gripper.joint], points=[point]))
        return True


class ActionGripper(GripperBackend):
    """The GripperCommand action, where control_msgs is installed."""

    def connect(self, node: Node) -> None:
        from rclpy.action import ActionClient

        self._command = control_msgs("GripperCommand")
        self._client = ActionClient(node, self._command, self._topic)

    def deliver(self, value: float) -> bool:
        if not self._client.server_is_ready():
            return False
        goal = self._command.Goal()
        goal.command.position, goal.command.max_effort = value, self.gripper.effort
        self._client.send_goal_async(goal)
        return True


GRIPPERS = {
    "topic_float64": TopicGripper,
    "joint_trajectory": TrajectoryGripper,
    "action": ActionGripper,
}
