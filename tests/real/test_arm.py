"""The controller without ROS: who may move the arm, and what is done if they fall silent."""

import contextlib

import numpy as np
import pytest
from arm_world import FROZEN, World, moving, ticks_to_rest
from arms import jointed, moved

from robostack.real.arm import HOLD, OPERATOR, POLICY, STOP
from robostack.real.robot import Timeouts
from robostack.real.teleop.topics import JoyInput


def test_a_policy_that_is_alive_moves_the_arm_to_where_its_chunk_says():
    world = moving()
    world.run(0.7)
    assert world.command.action == pytest.approx([0.9, 1.0, 1.0], abs=0.15)
    assert world.legal and world.arm.counts["chunks"] == 1


@pytest.mark.parametrize("robot", [jointed(), moved()], ids=["targets", "displacements"])
def test_silence_of_the_policy_is_a_hold_within_150_ms(robot):
    world = moving(robot)
    world.alive = None  # kill -9: nothing comes any more
    before = len(world.commands)
    while world.command.source == POLICY:
        world.run(1 / robot.rate)
    assert (len(world.commands) - before) / robot.rate <= robot.timeouts.alive + 2 / robot.rate
    ticks_to_rest(world)
    assert world.arm.reason == "the policy is silent"
    world.alive = True  # it is back, but what it said before is forgotten
    world.run(0.2)
    assert world.resting and "no plan" in world.arm.reason
    world.chunk(0.5)
    world.run(0.2)
    assert world.command.source == POLICY and world.legal


def test_a_policy_that_says_stop_is_obeyed_at_once():
    world = moving()
    world.alive = False
    world.run(0.01)
    assert world.command.source == HOLD
    assert ticks_to_rest(world) > 0


def test_the_end_of_a_chunk_is_a_rest_and_is_counted():
    world = moving()
    world.run(1.0)
    assert world.command.source == HOLD and world.resting
    assert world.arm.counts["underruns"] == 1 and "no plan" in world.arm.reason
    assert world.legal


def test_an_empty_chunk_is_the_wish_to_hold():
    world = moving()
    assert world.say(np.zeros((0, 3)))
    world.run(0.01)
    assert world.command.source == HOLD and ticks_to_rest(world)


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
def test_a_chunk_with_a_number_that_is_none_discredits_its_source(bad):
    world = moving()
    rows = np.full((16, 3), 0.5)
    rows[7, 1] = bad
    assert not world.say(rows)
    assert world.arm.policy.refused == "b of row 7 is not finite"
    world.run(0.01)
    assert world.command.source == HOLD and ticks_to_rest(world)
    world.chunk(0.5)
    world.run(0.02)
    assert world.command.source == POLICY


def test_a_chunk_out_of_range_moves_the_arm_no_further_than_its_bounds():
    world = moving()
    world.chunk(1e9)
    world.run(0.75)
    world.chunk(1e9)
    world.run(0.75)
    assert world.legal and world.at[1] == pytest.approx(1.5, abs=1e-3)


def test_late_outdated_and_future_chunks_are_not_obeyed():
    world = moving(jointed(timeouts=Timeouts(chunk=0.5)))
    plan = world.arm.policy.plan
    assert not world.chunk(-1.0, age=0.6)  # older than timeouts.chunk
    assert not world.chunk(-1.0, rows=4, age=0.3)  # every row has passed
    assert not world.chunk(-1.0, age=0.4)  # older than the one that is executed
    counts = world.arm.counts
    assert counts["chunks"] == 1 and counts["late chunks"] == 2 and counts["outdated chunks"] == 1
    world.run(0.01)
    assert world.arm.policy.plan is plan and world.command.source == POLICY
    assert not world.chunk(-1.0, age=-5.0) and "ahead of this clock" in world.arm.policy.refused
    world.run(0.01)
    assert world.command.source == HOLD


def test_rows_that_are_late_are_dropped_and_the_others_keep_their_times():
    world = World(moved())
    world.run(0.5)
    rows = np.zeros((16, 4))
    rows[:, 0] = np.linspace(0, 0.15, 16)
    world.say(rows, age=0.2)
    world.run(0.05)
    assert world.command.action[0] == pytest.approx(0.04, abs=1e-9)
    assert world.arm.counts["rows that were late"] == 4


def test_targets_that_are_streamed_at_the_rate_of_commands_are_reached_as_fast():
    once, streamed = World(jointed()), World(jointed())
    for world in (once, streamed):
        world.run(0.3)
    once.chunk(1.0, rows=60)
    once.run(1.5)
    streamed.run(1.5, lambda: streamed.chunk(1.0, rows=60))
    assert once.at == pytest.approx([1.0, 1.0], abs=1e-6)
    assert streamed.at == pytest.approx([1.0, 1.0], abs=1e-3) and streamed.legal


def test_the_operator_takes_over_and_the_policy_has_to_look_again():
    world = moving()
    world.held = True
    world.run(0.01)
    assert world.command.source == HOLD  # the operator said nothing yet, and the policy may not
    world.chunk(-0.5, operator=True)
    world.chunk(1.0)
    world.run(0.3)
    assert world.command.source == OPERATOR
    world.held, looked = False, world.now - 0.02
    world.run(0.05)
    assert world.command.source == HOLD
    assert not world.chunk(1.0, age=world.now - looked)  # what it saw before it was its turn
    assert world.chunk(1.0)
    world.run(0.1)
    assert world.command.source == POLICY and world.legal


def test_a_silent_deadman_switch_is_a_released_one():
    world = World(jointed())
    world.held = True
    world.run(0.3)
    world.chunk(1.0, operator=True)
    world.run(0.2)
    assert world.command.source == OPERATOR and not world.resting
    world.held = None  # the gamepad is out of range: its last word was True
    world.run(world.robot.timeouts.deadman + 0.02)
    assert world.command.source == HOLD
    assert ticks_to_rest(world) < 15


def test_a_pad_out_of_range_with_its_stick_pushed_moves_the_arm_no_longer_than_is_said():
    world, pad = World(jointed()), JoyInput(jointed().timeouts.device)
    world.run(0.3)
    last = world.heard + 1.0

    def operate():
        tick = round((world.heard - 50) * world.robot.rate)
        if tick % 5 == 0 and world.heard < last:
            pad.feed([1.0], [1], world.heard)  # as often as a joy node repeats
        if tick % 5 == 3:
            world.held = pad.poll(world.heard).alive  # as the teleop node asks
            world.chunk(1.0, rows=2, operator=True)

    world.run(0.3, operate)
    assert world.command.source == OPERATOR and not world.resting
    last = world.heard
    world.run(0.05 + world.robot.timeouts.device + 0.02, operate)
    assert world.command.source == HOLD and not world.held
    assert ticks_to_rest(world)


def test_the_emergency_stop_is_latched_and_left_only_when_its_cause_is_gone():
    world = moving()
    world.held = True
    world.arm.estop(True, world.heard)
    world.run(0.01)
    assert world.command.source == STOP and world.command.reason == (
        "the emergency stop was pressed"
    )
    ticks_to_rest(world)
    with pytest.raises(ValueError, match="the emergency stop is pressed"):
        world.arm.reset(world.now, world.heard)
    world.arm.estop(False, world.heard)
    world.chunk(1.0, operator=True)
    world.run(0.3)
    assert world.command.source == STOP and world.resting  # released is not reset
    world.arm.reset(world.now, world.heard)
    world.held = False
    world.run(0.1)
    assert world.command.source == HOLD
    assert not world.chunk(1.0, age=0.2) and world.chunk(1.0)
    world.run(0.1)
    assert world.command.source == POLICY and world.legal


def test_a_reset_is_refused_while_the_arm_moves_or_is_not_measured():
    world = moving()
    world.arm.trip("service", "somebody called arm/estop")
    world.run(0.01)
    with pytest.raises(ValueError, match="has not come to rest"):
        world.arm.reset(world.now, world.heard)
    ticks_to_rest(world)
    world.measures = False
    world.run(0.2)
    with pytest.raises(ValueError, match="not measured: a, b"):
        world.arm.reset(world.now, world.heard)


def test_a_lost_heartbeat_of_the_emergency_stop_is_a_stop():
    world = World(jointed(timeouts=Timeouts(estop=0.2)))
    beat = lambda: world.arm.estop(False, world.heard)  # noqa: E731
    world.run(0.3, beat)
    world.arm.causes.latched.clear()
    world.chunk(1.0)
    world.run(0.2, beat)
    assert world.command.source == POLICY
    world.run(0.22)
    assert world.command.source == STOP and "heartbeat" in world.command.reason
    ticks_to_rest(world)
    with pytest.raises(ValueError, match="heartbeat"):
        world.arm.reset(world.now, world.heard)


def test_not_enabled_is_a_hold():
    world = moving()
    world.arm.enable(False, world.now)
    world.run(0.2)
    assert world.arm.reason == "not enabled" and world.resting
    world.chunk(1.0)
    world.arm.enable(True, world.now)
    world.run(0.1)
    assert world.resting and "no plan" in world.arm.reason  # what was said before does not count
    world.chunk(1.0)
    world.run(0.1)
    assert world.command.source == POLICY


def test_nothing_is_sent_before_the_arm_was_measured_nor_long_after_it_rests():
    world = World(jointed())
    world.measures = False
    world.run(0.1)
    assert not any(world.sent) and world.executed == []
    world.measures = True
    world.run(1.5)
    assert not any(world.sent)  # nobody wants it to move
    world.chunk(0.5)
    world.run(0.1)
    assert world.command.send
    world.run(1.0)
    assert world.resting and world.command.send  # the rest is told, and told again
    world.run(1.5)
    assert not world.command.send


def test_a_control_period_is_recorded_once_and_velocities_as_their_mean():
    world = World(moved(backend="twist", command_hz=100.0))
    world.run(0.2)
    before = world.at.copy()
    n = len(world.executed)
    rows = np.zeros((16, 4))
    rows[:, :2] = 0.3, -0.1
    world.say(rows)
    world.run(1.0)
    executed = np.array(world.executed[n:])
    assert len(executed) == 20
    went = executed[:, :2].sum(0) * 0.05  # the displacement of each period
    assert went == pytest.approx(world.at - before, abs=1e-9)


def test_the_record_of_targets_is_the_last_of_each_period():
    world = moving()
    assert np.array_equal(world.executed[-1], world.commands[len(world.executed) * 5 - 1])


class Trouble:
    """Everything that can happen to a world, at random; it is given back as it was in between."""

    def __init__(self, world, rng):
        self.world, self.rng, self.obey = world, rng, world.obey
        self.seen, self.wrong, self.hand = set(), 0, 0

    def __call__(self):
        world, rng = self.world, self.rng
        happens = rng.random(12) < 0.01
        if rng.random() < 0.1:
            rows = rng.uniform(-1.5, 1.5, (rng.integers(1, 20), len(world.robot.actions)))
            rows[rng.random(rows.shape) < 0.0005] = np.nan
            world.say(rows, rng.choice([0.0, 0.0, 0.2, 3.0]), operator=bool(rng.integers(2)))
        if happens[0]:
            world.alive = rng.choice([True, True, False, None])
        if happens[1]:
            world.held = rng.choice([True, False, False, None])
        if happens[2] and rng.random() < 0.2:
            world.arm.estop(bool(rng.integers(2)), world.heard)
        if happens[3]:
            world.now += rng.choice([-30.0, -0.02, 0.3, 30.0])
        if happens[4]:
            world.measures = not world.measures
        if happens[5] and self.hand == 0:  # a hand holds the arm, or moves it
            self.hand = int(rng.integers(1, 150))
            world.obey = lambda command: None
            self.way = rng.choice([0.0, 0.01]) * rng.standard_normal(len(world.at))
        if self.hand:
            self.hand -= 1
            world.at = np.clip(world.at + self.way, -1, 1.5)
            world.obey = world.obey if self.hand else self.obey
        world.at = world.at - self.wrong
        self.wrong = rng.uniform(-0.5, 0.5, len(world.at)) * (rng.random() < 0.01)  # one sample
        world.at = world.at + self.wrong
        if rng.random() < 0.02:
            world.arm.estop(False, world.heard)
            world.measures, world.alive, world.held = True, True, bool(rng.integers(2))
            with contextlib.suppress(ValueError):
                world.arm.reset(world.now, world.heard)
        self.seen |= {world.arm.reason.split(":")[-1].split(" (")[0], *world.arm.causes.latched}


@pytest.mark.slow
@pytest.mark.parametrize("name", FROZEN)
def test_no_limit_is_exceeded_whatever_happens_to_everybody(name):
    world = World(FROZEN[name][0])
    world.run(0.5)
    trouble = Trouble(world, np.random.default_rng(0))
    world.run(8000 / world.robot.rate, trouble)
    assert world.legal and {HOLD, POLICY, OPERATOR, STOP} == set(world.sources)
    happened = {"estop", "strayed", "the policy is silent", "the policy has no plan"}
    if world.arm.safety.tolerance.min() < np.inf:
        happened.add("the arm was moved; its command follows")
    assert happened <= trouble.seen, trouble.seen


@pytest.mark.parametrize("hz, command_hz", [(50.0, 50.0), (20.0, 100.0), (30.0, 90.0)])
def test_a_stream_of_one_target_comes_to_rest_at_it_whatever_the_clocks_do(hz, command_hz):
    """A leader that stands still, heard every control period of a busy machine."""
    world = World(jointed(hz=hz, command_hz=command_hz)).run(0.3)
    world.held, began, drawn = True, world.now, np.random.default_rng(0)
    said, ticks = 0, 0

    def each():
        nonlocal said, ticks
        ticks += 1
        world.now = max(world.now, began + ticks / command_hz + drawn.uniform(-0.1, 0.1) / hz)
        while began + said / hz <= world.now:
            said += 1
            world.say(np.tile([0.5, -0.3, 0.0], (2, 1)), drawn.uniform(0, 0.2) / hz, operator=True)

    world.run(3.0, each)
    last = np.array(world.commands)[-round(command_hz) :, :2]
    assert np.allclose(last, [0.5, -0.3], atol=1e-9) and world.legal
