"""A policy node with a real lifecycle, a real (tiny) policy and a staged robot, over DDS."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

import torch
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from fakes import tiny_size
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from line_robot import wait_for
from rclpy.node import Node
from sensor_msgs.msg import JointState
from staged import CONFIG, Stage
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robostack.policy.vla import VLA
from robostack.real.bags import describe
from robostack.real.messages import read_chunk, write_named
from robostack.real.nodes.commanding import FAREWELLS
from robostack.real.nodes.node import COMMAND, PUBLISH, Spin, connect
from robostack.real.nodes.policy_node import make
from robostack.real.samples import Limits

DOMAIN = 82
H = 4  # rows of the tiny policy's chunks
NAMES = CONFIG.spec.action_names
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


def save_policy(folder, spec):
    torch.manual_seed(0)
    VLA(tiny_size(horizon=H), spec).save(folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    save_policy(folder / "good", CONFIG.spec)
    save_policy(folder / "other", replace(CONFIG.spec, control_hz=10.0))
    late = Limits(max_age=10.0, max_skew=10.0)  # of a machine that is busy for a moment
    patient = replace(CONFIG, camera_limits=late, state_limits=late)
    for name, robot in (("robot", CONFIG), ("patient", patient)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(describe(robot), sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def stage():
    stage = Stage(DOMAIN)
    yield stage
    stage.close()


class Desk:
    """A policy node and an operator who listens and calls services, over DDS."""

    def __init__(self, files, *parameters, policy="good", robot="robot"):
        given = [f"robot:={files}/{robot}.yaml", f"policy:={files / policy}", *parameters]
        args = ["--ros-args", *(word for p in given for word in ("-p", p))]
        self.context = connect(args, domain_id=DOMAIN)
        self.operator = Node("operator", context=self.context)
        self.chunks, self.dry, self.alive, self.told = [], [], [], []
        listen = self.operator.create_subscription
        listen(JointTrajectory, "chunk", self.chunks.append, COMMAND)
        listen(JointTrajectory, "dry_run/chunk", self.dry.append, COMMAND)
        beat = self.alive
        listen(Bool, "alive", lambda m: beat.append((time.monotonic(), m.data)), COMMAND)
        listen(DiagnosticArray, "/diagnostics", lambda m: self.told.append(m.status[0]), COMMAND)
        self.spin = Spin(self.operator)
        self.policy = None
        try:
            self.policy = make(self.context)
        except ValueError:
            self.close()
            raise

    def ask(self, kind, name, request):
        client = self.operator.create_client(kind, name)
        assert client.wait_for_service(20)
        answer = client.call(request, timeout_sec=30)
        self.operator.destroy_client(client)
        return answer

    def call(self, name):
        answer = self.ask(Trigger, f"policy/{name}", Trigger.Request())
        return answer.success, answer.message

    def transition(self, name):
        wanted = ChangeState.Request(transition=Transition(id=TRANSITIONS[name]))
        return self.ask(ChangeState, "policy/change_state", wanted).success

    def start(self):
        said = [(False, "")]
        end = time.monotonic() + 30
        while not said[-1][0]:
            assert time.monotonic() < end, said[-1][1]
            said.append(self.call("start"))

    def close(self):
        if self.policy is not None:
            self.policy.close()
        self.spin.close()
        self.operator.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def desk(files, stage):
    desks = []

    def begin(*parameters, **options):
        desks.append(Desk(files, *parameters, **options))
        return desks[-1]

    yield begin
    for desk in desks:
        desk.close()
    stage.alone()


def test_nothing_moves_before_each_step_of_the_ceremony(desk):
    desk = desk("task:=lift")
    ok, message = desk.call("start")
    assert not ok and "not active" in message
    assert not desk.transition("activate")  # rclpy of Jazzy would die of it
    assert desk.transition("configure")
    assert not desk.call("start")[0]
    assert desk.transition("activate")
    time.sleep(0.3)
    assert not desk.chunks and not any(alive for _, alive in desk.alive)
    desk.start()
    wait_for(lambda: len(desk.chunks) > 2, "chunks")
    assert desk.transition("deactivate") and desk.transition("cleanup")
    assert desk.alive[-1][1] is False
    assert desk.transition("configure")  # and again


def test_a_chunk_answers_an_observation_and_names_its_actions(desk, stage):
    desk = desk("task:=lift", "autostart:=true", "execute:=1")
    desk.start()
    wait_for(lambda: len(desk.chunks) > 5, "chunks")
    chunks = [read_chunk(message, NAMES) for message in desk.chunks]
    for chunk in chunks:
        assert chunk.offsets.tolist() == pytest.approx([0.0, 0.05, 0.1, 0.15])
        assert chunk.actions.shape == (H, 2)
        assert np.array_equal(chunk.actions, CONFIG.spec.clip(chunk.actions))
    stamps = [chunk.stamp for chunk in chunks]
    steps = np.diff(stamps) * stage.hz  # of pictures, which come in a fixed rhythm
    assert (steps > 0.5).all() and np.allclose(steps, steps.round(), atol=1e-3)


def test_the_same_seed_draws_the_same_and_another_try_another(desk):
    """All that a reset changes: the draws. The pictures differ anyway, so this asks the planner."""
    desk = desk("task:=lift", "autostart:=true", "seed:=5")
    planner = desk.policy._loaded.planner
    states = [planner._generator.get_state()]
    for expected in (6, 7):
        ok, message = desk.call("reset")
        assert ok and message.endswith(f"seed {expected}")
        states.append(planner._generator.get_state())
        assert torch.equal(states[-1], torch.Generator().manual_seed(expected).get_state())


def test_a_stop_is_told_at_once_and_repeated(desk):
    desk = desk("task:=lift", "autostart:=true", robot="patient")
    desk.start()
    wait_for(lambda: desk.chunks, "chunks")
    wait_for(lambda: sum(alive for _, alive in desk.alive) > 10, "a heartbeat")
    assert desk.call("stop") == (True, "stopped")
    wait_for(lambda: not desk.alive[-1][1], "the word that it no longer stands behind its chunk")
    ends = lambda: sum(not alive for _, alive in desk.alive)  # noqa: E731
    wait_for(lambda: ends() == FAREWELLS, "repetition")
    count = len(desk.chunks)
    time.sleep(0.3)  # then silence: another node may have the arm
    assert ends() == FAREWELLS and len(desk.chunks) == count and not desk.alive[-1][1]
    desk.start()
    wait_for(lambda: len(desk.chunks) > count, "chunks again")


def test_the_heartbeat_does_not_wait_for_the_policy(desk):
    desk = desk("task:=lift", "autostart:=true", robot="patient")
    desk.start()
    wait_for(lambda: desk.chunks, "chunks")
    planner, go_on = desk.policy._loaded.planner, threading.Event()
    plan, planner.plan = planner.plan, lambda *given: go_on.wait(20) and plan(*given)
    begin = len(desk.alive)
    time.sleep(1.0)
    beats = [alive for _, alive in desk.alive[begin:]]
    go_on.set()
    assert len(beats) > 10 and all(beats)  # of 30


def test_a_dry_run_plans_and_moves_nothing(desk):
    desk = desk("task:=lift", "autostart:=true", "dry_run:=true")
    desk.start()
    wait_for(lambda: len(desk.dry) > 3, "chunks to look at")
    assert not desk.chunks and not any(alive for _, alive in desk.alive)


def test_it_waits_while_an_operator_has_the_arm_and_begins_from_nothing_then(desk, stage):
    desk = desk("task:=lift", "autostart:=true")
    publisher = desk.operator.create_publisher(JointState, "executed", PUBLISH)
    stage.silent.add("executed")
    try:
        desk.start()
        wait_for(lambda: len(desk.chunks) > 2, "chunks")
        calls, planner = [], desk.policy._loaded.planner
        plan = planner.plan

        def told(observation, previous, delay):
            calls.append(previous)
            return plan(observation, previous, delay)

        planner.plan = told

        def say(source):
            message = write_named(JointState(), NAMES, np.zeros(2), time.time(), effort=[source])
            publisher.publish(message)

        wait_for(lambda: say(2.0) or desk.policy._overruled, "the operator")
        time.sleep(0.2)
        count = len(desk.chunks)
        time.sleep(0.5)
        assert len(desk.chunks) == count
        calls.clear()
        say(0.0)
        wait_for(lambda: len(desk.chunks) > count, "chunks again")
        assert calls[0] is None
    finally:
        stage.silent.discard("executed")


@pytest.mark.parametrize(
    "topic, fault",
    [
        ("hand/image_raw/compressed", "silent"),
        ("hand/image_raw/compressed", "frozen"),
        ("joint_states", "silent"),
    ],
)
def test_blind_it_lets_the_arm_hold_and_goes_on_when_it_can_see(desk, stage, topic, fault):
    desk = desk("task:=lift", "autostart:=true")
    desk.start()
    wait_for(lambda: len(desk.chunks) > 2 and desk.alive[-1][1], "chunks")
    limits, before = CONFIG.camera_limits, time.monotonic()
    faulty = getattr(stage, fault)
    faulty.add(topic)
    try:
        wait_for(lambda: not desk.alive[-1][1], "that it does not stand behind its chunk")
        noticed = limits.frozen if fault == "frozen" else limits.max_age
        assert time.monotonic() - before < noticed + CONFIG.timeouts.blind + 0.5  # busy machines
        stream = topic.split("/")[0]
        wait_for(lambda: any(f"{stream}: " in s.message for s in desk.told), "the stream's name")
        count = len(desk.chunks)
        time.sleep(0.5)
        assert len(desk.chunks) <= count + 1 and not desk.alive[-1][1]
    finally:
        faulty.discard(topic)
    wait_for(lambda: len(desk.chunks) > count + 1 and desk.alive[-1][1], "chunks again")


def test_the_task_can_be_said_before_or_after(desk):
    desk = desk("autostart:=true")
    ok, message = desk.call("start")
    assert not ok and "no instruction" in message
    publisher = desk.operator.create_publisher(String, "task", COMMAND)  # not latched
    wait_for(lambda: publisher.publish(String(data="stack")) or desk.policy.task, "the task")
    desk.start()
    wait_for(lambda: any("acting" in s.message for s in desk.told), "the state on /diagnostics")
    values = {pair.key: pair.value for pair in desk.told[-1].values}
    assert values["task"] == "stack" and "latency_p99_ms" in values


def test_a_policy_of_another_robot_is_refused_by_the_field(desk):
    with pytest.raises(ValueError, match=r"control_hz: the policy .* has 10.0, the robot's"):
        desk("task:=lift", "autostart:=true", policy="other")


def test_a_refused_policy_leaves_the_node_unconfigured_and_says_why(desk):
    desk = desk("task:=lift", policy="nowhere")
    assert not desk.transition("configure")
    wait_for(lambda: any("holds no policy" in s.message for s in desk.told), "the reason")
    assert not desk.transition("activate")
