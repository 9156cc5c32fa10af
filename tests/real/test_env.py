"""A RosEnv before an arm node and a simulated robot, and before a robot that an operator serves."""

import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from fakes import SPEC, LineEnv
from line_robot import ROBOT, LineRobot, wait_for
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robostack.real import env as real_env
from robostack.real.env import RosEnv
from robostack.real.messages import write_chunk
from robostack.real.nodes import env_link
from robostack.real.nodes.env_link import LinkError
from robostack.real.nodes.env_link import connect as link_to
from robostack.real.nodes.node import COMMAND, Spin, now
from robostack.real.streams import StreamError
from robostack.rollout import rollout
from robostack.testing import check_env

DOMAIN, OTHER = 83, 79  # ROS domains


class Forward:
    """Goes right; two actions at a time."""

    def reset(self, seed):
        pass

    def act(self, observation):
        return np.tile(np.array([0.6, 0, 1], np.float32), (2, 1))


class Graph:
    """A simulated line, an arm node and a RosEnv on one ROS graph."""

    def __init__(self, domain=DOMAIN, **parts):
        self.line = LineRobot(domain, **parts)
        self.arm = self.line.arm
        self.link = link_to(ROBOT, self.line.context)
        self.env = RosEnv(ROBOT, "go right", self.link, horizon=30)

    def close(self):
        self.env.close()
        self.line.close()


@pytest.fixture(scope="module")
def graph():
    graph = Graph()
    yield graph
    graph.close()


def test_it_passes_the_exam_of_environments(graph):
    check_env(graph.env, seed=3, steps=3)


def test_a_policy_succeeds_over_ros_as_it_does_directly(graph):
    direct = rollout(LineEnv(), Forward(), 5)
    episode = rollout(graph.env, Forward(), 5)
    assert episode.success and episode.terminated and direct.success
    assert abs(len(episode) - len(direct)) <= 2  # observations lag by a control period
    assert episode.task == "go right" and episode.stamps[0] == 0 and episode.whole
    gaps = np.diff(episode.stamps)  # a busy machine makes some of them longer
    assert np.quantile(gaps, 0.2) == pytest.approx(0.1, abs=0.03)
    # every action was executed once: the way gone is the sum of what was asked for
    moved = episode.states[-1, 0] - episode.states[0, 0]
    assert moved == pytest.approx(0.06 * len(episode), abs=0.13)


def test_the_time_limit_is_the_envs_own(graph):
    still = np.array([0, 0, 1], np.float32)
    graph.env.reset(1)
    graph.env.horizon, before = 3, graph.env.horizon
    steps = [graph.env.step(still) for _ in range(3)]
    graph.env.horizon = before
    assert [s.truncated for s in steps] == [False, False, True]
    assert not any(s.terminated for s in steps) and steps[-1].success is False


def test_an_emergency_stop_is_told_and_recovered_from(graph, monkeypatch):
    monkeypatch.setattr(env_link, "ACT", 1.0)
    graph.env.reset(2)
    graph.arm.arm.trip("test", "a test")
    with pytest.raises(LinkError, match="the arm is stopped; /arm/estop_reset ends it"):
        graph.env.step(np.zeros(3, np.float32))
    end = time.monotonic() + 20
    while graph.arm.arm.causes.latched and time.monotonic() < end:
        time.sleep(0.05)
        try:
            graph.arm._reset()
        except ValueError:  # it has not come to rest yet
            continue
    graph.env.reset(2)
    assert not graph.env.step(np.zeros(3, np.float32)).truncated


class Hand:
    """An operator whose deadman is held, and whose chunks go left."""

    def __init__(self, graph):
        self.node = Node("hand", context=graph.line.context)
        self.switch = self.node.create_publisher(Bool, "operator/deadman", COMMAND)
        self.chunks = self.node.create_publisher(JointTrajectory, "operator/chunk", COMMAND)
        self.holds = True
        self.spin = Spin(self.node)
        self.timer = self.node.create_timer(0.03, self.tell)

    def tell(self):
        self.switch.publish(Bool(data=self.holds))
        if self.holds:
            rows = np.tile(np.array([-0.4, 0, 1], np.float32), (4, 1))
            stamp = now(self.node)
            self.chunks.publish(write_chunk(JointTrajectory(), SPEC.action_names, rows, stamp, 10))

    def close(self):
        self.spin.close()
        self.node.destroy_node()


def test_what_an_operator_does_in_a_policys_place_is_what_is_kept(graph):
    """Rollouts record what moved the arm, so that they can be learned from."""
    hand = Hand(graph)
    try:
        graph.env.reset(4)
        link, ask = graph.link, np.array([0.6, 0, 1], np.float32)
        wait_for(lambda: link.act(ask)[1] is not None, "the operator", 20)
        episode = rollout(graph.env, Forward(), 4, start=graph.env.look(), max_steps=6)
        hand.holds = False
        wait_for(lambda: link.act(ask)[1] is None, "the policy", 20)
    finally:
        hand.close()
    assert episode.source == "intervention"
    assert np.median(episode.actions[:, 0]) == pytest.approx(-0.4, abs=0.05)
    assert episode.states[-1, 0] < episode.states[0, 0]
    alone = rollout(graph.env, Forward(), 4, max_steps=3)
    assert alone.source == "rollout" and np.allclose(alone.actions[:, 0], 0.6)


def test_there_is_no_expert_for_a_robot(graph):
    with pytest.raises(ValueError, match="fake is a robot: no scripted expert"):
        graph.env.plan()


class Served:
    """A robot whose scene an operator puts back: no `sim/reset`, and a topic that judges."""

    def __init__(self):
        self.graph = Graph(OTHER, robot=False)
        self.node = Node("operator", context=self.graph.line.context)
        self.judge = self.node.create_publisher(Bool, "success", COMMAND)
        self.spin = Spin(self.node)

    def call(self, name):
        client = self.node.create_client(Trigger, name)
        assert client.wait_for_service(20)
        assert client.call(Trigger.Request(), timeout_sec=20).success

    def close(self):
        self.spin.close()
        self.node.destroy_node()
        self.graph.close()


@pytest.fixture
def served(monkeypatch):
    monkeypatch.setattr(env_link, "DISCOVERY", 0.1)
    monkeypatch.setattr(real_env, "READY", 0.5)
    served = Served()
    yield served
    served.close()


def test_an_operator_puts_the_scene_back_and_what_is_missing_is_named(served):
    said = []

    def reset():
        try:
            served.graph.env.reset(0)
        except StreamError as error:
            said.append(error)

    thread = threading.Thread(target=reset)
    thread.start()
    time.sleep(0.5)
    assert thread.is_alive()  # it waits for the operator
    served.call("env/ready")
    thread.join(20)
    assert said and "nothing has come yet, and that for 0.5 s" in str(said[0])


def test_success_comes_from_the_topic_and_an_operator_ends_a_try(served):
    link = served.graph.link
    assert link.verdict() is None
    wait_for(lambda: served.judge.publish(Bool(data=False)) or link.verdict() is False, "a verdict")
    assert not link.over()
    served.call("env/success")
    assert link.verdict() and link.over()
    served.call("env/failure")
    assert not link.verdict() and link.over()


def test_without_an_arm_node_it_says_so(monkeypatch):
    monkeypatch.setattr(env_link, "ACT", 0.5)
    graph = Graph(OTHER, arm=False)
    try:
        graph.env.reset(0)
        with pytest.raises(LinkError, match="no arm node is heard on /executed; start one"):
            graph.env.step(np.zeros(3, np.float32))
    finally:
        graph.close()
