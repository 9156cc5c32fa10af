import numpy as np
import pytest
from arms import excess, jointed, moved, wide
from plant import BLOCK, Plant, assert_legal, commanded

from robostack.config import ConfigError
from robostack.real.robot import Action, RobotConfig
from robostack.real.safety import Safety, UnsafeAction

ROBOTS = {
    "targets": jointed(),
    "targets at 500 Hz": jointed(command_hz=500.0),
    "displacements": moved(),
    "displacements at 100 Hz": moved(backend="twist", command_hz=100.0),
    "integrated here": moved(backend="pose", command_hz=100.0),
}
FUZZED = {  # kind, back end, command_hz
    "targets": ("absolute", "positions", 100.0),
    "targets at 20 Hz": ("absolute", "action", 20.0),
    "displacements": ("delta", "action", 20.0),
    "velocities at 100 Hz": ("velocity", "twist", 100.0),
    "integrated here": ("velocity", "pose", 100.0),
}


def fuzz(what, robots, axes, rows, seed):
    """As many robots, each told `rows` commands."""
    kind, backend, hz = FUZZED[what]
    rng = np.random.default_rng(seed)
    near = {"velocity": [], "acceleration": [], "jerk": []}
    for _ in range(robots):
        robot = wide(kind, backend, axes, rng, command_hz=hz)
        commands, _, refused = commanded(robot, rng, rows)
        assert len(commands) > rows and refused > rows / 100
        assert_legal(robot, commands)
        worst = excess(robot, commands)
        for limit, found in near.items():
            found += [worst[f"{name} {limit}"] > -0.01 for name in robot.actions]
    for limit, found in near.items():  # it is not safe by standing still: axes were at their limits
        assert np.mean(found) > 0.2, limit


@pytest.mark.parametrize("name", FUZZED)
def test_no_command_exceeds_a_limit_whatever_is_asked_for(name):
    fuzz(name, robots=1, axes=30, rows=BLOCK, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZED)
def test_a_million_commands_exceed_no_limit(name):
    """Of arms with 7 axes: axes are limited one by one, so that a robot of 70 is ten of them, and
    5 kinds of 2 robots of 10 arms, each told 10 000 commands, are told a million."""
    fuzz(name, robots=2, axes=70, rows=10_000, seed=1)


@pytest.mark.parametrize("name", ["displacements", "velocities at 100 Hz"])
def test_a_robot_that_does_what_it_is_told_never_leaves_its_box(name):
    kind, backend, hz = FUZZED[name]
    rng = np.random.default_rng(2)
    robot = wide(kind, backend, 30, rng, command_hz=hz)
    _, states, _ = commanded(robot, rng, 1000, ideal=True)
    low, high = np.array([a.position for a in robot.actions.values()]).T
    assert (states >= low - 1e-9).all() and (states <= high + 1e-9).all()
    assert (np.ptp(states, axis=0) > 0.98 * (high - low)).sum() > 10  # and many were at its ends


def seeded(robot, at=0.2):
    safety = Safety(robot)
    measured = np.full(len(robot.state), at)
    safety.seed(measured)
    return safety, measured


def test_a_target_that_is_within_the_limits_is_followed_exactly():
    robot = jointed()
    safety, _ = seeded(robot, 0.2)
    t = np.arange(300) / robot.rate
    path = 0.2 + 0.1 * np.sin(3 * t) ** 3
    for x in path:
        command = safety.step(np.array([x, x, 1.0]), np.array([x, x]))
        assert np.allclose(command, [x, x, 1.0], rtol=0, atol=1e-12)
    assert safety.limited == {"a": 0, "b": 0}


def test_a_jump_of_the_target_is_reached_without_overshoot():
    robot = jointed()
    safety, _ = seeded(robot, 0.0)
    path = []
    for _ in range(300):
        path.append(safety.step(np.array([1.0, -0.5, 0.0]), safety.placed[:2]))
    path = np.array(path)
    assert path[:, 0].max() <= 1 + 1e-9 and path[:, 1].min() >= -0.5 - 1e-9
    assert np.allclose(path[-1, :2], [1.0, -0.5], atol=1e-9) and safety.resting
    assert safety.limited["a"] > 50


@pytest.mark.parametrize("name", ROBOTS)
def test_silence_ends_in_rest_and_not_in_zeros_or_the_last_velocity(name):
    robot = ROBOTS[name]
    safety, measured = seeded(robot)
    wish = np.array([a.high for a in robot.actions.values()])
    for _ in range(round(0.2 * robot.rate)):
        measured = np.where(np.isnan(safety.placed[:2]), measured, safety.placed[:2])
        moving = safety.step(wish, measured)
    assert not safety.resting
    steps = 0
    while not safety.resting:
        held = safety.step(None, measured)
        steps += 1
        assert steps < 0.5 * robot.rate
    again = safety.step(None, measured)
    assert np.allclose(again, held, atol=1e-12)
    for column, action in enumerate(robot.actions.values()):
        if action.kind in ("delta", "velocity"):
            assert abs(held[column]) < 1e-6
        else:  # targets and grippers stay where they are
            assert abs(held[column] - moving[column]) < 0.2 and held[column] != 0


@pytest.mark.parametrize("name", FUZZED)
def test_from_whatever_it_does_it_stops_in_the_time_that_it_says(name):
    kind, backend, hz = FUZZED[name]
    rng = np.random.default_rng(3)
    slowest, said = 0, []
    for _ in range(20):
        robot = wide(kind, backend, 1, rng, command_hz=hz)
        safety, plant = Safety(robot), Plant(robot, rng, ideal=True)
        safety.seed(plant.at)
        plant.draw(1)
        longest = 0
        for end in rng.choice([-1e3, 1e3], 30):
            for _ in range(rng.integers(1, 12)):
                plant.obey(0, safety.step(np.array([end]), plant.at))
            steps = 0
            while not safety.resting:
                plant.obey(0, safety.step(None, plant.at))
                steps += 1
            longest = max(longest, steps)
        assert longest <= round(safety.stops_within * robot.rate)
        slowest, said = slowest + longest, [*said, safety.stops_within * robot.rate]
    assert slowest > 0.3 * sum(said)  # and it does not say too much; not all get fast


def test_what_is_not_measured_any_more_brakes():
    robot = moved()
    safety, measured = seeded(robot)
    for _ in range(3):
        safety.step(np.ones(4), measured)
    for _ in range(10):
        command = safety.step(np.ones(4), np.full(2, np.nan))
    assert np.allclose(command[:3], 0, atol=1e-9)


def test_an_arm_that_is_found_outside_may_only_come_in():
    robot = jointed()
    safety, _ = seeded(robot, 1.8)  # the limit is 1.5
    before = 1.8
    for wish in [9.0] * 30 + [0.0] * 200 + [9.0] * 200:
        now = safety.step(np.array([wish, wish, 0]), safety.placed[:2])[0]
        assert now <= before + 1e-12 or now <= 1.5
        before = now
    assert before == pytest.approx(1.5)


def test_a_pose_that_was_found_outside_and_came_in_stays_in():
    safety, _ = seeded(moved(backend="pose", command_hz=100.0), 0.6)  # x to 0.4, y to 0.5
    measured = np.array([0.6, 0.6])
    for wish in [1.0] * 30 + [-1.0] * 60 + [1.0] * 200:
        x, y = measured
        safety.step(np.full(4, wish), measured)
        measured = safety.placed[:2]
        assert measured[0] <= max(x, 0.4) + 1e-12 and measured[1] <= max(y, 0.5) + 1e-12
    assert measured == pytest.approx([0.4, 0.5], abs=1e-6)


def test_an_arm_that_is_blocked_is_not_wound_up():
    robot = jointed()
    safety, blocked = seeded(robot, 0.0)
    for _ in range(300):
        command = safety.step(np.array([1.0, 1.0, 0]), blocked)
    assert np.allclose(command[:2], 0.2, atol=1e-6)  # max_error
    assert safety.away(blocked, 0.9) == ["a", "b"] and not safety.away(blocked)
    assert safety.away(blocked - 0.25) == ["a", "b"]


@pytest.mark.parametrize("name", ["targets", "targets at 500 Hz", "integrated here"])
def test_an_arm_that_was_moved_is_gone_after_within_the_limits(name):
    robot = ROBOTS[name]
    safety, measured = seeded(robot, 0.0)
    assert not safety.displaced(measured + 0.09)  # a lag: the command stays
    assert len(safety.displaced(measured + 0.5)) == 2
    commands, goal = [safety.command], np.array([0.5, -0.2])  # out of the box of `integrated here`
    there = False
    while not there:
        there = safety.approach(goal)
        commands.append(safety.command)
        assert len(commands) < robot.rate
    assert np.allclose(safety.placed[:2], goal, atol=1e-6)
    for wish in ([1.0] * 3 + [-1.0] * 3) * 20:
        commands.append(safety.step(np.full(len(robot.actions), wish), goal))
    assert_legal(robot, np.array(commands))


def test_the_limits_of_the_simulated_robot_alter_nothing_that_a_spec_allows():
    robot = RobotConfig.load("configs/robot/sim.yaml")
    safety = Safety(robot)
    measured = np.zeros(len(robot.state))
    measured[:3] = 0, 0, 1.2
    safety.seed(measured)
    rng = np.random.default_rng(0)
    for _ in range(500):  # of the whole range, from end to end
        wish = rng.choice([-1.0, 1.0, rng.uniform(-1, 1)], 7)
        wish[:3] *= np.where(wish[:3] * (measured[:3] - (0, 0, 1.2)) > 0, 0.1, 1)  # not to the edge
        assert np.array_equal(safety.step(wish, measured), wish)
        measured[:3] += 0.4 * 0.05 * wish[:3]  # as OSC does
    assert not any(safety.limited.values()) and safety.clipped == 0


@pytest.mark.parametrize(
    "action, said",
    [
        (np.zeros(2), "expected 3 actions (a, b, gripper), got [2]"),
        (np.array([0, np.nan, 0]), "b are not"),
        (np.zeros((1, 3)), "expected 3 actions"),
    ],
)
def test_what_is_no_action_is_refused_and_moves_nothing(action, said):
    safety, measured = seeded(jointed())
    before = safety.command
    with pytest.raises(UnsafeAction) as error:
        safety.step(action, measured)
    assert said in str(error.value)
    assert np.array_equal(safety.command, before)


def test_nothing_is_commanded_before_the_arm_was_measured():
    safety = Safety(jointed())
    with pytest.raises(UnsafeAction, match="nobody knows where the arm is"):
        safety.step(np.zeros(3), np.zeros(2))
    with pytest.raises(UnsafeAction, match="b is not known"):
        safety.seed(np.array([0.0, np.nan]))


@pytest.mark.parametrize("left_out", ["velocity", "acceleration", "jerk", "max_error", "state"])
def test_an_axis_without_limits_is_a_mistake_and_no_default(left_out):
    given = dict(velocity=1.0, acceleration=1.0, jerk=1.0, max_error=0.1, state="a")
    Action(-1, 1, **given)
    with pytest.raises(ConfigError, match=left_out):
        Action(-1, 1, **{k: v for k, v in given.items() if k != left_out})
