"""The arm node with real rclpy: what it hears, what each kind of controller is told, services."""

import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from dataclasses import replace

from arms import LIMITS, jointed, moved, served
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory
from wired import Wire, until

from robostack.config import ConfigError
from robostack.real.arm import HOLD, OPERATOR, POLICY, STOP
from robostack.real.fence import Fence, Point
from robostack.real.following import require_valid
from robostack.real.kinematics import Joint
from robostack.real.messages import read_named, read_pose, seconds, write_named, write_pose
from robostack.real.nodes.arm_node import ArmNode
from robostack.real.nodes.node import PUBLISH, SENSOR, connect
from robostack.real.robot import Action, Arm, Gripper, RobotConfig, Timeouts

DOMAIN = 42
PATIENT = Timeouts(state=5.0, alive=5.0, deadman=5.0, chunk=5.0)  # for a loaded machine


class Driver:
    """The driver of an arm that does as it is told: it says where the joints are, in its own
    order."""

    def __init__(self, wire, robot, arm, at=0.1):
        self.at, self.arm = at, arm.arm
        self.publisher = wire.node.create_publisher(JointState, "joint_states", PUBLISH)
        self.names = [*reversed(list(robot.state)), "a_joint_of_the_lift"]
        wire.repeated["driver"] = self.say

    def say(self):
        values = np.full(len(self.names), self.at)
        if self.arm.safety.seeded:
            values[:-1] = self.arm.safety.placed[: len(values) - 1][::-1]
        values[-1] = 99.0
        self.publisher.publish(write_named(JointState(), self.names, values, 0.0))


@pytest.fixture
def stage():
    """stage(robot) -> arm node and wire, with the driver of its arm."""
    made, context = [], connect(domain_id=DOMAIN)

    def make(robot, driver=True):
        arm, wire = ArmNode(context, robot), Wire(context, robot)
        made.extend([wire, arm])
        if driver:
            Driver(wire, robot, arm)
            until(lambda: arm.arm.safety.seeded)
        until(lambda: wire.chunks["chunk"].get_subscription_count())
        return arm, wire

    yield make
    for one in made:
        one.close()
    context.try_shutdown()


def commands(stage, robot, kind, topic):
    """What the controller hears while the policy moves the arm."""
    arm, wire = stage(replace(robot, timeouts=PATIENT))
    heard = []
    wire.hear(kind, topic, heard.append)
    wire.keep("alive", True)
    wire.drive(0.3)
    until(lambda: len(heard) > 15, what=lambda: arm.arm.reason)
    return arm, wire, heard


def test_a_trajectory_controller_is_told_position_and_velocity_a_step_ahead(stage):
    robot = jointed()
    robot = replace(
        robot, arms={"arm": Arm("joint_trajectory", ("b", "a"), ("joint_b", "joint_a"))}
    )
    arm, wire, heard = commands(stage, robot, JointTrajectory, "command/joint_trajectory")
    points = [message.points[0] for message in heard]
    assert list(heard[0].joint_names) == ["joint_b", "joint_a"]
    assert seconds(points[0].time_from_start) == 0.01 and seconds(heard[0].header.stamp) == 0
    x = np.array([point.positions for point in points])
    v = np.array([point.velocities for point in points])
    steps = np.diff(x, axis=0)
    assert np.allclose(v[2:] * 0.01, (3 * steps[1:] - steps[:-1]) / 2, atol=1e-12)
    assert np.abs(v).max() > 0.1
    for message in heard:
        require_valid(message, ["joint_a", "joint_b"], 0.0)


def test_a_forward_controller_is_told_numbers_in_its_order_and_a_gripper_when_it_changes(stage):
    robot = jointed(backend="positions")
    closing = Gripper("gripper", "topic_float64", open=0.08, closed=0.0)
    arm, wire, heard = commands(
        stage, replace(robot, grippers={"hand": closing}), Float64MultiArray, "command/positions"
    )
    assert all(len(message.data) == 2 for message in heard)
    grips = []
    wire.hear(Float64MultiArray, "command/gripper", lambda m: grips.append(m.data[0]))
    wire.drive(1.0)
    until(lambda: grips)
    assert grips[0] == pytest.approx(0.0)
    wire.drive(0.99)  # within the dead band
    wire.drive(0.0)
    until(lambda: len(grips) > 1)
    assert grips[1:] == [pytest.approx(0.08)]


def test_crisp_is_told_a_joint_state(stage):
    _, _, heard = commands(stage, jointed(backend="joint"), JointState, "command/joint")
    assert list(heard[0].name) == ["a", "b"] and len(heard[0].velocity) == 2
    assert seconds(heard[-1].header.stamp) > 1e9


def test_servo_is_told_speeds_in_si_units(stage):
    robot = moved(backend="twist", command_hz=100.0)
    arm, wire, heard = commands(stage, robot, TwistStamped, "command/twist")
    until(lambda: abs(heard[-1].twist.linear.x - 0.3 * 0.05 * 20) < 1e-9)
    last = heard[-1]
    assert last.twist.linear.z == pytest.approx(0.3 * 0.8)  # the third action is a speed
    assert last.header.frame_id == "base" and seconds(last.header.stamp) > 1e9


def posed():
    move = dict(low=-1, high=1, kind="delta", scale=0.05, max_error=0.2, **LIMITS)
    turn = {**move, "scale": 0.1}
    states = {k: f"pose:pose/{k}" for k in ("x", "y", "z")}
    actions = {f"d{k}": Action(state=k, position=(-1.0, 1.0), **move) for k in "xyz"}
    actions |= {f"r{k}": Action(**turn) for k in "xyz"}
    arms = {"arm": Arm("pose", tuple(actions), frame="root")}
    return RobotConfig("posed", 20.0, states, actions, arms, command_hz=100.0, enabled=True)


def test_a_pose_controller_is_told_poses_that_start_where_the_arm_is(stage):
    robot = replace(posed(), timeouts=PATIENT)
    arm, wire = stage(robot, driver=False)
    half = np.sqrt(0.5)
    measured = write_pose(PoseStamped(), (0.3, 0.0, 0.2), (half, half, 0, 0), 0.0)
    publisher = wire.node.create_publisher(PoseStamped, "pose", PUBLISH)
    wire.repeated["driver"] = lambda: publisher.publish(measured)
    until(lambda: arm.arm.safety.seeded)
    heard = []
    wire.hear(PoseStamped, "command/pose", lambda m: heard.append((read_pose(m), m)))
    wire.keep("alive", True)
    rows = np.zeros((40, 6))
    rows[:, 0], rows[:, 5] = 0.2, 0.5
    wire.repeated["chunk"] = lambda: wire.say(rows)
    until(lambda: len(heard) > 20)
    first, last = heard[0][0], heard[-1][0]
    assert heard[0][1].header.frame_id == "root"
    assert abs(first["x"] - 0.3) < 1e-3 and abs(first["qx"] - half) < 1e-2
    assert last["x"] > first["x"] and last["z"] == pytest.approx(0.2)
    turned = np.arctan2(last["xy"], last["xx"])  # about the base's z: x of the tool turns in xy
    assert turned > 0.005 and last["xz"] == pytest.approx(0.0, abs=1e-9)


def test_two_arms_get_their_own_commands(stage):
    robot = jointed(backend="positions")
    arms = {"left": Arm("positions", ("a",)), "right": Arm("positions", ("b",))}
    arm, wire, heard = commands(
        stage, replace(robot, arms=arms), Float64MultiArray, "left/command/positions"
    )
    assert wire.node.get_publishers_info_by_topic("/right/command/positions")
    assert all(len(message.data) == 1 for message in heard)


@pytest.mark.parametrize(
    "robot, said",
    [
        (replace(jointed(), arms={"arm": Arm("twist", ("a", "b"))}), "3 or 6 actions"),
        (replace(posed(), arms={"arm": Arm("positions", tuple(posed().actions))}), "kind absolute"),
        (
            replace(jointed(), grippers={"hand": Gripper("gripper", "action")}),
            "GripperCommand needs control_msgs",
        ),
    ],
)
def test_a_back_end_that_cannot_take_the_actions_says_so(robot, said):
    if "control_msgs" in said:
        try:
            import control_msgs  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("control_msgs is installed")
    context = connect(domain_id=DOMAIN)
    with pytest.raises(ConfigError, match=said):
        ArmNode(context, robot)
    context.try_shutdown()


class Pretended:
    """control_msgs and action servers, as far as our clients use them: the wheels have neither."""

    def __init__(self, monkeypatch, gripper="GripperCommand"):
        self.goals = []  # topic, goal, whether it was accepted
        self.refused = set()  # topics whose controllers refuse
        self.ends = None  # error code with which accepted goals end; None: they do not
        server = self

        class Goal:
            def __init__(self, **given):
                self.command = SimpleNamespace()
                vars(self).update(given)

        class Client:
            def __init__(self, node, kind, topic):
                self.kind, self.topic = kind, topic

            def server_is_ready(self):
                return True

            def send_goal_async(self, goal):
                assert isinstance(goal, self.kind.Goal)
                accepted = self.topic not in server.refused
                server.goals.append((self.topic, goal, accepted))
                return done(SimpleNamespace(accepted=accepted, get_result_async=server.result))

        names = ("FollowJointTrajectory", "GripperCommand", "ParallelGripperCommand")
        codes = dict(PATH_TOLERANCE_VIOLATED=-4, GOAL_TOLERANCE_VIOLATED=-5)
        kinds = {
            name: SimpleNamespace(
                Goal=type(name, (Goal,), {}), Result=SimpleNamespace(**codes), name=name
            )
            for name in names
        }
        action = SimpleNamespace(**kinds)
        monkeypatch.setitem(sys.modules, "control_msgs", SimpleNamespace(action=action))
        monkeypatch.setattr("rclpy.action.ActionClient", Client)
        monkeypatch.setattr(
            "rclpy.action.get_action_names_and_types",
            lambda node: [("/hand/cmd", [f"control_msgs/action/{gripper}"])],
        )

    def result(self):
        if self.ends is None:
            return Future()
        said = SimpleNamespace(error_code=self.ends, error_string="joint a is 0.3 off")
        return done(SimpleNamespace(result=said))

    def of(self, topic):
        return [goal for name, goal, _ in self.goals if name == topic]


def done(value):
    future = Future()
    future.set_result(value)
    return future


HAND = Gripper("gripper", "action", "hand/cmd", joint="knuckle", open=0.08, closed=0.0, effort=20)


def acting(stage, **changes):
    """An arm and a gripper that are actions, and a policy that moves them."""
    robot = jointed(backend="follow_joint_trajectory", command_hz=20.0)
    arm, wire = stage(replace(robot, grippers={"hand": HAND}, timeouts=PATIENT, **changes))
    wire.keep("alive", True)
    wire.drive(1.0)
    return arm, wire


def test_with_control_msgs_actions_are_sent_as_goals(stage, monkeypatch):
    server = Pretended(monkeypatch)
    server.ends = -1  # each is replaced by the next
    arm, wire = acting(stage)
    path = "command/follow_joint_trajectory"
    until(lambda: len(server.of(path)) > 5 and server.of("hand/cmd"))
    (grip,) = server.of("hand/cmd")
    assert (grip.command.position, grip.command.max_effort) == (pytest.approx(0.0), 20.0)
    for goal in server.of(path):
        require_valid(goal.trajectory, ["a", "b"], 0.0)
        assert seconds(goal.trajectory.points[0].time_from_start) == 0.1
    assert wire.source == POLICY


@pytest.mark.parametrize(
    "refuse, ends, said",
    [
        (True, None, "arm: the controller refused 3 goals in a row"),
        (False, -4, "arm: the controller gave up: joint a is 0.3 off"),
    ],
)
def test_a_controller_that_does_not_obey_stops_the_arm(stage, monkeypatch, refuse, ends, said):
    server = Pretended(monkeypatch)
    arm, wire = acting(stage)
    until(lambda: wire.source == POLICY)
    server.refused |= {"command/follow_joint_trajectory"} if refuse else set()
    server.ends = ends
    until(lambda: wire.source == STOP)
    assert arm.arm.causes.latched["strayed"] == said
    server.refused.clear()
    server.ends = None
    until(lambda: arm.arm.safety.resting)
    until(lambda: wire.ask("arm/estop_reset").success and wire.source == POLICY)


@pytest.mark.slow
def test_a_gripper_that_refuses_is_asked_again(stage, monkeypatch):
    server = Pretended(monkeypatch, gripper="ParallelGripperCommand")
    server.refused.add("hand/cmd")
    acting(stage)
    until(lambda: len(server.of("hand/cmd")) > 1)
    server.refused.clear()
    until(lambda: any(t == "hand/cmd" and ok for t, _, ok in server.goals))
    command = server.of("hand/cmd")[-1].command
    assert (command.name, list(command.effort)) == (["knuckle"], [20.0])
    assert list(command.position) == [pytest.approx(0.0)]
    count = len(server.of("hand/cmd"))
    time.sleep(0.8)
    assert len(server.of("hand/cmd")) == count, "it was accepted"


def test_an_operator_takes_over_and_gives_back(stage):
    arm, wire = stage(replace(jointed(), timeouts=PATIENT))
    wire.keep("alive", True)
    wire.drive(0.3)
    until(lambda: wire.source == POLICY)
    wire.keep("operator/deadman", True)
    wire.drive(-0.3, operator=True)
    until(lambda: wire.source == OPERATOR)
    wire.keep("operator/deadman", False)
    until(lambda: wire.source == POLICY)


def test_the_services_enable_stop_and_reset(stage):
    arm, wire = stage(replace(jointed(), timeouts=PATIENT, enabled=False))
    wire.keep("alive", True)
    wire.drive(0.3)
    until(lambda: wire.source == HOLD)
    assert arm.arm.reason == "not enabled"
    assert wire.ask("arm/enable", True).message == "enabled"
    until(lambda: wire.source == POLICY)
    assert wire.ask("arm/hold").success
    until(lambda: wire.source == HOLD)
    wire.ask("arm/enable", True)
    assert wire.ask("arm/estop").success
    until(lambda: wire.source == STOP and wire.stopped[-1])
    wire.switch("estop", True)
    until(lambda: arm.arm.causes.pressed)
    refused = wire.ask("arm/estop_reset")
    assert not refused.success and "the emergency stop is pressed" in refused.message
    wire.switch("estop", False)
    until(lambda: not arm.arm.causes.pressed and arm.arm.safety.resting)
    assert wire.ask("arm/estop_reset").success
    until(lambda: wire.source == POLICY and not wire.stopped[-1])


@pytest.mark.parametrize("qos", [SENSOR, PUBLISH], ids=["best effort", "reliable"])
def test_the_emergency_stop_is_heard_from_every_kind_of_publisher(stage, qos):
    arm, wire = stage(jointed())
    publisher = wire.node.create_publisher(Bool, "estop", qos)
    until(lambda: publisher.get_subscription_count())
    wire.repeated["stop"] = lambda: publisher.publish(Bool(data=True))
    until(lambda: wire.source == STOP)


def test_diagnostics_tell_why_it_holds_and_what_was_wrong(stage):
    arm, wire = stage(replace(jointed(), timeouts=PATIENT))
    heard = []
    wire.hear(DiagnosticArray, "/diagnostics", lambda m: heard.extend(m.status))
    wire.say(np.zeros((4, 3)), names=["a", "b", "hand"])
    until(lambda: arm.arm.counts["refused chunks"])
    until(lambda: any("wrong on chunk" in [v.key for v in s.values] for s in heard))
    status = heard[-1]
    assert status.name == "arm" and status.level == b"\x01"
    assert status.message == "the policy is silent"
    values = {v.key: v.value for v in status.values}
    assert values["refused chunks"] == "1"
    assert "expected a, b, gripper; got a, b, hand" in values["wrong on chunk"]


def test_diagnostics_tell_that_a_fence_holds_it_back(stage):
    chain = {"a": Joint(axis=(0.0, 1.0, 0.0)), "b": Joint(xyz=(0.3, 0.0, 0.0))}
    fence = Fence(chain, {"hand": Point("b", (0.2, 0.0, 0.0))}, {"z": (-0.1, 1.0)})
    robot = replace(jointed(), timeouts=PATIENT)
    robot = replace(robot, arms={"arm": replace(robot.arms["arm"], fence=fence)})
    arm, wire = stage(robot)
    heard = []
    wire.hear(DiagnosticArray, "/diagnostics", lambda m: heard.extend(m.status))
    wire.keep("alive", True)
    wire.drive(0.5)  # which would be at z = -0.23
    until(lambda: any(s.message == "held back by the fence of arm" for s in heard))
    status = next(s for s in heard if s.message == "held back by the fence of arm")
    assert status.level == b"\x01" and "cut back by the fence of arm" in [
        v.key for v in status.values
    ]
    a, b, _ = arm.arm.safety.command
    assert -0.1 <= -(0.3 + 0.2 * np.cos(b)) * np.sin(a) < -0.09


def test_a_callback_that_fails_stops_the_arm(stage):
    arm, wire = stage(replace(jointed(), timeouts=PATIENT))
    wire.keep("alive", True)
    wire.drive(0.3)
    until(lambda: wire.source == POLICY)
    arm.arm.offer = lambda *_: 1 / 0  # a bug of ours
    until(lambda: wire.source == STOP)
    assert "ZeroDivisionError" in arm.arm.reason


def test_when_the_node_ends_the_last_command_is_a_rest():
    robot = replace(jointed(), timeouts=PATIENT)
    context = connect(domain_id=DOMAIN)
    arm, wire, heard = ArmNode(context, robot), Wire(context, robot), []
    Driver(wire, robot, arm)
    wire.hear(JointTrajectory, "command/joint_trajectory", heard.append)
    wire.keep("alive", True)
    wire.drive(1.0)
    until(lambda: len(heard) > 10 and max(map(abs, heard[-1].points[0].velocities)) > 0.1)
    arm.close()
    count = -1
    while count != len(heard):  # until nothing comes any more
        count = len(heard)
        time.sleep(0.2)
    assert list(heard[-1].points[0].velocities) == pytest.approx([0, 0], abs=1e-9)
    wire.close()
    context.try_shutdown()


def test_an_arm_that_rests_is_told_nothing_when_the_node_ends():
    context = connect(domain_id=DOMAIN)
    arm, wire, heard = ArmNode(context, jointed()), Wire(context, jointed()), []
    wire.hear(JointTrajectory, "command/joint_trajectory", heard.append)
    Driver(wire, jointed(), arm)
    until(lambda: arm.arm.safety.seeded)
    until(lambda: wire.node.get_publishers_info_by_topic("/command/joint_trajectory"))
    arm.close()  # it may have been moved by hand: to where it was is a leap
    time.sleep(0.3)
    wire.close()
    context.try_shutdown()
    assert heard == []


def test_a_message_of_a_driver_that_is_broken_is_a_state_that_is_not_there(stage):
    arm, wire = stage(jointed())
    wire.drop("driver")
    publisher = wire.node.create_publisher(JointState, "joint_states", PUBLISH)
    broken = JointState(name=["a", "b"], position=[0.1])
    wire.repeated["driver"] = lambda: publisher.publish(broken)
    until(lambda: "not measured: a, b" in arm.arm.reason)
    assert "1 values for 2 names" in arm._bad["joint_states"]


def test_names_are_matched_and_not_places(stage):
    arm, wire = stage(replace(served(50.0), timeouts=PATIENT))
    heard = []
    wire.hear(JointState, "command/action", heard.append)
    wire.keep("alive", True)
    rows = np.tile([0.7, 0.2, -0.4], (40, 1))  # gripper, b, a
    wire.repeated["chunk"] = lambda: wire.say(rows, names=["gripper", "b", "a"])
    until(lambda: heard and read_named(heard[-1], ["a", "b", "gripper"])[0] < 0.05)
    assert read_named(heard[-1], ["gripper"])[0] == pytest.approx(0.7)


def test_the_node_needs_a_robot_and_says_what_is_wrong_with_it(tmp_path):
    for args, said in (
        ([], "parameter robot"),
        (["-p", "robot:=configs/robot/none.yaml"], "there is configs/robot/fr3.yaml"),
    ):
        context = connect(["--ros-args", *args] if args else [], domain_id=DOMAIN)
        with pytest.raises((ValueError, OSError), match=said):
            ArmNode(context)
        context.try_shutdown()
