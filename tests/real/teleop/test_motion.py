"""Tracked hands and leader arms: the arm does what the hand does, and taking hold moves nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest

from robostack.real.teleop.device import Poll
from robostack.real.teleop.driver import Driver
from robostack.real.teleop.mapping import Gripper, Mapping, Motion
from robostack.real.teleop.motion import rotation_matrix, rotation_vector
from robostack.types import RobotSpec

ARM = RobotSpec(
    robot="arm",
    state_names=("x",),
    action_names=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"),
    action_low=(-1.0,) * 7,
    action_high=(1.0,) * 7,
    cameras={},
    control_hz=20.0,
    conventions={"action": "delta, 1 = 0.05 m or 0.5 rad", "gripper": "+1 closes"},
)
JOINTS = RobotSpec(
    robot="follower",
    state_names=("j1", "j2"),
    action_names=("j1", "j2"),
    action_low=(-3.0, -3.0),
    action_high=(3.0, 3.0),
    cameras={},
    control_hz=20.0,
    conventions={"action": "absolute joint positions"},
)
HAND = Mapping(device="pose", deadman="grip", gripper=Gripper(axis="trigger"), speed=1.0)
LEADER = Mapping(device="leader", deadman="pedal", speed=1.0)


def quaternion(axis, angle):
    """wxyz of a turn [rad] about a unit vector."""
    return (math.cos(angle / 2), *(math.sin(angle / 2) * np.asarray(axis, float)))


def hand(place=(0, 0, 0), turn=(1, 0, 0, 0), *buttons, **axes):
    names = ("x", "y", "z", "qw", "qx", "qy", "qz")
    return Poll({**dict(zip(names, (*place, *turn))), **axes}, frozenset(buttons), True)


def walk(driver, poses):
    """Sum of the motions asked along poses of a hand that holds on."""
    drives = [driver.act(hand(*pose, "grip"), 0.05 * i, [0.0]) for i, pose in enumerate(poses)]
    return np.sum([d.action[:6] for d in drives], axis=0)


def test_the_arm_goes_as_far_as_the_hand_however_it_got_there():
    rng = np.random.default_rng(0)
    places = np.concatenate([np.zeros((1, 3)), np.cumsum(rng.uniform(-0.02, 0.02, (40, 3)), 0)])
    asked = walk(Driver(HAND, ARM), [(p, (1, 0, 0, 0)) for p in places])
    assert np.allclose(asked[:3] * 0.05, places[-1], atol=1e-6) and np.allclose(asked[3:], 0)


def test_a_hand_that_is_faster_than_the_arm_is_caught_up_with():
    far = [((0, 0, 0), (1, 0, 0, 0))] + [((0.12, 0, 0), (1, 0, 0, 0))] * 5
    assert np.allclose(walk(Driver(HAND, ARM), far)[0] * 0.05, 0.12)
    further = [((0, 0, 0), (1, 0, 0, 0))] + [((9.0, 0, 0), (1, 0, 0, 0))] * 50
    assert walk(Driver(HAND, ARM), further)[0] == 3  # but not for ever: a tracker that jumped


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0, 0.8)])
def test_the_arm_turns_as_the_hand_turns(axis):
    turns = [((0, 0, 0), quaternion(axis, a)) for a in np.linspace(0, 1.2, 13)]
    asked = walk(Driver(HAND, ARM), turns)
    assert np.allclose(asked[3:] * 0.5, 1.2 * np.array(axis), atol=1e-6)


def test_what_a_hand_does_is_the_same_wherever_the_tracker_stands():
    shift, yaw = np.array([3.0, -1.0, 0.4]), 1.1
    turn = rotation_matrix(quaternion((0, 0, 1), yaw))
    places = np.cumsum(np.random.default_rng(1).uniform(-0.02, 0.02, (20, 3)), axis=0)
    here = walk(Driver(HAND, ARM), [(p, (1, 0, 0, 0)) for p in places])
    there = Driver(replace(HAND, yaw=math.degrees(-yaw)), ARM)
    elsewhere = walk(there, [(shift + turn @ p, (1, 0, 0, 0)) for p in places])
    assert np.allclose(here, elsewhere, atol=1e-6)


def test_letting_go_and_taking_hold_elsewhere_moves_nothing():
    driver = Driver(HAND, ARM)
    walk(driver, [((0, 0, 0), (1, 0, 0, 0)), ((0.01, 0, 0), (1, 0, 0, 0))])
    assert not driver.act(hand((0.5, 0, 0)), 1.0, [0.0]).engaged
    drive = driver.act(hand((0.5, 0.3, 0), quaternion((1, 0, 0), 1.0), "grip"), 1.1, [0.0])
    assert drive.engaged and np.array_equal(drive.action[:6], np.zeros(6))


def test_a_hand_without_a_pose_moves_nothing():
    assert "no pose" in Driver(HAND, ARM).act(Poll({}, frozenset(["grip"]), True), 0, [0.0]).note


def joints(*values, pedal=True):
    return Poll(dict(zip(("j2", "j1"), values)), frozenset(["pedal"] * pedal), True)


def test_a_leader_takes_hold_without_a_jump_and_leads_by_names():
    driver, stands = Driver(LEADER, JOINTS), np.array([0.5, -0.5])
    drive = driver.act(joints(1.0, 2.0), 0.0, stands)
    assert drive.engaged and np.allclose(drive.action, stands)
    drive = driver.act(joints(1.1, 1.7), 0.1, stands)  # j2 + 0.1, j1 - 0.3
    assert np.allclose(drive.action, [0.2, -0.4])
    held = driver.act(joints(1.9, 2.9, pedal=False), 0.2, stands)
    assert not held.engaged and np.allclose(held.action, [0.2, -0.4])
    assert np.allclose(driver.act(joints(1.9, 2.9), 0.3, stands).action, [0.2, -0.4])


def test_a_leader_that_is_to_match_is_followed_only_once_it_is_near():
    driver = Driver(replace(LEADER, follow="match", tolerance=0.1), JOINTS)
    stands = np.array([0.5, -0.5])
    drive = driver.act(joints(-0.5, 0.8), 0.0, stands)
    assert not drive.engaged and "j1 is +0.30 off" in drive.note
    assert np.allclose(drive.action, stands)
    assert np.allclose(driver.act(joints(-0.45, 0.55), 0.1, stands).action, [0.55, -0.45])
    assert np.allclose(driver.act(joints(0.2, 1.5), 0.2, stands).action, [1.5, 0.2])


def test_a_leader_of_other_names_and_signs_can_lead_and_a_missing_joint_is_told():
    mapping = replace(LEADER, motions={"j1": Motion(axis="a", scale=-1), "j2": Motion(axis="b")})
    driver = Driver(mapping, JOINTS)

    def told(**angles):
        return driver.act(Poll(angles, frozenset(["pedal"]), True), 0.0, np.zeros(2))

    told(a=0.0, b=0.0)
    assert np.allclose(told(a=0.2, b=0.3).action, [-0.2, 0.3])
    assert told(a=0.2).note == "the leader does not tell b; it has a"


def test_a_robot_that_takes_differences_of_joints_goes_as_far_as_its_leader():
    spec = replace(
        JOINTS,
        action_low=(-1.0, -1.0),
        action_high=(1.0, 1.0),
        conventions={"action": "joint position delta, 1 = 0.05 rad"},
    )
    driver, path = Driver(LEADER, spec), np.linspace(0, 0.4, 17)
    asked = [driver.act(joints(2 * a, a), 0.0, np.zeros(2)).action for a in [*path, 0.4]]
    assert np.allclose(np.sum(asked, 0) * 0.05, [0.4, 0.8], atol=1e-6)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 0.6, -0.8)])
@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.7, 3.0])
def test_rotation_vectors_are_axis_times_angle(axis, angle):
    found = rotation_vector(rotation_matrix(np.multiply(2.5, quaternion(axis, angle))))
    assert np.allclose(found, angle * np.array(axis), atol=1e-9)
