"""What can go wrong around a moving arm, done to an arm node in a process of its own.

Whatever it is, the arm comes to rest within 150 ms of the node's knowing, and no command that it
ever gave exceeds a limit. Both are read from the node's own record, where a loaded machine shows as
fewer ticks and never as more.
"""

import signal
import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from scene import ROBOT, Scene
from sensor_msgs.msg import JointState
from talking import swinging

from robostack.real.arm import OPERATOR, POLICY, STOP
from robostack.real.messages import write_seconds
from robostack.real.nodes.node import PUBLISH, connect

pytestmark = pytest.mark.slow
DOMAIN = 43


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    scene = Scene(tmp_path_factory.mktemp("arm"), DOMAIN)
    yield scene
    scene.close()


@pytest.fixture
def another(tmp_path):
    """another(domain, ...) -> a scene of a test's own."""
    made = []

    def make(domain, parameters=()):
        made.append(Scene(tmp_path, domain, parameters))
        return made[-1]

    yield make
    for scene in made:
        scene.close()


@pytest.fixture
def clocked():
    ticker = Ticker(45)
    yield ticker
    ticker.close()


@pytest.fixture(autouse=True)
def afterwards(request):
    yield
    if "scene" in request.fixturenames:
        scene = request.getfixturevalue("scene")
        scene.quiet()
        assert scene.legal() > 20
        assert scene.arm.poll() is None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_policy_that_is_killed_or_hangs(scene, how):
    talker = scene.talk("policy")
    since = scene.moving(POLICY)
    talker.send_signal(how)
    scene.rests(since, limit=ROBOT.timeouts.alive + 0.05)


def test_an_operator_whose_switch_was_last_heard_pressed(scene):
    talker = scene.talk("operator")
    since = scene.moving(OPERATOR)
    talker.kill()
    scene.rests(since, limit=ROBOT.timeouts.deadman + 0.05)


@pytest.mark.parametrize("kind", ["not a number", "wrong names", "too few names"])
def test_a_chunk_that_is_wrong(scene, kind):
    scene.wire.keep("alive", True)
    scene.wire.repeated["chunk"] = lambda: scene.wire.say(swinging(ROBOT, time.time()))
    since = scene.moving(POLICY)
    rows = np.full((50, 3), 0.4)
    names = {"wrong names": ["a", "b", "hand"], "too few names": ["a", "b"]}.get(kind)
    if kind == "not a number":
        rows[20, 1] = np.nan
    if names:
        rows = rows[:, : len(names)]
    scene.wire.repeated["chunk"] = lambda: scene.wire.say(rows, names=names)
    scene.rests(since)


def test_a_chunk_that_is_out_of_range(scene):
    scene.wire.keep("alive", True)
    for value in (1e9, -1e9):
        scene.wire.drive(value, rows=200)
        scene.moving(POLICY)
        end = ROBOT.actions["a"].high if value > 0 else ROBOT.actions["a"].low
        scene.until(lambda end=end: abs(scene.executed[-1][2][0] - end) < 1e-3)


def test_names_in_another_order_mean_the_same(scene):
    scene.wire.keep("alive", True)
    rows = np.tile([0.25, 1.1, -0.6], (200, 1))
    scene.wire.repeated["chunk"] = lambda: scene.wire.say(rows, names=["gripper", "b", "a"])
    scene.until(lambda: np.allclose(scene.executed[-1][2], [-0.6, 1.1, 0.25], atol=1e-3))


def test_chunks_that_come_too_late(scene):
    scene.wire.keep("alive", True)
    scene.wire.repeated["chunk"] = lambda: scene.wire.say(swinging(ROBOT, time.time(), 40))
    since = scene.moving(POLICY)
    rows = np.full((20, 3), 1.0)
    scene.wire.repeated["chunk"] = lambda: scene.wire.say(rows, age=3.0)
    scene.rests(since, limit=1.0)


class Mute:
    """A driver that hangs."""

    def __init__(self, publisher):
        pass

    def publish(self, message):
        pass


class Repeating:
    """A driver that hangs in front of one that repeats its last message."""

    def __init__(self, publisher):
        self.publisher, self.last = publisher, None

    def publish(self, message):
        self.last = self.last or message
        self.publisher.publish(self.last)


@pytest.mark.parametrize("fault", [Mute, Repeating])
def test_a_robot_that_is_not_measured_any_more(scene, fault):
    scene.talk("policy")
    since = scene.moving(POLICY)
    states = scene.robot._states
    scene.robot._states = {topic: fault(publisher) for topic, publisher in states.items()}
    try:
        scene.rests(since, limit=ROBOT.timeouts.state + 0.1)
    finally:
        scene.robot._states = states


def test_a_flood_of_chunks_does_not_drown_the_emergency_stop(scene):
    scene.talk("policy")
    flood = scene.wire.node.create_publisher(JointState, "joint_states", PUBLISH)
    scene.moving(POLICY)
    end = time.monotonic() + 2.0
    junk = JointState(name=["lift"], position=[1.0])
    sent = 0
    while time.monotonic() < end:
        scene.wire.say(np.full((100, 3), 0.3))
        scene.wire.say(np.full((100, 2), 0.3), names=["a", "x"])
        flood.publish(junk)
        sent += 3
    assert sent > 300
    scene.wire.switch("estop", True)
    since = len(scene.executed)
    scene.rests(since, STOP)
    scene.wire.switch("estop", False)
    scene.until(lambda: scene.wire.ask("arm/estop_reset").success)


def test_requests_that_make_no_sense(scene):
    scene.talk("policy")
    scene.moving(POLICY)
    assert scene.wire.ask("arm/estop_reset").success  # nothing was latched
    client = scene.wire.node.create_client(SetParameters, "arm/set_parameters")
    assert client.wait_for_service(20)
    value = Parameter(name="robot", value=ParameterValue(type=4, string_value="/etc/passwd"))
    answer = client.call(SetParameters.Request(parameters=[value]), timeout_sec=20)
    assert not answer.results[0].successful
    assert scene.wire.ask("arm/enable", True).success
    scene.moving(POLICY)
    since = len(scene.executed)
    assert scene.wire.ask("arm/estop").success and scene.wire.ask("arm/estop").success
    scene.rests(since, STOP)
    assert scene.wire.ask("arm/enable", True).success  # which ends no stop
    assert scene.source == STOP
    scene.until(lambda: scene.wire.ask("arm/estop_reset").success)


def test_an_arm_node_that_is_told_to_end_leaves_the_arm_at_rest(another):
    scene = another(44)
    scene.talk("policy")
    scene.moving(POLICY)
    sent = scene.robot._env.actions
    scene.arm.send_signal(signal.SIGTERM)
    assert scene.arm.wait(20) == 0
    time.sleep(0.1)
    assert np.abs(np.diff(np.array(sent[-4:]), axis=0))[:, :2].max() < 1e-9
    scene.legal()


def test_a_clock_that_jumps_or_stands_still(clocked, another):
    scene = another(45, ["use_sim_time:=true"])
    scene.wire.keep("alive", True)
    say = lambda: scene.wire.say(  # noqa: E731
        swinging(ROBOT, time.time()), age=time.time() - clocked.time
    )
    for jump in (-10.0, 10.0, None):
        scene.wire.repeated["chunk"] = say
        since = scene.moving(POLICY)
        scene.wire.drop("chunk")
        if jump is None:
            clocked.speed = 0.0
        clocked.time += jump or 0.0
        scene.rests(since)
    scene.legal()


class Ticker:
    """/clock, which can be set."""

    def __init__(self, domain):
        self.context = connect(domain_id=domain)
        self.publisher = Node("ticker", context=self.context).create_publisher(Clock, "/clock", 10)
        self.time, self.speed, self._stop = 1000.0, 1.0, threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        before = time.monotonic()
        while not self._stop.wait(0.01):
            before, passed = time.monotonic(), time.monotonic() - before
            self.time += self.speed * passed
            self.publisher.publish(Clock(clock=write_seconds(Clock().clock, self.time)))

    def close(self):
        self._stop.set()
        self.thread.join()
        self.context.try_shutdown()
