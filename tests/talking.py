"""A policy or an operator in a process of its own, to be killed: it swings every action.

python tests/talking.py ROBOT.yaml (policy | operator)
"""

import sys
import time

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from robostack.real.messages import write_chunk
from robostack.real.nodes.node import PUBLISH, connect, now
from robostack.real.robot import RobotConfig

SWING = 0.6  # [s] from one end to the other


def swinging(robot, moment, rows=200):
    """f64[rows, A]: square waves between a third and two thirds of every action's range."""
    low, high = np.array([(a.low, a.high) for a in robot.actions.values()]).T
    t = moment + np.arange(rows) / robot.control_hz
    up = (t // SWING % 2)[:, None]
    return low + (1 + up) / 3 * (high - low)


def main():
    robot, operator = RobotConfig.load(sys.argv[1]), sys.argv[2] == "operator"
    node = Node("talker", context=connect())
    sign = node.create_publisher(Bool, "operator/deadman" if operator else "alive", PUBLISH)
    chunks = node.create_publisher(
        JointTrajectory, "operator/chunk" if operator else "chunk", PUBLISH
    )
    while True:
        sign.publish(Bool(data=True))
        moment = now(node)
        rows = swinging(robot, moment)
        message = write_chunk(
            JointTrajectory(), list(robot.actions), rows, moment, robot.control_hz
        )
        chunks.publish(message)
        time.sleep(0.02)


if __name__ == "__main__":
    main()
