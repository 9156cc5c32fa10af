"""One command line for simulations and for robots; what is asked of the wrong one is said."""

import json
import os
import subprocess
import sys

import pytest
from fakes import SPEC, make_episode
from terminal import Terminal

from robostack.batch import BatchConfig
from robostack.data.store import Store, open_store
from robostack.sim import env as sim
from robostack.sim.arena import worker_count
from robostack.sim.env import EnvConfig
from robostack.worlds import make_env


def test_without_a_robot_it_is_the_simulation():
    env = make_env(EnvConfig(task="Lift", render="none"))
    assert isinstance(env, sim.SimEnv)
    env.close()


def test_a_robot_may_do_what_no_simulation_knows():
    assert EnvConfig(task="fold the shirt", real="arm.yaml").task == "fold the shirt"
    with pytest.raises(ValueError, match="fold the shirt"):
        EnvConfig(task="fold the shirt")
    with pytest.raises(ValueError, match="env.namespace=left: expected none without env.real"):
        EnvConfig(namespace="left")


def test_a_simulation_is_not_made_of_a_robot():
    with pytest.raises(ValueError, match="env.real=arm.yaml: a simulation is wanted here"):
        sim.make_env(EnvConfig(real="arm.yaml"))


def test_one_robot_has_one_worker():
    real = EnvConfig(real="arm.yaml")
    assert worker_count(real, 0) == worker_count(real, 1) == 1
    with pytest.raises(ValueError, match="arm.yaml is one robot"):
        worker_count(real, 2)
    assert worker_count(EnvConfig(), 0) == os.cpu_count() and worker_count(EnvConfig(), 3) == 3


@pytest.mark.parametrize("wrong", [dict(tasks=("Lift",)), dict(perturb={"noise": 1.0})])
def test_a_robot_does_one_thing(wrong):
    with pytest.raises(ValueError, match="a robot does one thing"):
        BatchConfig(env=EnvConfig(real="arm.yaml"), **wrong)


def test_a_robot_file_that_is_not_there_is_named():
    pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")
    with pytest.raises(FileNotFoundError, match="nowhere.yaml does not exist"):
        make_env(EnvConfig(real="nowhere.yaml"))


DOMAIN = 77


@pytest.fixture
def on_the_line(tmp_path):
    """Runs a verb with a tiny policy before a simulated line behind ROS topics, in a namespace of
    its own; returns the robot afterwards. `robot` is there before, `real` how it is named."""
    pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")
    import yaml
    from fakes import tiny_vla
    from line_robot import VALUES, LineRobot

    tiny_vla().save(tmp_path / "policy")
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(VALUES, sort_keys=False))
    line = LineRobot(DOMAIN, args=["--ros-args", "-r", "__ns:=/left"])

    real = [f"env.real={tmp_path}/robot.yaml", "env.namespace=left", "env.task=go right"]

    def run(verb, *words):
        given = [*verb, "--policy", tmp_path / "policy", "--out", tmp_path / "out"]
        given += real
        done = subprocess.run(
            [sys.executable, "-m", "robostack.cli", *map(str, [*given, *words])],
            env=os.environ | {"ROS_DOMAIN_ID": str(DOMAIN)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return line.robot

    run.robot, run.real = line.robot, real
    yield run
    line.close()


@pytest.mark.slow
def test_robostack_evaluate_drives_a_robot(on_the_line, tmp_path):
    """Every action is asked of the arm."""
    robot = on_the_line(["evaluate"], "env.horizon=6", "episodes=2", "runner.execute=2")
    rows = [json.loads(row) for row in (tmp_path / "out" / "episodes.jsonl").open()]
    assert [(row["task"], row["steps"], row["error"]) for row in rows] == [("go right", 6, "")] * 2
    assert robot.executed >= 12


@pytest.mark.slow
def test_a_robot_practises_from_its_bare_success(on_the_line, tmp_path):
    """Two iterations: between them the arm holds while the policy learns."""
    demos = Store.create(tmp_path / "demos", SPEC)
    for seed in range(2):
        demos.append(make_episode(seed, steps=6, success=True, task="go right", source="demo"))
    small = ["rl.iterations=2", "rl.episodes=2", "rl.updates=2", "rl.batch=4", "rl.draws=2"]
    given = ["--demos", tmp_path / "demos", "weights={}", "rl.algorithm=filtered", *small]
    on_the_line(["train", "rl"], *given, "env.horizon=5", "runner.execute=2")
    rows = [json.loads(row) for row in (tmp_path / "out" / "metrics.jsonl").open()]
    assert [row["rollouts"] for row in rows] == [2, 4] and rows[-1]["interventions"] == 0
    tries = [episode for _, episode in Store(tmp_path / "out" / "store").episodes()]
    assert [e.task for e in tries] == ["go right"] * 4 and {len(e) for e in tries} <= {4, 5}
    assert all(e.success is not None and e.keypoints == {} for e in tries)


@pytest.mark.slow
def test_a_policy_collects_on_a_robot(on_the_line, tmp_path):
    robot = on_the_line(["collect"], "by=policy", "env.horizon=6", "seeds=2", "runner.execute=2")
    episodes = [episode for _, episode in open_store(tmp_path / "out").episodes()]
    assert [(len(e), e.source, e.task) for e in episodes] == [(6, "rollout", "go right")] * 2
    assert robot.executed >= 12


@pytest.mark.slow
def test_a_person_at_a_terminal_demonstrates_on_a_robot(on_the_line, tmp_path):
    """The keys are those of the shipped mapping, in which one faces the robot: s is +x."""
    from wired import until

    command = [sys.executable, "-m", "robostack.cli", "teleop", "--out", tmp_path / "mine"]
    command += [*on_the_line.real, "device=keyboard", "page.on=false"]
    hand = Terminal([*command, "episodes=1", "start_after=0"], {"ROS_DOMAIN_ID": str(DOMAIN)})
    tell = lambda: hand.said.decode()[-800:]  # noqa: E731
    try:
        until(lambda: b"stop [enter]" in hand.said, 90, tell)  # it records from the first start
        hand.held = "s"
        until(lambda: on_the_line.robot._success, 60, tell)
        hand.held = ""
        hand.press("y")
        assert hand.wait() == 0, tell()
    finally:
        hand.kill()
    ((_, episode),) = Store(tmp_path / "mine" / "store").episodes()
    assert episode.source == "demo" and episode.task == "go right" and episode.success
    assert episode.states[0, 0] < 0.3 and episode.states[-1, 0] >= 1.0 - 0.1
    assert 0 < episode.actions[:, 0].max() <= 1 and not episode.actions[:, 1].any()
