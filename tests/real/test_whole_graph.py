"""Every node in a process of its own, as `robostack up` starts them, on the time of the simulation:
a policy moves a simulated robot, a reward looks on, a recorder writes, and an episode comes out."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")
pytest.importorskip("rosbags", reason="rosbags is not installed (the extra `ros`)")

import numpy as np
import torch
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from fakes import tiny_size
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from robostack.policy.vla import VLA
from robostack.real.arm import HOLD, POLICY
from robostack.real.bags import Bag, bags_in, describe, read_episode
from robostack.real.messages import seconds
from robostack.real.nodes.node import SENSOR, Spin, connect
from robostack.real.paths import find
from robostack.real.robot import RobotConfig

DOMAIN = 74
REWARD = """
import numpy as np

class Height:
    name = "height"

    def score(self, episode):
        return np.clip(episode.states[:, 2], 0, 1).astype(np.float32)

    def fingerprint(self):
        return "height"
"""
PATIENT = {"max_age": 5.0, "max_skew": 5.0, "max_silence": 10.0, "frozen": 0.0}  # a busy machine


@pytest.fixture
def files(tmp_path):
    """The robot, a policy of random weights, a reward, and what `robostack up` is given."""
    robot = describe(RobotConfig.load(find("configs/robot/sim.yaml")))
    robot |= {"camera_limits": PATIENT, "state_limits": PATIENT}
    robot["timeouts"] |= {"state": 5.0, "alive": 5.0, "chunk": 20.0}
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(robot, sort_keys=False))
    torch.manual_seed(0)
    VLA(tiny_size(horizon=8), RobotConfig.load(tmp_path / "robot.yaml").spec).save(tmp_path / "vla")
    (tmp_path / "mine.py").write_text(REWARD)
    (tmp_path / "params.yaml").write_text("/**: {ros__parameters: {least: 0.1, hz: 5.0}}")
    up = {
        "use": ["sim", "policy", "record"],
        "robot": str(tmp_path / "robot.yaml"),
        "policy": str(tmp_path / "vla"),
        "reward": f"{tmp_path / 'mine.py'}:Height",
        "folder": str(tmp_path / "bags"),
        "params_file": str(tmp_path / "params.yaml"),
        "use_sim_time": True,
    }
    (tmp_path / "up.yaml").write_text(yaml.safe_dump(up))
    return tmp_path


class Graph:
    """`robostack up` as a process, and somebody who listens and calls services."""

    def __init__(self, files):
        self.child = subprocess.Popen(
            [sys.executable, "-m", "robostack.cli", "up", str(files / "up.yaml")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"ROS_DOMAIN_ID": str(DOMAIN), "OMP_NUM_THREADS": "1"},
            cwd=files,
        )
        self.lines, self.sources, self.progress, self.told = [], [], [], {}
        self.stamps = {"executed": [], "/clock": []}  # [s]
        self.reader = threading.Thread(target=self.lines.extend, args=(self.child.stdout,))
        self.reader.start()
        self.context = connect(domain_id=DOMAIN)
        self.node = Node("operator", context=self.context)
        listen = self.node.create_subscription
        listen(JointState, "executed", self._execute, SENSOR)
        listen(Clock, "/clock", lambda m: self.stamps["/clock"].append(seconds(m.clock)), SENSOR)
        listen(Float64, "progress", lambda m: self.progress.append(m.data), SENSOR)
        listen(DiagnosticArray, "/diagnostics", self._tell, 50)
        self.spin = Spin(self.node)

    def _execute(self, message):
        self.sources.append(int(message.effort[0]))
        self.stamps["executed"].append(seconds(message.header.stamp))

    def _tell(self, message):
        self.told.update({status.name: status for status in message.status})

    def wait(self, condition, what, seconds=120.0):
        end = time.monotonic() + seconds
        while not condition():
            assert self.child.poll() is None, "it ended:\n" + "".join(self.lines)
            assert time.monotonic() < end, f"{what} did not come:\n{''.join(self.lines)}"
            time.sleep(0.05)

    def call(self, name):
        client = self.node.create_client(Trigger, name)
        self.wait(client.service_is_ready, name)
        said = []

        def done():
            said.append(client.call(Trigger.Request(), timeout_sec=60))
            return said[-1].success

        self.wait(done, f"the consent of {name} ({said[-1].message if said else ''})")
        return said[-1].message

    def pid(self, module):
        """Of the process of a node."""
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text()
        for pid in children.split():
            if module in Path(f"/proc/{pid}/cmdline").read_text():
                return int(pid)
        raise AssertionError(f"{module} does not run")

    def close(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
            try:
                self.child.wait(60)
            except subprocess.TimeoutExpired:
                self.child.kill()
        self.reader.join(10)
        self.spin.close()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def graph(files):
    graph = Graph(files)
    yield graph
    graph.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_policy_moves_a_robot_and_an_episode_comes_out(graph, files):
    graph.wait(lambda: HOLD in graph.sources, "the arm")
    assert "recording 000000" in graph.call("recorder/start")
    graph.call("policy/start")
    graph.wait(lambda: graph.sources.count(POLICY) >= 25, "the policy's actions")
    graph.wait(lambda: len(graph.progress) >= 3, "progress")
    assert "kept" in graph.call("recorder/success")
    nodes = {"arm", "sim_robot", "policy", "reward", "recorder", "monitor"}
    graph.wait(lambda: nodes <= set(graph.told), "what every node says of itself")

    # the scene begins anew and time goes on; who commands looks again and goes on
    assert "reset with seed" in graph.call("sim/reset")
    before = len(graph.sources)
    graph.wait(lambda: graph.sources[before:].count(POLICY) > 10, "the policy after a reset")
    for stamps in graph.stamps.values():
        assert (np.diff(stamps) >= 0).all() and stamps[-1] < 1e6, "it is the simulation's time"

    assert graph.call("recorder/start") == "recording 000001"
    graph.wait(lambda: graph.sources[-1] == POLICY, "the policy")
    os.kill(graph.pid("recorder_node"), signal.SIGKILL)
    graph.wait(lambda: any("ended with exit code -9" in x for x in graph.lines), "the news of it")
    before = len(graph.sources)
    graph.wait(lambda: len(graph.sources) > before + 5, "an arm that goes on")
    assert graph.call("policy/stop") == "stopped"
    graph.wait(lambda: graph.sources[-1] == HOLD, "the hold")
    graph.child.send_signal(signal.SIGINT)
    assert graph.child.wait(60) == 0
    graph.reader.join(10)
    order = [line.split("|")[0].strip() for line in graph.lines if "| stopped, exit" in line]
    assert order == ["recorder", "reward", "policy", "monitor", "arm", "sim_robot"]

    bags = files / "bags"
    assert Bag(bags / "000000").about["task"] == "lift the red cube"  # said by the simulation
    assert [path.name for path in (bags / "partial").iterdir()] == ["000001"]
    robot = RobotConfig.load(files / "robot.yaml")
    assert [path.name for path in bags_in(bags)] == ["000000"]
    episode = read_episode(bags / "000000", robot)
    assert len(episode) >= 20 and episode.success and episode.source == "rollout"
    assert abs(episode.actions[:, :6]).max() > 0 and episode.images["agentview"].std() > 1
