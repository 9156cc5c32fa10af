"""The point on a line of `fakes` as a robot: simulated behind ROS topics, with its arm node."""

import time
from dataclasses import replace

import numpy as np
from fakes import SPEC, LineEnv

from robostack.config import build
from robostack.real.robot import RobotConfig

DELTA = dict(low=-1, high=1, kind="delta", scale=0.1, velocity=20, acceleration=800, jerk=32000)
VALUES = {
    "robot": SPEC.robot,
    "control_hz": SPEC.control_hz,
    "conventions": SPEC.conventions,
    "state": {name: f"joint_states:position/{name}" for name in SPEC.state_names},
    "cameras": {"top": {"topic": "top/image_raw", "size": [16, 16]}},
    "actions": {"dx": DELTA, "dy": DELTA, "gripper": {"low": -1, "high": 1, "kind": "level"}},
    "arms": {"arm": {"backend": "action", "actions": ["dx", "dy", "gripper"]}},
    "enabled": True,
    "timeouts": {"state": 1.0, "alive": 1.0, "deadman": 0.5, "device": 0.3},
    "camera_limits": {"frozen": 0, "max_age": 1.0, "max_skew": 0.5},  # at rest it looks the same
    "state_limits": {"max_age": 1.0, "max_skew": 0.5},
}
ROBOT = build(RobotConfig, VALUES)


class Line(LineEnv):
    """Without the count of steps in its state: at rest it is the same whenever one looks."""

    def _look(self):
        step = super()._look()
        state = step.observation.state * np.array([1, 0, 0], np.float32)
        return replace(step, observation=replace(step.observation, state=state))


class LineRobot:
    """On a graph of its own, until it is closed; either part may be left out."""

    def __init__(self, domain: int, arm: bool = True, robot: bool = True, args: list = ()):
        from robostack.real.nodes.arm_node import ArmNode
        from robostack.real.nodes.node import connect
        from robostack.real.nodes.sim_robot_node import SimRobotNode

        self.context = connect(args, domain_id=domain)
        endless = Line(horizon=10**9)
        self.robot = SimRobotNode(self.context, ROBOT, lambda: endless) if robot else None
        self.arm = ArmNode(self.context, ROBOT) if arm else None

    def close(self) -> None:
        for node in (self.arm, self.robot):
            if node is not None:
                node.close()
        self.context.try_shutdown()


def wait_for(condition, what: str, seconds: float = 30.0):
    """Until it holds. Raises AssertionError after a time that is long for a busy machine."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)
