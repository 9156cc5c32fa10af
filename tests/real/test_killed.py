"""`kill -9` of every node that surrounds a moving arm, each as it is started in the field.

Those whom the arm hears bring it to rest, the others do not; no command exceeds a limit.
"""

import dataclasses
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")
pytest.importorskip("rosbags", reason="rosbags is not installed (the extra `ros`)")

from hands import serving
from scene import HZ, ROBOT, Scene, process
from sensor_msgs.msg import JointState, Joy
from talking import swinging

from robostack.real.arm import OPERATOR, POLICY
from robostack.real.graph import PARTS
from robostack.real.messages import write_named
from robostack.real.nodes.node import PUBLISH
from robostack.real.robot import Camera

pytestmark = pytest.mark.slow
DOMAIN = 46
CONVENTIONS = {"action": "absolute", "gripper": "1 closes"}
PATIENT = {"max_age": 1.0, "max_skew": 1.0, "frozen": 0.0}  # a busy machine
REWARD = """
import numpy as np

class Height:
    name = "height"

    def score(self, episode):
        return np.clip(episode.states[:, 0], 0, 1).astype(np.float32)

    def fingerprint(self):
        return "height"
"""
LEADER = """
device: leader
deadman: button0
gripper: {axis: gripper}
follow: match
tolerance: 10.0
"""


class Swing:
    """A policy that swings every action."""

    horizon = 50

    def __init__(self, spec):
        self.spec = spec

    def reset(self, seed):
        pass

    def plan(self, observation, previous=None, delay=0):
        return swinging(ROBOT, time.time(), self.horizon).astype(np.float32)

    act = plan


class Crowd(Scene):
    """Every node in a process of its own, but for the simulated robot, which is to outlive them."""

    def __init__(self, folder, url):
        pictures = folder / "pictures"
        pictures.mkdir()
        for i in range(6000):
            cv2.imwrite(str(pictures / f"{i:06d}.png"), np.full((12, 16, 3), i % 256, np.uint8))
        cameras = {"wrist": {"topic": "wrist/image_raw", "size": [12, 16], "source": str(pictures)}}
        timeouts = {"state": 0.3, "alive": 0.1, "deadman": 0.1, "device": 0.5}
        super().__init__(
            folder,
            DOMAIN,
            more={
                "conventions": CONVENTIONS,
                "cameras": cameras,
                "timeouts": timeouts,
                "camera_limits": PATIENT,
                "state_limits": PATIENT,
            },
        )
        (folder / "mine.py").write_text(REWARD)
        (folder / "leader.yaml").write_text(LEADER)
        self.given = {
            "camera": ["hz:=15.0"],
            "recorder": [f"folder:={folder / 'bags'}", "task:=swing"],
            "teleop": [f"device:={folder / 'leader.yaml'}"],
            "policy": [f"policy:={url}", "task:=swing", "start:=true", "autostart:=true"],
            "reward": [f"reward:={folder / 'mine.py'}:Height", "task:=swing"],
        }
        self.modules = {part.name: part.module for parts in PARTS.values() for part in parts}
        self.nodes = {"arm": self.arm}
        self.leader = self.wire.node.create_publisher(JointState, "leader/joint_states", PUBLISH)
        self.joy = self.wire.node.create_publisher(Joy, "joy", PUBLISH)

    def start(self, *names):
        for name in names:
            given = [f"robot:={self.file}", *self.given.get(name, [])]
            ros = ["--ros-args", *(word for p in given for word in ("-p", p))]
            self.nodes[name] = process("-m", self.modules[name], *ros, domain=self.domain)

    def lead(self):
        """A leader arm that swings, and a foot on the pedal."""
        at = swinging(ROBOT, time.time(), 1)[0]
        self.leader.publish(write_named(JointState(), list(ROBOT.actions), at, 0.0))
        self.joy.publish(Joy(axes=[], buttons=[1]))

    def kill(self, name):
        node = self.nodes.pop(name)
        assert node.poll() is None, f"{name} has ended by itself"
        node.kill()
        node.wait()

    def close(self):
        for node in self.nodes.values():
            node.kill()
            node.wait()
        super().close()


@pytest.fixture
def crowd(tmp_path):
    cameras = {"wrist": Camera("wrist/image_raw", (12, 16))}
    robot = dataclasses.replace(ROBOT, cameras=cameras, conventions=CONVENTIONS)
    with serving(Swing(robot.spec)) as url:
        crowd = Crowd(tmp_path, url)
        yield crowd
        crowd.close()


def test_every_node_may_be_killed_while_the_arm_moves(crowd):
    others = ["monitor", "recorder", "reward"]
    assert {"camera", "policy", "teleop", *others, "arm", "sim_robot"} == set(crowd.modules)
    crowd.start("camera", "teleop", *others)
    crowd.wire.repeated["leader"] = crowd.lead
    since = crowd.moving(OPERATOR)
    crowd.kill("teleop")
    crowd.rests(since, limit=ROBOT.timeouts.deadman + 0.05)
    crowd.wire.repeated.clear()

    crowd.start("policy")
    for name in others:
        crowd.moving(POLICY)
        crowd.kill(name)
        before = len(crowd.executed)
        crowd.until(lambda before=before: len(crowd.executed) > before + 25)
    since = crowd.moving(POLICY)  # whatever happened to them
    crowd.kill("policy")
    crowd.rests(since, limit=ROBOT.timeouts.alive + 0.05)

    crowd.start("policy")
    since = crowd.moving(POLICY)
    crowd.kill("camera")
    crowd.rests(since, limit=PATIENT["max_age"] + ROBOT.timeouts.blind + 0.5)
    crowd.kill("policy")

    crowd.talk("policy")
    crowd.moving(POLICY)
    crowd.kill("arm")
    time.sleep(0.2)
    stays = crowd.robot._env.actions[-1]
    time.sleep(0.2)
    assert np.array_equal(crowd.robot._env.actions[-1], stays)
    last = crowd.executed[-1][2]
    # what it was told last, or the one after that, which nobody heard
    assert np.abs(last - stays)[:2].max() < 2.5 * crowd.speed / HZ
    assert crowd.legal() > 100
