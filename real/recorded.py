"""Which topics an episode consists of."""

from __future__ import annotations

from collections.abc import Callable

from robostack.real.observing import Senses
from robostack.real.recording import Topic
from robostack.real.robot import RobotConfig

TYPES = {  # of what robots sense
    "Image": "sensor_msgs/msg/Image",
    "CompressedImage": "sensor_msgs/msg/CompressedImage",
    "JointState": "sensor_msgs/msg/JointState",
    "PoseStamped": "geometry_msgs/msg/PoseStamped",
}
OURS = {  # recorded where they come; what is latched is in every bag
    "chunk": "trajectory_msgs/msg/JointTrajectory",
    "alive": "std_msgs/msg/Bool",
    "operator/chunk": "trajectory_msgs/msg/JointTrajectory",
    "operator/deadman": "std_msgs/msg/Bool",
    "estop": "std_msgs/msg/Bool",
    "progress": "std_msgs/msg/Float64",
    "success": "std_msgs/msg/Bool",
    "termination": "std_msgs/msg/Bool",
}
TOLD_ONCE = {  # latched
    "task": "std_msgs/msg/String",
    "estop_state": "std_msgs/msg/Bool",
    "sim/success": "std_msgs/msg/Bool",
}


def recorded(
    config: RobotConfig, rates: list[str], extra: list[str], resolve: Callable[[str], str]
) -> dict[str, Topic]:
    """Topics by the name that the config has for them; `resolve` puts the namespace before it.

    What is sensed and what is executed is required at the control rate, unless `rates`, a list of
    TOPIC=HZ, say otherwise; `extra` topics are TOPIC:PACKAGE/msg/TYPE. Raises ValueError where one
    of them is not, or names a topic that is not recorded.
    """
    wanted, more = _pairs("rates", rates, "="), _pairs("topics", extra, ":")
    sensed = {name: TYPES[kind] for name, kind in Senses(config).topics.items()}
    sensed["executed"] = TYPES["JointState"]
    types = {**OURS, **TOLD_ONCE, **sensed, **more}
    if unknown := set(wanted) - set(types):
        raise ValueError(f"rates: {sorted(unknown)}; recorded are {', '.join(types)}")
    needed = dict.fromkeys(sensed, config.control_hz)
    needed |= {name: _number(f"rates: {name}", hz) for name, hz in wanted.items()}
    return {name: Topic(resolve(name), kind, needed.get(name, 0.0)) for name, kind in types.items()}


def _pairs(name: str, items: list[str], sign: str) -> dict[str, str]:
    """TOPIC=VALUE of a list parameter, in which an empty text is nothing."""
    found = {}
    for item in filter(None, items):
        key, _, value = item.partition(sign)
        if not (key and value):
            raise ValueError(f"{name}: expected TOPIC{sign}VALUE, got {item!r}")
        found[key.strip()] = value.strip()
    return found


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: expected a number, got {text!r}") from None
