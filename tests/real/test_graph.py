"""One description of which nodes a use consists of."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from robostack.real import graph
from robostack.real.graph import GraphError, processes, stopping
from robostack.real.up import UpConfig, exports, supervisor

SIM = str(graph.find("configs/robot/sim.yaml"))


GIVEN = {"robot": SIM, "policy": "runs/bc"}  # what has to be given


def names(uses, **values):
    return [process.part.name for process in processes(uses, needed(uses) | values)]


def needed(uses):
    return {k: v for k, v in GIVEN.items() if any(k in graph.options(use) for use in uses)}


def test_every_module_and_every_default_file_exists():
    for use in graph.PARTS:
        for process in processes([use], needed([use])):
            assert find_spec(process.part.module), process.part.module
            assert process.parameters["robot"] == SIM


def test_options_reach_the_parameters_with_their_types():
    found = processes(["sim", "record"], {"task": "a: b", "use_sim_time": "true", "robot": SIM})
    parameters = {process.part.name: process.parameters for process in found}
    assert parameters["recorder"]["task"] == "a: b"
    assert all(values["use_sim_time"] is True for values in parameters.values())


def test_a_real_robot_and_a_policy_have_to_be_named_and_a_simulated_robot_is_known():
    assert processes(["sim"], {})[0].parameters["robot"] == SIM
    assert {p.parameters["robot"] for p in processes(["record", "sim", "teleop"], {})} == {SIM}
    with pytest.raises(GraphError, match="robot must be given: the robot, e.g."):
        processes(["robot"], {})
    with pytest.raises(GraphError, match="policy must be given"):
        processes(["sim", "policy"], {})


def test_only_a_keyboard_shares_the_terminal():
    parts = [part for use in graph.PARTS.values() for part in use]
    assert [part.name for part in parts if part.terminal] == ["teleop"]


def test_a_part_that_needs_an_option_is_only_there_with_it():
    assert names(["policy"]) == ["policy"]
    assert names(["policy"], reward="runs/progress") == ["policy", "reward"]
    assert "camera" in names(["robot"]) and "camera" not in names(["robot"], cameras="false")


@pytest.mark.parametrize(
    ("uses", "values", "complaint"),
    [
        (["simulation"], {}, "expected one of sim, robot, record, teleop, policy"),
        (["sim"], {"reward": "x"}, "reward: no option of sim; expected robot"),
        (["sim"], {"use_sim_time": "maybe"}, "use_sim_time: expected true or false, got 'maybe'"),
        (["sim", "robot"], {}, "arm, monitor would be there twice"),
        (["record", "record"], {"robot": SIM}, "recorder would be there twice"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(uses, values, complaint):
    with pytest.raises(GraphError, match=complaint):
        processes(uses, values)


def test_a_file_that_does_not_exist_is_an_error_before_anything_starts():
    with pytest.raises(FileNotFoundError, match="configs/robot/sim.yaml"):
        processes(["sim"], {"robot": "configs/robot/sin.yaml"})


def test_what_commands_stops_first_and_the_robot_last():
    order = stopping(names(["sim", "record", "teleop", "policy"], reward="x"))
    assert order == ["reward", "policy", "teleop", "recorder", "monitor", "arm", "sim_robot"]


def test_up_takes_the_options_of_its_uses_and_no_other():
    nodes = supervisor(UpConfig(use=("sim", "policy"), policy="runs/bc", namespace="left"))
    command = nodes.command("policy", "policy.yaml")
    assert command[:3] == [sys.executable, "-m", "robostack.real.nodes.policy_node"]
    assert command[3] == "--ros-args" and "__ns:=/left" in command and "__node:=policy" in command
    with pytest.raises(GraphError, match="policy: no option of sim"):
        supervisor(UpConfig(policy="runs/bc"))


def test_ros2_launch_needs_nothing_but_the_standard_library_to_read_it():
    code = "import sys, robostack.real.graph; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "yaml", "torch", "rclpy"} & set(done.stdout.split())


def test_a_shell_can_evaluate_what_ros_env_prints(tmp_path, monkeypatch):
    prefix = tmp_path / "a prefix"
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "robostack").touch()
    monkeypatch.setattr(sys, "prefix", str(prefix))
    script = f'{exports()}\necho "$AMENT_PREFIX_PATH"; cat "$FASTRTPS_DEFAULT_PROFILES_FILE"'
    for before, after in (("", str(prefix)), ("/opt/ros/jazzy", f"{prefix}:/opt/ros/jazzy")):
        done = subprocess.run(
            ["sh", "-euc", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": "/usr/bin:/bin", **({"AMENT_PREFIX_PATH": before} if before else {})},
        )
        assert done.stdout.splitlines()[0] == after and "<profiles" in done.stdout
