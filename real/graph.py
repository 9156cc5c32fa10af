"""Which processes a use of the robot consists of, and the parameters of each.

The launch files and `robostack up` read this one description. Standard library only: `ros2 launch`
runs in the system's Python, which need not have what the nodes need.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from robostack.real.paths import find


class GraphError(ValueError):
    """A use, an option or a value that does not exist."""


@dataclass(frozen=True)
class Option:
    """What can be chosen when a graph is started: a launch argument, a key of `robostack up`."""

    default: str | float | int | bool
    help: str
    file: bool = False  # a path of the configuration, see robostack.real.paths
    needed: bool = False  # it has to be given


@dataclass(frozen=True)
class Part:
    """A node of a use. `parameters` are ROS parameters by name: of each the option that sets it."""

    name: str
    module: str
    parameters: dict[str, str] = field(default_factory=dict)
    when: str = ""  # the option without which it is not started
    lifecycle: bool = False  # it has to be configured and activated
    essential: bool = False  # when it ends, everything ends
    terminal: bool = False  # it may read the terminal


@dataclass(frozen=True)
class Process:
    """A node that is to be started, with values."""

    part: Part
    parameters: dict[str, str | float | int | bool]


OPTIONS = {  # of every use
    "robot": Option("", "the robot, e.g. configs/robot/fr3.yaml", file=True, needed=True),
    "params_file": Option("", "parameters of nodes in ROS 2's YAML; they win", file=True),
    "namespace": Option("", "of all nodes and relative topics: the arm, e.g. left"),
    "use_sim_time": Option(False, "take the time from /clock"),
    "log_level": Option("info", "debug, info, warn, error"),
    "task": Option("", "the instruction, until the topic `task` says another"),
    "scene": Option("Lift", "the simulated task, as `robostack tasks` lists it"),
    "seed": Option(0, "of the simulation's first reset"),
    "policy": Option("", "policy, or its run, or ws://HOST:PORT of `robostack serve`", needed=True),
    "start": Option(False, "let the policy act as soon as it can; else by policy/start"),
    "reward": Option("", "reward, or the run that trained it, that scores live"),
    "folder": Option("runs/recordings", "where episodes are recorded"),
    "cameras": Option(True, "open the cameras for which the robot's file names a source"),
    "device": Option(
        "keyboard", "of the operator: a mapping of configs/teleop by name, or a YAML file"
    ),
}
COMMON = ("robot", "params_file", "namespace", "use_sim_time", "log_level")
NODES = "robostack.real.nodes"
SIMULATED = "configs/robot/sim.yaml"

ARM = Part("arm", f"{NODES}.arm_node", {"robot": "robot"}, essential=True)
MONITOR = Part("monitor", f"{NODES}.monitor_node", {"robot": "robot"})
PARTS = {  # use -> its nodes, in the order in which they are started
    "sim": (
        Part(
            "sim_robot",
            "robostack.simulated_robot",
            {"robot": "robot", "task": "scene", "seed": "seed", "clock": "use_sim_time"},
            essential=True,
        ),
        ARM,
        MONITOR,
    ),
    "robot": (
        Part("camera", f"{NODES}.camera_node", {"robot": "robot"}, when="cameras"),
        ARM,
        MONITOR,
    ),
    "record": (
        Part(
            "recorder",
            f"{NODES}.recorder_node",
            {"robot": "robot", "folder": "folder", "task": "task"},
        ),
    ),
    "teleop": (
        Part(
            "teleop",
            f"{NODES}.teleop_node",
            {"robot": "robot", "device": "device"},
            terminal=True,
        ),
    ),
    "policy": (
        Part(
            "policy",
            f"{NODES}.policy_node",
            {"robot": "robot", "policy": "policy", "task": "task", "start": "start"},
            lifecycle=True,
        ),
        Part(
            "reward",
            f"{NODES}.reward_node",
            {"robot": "robot", "reward": "reward", "task": "task"},
            when="reward",
        ),
    ),
}
STOPPED_LAST = ("arm", "sim_robot")  # what commands goes first, what holds the robot last


def options(use: str) -> dict[str, Option]:
    """What can be chosen for a use. Raises GraphError for one that does not exist."""
    if use not in PARTS:
        raise GraphError(f"use {use!r}: expected one of {', '.join(PARTS)}")
    named = [o for p in PARTS[use] for o in (*p.parameters.values(), p.when) if o]
    found = {name: OPTIONS[name] for name in dict.fromkeys([*COMMON, *named])}
    if use == "sim":
        found["robot"] = replace(found["robot"], default=SIMULATED)
    return found


def processes(uses: list[str], values: dict[str, str | float | int | bool]) -> list[Process]:
    """The nodes of several uses at once, in the order in which they are started.

    `values` are options by name; those that are not given have their defaults. Raises GraphError
    for names and values that do not exist, and FileNotFoundError for files.
    """
    known: dict[str, Option] = {}
    for use in uses:
        for name, option in options(use).items():
            known[name] = known[name] if known.get(name) and known[name].default else option
    unknown = set(values) - set(known)
    if unknown:
        raise GraphError(
            f"{', '.join(sorted(unknown))}: no option of {', '.join(uses)}; "
            f"expected {', '.join(known)}"
        )
    chosen = {name: _value(name, option, values) for name, option in known.items()}
    parts = [part for use in uses for part in PARTS[use] if not part.when or chosen[part.when]]
    names = [part.name for part in parts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise GraphError(f"{', '.join(uses)}: {', '.join(twice)} would be there twice")
    own = {"use_sim_time": chosen["use_sim_time"]}
    return [
        Process(part, own | {name: chosen[o] for name, o in part.parameters.items()})
        for part in parts
    ]


def stopping(names: list[str]) -> list[str]:
    """The order in which nodes are stopped: the reverse of starting, but the arm outlives all that
    command it, and the robot outlives the arm."""
    first = [name for name in reversed(names) if name not in STOPPED_LAST]
    return first + [name for name in STOPPED_LAST if name in names]


def _value(name: str, option: Option, values: dict) -> str | float | int | bool:
    value = values.get(name, option.default)
    if option.needed and not value:
        raise GraphError(f"{name} must be given: {option.help}")
    kind = type(option.default)
    if isinstance(value, str) and kind is bool:
        if value.lower() not in ("true", "false", "1", "0"):
            raise GraphError(f"{name}: expected true or false, got {value!r}")
        return value.lower() in ("true", "1")
    if option.file and value:
        return str(find(str(value)))
    return kind(value)
