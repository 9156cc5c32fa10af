"""Where points of an arm are, by its joints: what a URDF says of a chain, without ROS.

    python -m robostack.real.kinematics my_robot.urdf base_link tool_link

prints the chain of a URDF as a robot's file wants it (a xacro: `xacro my_robot.urdf.xacro` first).
"""

from __future__ import annotations

import argparse
import math
import sys
import xml.etree.ElementTree as xml
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from numba import njit

from robostack.config import ConfigError

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Joint:
    """A joint as in a URDF: its frame in that of the one before it (the first: of the base), and
    the axis in its own frame that it turns about or slides along."""

    xyz: Vector = (0.0, 0.0, 0.0)  # [m]
    rpy: Vector = (0.0, 0.0, 0.0)  # [rad] about the x, then the y, then the z of the one before
    axis: Vector = (0.0, 0.0, 1.0)
    type: Literal["revolute", "prismatic", "fixed"] = "revolute"

    def __post_init__(self) -> None:
        if not all(math.isfinite(x) for x in (*self.xyz, *self.rpy)):
            raise ConfigError(f"expected finite xyz and rpy, got {self.xyz} and {self.rpy}")
        if not math.isclose(math.hypot(*self.axis), 1.0, abs_tol=1e-3):
            raise ConfigError(f"axis: expected a vector of length 1, got {self.axis}")


@njit(cache=True)
def _turn(axis, angle, out):
    """The rotation matrix about a unit vector (Rodrigues)."""
    c, s = math.cos(angle), math.sin(angle)
    x, y, z = axis
    out[0] = (c + x * x * (1 - c), x * y * (1 - c) - z * s, x * z * (1 - c) + y * s)
    out[1] = (y * x * (1 - c) + z * s, c + y * y * (1 - c), y * z * (1 - c) - x * s)
    out[2] = (z * x * (1 - c) - y * s, z * y * (1 - c) + x * s, c + z * z * (1 - c))


@njit(cache=True)
def _product(a, b):
    out = np.zeros((3, 3))
    for i in range(3):
        for k in range(3):
            for j in range(3):
                out[i, j] += a[i, k] * b[k, j]
    return out


@njit(cache=True)
def _add(place, rotation, vector):
    for i in range(3):
        for k in range(3):
            place[i] += rotation[i, k] * vector[k]


@njit(cache=True)
def place(q, offsets, turns, axes, kinds, which, behind, points, out):
    """Into `out` f64[m, 3] [m] where points are in the base's frame, of joints q f64[k].

    Of n joints: `offsets` f64[n, 3] and `turns` f64[n, 3, 3] of their frames, `axes` f64[n, 3],
    `kinds` i64[n] (0 turns, 1 slides, 2 neither), `which` of q moves it. Of m points: `behind`
    which joint, and where in its frame, `points` f64[m, 3].
    """
    rotation, own, at = np.eye(3), np.empty((3, 3)), np.zeros(3)
    for j in range(len(kinds)):
        _add(at, rotation, offsets[j])
        rotation = _product(rotation, turns[j])
        if kinds[j] == 0:
            _turn(axes[j], q[which[j]], own)
            rotation = _product(rotation, own)
        elif kinds[j] == 1:
            _add(at, rotation, axes[j] * q[which[j]])
        for m in range(len(behind)):
            if behind[m] == j:
                out[m] = at
                _add(out[m], rotation, points[m])


def rotation(rpy: Sequence[float]) -> np.ndarray:
    """f64[3, 3] of a URDF's rpy: about the fixed x, then y, then z."""
    out = np.eye(3)
    for axis, angle in zip(np.eye(3), rpy):
        turn = np.empty((3, 3))
        _turn(axis, angle, turn)
        out = turn @ out
    return out


def arrays(
    chain: Mapping[str, Joint], movable: Sequence[str], points: Sequence[tuple[str, Vector]]
) -> tuple[np.ndarray, ...]:
    """What `place` wants besides joints and `out`: of a chain, whose joints are found in q as they
    are named in `movable`, and of points, each behind a joint of the chain."""
    joints, names = list(chain.values()), list(chain)
    kinds = np.array([("revolute", "prismatic", "fixed").index(j.type) for j in joints], np.int64)
    return (
        np.array([j.xyz for j in joints], np.float64),
        np.array([rotation(j.rpy) for j in joints]),
        np.array([j.axis for j in joints], np.float64),
        kinds,
        np.array([-1 if j.type == "fixed" else movable.index(n) for n, j in chain.items()]),
        np.array([names.index(name) for name, _ in points], np.int64),
        np.array([xyz for _, xyz in points], np.float64),
    )


def read_urdf(file: str | Path, base: str, tip: str) -> dict[str, Joint]:
    """The joints from the link `base` to the link `tip`. Raises ConfigError, naming the links."""
    try:
        root = xml.parse(file).getroot()
    except (OSError, xml.ParseError) as error:
        raise ConfigError(f"{file}: expected a URDF ({error})") from None
    above = {}  # link -> the joint that carries it
    for joint in root.iter("joint"):
        parent, child = joint.find("parent"), joint.find("child")
        if parent is not None and child is not None:  # those in a transmission have neither
            above[child.get("link")] = joint, parent.get("link")
    chain: dict[str, Joint] = {}
    link = tip
    while link != base:
        if link not in above or len(chain) > len(above):
            links = ", ".join(sorted(filter(None, {e.get("name") for e in root.iter("link")})))
            raise ConfigError(f"{file}: no chain from {base} to {tip}; its links: {links}")
        joint, link = above[link]
        chain[str(joint.get("name"))] = _joint(joint)
    return dict(reversed(chain.items()))


def _joint(element: xml.Element) -> Joint:
    name, kind = element.get("name"), element.get("type", "")
    kind = {"continuous": "revolute"}.get(kind, kind)
    if kind not in ("revolute", "prismatic", "fixed"):
        raise ConfigError(f"joint {name}: expected revolute, prismatic or fixed, got {kind}")

    def numbers(tag: str, key: str, default: str) -> Vector:
        found = element.find(tag)
        text = default if found is None else found.get(key, default)
        x, y, z = (float(part) for part in text.split())
        return x, y, z

    axis = (0.0, 0.0, 1.0) if kind == "fixed" else numbers("axis", "xyz", "1 0 0")
    return Joint(numbers("origin", "xyz", "0 0 0"), numbers("origin", "rpy", "0 0 0"), axis, kind)


def written(chain: Mapping[str, Joint]) -> str:
    """YAML of a chain, a line a joint, without what is the default."""
    lines = []
    for name, joint in chain.items():
        fields = {
            key: value if isinstance(value, str) else [round(x, 7) + 0.0 for x in value]
            for key, value in asdict(joint).items()
            if value != asdict(Joint())[key]
        }
        text = yaml.safe_dump(fields, default_flow_style=True, width=1000, sort_keys=False)
        lines.append(f"{name}: {text.strip()}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("urdf", type=Path)
    parser.add_argument("base", help="the link that the box is measured in")
    parser.add_argument("tip", help="the last link")
    args = parser.parse_args()
    try:
        print(written(read_urdf(args.urdf, args.base, args.tip)))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
