"""Launch files: executed, and held against the nodes that they name."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import launch_double as double
import pytest

from robostack.real import graph

pytest.importorskip("lifecycle_msgs", reason="lifecycle_msgs are not installed (the extra `ros`)")
from lifecycle_msgs.msg import Transition

ROOT = Path(__file__).parents[2]
SIM = str(ROOT / "configs" / "robot" / "sim.yaml")
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
USES = [path.name.removesuffix(".launch.py") for path in FILES]


def has_launch_ros() -> bool:
    try:  # the folder launch/ of a checkout can be imported, too, as an empty package
        from launch import LaunchDescription
        from launch_ros.actions import Node
    except ImportError:
        return False
    return bool(LaunchDescription and Node)


def described(use: str):
    """What a launch file generates."""
    spec = importlib.util.spec_from_file_location("launched", ROOT / "launch" / f"{use}.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


@pytest.fixture
def launched(monkeypatch):
    double.install(monkeypatch)
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)
    yield lambda use, **given: double.perform(described(use), **given)
    sys.modules.pop("robostack.real.launching", None)


def nodes(actions):
    return {a.name: a for a in actions if isinstance(a, double.Node)}


def needed(use):
    """What has to be given to a use."""
    given = {"robot": SIM, "policy": "runs/bc"}
    return {name: value for name, value in given.items() if name in graph.options(use)}


def test_there_is_a_launch_file_for_every_use():
    assert set(USES) == set(graph.PARTS)


@pytest.mark.parametrize("use", USES)
def test_a_launch_file_starts_the_nodes_of_its_use(launched, use, tmp_path):
    (tmp_path / "mine.yaml").write_text("{}")
    options = {"namespace": "left", "python": "/venv/bin/python", "log_level": "debug"}
    options["params_file"] = str(tmp_path / "mine.yaml")
    found = nodes(launched(use, **options, **needed(use)))
    wanted = {process.part.name: process for process in graph.processes([use], needed(use))}
    assert set(found) == set(wanted)
    for name, node in found.items():
        assert node.executable == "/venv/bin/python" and node.package is None
        assert node.arguments[0] == "-m" and find_spec(node.arguments[1])
        assert node.ros_arguments == ["--log-level", "debug"] and node.namespace == "left"
        assert node.parameters == wanted[name].parameters
        assert node.files == [str(tmp_path / "mine.yaml")], "the user's file comes last and wins"
        assert isinstance(node, double.LifecycleNode) == wanted[name].part.lifecycle


def test_without_arguments_this_interpreter_runs_them(launched):
    found = nodes(launched("record", robot=SIM))["recorder"]
    assert found.executable == sys.executable and found.files == []


def test_pictures_get_a_shared_memory_that_they_fit_into(launched, monkeypatch):
    set_by_us = {
        a.name: a.value for a in launched("sim") if isinstance(a, double.SetEnvironmentVariable)
    }
    assert set(set_by_us) == {"FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"}
    assert all(Path(path).is_file() for path in set_by_us.values())
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/mine.xml")
    assert not [a for a in launched("sim") if isinstance(a, double.SetEnvironmentVariable)]


def test_the_end_of_the_arm_ends_everything_and_that_of_the_monitor_does_not(launched):
    actions = launched("sim")
    handlers = [a.event_handler for a in actions if isinstance(a, double.RegisterEventHandler)]
    ends = {h.target_action.name: h.on_exit for h in handlers}
    assert set(ends) == {"arm", "sim_robot"}
    assert all(isinstance(end[0], double.Shutdown) for end in ends.values())


def test_the_policy_is_configured_and_then_activated(launched):
    actions = launched("policy", robot=SIM, policy="runs/bc")
    node = nodes(actions)["policy"]
    (change,) = [a.event for a in actions if isinstance(a, double.EmitEvent)]
    assert change.transition_id == Transition.TRANSITION_CONFIGURE and change.matcher(node)
    (handler,) = [a.event_handler for a in actions if isinstance(a, double.RegisterEventHandler)]
    assert (handler.start_state, handler.goal_state) == ("configuring", "inactive")
    assert handler.target is node
    assert handler.entities[0].event.transition_id == Transition.TRANSITION_ACTIVATE
    assert "autostart" not in node.parameters


def test_a_wrong_argument_is_refused_before_anything_starts(launched):
    with pytest.raises(FileNotFoundError, match="nope.yaml"):
        launched("sim", robot="nope.yaml")
    with pytest.raises(graph.GraphError, match="robot must be given"):
        launched("robot")
    with pytest.raises(graph.GraphError, match="expected true or false"):
        launched("sim", use_sim_time="maybe")


LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
file, *given = sys.argv[1:]
source = PythonLaunchDescriptionSource(file)
arguments = [tuple(word.split(":=", 1)) for word in given]
service = LaunchService()
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


@pytest.mark.slow
@pytest.mark.skipif(not has_launch_ros(), reason="launch_ros is not installed (ROS 2 has it)")
def test_ros_2_itself_launches_a_recorder_and_ends_it(tmp_path):
    given = [f"robot:={SIM}", "namespace:=left", f"folder:={tmp_path}", "task:=lift: it"]
    command = [sys.executable, "-c", LAUNCH, str(ROOT / "launch" / "record.launch.py"), *given]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"ROS_DOMAIN_ID": "73", "PYTHONUNBUFFERED": "1"},
    )
    deadline = threading.Timer(60, child.kill)
    deadline.start()
    lines = []
    for line in child.stdout:
        lines.append(line)
        if "ready:" in line:
            child.send_signal(signal.SIGINT)
    deadline.cancel()
    text = "".join(lines)
    assert f"[left.recorder]: ready: 15 topics into {tmp_path}; task: lift: it" in text
    assert "process has finished cleanly" in text, text
