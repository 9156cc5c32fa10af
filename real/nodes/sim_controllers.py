"""The controllers of a simulated robot: they hear what robostack.real.nodes.backends sends."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from robostack.real.following import Following
from robostack.real.messages import MessageError, read_named, seconds
from robostack.real.nodes.node import COMMAND, now
from robostack.real.robot import ConfigError, RobotConfig

OLD = 0.1  # [s]: MoveIt Servo's incoming_command_timeout


class Controller:
    """Of one arm or gripper. `columns` are its actions in an action of the robot."""

    message: type

    def __init__(self, node: Node, robot: RobotConfig, name: str):
        self.node, self.robot, self.name = node, robot, name
        part = robot.arms.get(name)
        self.actions = part.actions if part else (robot.grippers[name].action,)
        self.joints = list((part.joints or part.actions) if part else [robot.grippers[name].joint])
        self.columns = [list(robot.actions).index(action) for action in self.actions]
        self.clear()
        node.create_subscription(self.message, robot.topic(name), self._hear, COMMAND)

    def _hear(self, message) -> None:
        try:
            self.take(message)
        except MessageError as error:
            self.node.get_logger().warning(
                f"{self.name}: command refused: {error}", throttle_duration_sec=2.0
            )

    def clear(self) -> None:
        """Forget what was asked for: the robot begins anew."""
        self._values: np.ndarray | None = None

    def take(self, message) -> None:
        """Raises MessageError, and goes on with what was asked before, for one that is refused."""
        self._values = self.checked(self.read(message))

    def checked(self, values: np.ndarray) -> np.ndarray:
        if values.shape != (len(self.columns),) or not np.isfinite(values).all():
            raise MessageError(f"expected {len(self.columns)} finite numbers, got {values}")
        return values

    def read(self, message) -> np.ndarray:
        raise NotImplementedError

    def due(self) -> np.ndarray | None:
        """f64[k] of its actions, raw units of the spec; None while nothing is asked for."""
        return self._values


class PositionsController(Controller):
    """A forward_command_controller: numbers without names."""

    message = Float64MultiArray

    def read(self, message) -> np.ndarray:
        return np.array(message.data, np.float64)


class JointController(Controller):
    """crisp's target_joint."""

    message = JointState

    def read(self, message) -> np.ndarray:
        return read_named(message, self.joints)


class JointTrajectoryController(Controller):
    """A joint_trajectory_controller, see robostack.real.following."""

    message = JointTrajectory

    def clear(self) -> None:
        self._following = Following(self.joints)

    def take(self, message) -> None:
        end = np.array(message.points[-1].positions) if len(message.points) else np.zeros(0)
        self._following.hear(message, now(self.node), end)

    def due(self) -> np.ndarray | None:
        found = self._following.at(now(self.node))
        return None if found is None else found[0]


class TwistController(Controller):
    """MoveIt Servo, told speeds in SI units. One that was stamped too long ago is a stop."""

    message = TwistStamped

    def __init__(self, node: Node, robot: RobotConfig, name: str):
        super().__init__(node, robot, name)
        given = [robot.actions[action] for action in self.actions]
        gain = {"delta": robot.control_hz, "velocity": 1.0}
        if wrong := sorted({a.kind for a in given} - set(gain)):
            raise ConfigError(f"arms.{name}: twist is for delta and velocity, not {wrong[0]}")
        self._gain = np.array([a.scale * gain[a.kind] for a in given])

    def read(self, message) -> np.ndarray:
        self._stamp = seconds(message.header.stamp)
        linear, angular = message.twist.linear, message.twist.angular
        speed = (linear.x, linear.y, linear.z, angular.x, angular.y, angular.z)
        return np.array(speed)[: len(self.columns)] / self._gain

    def due(self) -> np.ndarray | None:
        fresh = self._values is not None and now(self.node) - self._stamp < OLD
        return self._values if fresh else None


class FingersController(Controller):
    """A gripper's position, which a topic tells."""

    message = Float64MultiArray

    def read(self, message) -> np.ndarray:
        return self.asked(np.array(message.data, np.float64))

    def asked(self, values: np.ndarray) -> np.ndarray:
        """The action for positions f64[1] of the gripper's controller."""
        gripper = self.robot.grippers[self.name]
        action = self.robot.actions[gripper.action]
        closed = (self.checked(values) - gripper.open) / (gripper.closed - gripper.open)
        share = closed if gripper.closes_at == "high" else 1 - closed
        return action.low + share * (action.high - action.low)


class FingersTrajectoryController(FingersController):
    """The same as a joint_trajectory_controller with one joint, which goes as fast as it can."""

    message = JointTrajectory

    def read(self, message) -> np.ndarray:
        if list(message.joint_names) != self.joints or not len(message.points):
            raise MessageError(f"expected points of {self.joints}, got {message.joint_names}")
        return self.asked(np.array(message.points[-1].positions))


ARMS = {
    "positions": PositionsController,
    "joint": JointController,
    "joint_trajectory": JointTrajectoryController,
    "twist": TwistController,
}
GRIPPERS = {
    "topic_float64": FingersController,
    "joint_trajectory": FingersTrajectoryController,
}


def controllers(node: Node, robot: RobotConfig) -> list[Controller]:
    """Of all that is not told whole actions. Raises ConfigError for what no simulation has."""
    backends = [arm.backend for arm in robot.arms.values()]
    if "action" in backends and len(backends) > 1:
        raise ConfigError("arms: the back end `action` is for a simulated robot with one arm")
    made = []
    for kind, parts, known in (("arms", robot.arms, ARMS), ("grippers", robot.grippers, GRIPPERS)):
        for name, part in parts.items():
            if kind == "arms" and part.backend == "action":
                continue
            if part.backend not in known:
                raise ConfigError(
                    f"{kind}.{name}.backend: a simulated robot has {', '.join(known)}"
                    f"{' or action' if kind == 'arms' else ''}, got {part.backend}"
                )
            made.append(known[part.backend](node, robot, name))
    return made
