"""A small robot whose messages are made here: what it sees and does is known to the last bit."""

import threading
import time

import numpy as np

from robostack.config import build
from robostack.real.robot import RobotConfig

CONFIG = build(
    RobotConfig,
    {
        "robot": "staged",
        "control_hz": 20.0,
        "state": {
            "elbow": "joint_states:position/elbow",
            "wrist": "joint_states:position/wrist",
            "x": "current_pose:pose/x",
            "xy": "current_pose:pose/xy",
        },
        "actions": {
            "dx": {
                "low": -1.0,
                "high": 1.0,
                "kind": "delta",
                "velocity": 1.0,
                "acceleration": 9.0,
                "jerk": 99.0,
            },
            "grip": {"low": 0.0, "high": 1.0, "kind": "level"},
        },
        "arms": {"arm": {"backend": "action", "actions": ["dx", "grip"]}},
        "cameras": {
            "front": {"topic": "front/image_raw", "size": [24, 32]},
            "hand": {"topic": "hand/image_raw/compressed", "size": [16, 16], "compressed": True},
        },
    },
)


def moment(i: int, stamp: float) -> list[tuple[str, object]]:
    """Topic and message of everything that the robot says in control period i, as of `stamp`."""
    from geometry_msgs.msg import PoseStamped
    from sensor_msgs.msg import CompressedImage, Image, JointState

    from robostack.real import messages

    rng = np.random.default_rng(i)
    picture = rng.integers(0, 256, (24, 32, 3), np.uint8)
    small = np.full((32, 32, 3), i % 256, np.uint8)
    small[i % 32] = 255
    half = 0.01 * i
    quaternion = np.array([np.cos(half), 0, 0, np.sin(half)])
    joints = np.array([9.0, 0.1 * i, -0.2 * i])  # arms publish more joints than they are asked for
    action = np.array([np.sin(0.3 * i), i % 2])
    names = ("other", "elbow", "wrist")
    return [
        ("front/image_raw", messages.write_image(Image(), picture, stamp)),
        ("hand/image_raw/compressed", messages.write_compressed(CompressedImage(), small, stamp)),
        ("joint_states", messages.write_named(JointState(), names, joints, stamp + 0.004)),
        (
            "current_pose",
            messages.write_pose(PoseStamped(), np.array([0.3 * i, 0, 1]), quaternion, stamp - 0.01),
        ),
        (
            "executed",
            messages.write_named(JointState(), ("dx", "grip"), action, stamp + 0.02, effort=[1.0]),
        ),
    ]


class Stage:
    """The robot on a ROS graph: says all of a period, `hz` times a second, until it is closed.

    `silent` topics are left out; `frozen` ones repeat what they said, with new stamps.
    """

    def __init__(self, domain: int, hz: float = 20.0, namespace: str = ""):
        from rclpy.node import Node

        from robostack.real.nodes.node import PUBLISH, connect

        self.hz, self.said = hz, 0
        self.silent, self.frozen = set(), set()
        self._context = connect(domain_id=domain)
        self.node = Node("stage", context=self._context, namespace=namespace)
        first = moment(0, 1.0)
        self._publishers = {
            topic: self.node.create_publisher(type(message), topic, PUBLISH)
            for topic, message in first
        }
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def _play(self) -> None:
        begin, offset = time.monotonic(), time.time() - time.monotonic()
        while True:
            due = begin + self.said / self.hz  # stamps do not tell of a busy machine
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            stamp = due + offset - 0.02
            still = dict(moment(0, stamp)) if self.frozen else {}
            for topic, message in moment(self.said, stamp):
                message = still[topic] if topic in self.frozen else message
                if topic not in self.silent:
                    self._publishers[topic].publish(message)
            self.said += 1

    def alone(self, seconds: float = 40.0) -> None:
        """Wait until all who listened are forgotten. Participants of one process are numbered, and
        whoever gets a number of one that is still remembered is taken for it, and never told of."""
        end = time.monotonic() + seconds
        heard = self._publishers.values()
        while any(p.get_subscription_count() for p in heard) or self.node.get_node_names()[1:]:
            assert time.monotonic() < end, "somebody is still listening to the stage"
            time.sleep(0.02)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.node.destroy_node()
        self._context.shutdown()
