"""The whole simulated robot, physics and all: what goes over topics is what the simulator does."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from sensor_msgs.msg import JointState
from wired import Wire, until

from robostack.real.arm import POLICY
from robostack.real.nodes.arm_node import ArmNode
from robostack.real.nodes.node import connect
from robostack.real.nodes.sim_robot_node import SimRobotNode
from robostack.real.robot import Camera, RobotConfig, Timeouts
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env
from robostack.simulated_robot import main, simulated

DOMAIN = 47


def blind():
    robot = RobotConfig.load("configs/robot/sim.yaml")
    patient = Timeouts(state=5.0, alive=5.0, deadman=5.0, chunk=5.0)
    return replace(
        robot, cameras={}, conventions={**robot.conventions, "render": "none"}, timeouts=patient
    )


class Watched:
    """An environment, and all that was done to it."""

    def __init__(self, env):
        self.env, self.spec, self.actions, self.states = env, env.spec, [], []

    def reset(self, seed):
        step = self.env.reset(seed)
        self.actions, self.states = [], [step.observation.state]
        return step

    def step(self, action):
        step = self.env.step(action)
        self.actions.append(action)
        self.states.append(step.observation.state)
        return step

    def close(self):
        self.env.close()


@pytest.mark.slow
def test_an_expert_lifts_the_cube_over_topics_and_a_replay_is_the_same_bit_for_bit():
    robot, context = blind(), connect(domain_id=DOMAIN)
    config = simulated(robot, "Lift")
    watched = Watched(make_env(config))
    sim = SimRobotNode(context, robot, lambda: watched, seed=3)
    arm, wire = ArmNode(context, robot), Wire(context, robot)
    commands = []
    wire.hear(JointState, "command/action", commands.append)
    wire.keep("alive", True)
    expert = ScriptedExpert(watched.env)
    until(lambda: arm.arm.safety.seeded)
    for _ in range(400):
        before = sim.steps
        wire.say(np.repeat(expert.act(None), 4, axis=0))
        until(lambda before=before: sim.steps > before)
        if sim._success:
            break
    assert sim._success and arm.arm.reason == "" and wire.source == POLICY
    assert not any(arm.arm.safety.limited.values())  # the limits altered nothing
    wire.close(), arm.close(), sim.close()
    context.try_shutdown()

    env = make_env(config)
    states = [env.reset(3).observation.state]
    states += [env.step(action).observation.state for action in watched.actions]
    assert np.array_equal(np.array(states), np.array(watched.states))
    env.close()


def test_the_environment_is_the_one_of_the_robots_file():
    robot = RobotConfig.load("configs/robot/sim.yaml")
    assert simulated(robot, "Stack") == EnvConfig(
        task="Stack",
        cameras={"agentview": 64, "robot0_eye_in_hand": 64},
        render="lean",
        horizon=10**9,
    )
    oblong = replace(robot, cameras={"agentview": Camera("a", (48, 64))})
    with pytest.raises(ValueError, match="expected a square"):
        simulated(oblong, "Lift")


def test_what_does_not_exist_is_said_in_one_line(capsys):
    for given, said in (
        ("task:=Lyft", "did you mean"),
        ("robot:=configs/robot/none.yaml", "does not exist"),
    ):
        assert main(["--ros-args", "-p", given]) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and said in error


def test_help_shows_how_to_start_it():
    module = [sys.executable, "-m", "robostack.simulated_robot", "--help"]
    done = subprocess.run(module, capture_output=True, text=True, timeout=120, check=True)
    assert "--ros-args -p task:=Lift" in done.stdout
