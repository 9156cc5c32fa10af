"""The worked examples of configs/robot, and the mistakes that people make in such files."""

import math
from pathlib import Path

import pytest
import yaml

from robostack.config import ConfigError
from robostack.real.robot import RobotConfig, Source
from robostack.real.safety import Safety
from robostack.sim.env import EnvConfig, make_env

EXAMPLES = Path(__file__).parents[2] / "configs" / "robot"
FR3 = {  # Franka, Robot and interface specifications: position-independent limits
    "velocity": (2.0, 1.0, 1.5, 1.25, 3.0, 1.5, 3.0),
    "low": (-2.3093, -1.5133, -2.4937, -2.7478, -2.48, 0.8521, -2.6895),
    "high": (2.3093, 1.5133, 2.4937, -0.4461, 2.48, 4.2094, 2.6895),
}
SO101 = (  # so101_new_calib.xml
    *((-1.9199, 1.9199), (-1.7454, 1.7454), (-1.69, 1.69)),
    *((-1.6581, 1.6581), (-2.7439, 2.8413)),
)


def load(name, *overrides):
    return RobotConfig.load(EXAMPLES / f"{name}.yaml", list(overrides))


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_every_example_is_a_robot_whose_axes_can_stop_within_their_range(name):
    robot = load(name)
    assert robot.spec.action_dim == len(robot.actions) and robot.spec.state_dim == len(robot.state)
    assert robot.enabled == (name == "sim")  # a real arm waits until somebody enables it
    for action in robot.actions.values():
        if action.kind != "level":
            stop = action.velocity / action.acceleration + action.acceleration / action.jerk
            low, high = action.allowed
            assert action.velocity * stop < (high - low) / 2
    assert Safety(robot).stops_within <= 0.15


@pytest.mark.parametrize("name, prefix", [("fr3", ""), ("two_arm", "left_"), ("two_arm", "right_")])
def test_the_fr3_is_kept_within_what_franka_publishes(name, prefix):
    robot = load(name)
    for i in range(7):
        action = robot.actions[f"{prefix}joint{i + 1}"]
        assert FR3["low"][i] <= action.low < action.high <= FR3["high"][i]
        assert action.velocity <= FR3["velocity"][i]
        assert action.acceleration <= 10 and action.jerk <= 5000


def test_the_others_are_kept_within_what_is_published():
    for action in (load("ur5e").actions[name] for name in ("dx", "dy", "dz")):
        assert action.velocity <= 0.25  # ISO 10218-1, reduced speed
        assert action.acceleration <= 1.2  # URScript manual, movel
    for (low, high), action in zip(SO101, load("so101").actions.values()):
        assert low <= action.low < action.high <= high
        assert action.acceleration <= 254 * 100 * 2 * math.pi / 4096  # Feetech, STS memory table


def test_the_simulated_robot_is_what_the_simulator_says():
    robot = load("sim")
    env = make_env(EnvConfig(task="Lift"))
    robot.spec.require_same(env.spec, "configs/robot/sim.yaml", "Lift")
    env.close()


def test_two_arms_have_topics_of_their_own():
    robot = load("two_arm", "arms.left.topic=", "arms.right.topic=", "grippers.left_hand.topic=")
    assert robot.topic("left") == "left/command/joint_trajectory"
    assert robot.topic("left_hand") == "left_hand/command/gripper"
    assert load("sim").topic("arm") == "command/action"


@pytest.mark.parametrize(
    "override, said",
    [
        ("actions.joint2.velocity=0", "velocity: expected a positive number, got 0.0"),
        ("actions.joint2.state=elbow", "there is no 'elbow'; there are joint1"),
        ("actions.joint2.low=2", "expected finite low < high"),
        ("state.joint2=joint_states/position", "expected topic:field/name"),
        ("state.joint2=pose:pose/roll", "one of x, y, z, qw"),
        ("arms.arm.actions=[joint1]", "expected each of joint1"),
        ("arms.arm.joints=[a, b]", "expected 7 names or none"),
        ("arms.arm.backend=telepathy", "expected one of action, joint_trajectory"),
        ("command_hz=30", "expected a multiple of control_hz=20.0"),
        ("timeouts.alive=0", "timeouts.alive: expected more than 0"),
        ("workspace={elbow: [0, 1]}", "workspace: there is no 'elbow'"),
        ("workspace={joint2: [2, 3]}", "actions.joint2: nothing of its range is in the workspace"),
        ("actions.joint2.max_error=0", "max_error: of what joint2 measures expected a positive"),
        ("actions.joint2.velocitty=1", "did you mean actions.joint2.velocity?"),
    ],
)
def test_a_mistake_is_answered_with_what_was_expected(override, said):
    with pytest.raises(ConfigError) as error:
        load("fr3", override)
    assert said in str(error.value) and "fr3.yaml" in str(error.value)


def test_a_key_that_must_be_given_is_named(tmp_path):
    raw = yaml.safe_load((EXAMPLES / "fr3.yaml").read_text())
    del raw["control_hz"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match="mine.yaml.*control_hz"):
        RobotConfig.load(tmp_path / "mine.yaml")


def test_a_source_is_a_joint_or_a_part_of_a_pose():
    assert Source.parse("arm/joint_states:velocity/elbow").name == "elbow"
    assert Source.parse("pose:pose/qw").message == "PoseStamped"
