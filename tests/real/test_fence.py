import dataclasses

import numpy as np
import pytest
from plant import assert_legal, commanded

from robostack.config import ConfigError
from robostack.real.kinematics import arrays, place
from robostack.real.robot import RobotConfig
from robostack.real.safety import Safety

HOME = {
    "fr3": (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785),
    "so101": (0.0, 0.0, 0.0, 0.0, 0.0),
}


def arm_of(name, overrides=()):
    return RobotConfig.load(f"configs/robot/{name}.yaml", list(overrides))


def free(robot):
    """The same without a fence."""
    arms = {name: dataclasses.replace(arm, fence=None) for name, arm in robot.arms.items()}
    return dataclasses.replace(robot, arms=arms)


def outside(robot, commands):
    """How far any point is out of its box [m], f64[T]; below 0 inside."""
    fence = robot.arms["arm"].fence
    points = [(point.behind, point.xyz) for point in fence.points.values()]
    geometry, found = arrays(fence.chain, fence.movable, points), np.empty((len(points), 3))
    low, high = np.array([fence.box[axis] for axis in "xyz"]).T
    worst = []
    for command in commands:
        place(command[: len(fence.movable)].copy(), *geometry, found)
        worst.append(max((low - found).max(), (found - high).max()))
    return np.array(worst)


def at(robot, joints):
    """f64[S]: measured there."""
    return np.append(joints, np.zeros(len(robot.state) - len(joints)))


def led(safety, robot, joints, steps):
    """Told to be at `joints`, and exactly there a step later. -> commands f64[steps, A]"""
    told = np.append(joints, 0.0)
    n = len(joints)
    return np.array([safety.step(told, at(robot, safety.placed[:n])) for _ in range(steps)])


def wandered(robot, safety, home):
    """Told one thing after the other, and now and then nothing. -> commands f64[6001, A]"""
    rng = np.random.default_rng(0)
    safety.seed(at(robot, home))
    low, high = np.array([(a.low, a.high) for a in robot.actions.values()]).T
    commands = [safety.command]
    for step in range(6000):
        if step % 40 == 0:
            wish = rng.uniform(low, high)
        told = None if step % 1000 > 950 else wish
        commands.append(safety.step(told, at(robot, safety.placed[:-1])))
    return np.array(commands)


@pytest.mark.parametrize("name", HOME)
def test_no_point_leaves_its_box_whatever_is_asked_for(name):
    robot = arm_of(name)
    safety = Safety(robot)
    commands = wandered(robot, safety, HOME[name])
    gone = outside(robot, commands)
    assert gone.max() <= 1e-12 and np.ptp(commands, 0).min() > 0.5
    assert (gone > -1e-3).sum() > 20 and safety.fenced["arm"] > 100  # it was at the walls
    assert_legal(robot, commands)
    without = free(robot)
    assert outside(robot, wandered(without, Safety(without), HOME[name])).max() > 0.05


def test_limits_hold_for_an_arm_that_lags_is_pushed_and_is_moved_by_hand():
    robot = arm_of("fr3")
    actions = {name: action for name, action in robot.actions.items() if action.kind != "level"}
    robot = dataclasses.replace(robot, actions=actions, grippers={})
    commands, _, refused = commanded(robot, np.random.default_rng(1), 3000)
    assert refused
    assert_legal(robot, commands)


def test_within_the_box_a_fence_changes_no_bit():
    robot = arm_of("so101")
    fenced, unfenced = Safety(robot), Safety(free(robot))
    rng = np.random.default_rng(3)
    for safety in (fenced, unfenced):
        safety.seed(at(robot, HOME["so101"]))
    for _ in range(30):
        joints = HOME["so101"] + rng.uniform(-0.3, 0.3, 5)
        np.testing.assert_array_equal(
            led(fenced, robot, joints, 20), led(unfenced, robot, joints, 20)
        )
    assert fenced.fenced == {"arm": 0} and fenced.at_fence == []


def test_an_arm_comes_to_its_wall_says_so_and_goes_back():
    robot = arm_of("fr3")
    safety = Safety(robot)
    safety.seed(at(robot, HOME["fr3"]))
    down = np.array(HOME["fr3"]) + (0, 2.2, 0, 0, 0, 0, 0)  # the hand into the table
    commands = led(safety, robot, down, 600)
    gone = outside(robot, commands)
    assert -0.01 < gone[-1] <= 0  # within a centimetre of the wall
    assert safety.resting and safety.at_fence == ["arm"] and safety.fenced["arm"] > 100
    commands = led(safety, robot, HOME["fr3"], 600)
    np.testing.assert_allclose(commands[-1, :7], HOME["fr3"], atol=1e-6)
    assert safety.at_fence == []


def test_an_arm_that_begins_outside_may_move_in_and_then_stays_in():
    robot = arm_of("fr3", ["arms.arm.fence.box.z=[0.4, 1.1]"])
    low = np.array(HOME["fr3"]) + (0, 0.6, 0, 0, 0, 0, 0)
    safety = Safety(robot)
    safety.seed(at(robot, low))
    start = outside(robot, [low])[0]
    assert start > 0.05
    lower = led(safety, robot, low + (0, 0.3, 0, 0, 0, 0, 0), 300)
    assert outside(robot, lower).max() <= start + 1e-12  # and no further out
    home = led(safety, robot, HOME["fr3"], 600)
    assert outside(robot, home)[-1] < 0
    again = led(safety, robot, low, 600)
    assert outside(robot, again).max() <= 1e-12


def test_an_arm_that_was_carried_out_is_gone_after_and_led_back_in():
    robot = arm_of("fr3", ["arms.arm.fence.box.z=[0.4, 1.1]"])
    safety = Safety(robot)
    safety.seed(at(robot, HOME["fr3"]))
    led(safety, robot, HOME["fr3"], 5)
    carried = at(robot, np.array(HOME["fr3"]) + (0, 0.4, 0, 0, 0, 0, 0))
    while not safety.approach(carried):
        pass
    np.testing.assert_allclose(safety.command[:7], carried[:7], atol=1e-6)
    commands = led(safety, robot, HOME["fr3"], 600)
    assert outside(robot, commands)[-1] < 0


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("points.elbow.behind=knee", "arms.arm.fence: points.elbow: there is no joint 'knee'"),
        ("box.z=[1, 0.5]", "arms.arm.fence: box.z: expected x, y or z, and from < to"),
        ("box.up=[0, 1]", "box.up: expected x, y or z"),
        ("chain.fr3_joint3.axis=[0, 0, 3]", "chain.fr3_joint3: axis: expected a vector of length"),
        ("chain.fr3_joint3.type=ball", "expected one of revolute, prismatic, fixed, got 'ball'"),
        ("chain.knee.xyz=[0, 0, 1]", "arms.arm.fence.chain: there is no 'knee'; there are fr3_jo"),
        ("box={}", "expected chain, points and box"),
        ("pionts={}", "did you mean arms.arm.fence.points"),
    ],
)
def test_a_mistake_is_answered_by_its_key(override, said):
    with pytest.raises(ConfigError) as error:
        arm_of("fr3", [f"arms.arm.fence.{override}"])
    assert said in str(error.value)


def test_a_hand_that_is_told_motions_is_sent_to_its_own_box():
    chain = "{chain: {dx: {}}, points: {hand: {behind: dx}}, box: {z: [0, 1]}}"
    with pytest.raises(
        ConfigError, match="dx is delta; a hand that is told motions has `position`"
    ):
        arm_of("ur5e", [f"arms.arm.fence={chain}"])
