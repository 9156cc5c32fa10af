"""A simulated robot behind the topics of a real one, with real rclpy."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from dataclasses import replace

from arms import LIMITS, Sliding, jointed, moved, served
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool, String
from wired import Wire, until

from robostack.config import ConfigError
from robostack.real.messages import (
    read_compressed,
    read_image,
    read_named,
    seconds,
    write_named,
)
from robostack.real.nodes.arm_node import ArmNode
from robostack.real.nodes.node import COMMAND, LATCHED, connect
from robostack.real.nodes.sim_robot_node import SimRobotNode
from robostack.real.robot import Camera, Gripper, Timeouts
from robostack.types import SpecMismatch

DOMAIN = 46
ROBOT = served(50.0)


@pytest.fixture
def stage():
    """stage(robot, ...) -> simulated robot, its environment, and a wire."""
    made, context = [], connect(domain_id=DOMAIN)

    def make(robot=ROBOT, **given):
        env = Sliding(robot)
        made.append(Wire(context, robot))
        made.append(SimRobotNode(context, robot, lambda: env, **given))
        return made[1], env, made[0]

    yield make
    for one in made:
        one.close()
    context.try_shutdown()


def commander(wire, robot):
    publisher = wire.node.create_publisher(JointState, "command/action", COMMAND)
    until(lambda: publisher.get_subscription_count())
    return lambda values: publisher.publish(
        write_named(JointState(), list(robot.actions), np.asarray(values, float), 0.0)
    )


def test_each_command_is_executed_exactly_once_and_in_order(stage):
    robot, env, wire = stage()
    send = commander(wire, ROBOT)
    values = [[0.01 * k, -0.01 * k, 0.5] for k in range(1, 41)]
    for value in values:
        before = robot.executed
        send(value)
        until(lambda before=before: robot.executed > before)
    done = np.unique(np.round(np.array(env.actions)[:, 0], 6))
    assert np.allclose(done[done > 0], [v[0] for v in values], atol=1e-6)
    assert robot.executed == 40


def test_without_commands_velocities_are_zero_and_targets_and_grippers_stay(stage):
    mixed = moved()
    robot, env, wire = stage(mixed)
    commander(wire, mixed)([0.5, -0.5, 0.2, 1.0])
    until(lambda: robot.executed == 1)
    after = len(env.actions)
    until(lambda: len(env.actions) > after + 3)
    assert np.allclose(env.actions[-1], [0, 0, 0, 1.0])
    still = env.at.copy()
    until(lambda: len(env.actions) > after + 6)
    assert np.array_equal(env.at, still)


def test_a_robot_that_nobody_commands_stays_where_it_begins(stage):
    """Also one whose actions are places: its first targets are where it is."""
    robot, env, _ = stage(seed=9)
    until(lambda: robot.steps > 5)
    assert np.allclose(env.at, 0.09)


def streaming(backend, gripper):
    """Joints that are commanded at 100 Hz and simulated at 20, by a kind of controller."""
    robot = jointed(backend=backend, timeouts=Timeouts(state=2.0, alive=2.0))
    slow = {n: replace(robot.actions[n], max_error=2.0) for n in ("a", "b")}
    hand = {"hand": Gripper("gripper", gripper, joint="knuckle", open=0.08, closed=0.0)}
    return replace(robot, actions=robot.actions | slow, grippers=hand)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend, gripper",
    [
        ("positions", "topic_float64"),
        ("joint", "joint_trajectory"),
        ("joint_trajectory", "topic_float64"),
    ],
)
def test_joints_follow_what_their_controller_is_streamed(stage, backend, gripper):
    """The arm node on one side, the plant on the other, over the controller's own messages."""
    config = streaming(backend, gripper)
    robot, env, wire = stage(config)
    arm = ArmNode(wire.node.context, config)
    try:
        wire.keep("alive", True)
        wire.drive(0.7)
        until(
            lambda: np.allclose(env.at, 0.7, atol=1e-3), what=lambda: f"{env.at} {arm.arm.reason}"
        )
        assert env.actions[-1][2] == pytest.approx(0.7) and robot.executed > 5
        steps = np.abs(np.diff(np.array(env.actions)[:, 0]))
        assert steps.max() < 3 * 1.0 / 20, "no jumps: at 1 rad/s, some late on a busy machine"
        wire.keep("alive", False)
        until(lambda: arm.arm.reason and arm.arm.safety.resting)
    finally:
        arm.close()


@pytest.mark.slow
def test_a_hand_goes_as_fast_as_servo_is_told_and_no_longer(stage):
    config = replace(
        moved(backend="twist", command_hz=100.0), timeouts=Timeouts(state=2.0, alive=2.0)
    )
    speedy = {n: replace(config.actions[n], max_error=2.0) for n in ("x", "y", "turn")}
    config = replace(config, actions=config.actions | speedy)
    robot, env, wire = stage(config)
    arm = ArmNode(wire.node.context, config)
    try:
        wire.keep("alive", True)
        wire.drive(0.4)
        until(lambda: env.at[0] > 0.1, what=lambda: arm.arm.reason)
        until(lambda: abs(env.actions[-1][0] - 0.4) < 1e-3)
        fastest = LIMITS["velocity"] / (0.05 * 20)  # of what an action of 1 is
        assert max(abs(a[0]) for a in env.actions) <= fastest + 1e-6
    finally:
        arm.close()
    until(lambda: not env.actions[-1][:3].any())  # Servo's timeout, at the latest


def test_it_moves_on_in_real_time(stage):
    robot, env, _ = stage()
    steps, began = robot.steps, time.monotonic()
    until(lambda: robot.steps >= steps + 25)
    assert time.monotonic() - began >= 25 / 50 - 0.03


@pytest.mark.parametrize("bad", [[np.nan, 0, 0], [0, 0]])
def test_a_command_that_is_none_is_not_executed(stage, bad):
    robot, env, wire = stage()
    publisher = wire.node.create_publisher(JointState, "command/action", COMMAND)
    until(lambda: publisher.get_subscription_count())
    message = JointState(name=list(ROBOT.actions)[: len(bad)], position=[float(v) for v in bad])
    for _ in range(5):
        publisher.publish(message)
    steps = robot.steps
    until(lambda: robot.steps > steps + 5)
    assert robot.executed == 0 and np.isfinite(env.actions).all()


def test_states_and_pictures_of_one_instant_have_one_stamp(stage):
    robot, env, wire = stage()
    states, pictures = {}, {}
    wire.hear(JointState, "joint_states", lambda m: states.update({seconds(m.header.stamp): m}))
    wire.hear(Image, "front/image_raw", lambda m: pictures.update({seconds(m.header.stamp): m}))
    until(lambda: len(states.keys() & pictures.keys()) > 3)
    stamp = max(states.keys() & pictures.keys())
    assert read_named(states[stamp], ["b", "a"]).shape == (2,)
    assert read_image(pictures[stamp]).shape == (12, 16, 3)
    assert abs(stamp - time.time()) < 20
    assert pictures[stamp].header.frame_id == "front_optical_frame"


def test_a_camera_may_be_compressed(stage):
    camera = {"front": Camera("front/image_raw/compressed", (12, 16), compressed=True)}
    robot, _, wire = stage(replace(ROBOT, cameras=camera))
    heard = []
    wire.hear(CompressedImage, "front/image_raw/compressed", heard.append)
    until(lambda: heard)
    assert read_compressed(heard[0]).shape == (12, 16, 3)


def test_a_reset_begins_anew_with_the_next_seed(stage):
    robot, env, wire = stage(seed=7)
    tasks = []
    wire.node.create_subscription(String, "task", lambda m: tasks.append(m.data), LATCHED)
    commander(wire, ROBOT)([0.5, 0.5, 1.0])
    until(lambda: robot.executed == 1 and env.at[0] > 0.1)
    answer = wire.ask("sim/reset")
    assert answer.success and answer.message == "reset with seed 8"
    assert env.steps < 20 and robot.seed == 9
    until(lambda: tasks[-2:] == ["slide", "slide"] or tasks == ["slide"])
    assert wire.ask("sim/reset").message == "reset with seed 9"


def test_success_is_told_when_it_changes_also_to_who_comes_late(stage):
    robot, env, wire = stage()
    env.success = True
    steps = robot.steps
    until(lambda: robot.steps > steps + 3)
    told = []
    wire.node.create_subscription(Bool, "sim/success", lambda m: told.append(m.data), LATCHED)
    until(lambda: told == [True], 15, lambda: f"{told}, {robot._success}, {robot.steps}")
    env.success = False
    until(lambda: told == [True, False])


def test_the_clock_is_the_simulations_and_never_goes_back(stage):
    robot, env, wire = stage(clock=True)
    times, stamps = [], []
    wire.hear(Clock, "/clock", lambda m: times.append(seconds(m.clock)))
    wire.hear(JointState, "joint_states", lambda m: stamps.append(seconds(m.header.stamp)))
    until(lambda: len(times) > 5)
    wire.ask("sim/reset")
    seen = len(times)
    until(lambda: len(times) > seen + 5)
    assert (np.diff(times) >= 0).all() and times[0] > 0 and times[-1] < 60
    assert set(stamps[3:-1]) <= set(np.round(times, 9)) | set(times)


@pytest.mark.parametrize(
    "robot, error, said",
    [
        (replace(ROBOT, control_hz=25.0), SpecMismatch, "control_hz"),
        (jointed(backend="pose"), ConfigError, "arms.arm.backend: a simulated robot has positions"),
        (
            replace(jointed(), grippers={"hand": Gripper("gripper", "action")}),
            ConfigError,
            "grippers.hand.backend",
        ),
        (
            replace(ROBOT, state={n: f"pose:pose/{k}" for n, k in (("a", "x"), ("b", "y"))}),
            ConfigError,
            "state.a: a simulated robot publishes",
        ),
    ],
)
def test_a_robot_that_is_not_the_environments_is_refused(robot, error, said):
    context = connect(domain_id=DOMAIN)
    with pytest.raises(error, match=said):
        SimRobotNode(context, robot, lambda: Sliding(ROBOT))
    context.try_shutdown()


def test_an_environment_that_cannot_be_built_is_told():
    context = connect(domain_id=DOMAIN)

    def make():
        raise ValueError("no such task")

    with pytest.raises(ValueError, match="no such task"):
        SimRobotNode(context, ROBOT, make)
    context.try_shutdown()


def test_a_simulation_that_fails_is_no_robot_that_stands_still():
    context = connect(domain_id=DOMAIN)
    env = Sliding(ROBOT)
    robot = SimRobotNode(context, ROBOT, lambda: env)
    env.at = np.zeros(7)  # which it cannot step from
    assert robot.done.wait(20)  # `run` ends the process then
    with pytest.raises(RuntimeError, match="the simulation failed"):
        robot.close()
    assert env.closed
    context.try_shutdown()
