"""What a hand may and may not do: whatever goes wrong, the arm stays where it is."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from robostack.real.paths import find
from robostack.real.robot import RobotConfig
from robostack.real.teleop.device import LOST, Poll
from robostack.real.teleop.driver import Driver
from robostack.real.teleop.mapping import Gripper, Mapping, Motion, read_mapping, shipped
from robostack.types import RobotSpec

ROBOTS = ("sim", "fr3", "so101", "two_arm", "ur5e")
NAMES = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
ARM = RobotSpec(
    robot="arm",
    state_names=("x", "y", "z"),
    action_names=NAMES,
    action_low=(-1.0,) * 7,
    action_high=(1.0,) * 7,
    cameras={},
    control_hz=20.0,
    conventions={"action": "delta, 1 = 0.05 m or 0.5 rad", "gripper": "+1 closes"},
)
JOINTS = replace(
    ARM,
    robot="joints",
    state_names=("elbow", "wrist"),
    action_names=("wrist", "elbow"),
    action_low=(-2.0, -2.0),
    action_high=(2.0, 2.0),
    conventions={"action": "absolute joint positions [rad]"},
)
PAD = Mapping(
    device="gamepad",
    motions={n: Motion(axis=n) for n in NAMES[:6]},
    gripper=Gripper(toggle="a"),
    deadman="hold",
    clutch="clutch",
    slower="less",
    faster="more",
    speed=0.4,
    deadzone=0.1,
    session={"start": "s", "stop": "s", "keep": "k"},
)
STATE = np.array([0.1, 0.2, 0.3])
STILL = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)


def push(*buttons, alive=True, **axes):
    return Poll(axes, frozenset(buttons), alive)


def started(mapping=PAD, spec=ARM):
    """A driver that has seen its device at rest."""
    driver = Driver(mapping, spec)
    driver.act(push(), 0.0, STATE)
    return driver


def test_a_stick_moves_the_arm_by_its_share_of_the_speed():
    drive = started().act(push("hold", dx=1.0, dz=-0.55), 0.1, STATE)
    assert drive.engaged and drive.note == ""
    assert np.allclose(drive.action, [0.4, 0, -0.4 * 0.5, 0, 0, 0, -1])


@pytest.mark.parametrize(
    ("poll", "why"),
    [
        (push(dx=1.0), "hold is not held"),
        (push("hold", "clutch", dx=1.0), "clutch"),
        (LOST, "lost or silent"),
        (push("hold", alive=False, dx=1.0), "lost or silent"),
    ],
)
def test_released_deadman_held_clutch_and_lost_device_hold_the_arm(poll, why):
    driver = started()
    assert driver.act(push("hold", dx=1.0), 0.1, STATE).engaged
    drive = driver.act(poll, 0.15, STATE)
    assert not drive.engaged and why in drive.note
    assert np.array_equal(drive.action, STILL)
    assert driver.act(push("hold", dx=1.0), 0.2, STATE).engaged  # and go on


def test_within_the_dead_zone_nothing_moves():
    assert np.array_equal(started().act(push("hold", dx=0.1, dy=-0.09), 0.1, STATE).action, STILL)


def test_fingers_toggle_with_each_press_and_stay_through_a_lost_device():
    driver = started()
    states = []
    for poll in (push("hold", "a"), push("hold", "a"), LOST, push("hold"), push("hold", "a")):
        states.append(driver.act(poll, 0.1, STATE).action[-1])
    assert states == [1, 1, 1, 1, -1]


def test_a_button_held_through_a_gap_is_not_pressed_again():
    driver = started()
    driver.act(push("hold", "a"), 0.1, STATE)
    driver.act(LOST, 0.2, STATE)
    assert driver.act(push("hold", "a"), 0.3, STATE).action[-1] == 1  # closed before, still closed


def test_a_button_that_is_held_from_the_beginning_must_be_let_go_first():
    driver = Driver(PAD, ARM)
    assert driver.act(push("s", "hold", "a"), 0.0, STATE).events == ()
    assert driver.hold[-1] == -1
    driver.act(push(), 0.1, STATE)
    assert driver.act(push("s"), 0.2, STATE).events == ("start", "stop")


@pytest.mark.parametrize(("said", "closed"), [("+1 closes", 1), ("+1 opens", -1), ("0 closes", 0)])
def test_fingers_follow_the_conventions_of_the_robot(said, closed):
    low = 0.0 if "0" in said else -1.0
    spec = replace(
        ARM,
        action_low=(*ARM.action_low[:6], low),
        conventions={**ARM.conventions, "gripper": said},
    )
    driver = started(spec=spec)
    assert driver.closed is False
    assert driver.act(push("hold", "a"), 0.1, STATE).action[-1] == closed and driver.closed is True


def test_a_trigger_closes_by_how_far_it_is_pressed_and_a_button_while_it_is_held():
    trigger = started(replace(PAD, gripper=Gripper(axis="t")))
    assert [trigger.act(push("hold", t=t), 0.1, STATE).action[-1] for t in (0, 0.5, 1)] == [
        -1,
        0,
        1,
    ]
    held = started(replace(PAD, gripper=Gripper(close="c")))
    polls = [push("hold", "c"), push("hold", "c"), push("hold")]
    assert [held.act(p, 0.1, STATE).action[-1] for p in polls] == [1, 1, -1]


def test_speed_has_levels_and_ends():
    driver, speeds = started(), []
    for button in ("more", "more", "less", *["less"] * 9):
        driver.act(push(button), 0.1, STATE)
        driver.act(push(), 0.1, STATE)
        speeds.append(driver.speed)
    assert speeds[:3] == [0.6, 0.8, 0.6] and speeds[-1] == speeds[-2] == 0.05
    driver.reset()
    assert driver.speed == 0.05  # a choice that outlives the episode


def test_without_a_deadman_letting_go_of_all_is_to_stop():
    driver = started(replace(PAD, deadman=""))
    assert driver.act(push(dx=1.0), 0.1, STATE).engaged
    assert driver.act(push(dx=0.0), 0.2, STATE).note == "nothing is pressed"


@pytest.mark.parametrize("degrees", [0, 90, 180, -37.5])
def test_standing_elsewhere_turns_what_is_asked_about_the_vertical(degrees):
    asked = np.array([0.8, -0.3, 0.5, 0.2, 0.7, -0.4])
    poll = push("hold", **dict(zip(NAMES, asked)))
    mapping = replace(PAD, deadzone=0.0, speed=0.2, yaw=degrees)
    found = started(mapping).act(poll, 0.1, STATE).action[:6] / 0.2
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    assert np.allclose(found, np.concatenate([turn @ asked[:3], turn @ asked[3:]]), atol=1e-6)


def test_an_absolute_robot_stays_where_it_stands_and_moves_from_there():
    mapping = Mapping(
        device="keyboard",
        motions={"elbow": Motion(plus="u", minus="d", scale=0.5), "wrist": Motion(plus="w")},
        speed=1.0,
    )
    driver = Driver(mapping, JOINTS)
    stands = np.array([0.3, -0.7])  # elbow, wrist: the order of the states
    assert np.allclose(driver.act(push(), 0.0, stands).action, [-0.7, 0.3])
    for _ in range(20):  # a second
        drive = driver.act(push("d"), 0.1, stands)
    assert np.allclose(drive.action, [-0.7, 0.3 - 0.5])
    assert np.allclose(driver.act(LOST, 0.2, np.zeros(2)).action, drive.action)


def test_taking_over_begins_with_what_the_arm_was_told_last():
    driver = Driver(PAD, ARM)
    driver.take_over(np.array([0.5, 0.5, 0, 0, 0, 0, 1.0]))
    assert np.array_equal(driver.act(push(), 0.0, STATE).action, [0, 0, 0, 0, 0, 0, 1])
    motions = dict.fromkeys(("elbow", "wrist"), Motion("v"))
    joints = Driver(Mapping(device="keyboard", motions=motions), JOINTS)
    joints.take_over(np.array([0.9, -0.4]))
    assert np.allclose(joints.act(push(), 0.0, np.zeros(2)).action, [0.9, -0.4])


def test_two_arms_are_driven_in_turn_and_the_other_one_keeps_its_grip():
    both = tuple(f"robot{k}_{n}" for k in (0, 1) for n in NAMES)
    spec = replace(ARM, action_names=both, action_low=(-1.0,) * 14, action_high=(1.0,) * 14)
    driver = started(replace(PAD, switch="other"), spec)
    driver.act(push("hold", "a"), 0.1, STATE)
    driver.act(push("hold", "other"), 0.2, STATE)
    action = driver.act(push("hold", dx=1.0), 0.3, STATE).action
    assert np.allclose(action, [0, 0, 0, 0, 0, 0, 1, 0.4, 0, 0, 0, 0, 0, -1])


@pytest.mark.parametrize(
    ("change", "mapping", "told"),
    [
        ({}, replace(PAD, motions={"dx": Motion(axis="x")}), "nothing moves dy, dz, rx, ry, rz"),
        ({}, replace(PAD, gripper=None), "has a gripper"),
        ({"conventions": {"action": "torque"}}, PAD, "delta, velocity or absolute"),
        ({"conventions": {"action": "delta", "gripper": "?"}}, PAD, "'.1 closes' or '.1 opens'"),
        ({}, replace(PAD, device="leader"), "leads joints"),
        ({"conventions": {"action": "absolute", "gripper": "+1 closes"}},
         replace(PAD, device="pose"), "tracked hand: it has absolute"),
        ({"conventions": {"action": "delta", "gripper": "+1 closes"}},
         replace(PAD, device="pose"), "nobody says how far"),
    ],
)  # fmt: skip
def test_a_robot_that_cannot_be_driven_is_refused_and_told_why(change, mapping, told):
    with pytest.raises(ValueError, match=told):
        Driver(mapping, replace(ARM, **change))


def test_absolute_actions_without_a_state_of_their_name_cannot_be_held():
    driver = Driver(
        Mapping(device="keyboard", motions={"wrist": Motion("a"), "elbow": Motion("b")}),
        replace(JOINTS, state_names=("elbow", "other")),
    )
    with pytest.raises(ValueError, match="wrist are absolute and no state has their names"):
        driver.act(push(), 0.0, np.zeros(2))


EXAMPLES = [ARM, *(RobotConfig.load(find(f"configs/robot/{n}.yaml")).spec for n in ROBOTS)]


@pytest.mark.parametrize("name", shipped())
def test_every_mapping_that_comes_with_robostack_drives_an_example(name):
    drives = []
    for spec in EXAMPLES:
        with contextlib.suppress(ValueError):
            drives.append(Driver(read_mapping(name), spec).spec.robot)
    expected = {"joints": ["FR3", "two FR3"], "so101_joints": ["SO-101"]}
    expected["leader"] = ["FR3", "SO-101", "two FR3"]
    assert drives == expected.get(name, ["arm", "Panda", "UR5e"])
