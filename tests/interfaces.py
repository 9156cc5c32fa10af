"""What the nodes really offer, as the tables of docs/real.md: run it to see them.

python tests/interfaces.py
"""

import importlib
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent))

DOMAIN = 75
ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- interfaces: made by tests/interfaces.py -->", "<!-- end of interfaces -->"
REWARD = (
    "class Still:\n"
    "    name = 'still'\n"
    "    def score(self, episode): raise NotImplementedError\n"
    "    def fingerprint(self): return ''\n"
)
OF_EVERY_NODE = ("/rosout", "/parameter_events")
OF_ALL = ("/clock", "/diagnostics")  # of every namespace; names of others are relative
OF_PARAMETERS = re.compile(r"/(describe|get|list|set)_parameter|/get_type_description")
OF_LIFECYCLE = re.compile(r"/(change_state|get_(available_)?(state|transition)\w*)$")


class NoScene:
    """An environment of a robot's spec in which nothing happens."""

    def __init__(self, spec):
        self.spec = spec

    def reset(self, seed):
        return self.step(None)

    def step(self, action):
        from robostack.types import Observation, Step

        images = {n: np.zeros((*size, 3), np.uint8) for n, size in self.spec.cameras.items()}
        state = np.zeros(self.spec.state_dim, np.float32)
        return Step(Observation(images, state, "", 0.0), False, False, False)

    def close(self):
        pass


def arguments(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Parameters with which each node can be made; of some several, which offer other things."""
    import cv2
    import yaml

    from robostack.real.bags import describe
    from robostack.real.paths import find
    from robostack.real.robot import RobotConfig

    robot = describe(RobotConfig.load(find("configs/robot/sim.yaml")))
    (folder / "robot.yaml").write_text(yaml.safe_dump(robot, sort_keys=False))
    cv2.imwrite(str(folder / "picture.png"), np.zeros((64, 64, 3), np.uint8))
    for camera in robot["cameras"].values():
        camera["source"] = str(folder)
    (folder / "opened.yaml").write_text(yaml.safe_dump(robot, sort_keys=False))
    (folder / "still.py").write_text(REWARD)
    given = {"robot": str(folder / "robot.yaml")}
    joints = {"robot": str(find("configs/robot/fr3.yaml"))}  # which a leader can lead
    return {
        "camera": [{"robot": str(folder / "opened.yaml")}],
        "policy": [given | {"policy": str(folder)}],
        "reward": [given | {"reward": f"{folder / 'still.py'}:Still"}],
        "recorder": [given | {"folder": str(folder / "bags")}],
        "teleop": [given | {"device": "vr"}, joints | {"device": "leader"}],
        "sim_robot": [given | {"clock": "true"}],
        **dict.fromkeys(("arm", "monitor"), [given]),
    }


def made(part, context):
    """The node of a part, as its main function makes it."""
    module = importlib.import_module(part.module)
    if part.name == "sim_robot":
        module.make_env = lambda config: NoScene(_robot(context).spec)
    found = {}

    def run(doc, make, args=None, **options):
        found["make"] = make
        return 0

    module.run, before = run, module.run
    try:
        module.main([])
    finally:
        module.run = before
    return found["make"](context)


def _robot(context):
    from robostack.real.paths import find
    from robostack.real.robot import RobotConfig

    return RobotConfig.load(find("configs/robot/sim.yaml"))


def interfaces(part, parameters: dict[str, str]) -> dict[str, list]:
    """Rows of the tables of one node: topics, services, parameters."""
    from robostack.real.nodes.node import connect

    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    context = connect(["--ros-args", *words], DOMAIN)
    return _told(made(part, context), part.name, context)


def of_env() -> dict[str, list]:
    """Of what drives a robot as an Env: `robostack evaluate`, `collect`, `train rl`, `teleop`."""
    from robostack.real.nodes.env_link import RosLink
    from robostack.real.nodes.node import connect

    context = connect(domain_id=DOMAIN)
    return _told(RosLink(_robot(context), context, "", own=False), "env", context)


def _told(node, name: str, context) -> dict[str, list]:
    """What a node offers; it is closed then."""
    from rclpy.node import Node

    probe = Node("probe", context=context, use_global_arguments=False)
    try:
        rows, before = _rows(probe, name), None
        while rows != before:  # the graph of one context is known within milliseconds
            time.sleep(0.1)
            rows, before = _rows(probe, name), rows
        own = getattr(node, "node", getattr(node, "_node", node))
        rows["parameters"] = sorted(
            (name, p.type_.name.lower(), own.describe_parameter(name).description)
            for name, p in own.get_parameters_by_prefix("").items()
            if not name.startswith("qos_overrides") and name != "start_type_description_service"
        )
        return rows
    finally:
        node.close()
        probe.destroy_node()
        context.try_shutdown()


def _rows(probe, name: str) -> dict[str, list]:
    """What a node and those beside it offer: topics (name, type, out or in, quality), services."""
    topics: dict[tuple[str, str, str], set[str]] = {}
    services = set()
    for node, space in probe.get_node_names_and_namespaces():
        if node != name and not node.startswith(f"{name}_"):
            continue
        published = probe.get_publisher_names_and_types_by_node(node, space)
        heard = probe.get_subscriber_names_and_types_by_node(node, space)
        for way, names, infos in (
            ("out", published, probe.get_publishers_info_by_topic),
            ("in", heard, probe.get_subscriptions_info_by_topic),
        ):
            for topic, (kind, *_) in names:
                if topic not in OF_EVERY_NODE and not topic.endswith("/transition_event"):
                    how = {_quality(i.qos_profile) for i in infos(topic) if i.node_name == node}
                    shown = topic if topic in OF_ALL else topic.lstrip("/")
                    topics.setdefault((shown, kind, way), set()).update(how)
        for service, (kind, *_) in probe.get_service_names_and_types_by_node(node, space):
            if not OF_PARAMETERS.search(service) and not OF_LIFECYCLE.search(service):
                services.add((service.lstrip("/"), kind))
    found = [(*key, " and ".join(sorted(how))) for key, how in topics.items()]
    return {"topics": sorted(found), "services": sorted(services)}


def _quality(profile) -> str:
    latched = profile.durability.name == "TRANSIENT_LOCAL"
    return profile.reliability.name.lower().replace("_", " ") + (", latched" if latched else "")


def parts() -> dict:
    """Every node once, by name."""
    from robostack.real import graph

    return {part.name: part for use in graph.PARTS.values() for part in use}


def found() -> dict[str, dict[str, list]]:
    """The interfaces of every node, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        nodes = {"env": of_env()}
        for name, sets in arguments(Path(folder)).items():
            several = [interfaces(parts()[name], given) for given in sets]
            nodes[name] = {
                key: sorted({row for rows in several for row in rows[key]}) for key in several[0]
            }
        return {name: nodes[name] for name in (*parts(), "env")}


def _commands() -> list[str]:
    """Rows of what arms and grippers are told, by back end."""
    from robostack.real.nodes.backends import BACKENDS, FollowJointTrajectoryBackend
    from robostack.real.nodes.grippers import GRIPPER_ACTIONS, GRIPPERS, ActionGripper

    def shown(backend) -> str:
        if issubclass(backend, FollowJointTrajectoryBackend):
            return "action control_msgs/action/FollowJointTrajectory"
        if issubclass(backend, ActionGripper):
            kinds = " or ".join(f"control_msgs/action/{kind}" for kind in GRIPPER_ACTIONS)
            return f"action {kinds}, whichever its server offers"
        package = backend.message.__module__.split(".")[0]
        return f"{package}/msg/{backend.message.__name__}"

    rows = [("arm", name, f"command/{name}", shown(b)) for name, b in BACKENDS.items()]
    rows += [("gripper", name, "command/gripper", shown(b)) for name, b in GRIPPERS.items()]
    return [f"| {of} | `{name}` | `{topic}` | {kind} |" for of, name, topic, kind in rows]


def _queues() -> str:
    from robostack.real.nodes.node import COMMAND, LATCHED, PUBLISH, RECORD, SENSOR

    assert PUBLISH.depth == SENSOR.depth == COMMAND.depth
    return (
        f"Queues hold {COMMAND.depth} messages, that of `executed` at the arm {RECORD.depth}, "
        f"latched ones {LATCHED.depth}."
    )


def tables(nodes: dict[str, dict[str, list]]) -> str:
    """The section of docs/real.md that tells of them."""
    topics: dict[tuple[str, str], dict[str, dict[str, list]]] = {}
    for node, rows in nodes.items():
        for topic, kind, way, how in rows["topics"]:
            ends = topics.setdefault((topic, kind), {"out": {}, "in": {}})
            ends[way].setdefault(how, []).append(node)
    lines = [BEGIN, "", "| topic | type | published by | heard by |", "|---|---|---|---|"]
    for (topic, kind), ends in sorted(topics.items()):
        told = [
            "; ".join(f"{', '.join(names)} ({how})" for how, names in sorted(ends[way].items()))
            for way in ("out", "in")
        ]
        lines.append(f"| `{topic}` | {kind} | {told[0]} | {told[1]} |")
    lines += ["", _queues(), ""]
    lines += ["| of | back end | topic, unless the file names one | type |", "|---|---|---|---|"]
    lines += _commands()
    lines += ["", "| service | type | node |", "|---|---|---|"]
    for node, rows in nodes.items():
        lines += [f"| `{service}` | {kind} | {node} |" for service, kind in rows["services"]]
    lines += ["", "| node | parameter | type | meaning |", "|---|---|---|---|"]
    lines += [
        f"| {node} | `{name}` | {kind} | {about} |"
        for node, rows in nodes.items()
        for name, kind, about in rows["parameters"]
        if about
    ]
    return "\n".join([*lines, "", END])


if __name__ == "__main__":
    print(tables(found()))
