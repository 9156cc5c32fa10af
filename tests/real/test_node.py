"""What every node relies on, with real rclpy: callbacks that fail, signals, lifecycles, rates."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from robostack.real.nodes.node import (
    LATCHED,
    PUBLISH,
    SENSOR,
    Diagnostics,
    Lifecycle,
    ParameterMissing,
    Spin,
    answering,
    beside,
    bounded,
    connect,
    parameter,
)
from robostack.real.nodes.ticking import Pace, Ticking

DOMAIN = 41


def until(condition, timeout=20.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def context():
    context = connect(domain_id=DOMAIN)
    yield context
    context.try_shutdown()


@pytest.fixture
def caller(context):
    """A node that asks, spun, and `ask(service, request)`."""
    node = Node("caller", context=context)
    spin = Spin(node)

    def ask(kind, name, request):
        client = node.create_client(kind, name)
        assert client.wait_for_service(20.0)
        return client.call(request, timeout_sec=20.0)

    yield node, ask
    spin.close()


def test_a_callback_that_raises_ends_nothing_and_is_told(context, caller):
    node, failed = Node("hearer", context=context), []
    calls = []

    def callback(message):
        calls.append(message.data)
        if message.data:
            raise KeyError("no")

    node.create_subscription(Bool, "x", callback, SENSOR)
    spin = Spin(node, failed=failed.append)
    publisher = caller[0].create_publisher(Bool, "x", PUBLISH)
    until(lambda: publisher.get_subscription_count())
    for value in (True, True, False):
        publisher.publish(Bool(data=value))
    until(lambda: calls == [True, True, False])
    assert [type(error) for error in failed] == [KeyError, KeyError] and spin.failures == 2
    spin.close()


def test_a_service_answers_also_when_it_refuses_or_fails(context, caller):
    node = Node("server", context=context)

    def refuse():
        raise ValueError("still pressed")

    node.create_service(Trigger, "refuse", answering(refuse))
    node.create_service(Trigger, "fail", answering(lambda: {}["a"]))
    node.create_service(SetBool, "set", answering(lambda on: f"it is {on}"))
    spin, ask = Spin(node), caller[1]
    assert ask(Trigger, "refuse", Trigger.Request()).message == "still pressed"
    answer = ask(Trigger, "fail", Trigger.Request())
    assert not answer.success and answer.message == "KeyError: 'a'"
    answer = ask(SetBool, "set", SetBool.Request(data=True))
    assert answer.success and answer.message == "it is True"
    spin.close()


def test_a_lifecycle_node_outlives_transitions_that_it_cannot_make(context, caller):
    node = Lifecycle("lively", context=context)
    spin, ask = Spin(node), caller[1]

    def change(number):
        request = ChangeState.Request(transition=Transition(id=number))
        return ask(ChangeState, "lively/change_state", request).success

    assert not change(Transition.TRANSITION_ACTIVATE)  # it is not configured
    assert not change(99)
    assert change(Transition.TRANSITION_CONFIGURE) and change(Transition.TRANSITION_ACTIVATE)
    assert not change(Transition.TRANSITION_CONFIGURE)
    assert spin.failures == 0
    spin.close()


def test_a_latched_topic_tells_those_who_come_late(context, caller):
    publisher = caller[0].create_publisher(Bool, "state", LATCHED)
    publisher.publish(Bool(data=True))
    late, heard = Node("late", context=context), []
    late.create_subscription(Bool, "state", lambda m: heard.append(m.data), LATCHED)
    spin = Spin(late)
    until(lambda: heard == [True])
    spin.close()


def test_diagnostics_come_once_a_second_with_the_name_of_the_node(context, caller):
    heard = []
    caller[0].create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    node = Node("ill", context=context, namespace="left")
    Diagnostics(node, lambda: (Diagnostics.WARN, "feverish", {"temperature": 39.5}))
    spin = Spin(node)
    until(lambda: heard)
    status = heard[0].status[0]
    assert (status.name, status.message) == ("left/ill", "feverish")
    assert (status.values[0].key, status.values[0].value) == ("temperature", "39.5")
    spin.close()


def test_a_second_node_has_the_namespace_and_remappings_of_the_first():
    args = ["--ros-args", "-r", "__ns:=/left", "-r", "__node:=mine", "-r", "x:=y"]
    context = connect(args, domain_id=DOMAIN)
    first = Node("arm", context=context)
    second = beside(first, "chunks")
    assert (first.get_fully_qualified_name(), second.get_fully_qualified_name()) == (
        "/left/mine",
        "/left/mine_chunks",
    )
    assert second.resolve_topic_name("x") == "/left/y"
    context.try_shutdown()


def test_a_parameter_that_is_needed_or_of_another_type_is_named(context):
    args = ["--ros-args", "-p", "rate:=fast"]
    other = connect(args, domain_id=DOMAIN)
    node = Node("asks", context=other)
    assert parameter(node, "task", "Lift", "what to do") == "Lift"
    with pytest.raises(ParameterMissing, match="robot .the file. must be given"):
        parameter(node, "robot", "", "the file", needed=True)
    with pytest.raises(ParameterMissing, match="rate .how often.*float"):
        parameter(node, "rate", 1.0, "how often")
    other.try_shutdown()


def test_what_was_missed_is_skipped_and_never_caught_up():
    now = [0.0]
    pace, stop = Pace(10.0, clock=lambda: now[0]), threading.Event()
    now[0] = 0.57  # five periods late
    assert pace.wait(stop)
    assert pace.missed == 4
    began = time.monotonic()
    stop.set()
    assert not pace.wait(stop) and time.monotonic() - began < 1.0


def test_ticks_go_on_after_one_that_fails(context):
    node, failed, ticks = Node("ticks", context=context), [], []

    def tick():
        ticks.append(time.monotonic())
        if len(ticks) == 3:
            raise RuntimeError("once")

    ticking = Ticking(node, 100.0, tick, failed=failed.append)
    until(lambda: len(ticks) > 20)
    ticking.close()
    after = len(ticks)
    assert [str(error) for error in failed] == ["once"] and ticking.failures == 1
    assert (ticks[-1] - ticks[0]) / (after - 1) > 0.0099  # never faster than asked for


def test_closing_is_bounded():
    assert bounded(lambda: None, 5.0)
    assert not bounded(lambda: time.sleep(5), 0.05)
    assert not bounded(lambda: 1 / 0, 5.0)


LAST_WORDS = """
from rclpy.node import Node
from std_msgs.msg import String
from robostack.real.nodes.node import LATCHED, PUBLISH, run

class Node_:
    def __init__(self, context):
        self.node = Node("mortal", context=context)
        self.out = self.node.create_publisher(String, "words", LATCHED)
        self.out.publish(String(data="hello"))
    def close(self):
        self.out.publish(String(data="goodbye"))
        import time; time.sleep(0.3)

raise SystemExit(run("Speaks.", Node_, []))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_can_still_publish_when_it_is_told_to_end(context, number):
    from std_msgs.msg import String

    node, heard = Node("listener", context=context), []
    node.create_subscription(String, "words", lambda m: heard.append(m.data), LATCHED)
    spin = Spin(node)
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)}
    process = subprocess.Popen([sys.executable, "-c", LAST_WORDS], env=environment)
    until(lambda: heard == ["hello"], 60)
    process.send_signal(number)
    assert process.wait(20) == 0
    until(lambda: heard == ["hello", "goodbye"])
    spin.close()


@pytest.mark.parametrize(
    "environment, said",
    [
        ({"RMW_IMPLEMENTATION": "rmw_nothing_cpp"}, "RMW_IMPLEMENTATION=rmw_nothing_cpp, but"),
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": "/no/such.xml"}, "/no/such.xml"),
    ],
)
def test_what_ros_cannot_use_is_said_in_a_sentence(environment, said):
    module = [sys.executable, "-m", "robostack.real.nodes.arm_node"]
    done = subprocess.run(
        module, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and said in done.stderr.splitlines()[-1]


def test_without_rclpy_it_says_how_to_get_it():
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'rclpy' else find(name, *a)\n"
        "import robostack.real.nodes"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "rclpy is not installed" in done.stderr and "robostack[ros]" in done.stderr
