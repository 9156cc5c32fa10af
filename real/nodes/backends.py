"""How each kind of arm controller wants to be told what robostack.real.arm decided."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robostack.real.arm import Command
from robostack.real.messages import doubles, write_named, write_pose, write_seconds
from robostack.real.nodes.node import COMMAND
from robostack.real.robot import ConfigError, RobotConfig
from robostack.real.safety import STRAYED
from robostack.real.stopping import Stopping

REFUSALS = 3  # goals in a row that a controller refuses before the arm stops


class Backend:
    """Publishes commands to one arm. `columns` are its actions in a command, in its order."""

    message: type
    pose: np.ndarray | None = None  # f64[7] measured, position and wxyz; the node keeps it fresh

    def __init__(self, node: Node, robot: RobotConfig, name: str):
        self.robot, self.name, self.arm = robot, name, robot.arms[name]
        self.columns = [list(robot.actions).index(action) for action in self.arm.actions]
        self.joints = list(self.arm.joints or self.arm.actions)
        self.connect(node, robot.topic(name))

    def connect(self, node: Node, topic: str) -> None:
        self._publisher = node.create_publisher(self.message, topic, COMMAND)

    def send(self, command: Command, stamp: float) -> None:
        self._publisher.publish(self.fill(command, stamp))

    def fill(self, command: Command, stamp: float):
        raise NotImplementedError

    def astray(self) -> str:
        """What is further from its command than it may be, and no state tells of; "": nothing."""
        return ""

    def need(self, *kinds: str) -> None:
        """Raises ConfigError where an action of the arm is of none of these kinds."""
        for name in self.arm.actions:
            kind = self.robot.actions[name].kind
            if kind not in kinds:
                raise ConfigError(
                    f"arms.{self.name}: the back end {self.arm.backend} takes actions of kind "
                    f"{' or '.join(kinds)}; {name} is of kind {kind}"
                )

    def need_axes(self) -> None:
        if len(self.arm.actions) not in (3, 6):
            raise ConfigError(
                f"arms.{self.name}: the back end {self.arm.backend} takes 3 or 6 actions, x y z "
                f"and then rotations about them, got {len(self.arm.actions)}"
            )


class ActionBackend(Backend):
    """A controller that takes actions as they are: the simulated robot."""

    message = JointState

    def fill(self, command: Command, stamp: float):
        return write_named(JointState(), self.joints, command.action[self.columns], stamp)


class JointTrajectoryBackend(Backend):
    """joint_trajectory_controller, streamed: the command, to be reached a step from now, and after
    it the way to rest, which the next message replaces. Stamp 0 is "from now". All points have
    velocities, so that the controller's splines are C1."""

    message = JointTrajectory
    ahead = 1  # steps until the command is to be reached

    def __init__(self, node: Node, robot: RobotConfig, name: str):
        super().__init__(node, robot, name)
        self.need("absolute")
        self._stopping = Stopping(robot, self.arm.actions)

    def fill(self, command: Command, stamp: float):
        return JointTrajectory(joint_names=self.joints, points=self.points(command))

    def points(self, command: Command) -> list[JointTrajectoryPoint]:
        found = []
        times, places, speeds = self._stopping.path(command.motion[:, self.columns])
        for time, place, speed in zip(times, places, speeds):
            point = JointTrajectoryPoint(positions=doubles(place), velocities=doubles(speed))
            write_seconds(point.time_from_start, self.ahead / self.robot.rate + time)
            found.append(point)
        return found


class PositionsBackend(Backend):
    """forward_command_controller: numbers without names, in the order of arm.actions."""

    message = Float64MultiArray

    def __init__(self, node: Node, robot: RobotConfig, name: str):
        super().__init__(node, robot, name)
        self.need("absolute")

    def fill(self, command: Command, stamp: float):
        return Float64MultiArray(data=doubles(command.action[self.columns]))


class JointBackend(Backend):
    """crisp's target_joint and similar: a JointState with positions and velocities."""

    message = JointState

    def __init__(self, node: Node, robot: RobotConfig, name: str):
        super().__init__(node, robot, name)
        self.need("absolute")

    def fill(self, command: Command, stamp: float):
        message = write_named(JointState(), self.joints, command.action[self.columns], stamp)
        message.velocity = doubles(command.speed[self.columns])
        return message


class TwistBackend(Backend):
    """MoveIt Servo with `command_in_type: speed_units`: 3 or 6 velocities, linear first.

    Servo ignores stamps older than its `incoming_command_timeout` and stops by itself then.
    """

    message = TwistStamped

    def __init__(self, node: Node, robot: RobotConfig, name: str):
        super().__init__(node, robot, name)
        self.need_axes()
        self.need("delta", "velocity")

    def fill(self, command: Command, stamp: float):
        speed = np.zeros(6)
        speed[: len(self.columns)] = command.speed[self.columns]
        message = TwistStamped()
        write_seconds(message.header.stamp, stamp)
        message.header.frame_id = self.arm.frame
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = speed.tolist()
        return message


class PoseBackend(Backend):
    """crisp's target_pose and similar: 3 or 6 velocities, integrated here from the measured pose.

    Orientation: rotation about the axes of `frame`.
    """

    message = PoseStamped

    def __init__(self, node: Node, robot: RobotConfig, name: str):
        super().__init__(node, robot, name)
        self.need_axes()
        self.need("delta", "velocity")
        for action in self.arm.actions[:3]:
            if not robot.actions[action].state:
                raise ConfigError(f"actions.{action}.state: the back end pose starts from it")
        for action in self.arm.actions:
            if not robot.actions[action].max_error:
                raise ConfigError(f"actions.{action}.max_error: the back end pose needs it")
        self._turned: Rotation | None = None

    def fill(self, command: Command, stamp: float):
        if command.began or self._turned is None:
            if self.pose is None:
                raise ConfigError("the back end pose: no state is measured by a PoseStamped")
            self._turned = _rotation(self.pose)
        if len(self.columns) == 6:
            spin = command.speed[self.columns[3:]] / self.robot.rate
            self._turned = Rotation.from_rotvec(spin) * self._turned
        x, y, z, w = self._turned.as_quat()
        at = command.placed[self.columns[:3]]
        return write_pose(PoseStamped(), at, (w, x, y, z), stamp, self.arm.frame)

    def astray(self) -> str:
        if self._turned is None or self.pose is None or len(self.columns) == 3:
            return ""
        angle = (self._turned * _rotation(self.pose).inv()).magnitude()
        most = STRAYED * max(self.robot.actions[n].max_error for n in self.arm.actions[3:])
        return f"the orientation is {angle:.3g} rad from the command" if angle > most else ""


def _rotation(pose: np.ndarray) -> Rotation:
    return Rotation.from_quat([*pose[4:], pose[3]])


class FollowJointTrajectoryBackend(JointTrajectoryBackend):
    """The action of joint_trajectory_controller, for controllers that have no topic. Every goal
    replaces the one before; choose a modest command_hz.

    A controller that refuses goals, or gives one up, does not obey: the arm node stops, and says
    why. Nothing is cancelled: on that the controller would stop dead, and each goal ends at rest.
    """

    ahead = 2  # steps: an action takes longer than a topic

    def connect(self, node: Node, topic: str) -> None:
        from rclpy.action import ActionClient

        follow = control_msgs("FollowJointTrajectory")
        self._goal, self._result = follow.Goal, follow.Result
        self._client, self._log = ActionClient(node, follow, topic), node.get_logger()
        self._refused, self._trouble = 0, ""

    def send(self, command: Command, stamp: float) -> None:
        if not self._client.server_is_ready():
            self._log.warning(f"{self.name}: no controller is there", throttle_duration_sec=5.0)
            return
        goal = self._goal(trajectory=self.fill(command, stamp))
        self._client.send_goal_async(goal).add_done_callback(self._answered)

    def _answered(self, future) -> None:
        handle = future.result()
        self._refused = 0 if handle.accepted else self._refused + 1
        if handle.accepted:
            handle.get_result_async().add_done_callback(self._ended)
        elif self._refused >= REFUSALS:
            self._trouble = f"the controller refused {self._refused} goals in a row"

    def _ended(self, future) -> None:
        """Being replaced is every goal's ordinary end, and no trouble."""
        result = future.result().result
        left = (self._result.PATH_TOLERANCE_VIOLATED, self._result.GOAL_TOLERANCE_VIOLATED)
        if result.error_code in left:
            self._trouble = f"the controller gave up: {result.error_string or result.error_code}"

    def astray(self) -> str:
        """Once for each trouble, so that an emergency stop can be reset."""
        trouble, self._trouble = self._trouble, ""
        if trouble:
            self._refused = 0
        return f"{self.name}: {trouble}" if trouble else ""


def control_msgs(name: str) -> type:
    """An action of control_msgs. Raises ConfigError where that is not installed."""
    try:
        from control_msgs import action
    except ImportError:
        raise ConfigError(
            f"{name} needs control_msgs, which comes with a ROS 2 installation and not with the "
            "wheels; choose a back end that is a topic, or install ros-$ROS_DISTRO-control-msgs"
        ) from None
    return getattr(action, name)


BACKENDS = {
    "action": ActionBackend,
    "joint_trajectory": JointTrajectoryBackend,
    "positions": PositionsBackend,
    "joint": JointBackend,
    "twist": TwistBackend,
    "pose": PoseBackend,
    "follow_joint_trajectory": FollowJointTrajectoryBackend,
}
