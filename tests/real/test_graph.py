"""One description of which nodes a use consists of."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from robostack.config import read
from robostack.real import graph
from robostack.real.graph import GraphError, processes, stopping
from robostack.real.robot import RobotConfig
from robostack.real.teleop.driver import Driver
from robostack.real.teleop.mapping import read_mapping
from robostack.real.up import UpConfig, exports, supervisor

ROOT = Path(__file__).parents[2]
SIM = str(graph.find("configs/robot/sim.yaml"))


GIVEN = {"robot": SIM, "policy": "runs/bc"}  # what has to be given


def names(uses, **values):
    return [process.part.name for process in processes(uses, needed(uses) | values)]


def needed(uses):
    return {k: v for k, v in GIVEN.items() if any(k in graph.options(use) for use in uses)}


def source(module):
    """Of robostack.real.x: looked up, it would ask for rclpy."""
    name = module.removeprefix("robostack.")
    folder = ROOT if name.startswith("real") else ROOT / "robostack"
    return folder.joinpath(*name.split(".")).with_suffix(".py")


def test_every_module_and_every_default_file_exists():
    for use in graph.PARTS:
        for process in processes([use], needed([use])):
            assert source(process.part.module).is_file(), process.part.module
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


def shown():
    """Every `robostack up` of the documentation, and each file of configs/up: where, and words."""
    from test_docs import PAGE_COMMANDS

    files = [(path.name, ["up", str(path)]) for path in sorted(ROOT.glob("configs/up/*.yaml"))]
    lines = [(page, shlex.split(line, comments=True)[1:]) for page, line in PAGE_COMMANDS]
    return files + [(page, words) for page, words in lines if words[0] == "up"]


@pytest.mark.parametrize(("where", "words"), shown(), ids=lambda value: "")
def test_what_is_shown_can_run_down_to_the_driver_and_the_cameras(where, words):
    """That a device can drive the robot, and that each camera that is to be opened has a source."""
    pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")
    from robostack.real.nodes.camera_node import chosen

    file = next((word for word in words[1:] if "=" not in word), None)
    given = [word for word in words[1:] if "=" in word and "params_file" not in word]
    config = read(UpConfig, file and ROOT / file, given)
    for process in supervisor(config)._processes.values():
        robot = RobotConfig.load(process.parameters["robot"])
        if process.part.name == "teleop":
            Driver(read_mapping(process.parameters["device"]), robot.spec)
        if process.part.name == "camera":
            assert chosen(robot)


def test_there_is_something_to_start_for_every_example_of_a_robot():
    used = {read(UpConfig, path).robot for path in ROOT.glob("configs/up/*.yaml")}
    examples = {f"configs/robot/{path.name}" for path in ROOT.glob("configs/robot/*.yaml")}
    assert used == examples and len(shown()) > len(used) + 5


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
