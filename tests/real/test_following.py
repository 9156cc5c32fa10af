"""A stream of trajectories as the arm sends it, through the rules and splines of a controller."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from arms import excess, jointed
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robostack.real.following import Following, require_valid
from robostack.real.messages import MessageError, doubles, write_seconds
from robostack.real.safety import Safety
from robostack.real.stopping import Stopping

ROBOT = jointed()
JOINTS = ["joint_a", "joint_b"]
FINE = 10  # looks of the controller between two commands


def message(*rows, names=JOINTS, stamp=0.0):
    """Of (time from start, positions, velocities)."""
    points = []
    for time, places, speeds in rows:
        point = JointTrajectoryPoint(positions=doubles(places), velocities=doubles(speeds))
        write_seconds(point.time_from_start, time)
        points.append(point)
    found = JointTrajectory(joint_names=list(names), points=points)
    write_seconds(found.header.stamp, stamp)
    return found


@pytest.fixture(scope="module")
def driven():
    """Commands f64[T, 3] of a wild policy, and of each the path to rest that goes with it."""
    safety, stopping, rng = Safety(ROBOT), Stopping(ROBOT, ["a", "b"]), np.random.default_rng(3)
    safety.seed(np.zeros(2))
    commands, paths, wish = [], [], None
    for step in range(1500):
        if step % 17 == 0:
            wish = None if step % 5 == 0 else rng.uniform((-1, -1, 0), (1.5, 1.5, 1))
        commands.append(safety.step(wish, safety.command[:2]))
        paths.append(stopping.path(safety.motion[:, :2]))
    return np.array(commands), paths


def test_every_command_comes_with_a_way_to_rest_that_is_as_legal_as_the_commands(driven):
    commands, paths = driven
    for at in range(7, len(commands), 7):
        times, places, speeds = paths[at]
        assert np.array_equal(places[0], commands[at, :2]) and not speeds[-1].any()
        assert np.allclose(np.diff(times), 1 / ROBOT.rate)
        whole = np.repeat(commands[at : at + 1], len(places), axis=0)
        whole[:, :2] = places
        worst = excess(ROBOT, np.vstack([commands[: at + 1], whole[1:]]))
        assert max(worst.values()) <= 1e-9, worst


def test_it_is_the_way_that_the_arm_node_brakes():
    safety, stopping = Safety(ROBOT), Stopping(ROBOT, ["a", "b"])
    safety.seed(np.zeros(2))
    for _ in range(40):
        safety.step(np.array([1.4, -0.9, 0.0]), safety.command[:2])
    _, places, _ = stopping.path(safety.motion[:, :2])
    for place in places:
        np.testing.assert_allclose(safety.command[:2], place, atol=1e-12)
        safety.step(None, safety.command[:2])


def test_a_faster_arm_gets_no_more_points():
    fast = dataclasses.replace(ROBOT, command_hz=500.0)
    slow, quick = (Stopping(robot, ["a", "b"]) for robot in (ROBOT, fast))
    motion = np.array([[0.1, 0.2], [0.9, -1.8], [0.0, 0.0]])
    (t, *_), (u, *_) = slow.path(motion), quick.path(motion)
    assert len(u) <= len(t) + 2 and np.diff(u).max() == pytest.approx(0.01)


def test_what_the_stream_accelerates_by_is_what_the_joints_are_told_to():
    """Velocities of a point are of its instant. With those of the step that led to it the splines
    would swing about the commands with four times their acceleration."""
    dt, force = 1 / ROBOT.rate, 5.0
    stopping, controller, told = Stopping(ROBOT, ["a", "b"]), Following(JOINTS), []
    for i in range(20):
        x, v, a = force * dt**2 * i * (i + 1) / 2, force * dt * i, force  # as Safety differs
        times, places, speeds = stopping.path(np.array([[x, -x], [v, -v], [a, -a]]))
        controller.hear(message(*zip(times + dt, places, speeds)), 100 + i * dt, np.zeros(2))
        told += [controller.at(100 + (i + k / FINE) * dt)[0] for k in range(FINE)]
    forces = np.diff(told, 2, axis=0)[2 * FINE :] * (FINE / dt) ** 2
    np.testing.assert_allclose(forces, np.tile([force, -force], (len(forces), 1)), rtol=1e-3)


def test_the_joints_come_to_rest_where_the_last_message_says_when_no_other_follows(driven):
    commands, paths = driven
    moving = max(range(len(paths)), key=lambda i: len(paths[i][0]))
    times, places, speeds = paths[moving]
    controller = Following(JOINTS)
    controller.hear(message(*zip(times + 0.01, places, speeds)), 5.0, places[0])
    told = np.array([controller.at(5.01 + t)[0] for t in np.arange(0, 2, 0.001)])
    assert np.array_equal(told[-1], places[-1]) and np.array_equal(told[-1000], told[-1])
    assert len(times) > 8 and np.abs(told - places[0]).max() > 0.01


@pytest.mark.parametrize(
    "wrong, said",
    [
        (message((0.1, (0, 0), (0.5, 0))), "the last point is not at rest"),
        (message((0.1, (0, 0), ()), (0.1, (0, 0), ())), "does not increase"),
        (message((0.1, (0, 0), ()), names=["joint_a", "b"]), "expected joints joint_a, joint_b"),
        (message((0.1, (0, 0, 0), ())), "expected 2 positions"),
        (message((0.1, (0, 0), (0,))), "expected 2 positions"),
        (message((0.1, (0, 0), ()), stamp=8.0), "it ended 1.9 s ago"),
        (message(), "without points"),
    ],
)
def test_what_a_controller_refuses_is_refused_with_the_reason(wrong, said):
    with pytest.raises(MessageError, match=said):
        require_valid(wrong, JOINTS, 10.0)


def test_names_are_matched_and_a_controller_holds_where_it_is_told_first():
    controller = Following(JOINTS)
    assert controller.at(0.0) is None
    said = message((1.0, (0.4, 0.2), ()), names=JOINTS[::-1])
    controller.hear(said, 0.0, np.zeros(2))
    place, speed = controller.at(0.5)
    np.testing.assert_allclose(place, [0.1, 0.2])  # on a line: nobody said a velocity
    np.testing.assert_allclose(speed, [0.2, 0.4])
    np.testing.assert_allclose(controller.at(2.0), [[0.2, 0.4], [0, 0]])
