"""The controller without ROS: what an arm is measured to do, and what is done if that cannot be."""

from dataclasses import replace

import numpy as np
import pytest
from arm_world import FROZEN, World, moving, ticks_to_rest
from arms import jointed, moved

from robostack.real.arm import HOLD, OPERATOR, POLICY, STOP


def test_states_that_are_not_measured_any_more_are_a_hold():
    world = moving()
    world.measures = False
    world.run(world.robot.timeouts.state + 0.02)
    assert world.command.source == HOLD and "not measured: a, b" in world.arm.reason
    ticks_to_rest(world)
    world.measures = True
    world.run(0.1)
    assert "no plan" in world.arm.reason


def test_a_state_that_is_not_finite_was_not_measured():
    world = moving()
    world.measures = False
    world.run(0.2, lambda: world.arm.measure({"a": np.nan, "b": 0.1}, world.heard))
    assert world.command.source == HOLD and world.arm.reason == "not measured: a"


@pytest.mark.parametrize("jump", [-100.0, 100.0, -0.1, 0.6])
def test_a_clock_that_is_set_is_a_hold_and_no_leap(jump):
    world = moving()
    world.now += jump
    world.run(0.02)
    assert world.command.source == HOLD and world.arm.counts["clock jumps"] == 1
    ticks_to_rest(world)
    world.chunk(0.0)
    world.run(0.1)
    assert world.command.source == POLICY and world.legal


def test_a_clock_that_stands_still_does_not_repeat_a_velocity_for_ever():
    world = moving(moved())
    stands = world.now
    for _ in range(20):
        world.run(1 / world.robot.rate)
        world.now = stands
    assert world.command.source == HOLD and "stands still" in world.arm.reason and world.resting


def test_an_arm_that_something_holds_is_stopped_before_it_is_wound_up():
    world = moving()
    world.obey = lambda command: None
    stuck = world.at.copy()
    world.chunk(1.0)
    world.run(0.4)
    assert np.abs(world.command.action[:2] - stuck).max() <= 2 * 0.2  # max_error and its stop
    world.at = stuck - 0.3  # and now it is pushed away
    world.run(0.02)
    assert world.command.source == STOP
    assert "not where it was told to be" in world.arm.reason
    ticks_to_rest(world)


@pytest.mark.parametrize("name", FROZEN)
def test_motion_that_nothing_measures_is_stopped_and_named(name):
    robot, most = FROZEN[name]
    world = moving(robot)
    frozen, world.obey = world.at.copy(), lambda command: None  # told again and again
    told = [frozen[0]]

    def say():
        told.append(told[-1] + world.arm.safety.speed[0] / robot.rate)
        world.chunk(1.0)

    world.run(most, say)
    assert world.command.source == STOP and world.resting and world.legal
    assert "told to move, and measured to stay" in world.arm.reason
    assert told[-1] - frozen[0] < 2 * robot.actions[list(robot.actions)[0]].max_error


def test_creeping_over_a_measurement_that_stands_still_ends_inside_the_box():
    robot = moved(backend="twist", command_hz=100.0)
    robot.actions["x"] = replace(robot.actions["x"], max_error=10.0)  # so that only the box holds
    world = World(robot)
    world.run(0.3)
    at = world.at[0]
    world.obey = lambda command: None
    rows, low, high = np.zeros((16, 4)), *robot.actions["x"].position
    for wish, end in ((0.2, high), (-0.2, low)):
        rows[:, 0] = wish
        for tick in range(400):
            if tick % 5 == 0:
                world.say(rows)
            world.run(0.01)
            at += world.command.speed[0] / robot.rate
            assert low - 1e-9 <= at <= high + 1e-9
        assert at == pytest.approx(end, abs=1e-6)
    assert world.legal


def test_stamps_that_stand_still_are_no_measurements():
    world = moving()
    world.measures = False
    last = dict(zip(world.robot.state, world.at))
    world.arm.measure(last, world.heard, 7.0)
    again = lambda: world.arm.measure(last, world.heard, 7.0)  # noqa: E731
    world.run(world.robot.timeouts.state + 0.03, again)
    assert world.command.source == HOLD
    assert world.arm.reason == "not measured: a, b (the stamps of a, b stand still)"
    ticks_to_rest(world)
    late = lambda: world.arm.measure(last, world.heard, 6.9)  # noqa: E731
    world.run(0.2, late)  # out of order
    assert "not measured: a, b" in world.arm.reason
    world.run(0.2, lambda: world.arm.measure(last, world.heard, world.heard - 49.0))  # begun anew
    assert "no plan" in world.arm.reason


def handed(robot=None):
    """A world whose arm rests for long and does not obey: somebody's hand is on it."""
    world = moving(robot)
    world.alive = False
    world.run(1.0)
    world.obey = lambda command: None
    return world


@pytest.mark.parametrize(
    "robot", [jointed(), moved(backend="pose", command_hz=100.0)], ids=["targets", "poses"]
)
def test_after_a_hold_it_goes_on_from_where_somebody_moved_the_arm(robot):
    world = handed(robot)
    moved_to = world.at[:2] - (0.6, 0.3)
    for share in np.linspace(0.1, 1, 40):  # by hand
        world.alive = share > 0.5  # a policy would like to go on already
        world.at[:2] = (1 - share) * world.at[:2] + share * moved_to
        world.chunk(0.5)
        world.run(0.01)
        assert world.command.source == HOLD
    began = len(world.commands)
    while world.command.source != POLICY:
        assert "moved" in world.arm.reason or "agree" in world.arm.reason
        assert not world.command.send  # it is not told of the way there
        world.chunk(0.5)
        world.run(0.01)
        assert len(world.commands) - began < 2 * robot.rate
    assert world.command.began
    assert np.abs(world.command.placed[:2] - moved_to).max() < 0.01
    assert world.legal


def test_an_arm_that_was_moved_out_of_its_range_is_gone_after_and_only_comes_in():
    world = handed()
    world.at[0] = 1.8  # the limit is 1.5
    world.run(2.5)
    world.alive = True
    world.chunk(1.0)
    world.run(0.01)
    assert world.command.source == POLICY and world.command.action[0] == pytest.approx(
        1.8, abs=0.01
    )
    assert np.diff(np.array(world.commands)[-10:, 0]).max() <= 1e-9


@pytest.mark.parametrize("samples", [1, 2, 8])
def test_samples_that_are_wrong_move_nothing_as_a_policy_goes_on(samples):
    world = handed()
    there = world.at.copy()
    world.alive = True
    world.at = there + 0.5
    for _ in range(samples):
        world.chunk(1.0)
        world.run(0.01)
        assert world.command.source == HOLD
        assert world.arm.reason == "a, b: measured far from where it was left"
    assert world.commands[-1] == pytest.approx(world.commands[-samples - 1], abs=1e-12)
    world.at = there
    world.chunk(1.0)
    world.run(0.01)
    assert world.command.source == POLICY and not world.command.began
    assert world.legal


def test_an_arm_begins_where_its_samples_agree_and_says_which_do_not():
    world = World(jointed())
    place = iter(np.linspace(0, 1, 30))
    world.run(0.3, lambda: world.at.__setitem__(0, next(place)))
    assert world.commands == [] and not any(world.sent)
    assert world.arm.reason == "not measured yet: a, its samples do not agree"
    world.run(0.02)
    world.at = world.at + 0.4  # a glitch, just as it comes to rest
    world.run(0.01)
    world.at = world.at - 0.4
    world.run(0.2)
    assert world.commands[0][:2] == pytest.approx(world.at, abs=1e-12)


def test_after_a_short_hold_a_measurement_that_lags_moves_no_command_back():
    world = moving()
    behind = world.at - 0.3  # more than max_error: the last measurement is old
    world.alive = False
    world.run(0.1)
    world.at, obey = behind, world.obey
    world.obey = lambda command: None
    world.alive = True
    world.chunk(1.0)
    world.run(0.1)
    assert world.command.source == POLICY and not world.command.began
    world.obey = obey
    world.run(0.5)
    assert world.legal


def test_the_workspace_of_an_axis_stops_everybody_before_its_end():
    world = moving(jointed(workspace={"b": (-1.0, 0.6)}))
    world.held = True
    for operator in (False, True):
        world.held = operator
        for _ in range(10):
            world.chunk(1.0, operator=operator)
            world.run(0.1)
        assert world.command.source == (OPERATOR if operator else POLICY)
        assert max(command[1] for command in world.commands) == pytest.approx(0.6, abs=1e-6)
    assert world.legal


def test_outside_the_workspace_of_what_is_only_measured_only_the_operator_moves_it():
    robot = jointed(measured=["height"], workspace={"height": (-1.0, 0.6)})
    world = World(robot)
    world.obey = lambda command: np.copyto(world.at, command.placed[[0, 1, 1]])
    world.run(0.3)
    world.chunk(1.0)
    world.run(0.5)
    assert world.command.source == HOLD and "outside the workspace: height=0." in world.arm.reason
    world.chunk(0.0)
    world.run(0.1)
    assert world.command.source == HOLD
    world.held = True
    world.run(0.01)
    world.chunk(0.0, operator=True)
    world.run(0.7)
    world.held = False
    world.run(0.05)
    world.chunk(0.0)
    world.run(0.1)
    assert world.command.source == POLICY
