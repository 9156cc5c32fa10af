"""Devices of an operator that ROS topics bring: joy listens to `joy`, pose to `teleop/pose` and
leader to `leader/joint_states`, the last two with the buttons of `joy`."""

from __future__ import annotations

import time

import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy

from robostack.real.messages import read_pose
from robostack.real.nodes import node as nodes
from robostack.real.nodes.node import SENSOR, Spin
from robostack.real.teleop.device import Poll, TeleopDevice
from robostack.real.teleop.mapping import Mapping
from robostack.real.teleop.topics import JoyInput, LeaderInput, PoseInput

heard = time.monotonic  # when something came


def listen(node: Node, mapping: Mapping, silent: float) -> TeleopDevice:
    """The device of a mapping, fed by `node`, which is lost when nothing came for `silent` [s].
    Raises ValueError for one of another kind."""
    match mapping.device:
        case "joy":
            joy = JoyInput(silent)
            node.create_subscription(
                Joy, "joy", lambda m: joy.feed(m.axes, m.buttons, heard()), SENSOR
            )
            return joy
        case "pose":
            device = hand = PoseInput(silent)

            def hear_pose(message: PoseStamped) -> None:
                at = read_pose(message)
                position, turned = [at[k] for k in "xyz"], [at[f"q{k}"] for k in "wxyz"]
                hand.feed(position, turned, heard())

            node.create_subscription(PoseStamped, "teleop/pose", hear_pose, SENSOR)
        case "leader":
            device = leader = LeaderInput(silent)

            def hear_leader(message: JointState) -> None:
                leader.feed(message.name, message.position, heard())

            node.create_subscription(JointState, "leader/joint_states", hear_leader, SENSOR)
        case other:
            raise ValueError(f"device {other} is of this machine; no topic brings it")
    if _has_buttons(mapping):
        node.create_subscription(
            Joy, "joy", lambda m: device.feed_joy(m.axes, m.buttons, heard()), SENSOR
        )
    return device


def _has_buttons(mapping: Mapping) -> bool:
    """Whether a mapping of a tracker or a leader arm uses a Joy beside it."""
    axes = {mapping.gripper.axis} if mapping.gripper else set()
    return any(name.startswith(("button", "axis")) for name in mapping.buttons() | axes)


class Controls:
    """Such a device with a node of its own, for whoever has none."""

    def __init__(self, mapping: Mapping, silent: float, namespace: str = ""):
        self._context = nodes.connect()
        self._node = rclpy.create_node("controls", context=self._context, namespace=namespace)
        self._device = listen(self._node, mapping, silent)
        self._spin = Spin(self._node)

    def poll(self, now: float) -> Poll:
        return self._device.poll(now)

    def close(self) -> None:
        self._device.close()
        self._spin.close()
        self._node.destroy_node()
        self._context.try_shutdown()
