"""What the axes and buttons of a device mean: read from and written to YAML.

    device: gamepad
    deadman: right_shoulder
    motions:
      dx: {axis: left_y, scale: -1}     # an axis
      rz: {plus: dpad_left, minus: dpad_right}    # or two buttons
    gripper: {toggle: a}
    session: {start: start, keep: a}

`motions` are named like the actions that they drive. Names of axes and buttons are the device's;
`robostack teleop --calibrate` shows them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from robostack.config import ConfigError, build
from robostack.real.paths import find, places
from robostack.real.teleop.device import KINDS, MESSAGES, SCRIPTED, SESSION
from robostack.types import RobotSpec

FOLDER = Path("configs/teleop")


@dataclass(frozen=True)
class Motion:
    """One direction of motion: an axis, or a button each way, or a joint of a leader arm."""

    axis: str = ""
    plus: str = ""
    minus: str = ""
    scale: float = 1.0  # sign and size; of absolute actions: their units per second at full speed

    def require_valid(self, name: str) -> None:
        if bool(self.axis) == bool(self.plus or self.minus):
            raise ConfigError(
                f"motions.{name}: expected an axis, or the buttons plus and minus, got "
                f"{_given(self)}"
            )
        if not (math.isfinite(self.scale) and self.scale):
            raise ConfigError(
                f"motions.{name}.scale: expected a number other than 0, got {self.scale}"
            )


@dataclass(frozen=True)
class Gripper:
    """How the fingers are driven; one of the three."""

    toggle: str = ""  # a button: each press closes or opens
    close: str = ""  # a button: closed while it is held
    axis: str = ""  # 0 or less is open, 1 closed

    def require_valid(self) -> None:
        if sum(map(bool, (self.toggle, self.close, self.axis))) != 1:
            raise ConfigError(f"gripper: expected one of toggle, close, axis, got {_given(self)}")


def _given(part: Motion | Gripper) -> dict:
    return {key: value for key, value in asdict(part).items() if value}


@dataclass(frozen=True)
class Mapping:
    """A device and what it asks of an arm."""

    device: str = "browser"
    motions: dict[str, Motion] = field(default_factory=dict)  # action -> what drives it
    gripper: Gripper | None = None
    deadman: str = ""  # button without which the arm stays; "": letting go of all is enough
    clutch: str = ""  # button while which the hand moves and the arm does not
    slower: str = ""  # button: one level of speed less
    faster: str = ""
    switch: str = ""  # button: drive the other one of two arms
    speed: float = 0.4  # share of the full motion at full deflection, where it begins
    deadzone: float = 0.08  # of axes
    yaw: float = 0.0  # [deg] by which you stand turned, about the vertical; 180: you face the robot
    hold: float = 0.15  # [s] for which a terminal's key counts as held after each report of it
    metres: float = 0.0  # [m] of a motion of 1, of trackers; 0: what the robot's spec says
    radians: float = 0.0  # [rad] likewise
    follow: Literal["relative", "match"] = "relative"  # of leader arms, see motion.Joints
    tolerance: float = 0.1  # [rad] within which a leader arm must be before it is followed
    session: dict[str, str] = field(default_factory=dict)  # word of a session -> button

    def __post_init__(self) -> None:
        known = (*KINDS, *MESSAGES, SCRIPTED)
        if self.device not in known:
            raise ConfigError(f"device: expected one of {', '.join(known)}, got {self.device!r}")
        for name, motion in self.motions.items():
            motion.require_valid(name)
        if self.gripper is not None:
            self.gripper.require_valid()
        if wrong := sorted(set(self.session) - set(SESSION)):
            raise ConfigError(f"session: expected words of {', '.join(SESSION)}, got {wrong}")
        if not 0 < self.speed <= 1:
            raise ConfigError(f"speed: expected more than 0 and at most 1, got {self.speed}")
        if not 0 <= self.deadzone < 1:
            raise ConfigError(f"deadzone: expected 0 or more and below 1, got {self.deadzone}")
        if not (self.hold > 0 and self.tolerance > 0 and min(self.metres, self.radians) >= 0):
            raise ConfigError(
                "hold and tolerance: expected more than 0; metres and radians: 0 or more; got "
                f"{self.hold}, {self.tolerance}, {self.metres}, {self.radians}"
            )
        if not math.isfinite(self.yaw):
            raise ConfigError(f"yaw: expected degrees, got {self.yaw}")

    def buttons(self) -> set[str]:
        """Every button that means something."""
        named = {self.deadman, self.clutch, self.slower, self.faster, self.switch}
        named |= {b for m in self.motions.values() for b in (m.plus, m.minus)}
        named |= {self.gripper.toggle, self.gripper.close} if self.gripper else set()
        return (named | set(self.session.values())) - {""}


def shipped() -> list[str]:
    """Names of the mappings that come with robostack, and of those in ./configs/teleop."""
    return sorted({file.stem for place in places() for file in (place / FOLDER).glob("*.yaml")})


def read_mapping(name: str | Path) -> Mapping:
    """One that comes with robostack, by its name, or a YAML file. Raises ConfigError."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if str(name) not in shipped():
            raise ConfigError(
                f"mapping {str(name)!r}: expected a .yaml file or one of {', '.join(shipped())}"
            )
        path = find(FOLDER / f"{name}.yaml")
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"mapping {path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"mapping {path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"mapping {path}: expected keys and values, got {values!r}")
    try:
        return build(Mapping, values)
    except ConfigError as error:
        raise ConfigError(f"mapping {path}: {error}") from None


def write_mapping(mapping: Mapping, path: Path) -> None:
    """Write what differs from the defaults; an existing file is replaced."""
    default = asdict(Mapping())
    values = {k: v for k, v in asdict(mapping).items() if v != default[k] or k == "device"}
    values["motions"] = {
        name: {k: v for k, v in motion.items() if v not in ("", 1.0)}
        for name, motion in asdict(mapping)["motions"].items()
    }
    if mapping.gripper:
        values["gripper"] = {k: v for k, v in asdict(mapping.gripper).items() if v}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(yaml.safe_dump(values, sort_keys=False, default_flow_style=None))
    partial.replace(path)


def of_actions(spec: RobotSpec) -> Mapping:
    """Of a script, whose axes are the robot's own actions; `gripper` is 0 open, 1 closed."""
    names = [name for name in spec.action_names if not name.endswith("gripper")]
    return Mapping(
        device=SCRIPTED,
        motions={name: Motion(axis=name) for name in names},
        gripper=Gripper(axis="gripper") if len(names) < spec.action_dim else None,
        speed=1.0,
        deadzone=0.0,
    )
