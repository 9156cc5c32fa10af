"""The reward node and the monitor on a real ROS graph."""

import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from staged import CONFIG, Stage
from std_msgs.msg import Bool, Float64

from robostack.real.bags import describe
from robostack.real.nodes.monitor_node import Monitor
from robostack.real.nodes.node import COMMAND, LATCHED, Spin, connect
from robostack.real.nodes.reward_node import RewardNode

DOMAIN = 72
REWARD = """
import numpy as np

class Elbow:
    name = "elbow"

    def score(self, episode):
        assert len(episode) and episode.task == "bend"
        return np.clip((episode.states[:, 0] - episode.states[0, 0]) / 2, 0, 1).astype(np.float32)

    def fingerprint(self):
        return "elbow"
"""


def wait_for(condition, what: str, seconds: float = 30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)


@pytest.fixture
def stage():
    stage = Stage(DOMAIN)
    yield stage
    stage.close()


@pytest.fixture
def bench(tmp_path, stage):
    """Makes a node of a class, and listens; everything is closed at the end."""
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(describe(CONFIG), sort_keys=False))
    made = []

    def make(kind, *parameters):
        given = [f"robot:={tmp_path / 'robot.yaml'}", *parameters]
        context = connect(["--ros-args", *(w for p in given for w in ("-p", p))], DOMAIN)
        made.append((kind(context), context))
        return made[-1][0]

    context = connect(domain_id=DOMAIN)
    make.node = Node("listener", context=context)
    spin = Spin(make.node)
    yield make
    for node, own in reversed(made):
        node.close()
        own.try_shutdown()
    spin.close()
    make.node.destroy_node()
    context.try_shutdown()


def test_a_reward_scores_live_and_begins_anew(bench, tmp_path):
    (tmp_path / "mine.py").write_text(REWARD)
    said = {"progress": [], "success": [], "termination": []}
    for topic, kind in (("progress", Float64), ("success", Bool), ("termination", Bool)):
        bench.node.create_subscription(
            kind, topic, lambda m, topic=topic: said[topic].append(m.data), COMMAND
        )
    reset = bench.node.create_publisher(Bool, "sim/success", LATCHED)
    node = bench(RewardNode, f"reward:={tmp_path / 'mine.py'}:Elbow", "task:=bend", "hz:=20.0")
    wait_for(lambda: said["termination"] and said["termination"][-1], "the end of the try")
    assert said["progress"] == sorted(said["progress"])  # the staged elbow only goes up
    assert said["success"][-1] and not said["success"][0] and max(said["progress"]) <= 1
    assert len(node.growing) >= 15  # 0.1 rad a period, of 2
    before = len(said["progress"])
    reset.publish(Bool(data=False))  # the simulation begins anew
    wait_for(lambda: min(said["progress"][before:], default=1) < 0.5, "another try")
    wait_for(lambda: not said["termination"][-1], "its verdict")


def test_a_reward_that_fails_says_so_and_the_node_lives(bench, tmp_path):
    (tmp_path / "mine.py").write_text(REWARD)
    node = bench(RewardNode, f"reward:={tmp_path / 'mine.py'}:Elbow", "task:=stretch", "hz:=20.0")
    wait_for(lambda: "AssertionError" in node._report()[1], "the complaint")
    assert node._report()[0] == b"\x01"


def test_a_reward_that_is_none_ends_the_node_with_one_line(bench, tmp_path):
    with pytest.raises(ValueError, match="holds no reward"):
        bench(RewardNode, f"reward:={tmp_path}")
    with pytest.raises(ValueError, match="parameter reward .* must be given"):
        bench(RewardNode)


def test_the_monitor_tells_of_every_topic_and_names_the_one_that_stops(bench, stage):
    said = {}
    bench.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: said.update({s.name: s for s in m.status}), 10
    )
    bench(Monitor)
    wait_for(lambda: "monitor" in said and said["monitor"].level == b"\x00", "a robot that is well")
    topics = {"front/image_raw", "hand/image_raw/compressed", "joint_states", "current_pose"}
    assert {f"monitor/{topic}" for topic in topics | {"executed", "chunk"}} <= set(said)
    values = {v.key: float(v.value) for v in said["monitor/front/image_raw"].values}
    assert 15 < values["hz"] < 25 and 0 < values["age_ms_median"] < 200
    stage.silent.add("joint_states")
    wait_for(lambda: said["monitor"].level == b"\x03", "the complaint")
    assert said["monitor"].message.startswith("joint_states: silent for")
    assert said["monitor/front/image_raw"].level == b"\x00"


def _keys(statuses):
    return {item.key for status in statuses if status.name == "monitor" for item in status.values}


@pytest.mark.slow
def test_the_monitor_misses_a_node_that_fell_silent(bench, monkeypatch):
    monkeypatch.setattr("robostack.real.nodes.monitor_node.GONE", 1.5)
    publisher = bench.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    monitor = bench(Monitor)
    hits = [KeyValue(key="limited dx", value="12"), KeyValue(key="mode", value="moves")]
    warned = DiagnosticStatus(name="arm", level=b"\x01", message="limits hit", values=hits)
    told_of = []
    bench.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: told_of.extend(m.status), 10
    )
    array = DiagnosticArray(status=[warned, DiagnosticStatus(name="right/arm", level=b"\x02")])

    def told():
        publisher.publish(array)
        return "arm" in monitor.healths()

    wait_for(told, "the arm's status")
    assert monitor.healths()["arm"].message == "limits hit"
    wait_for(lambda: "arm: limited dx" in _keys(told_of), "the limits that were hit")
    assert "arm: mode" not in _keys(told_of), "numbers alone"
    assert "right/arm" not in monitor.healths(), "another arm's has a monitor of its own"
    wait_for(lambda: monitor.healths()["arm"].level == 3, "its absence")
    assert "the node arm has fallen silent" in monitor.healths()["arm"].message
