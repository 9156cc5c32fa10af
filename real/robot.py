"""One robot in one YAML file: what it senses, what it obeys, and how far it may go."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from robostack import config
from robostack.config import ConfigError
from robostack.real.fence import Fence
from robostack.real.samples import Limits
from robostack.types import RobotSpec

Range = tuple[float, float]
POSE_FIELDS = (  # of a pose: position, quaternion, first two columns of the rotation matrix
    *("x", "y", "z", "qw", "qx", "qy", "qz"),
    *("xx", "xy", "xz", "yx", "yy", "yz"),
)
JOINT_FIELDS = ("position", "velocity", "effort")


@dataclass(frozen=True)
class Source:
    """Where one measured number comes from.

    Written `topic:field/name`: `joint_states:position/elbow` is a joint of a JointState, matched
    by its name; `current_pose:pose/x` is a part of a PoseStamped, one of POSE_FIELDS.
    """

    topic: str
    message: str  # "JointState" or "PoseStamped"
    field: str  # one of JOINT_FIELDS, or "pose"
    name: str  # of the joint, or one of POSE_FIELDS

    @classmethod
    def parse(cls, text: str, key: str = "state") -> Source:
        topic, colon, rest = text.partition(":")
        kind, slash, name = rest.partition("/")
        if topic and colon and slash and name:
            if kind in JOINT_FIELDS:
                return cls(topic, "JointState", kind, name)
            if kind == "pose" and name in POSE_FIELDS:
                return cls(topic, "PoseStamped", kind, name)
        raise ConfigError(
            f"{key}: expected topic:field/name with field {', '.join(JOINT_FIELDS)} and the name "
            f"of a joint, or field pose and one of {', '.join(POSE_FIELDS)}; got {text!r}"
        )


@dataclass(frozen=True)
class Camera:
    """A picture stream, as the policy wants it."""

    topic: str
    size: tuple[int, int]  # (height, width) [px] after resizing
    compressed: bool = False  # the topic carries CompressedImage
    source: str = ""  # what camera_node opens for it: 0, /dev/video0, a video, a folder of
    # pictures; "": another driver publishes it


@dataclass(frozen=True)
class Action:
    """One number of an action: its bounds, what it means, and how far and fast it may go.

    `absolute` numbers are targets [m or rad]. `delta` numbers are displacements within a control
    period and `velocity` numbers are speeds, both after multiplication with `scale`. `level`
    numbers, a gripper's for instance, are kept within bounds and may jump. Except for levels,
    velocity [1/s], acceleration [1/s^2] and jerk [1/s^3] (of metres or radians) must be given: a
    robot without limits is a mistake, not a default.
    """

    low: float  # bounds of the action itself, raw units of the spec
    high: float
    kind: Literal["absolute", "delta", "velocity", "level"] = "absolute"
    scale: float = 1.0  # [m or rad] of a delta of 1, or [m/s or rad/s] of a velocity of 1
    velocity: float = 0.0
    acceleration: float = 0.0
    jerk: float = 0.0
    state: str = ""  # the state that measures what this moves [m or rad]
    position: Range | None = None  # where that may be; absolute: low to high unless given
    max_error: float = 0.0  # [m or rad] between where it was told to be and what is measured

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"expected finite low < high, got {self.low} and {self.high}")
        if self.kind == "level":
            return
        for key in ("velocity", "acceleration", "jerk", "scale"):
            if not 0 < getattr(self, key) < math.inf:
                raise ConfigError(f"{key}: expected a positive number, got {getattr(self, key)}")
        if self.kind == "absolute" and not self.state:
            raise ConfigError("expected `state`, the name of the state that measures it")
        if self.state and not 0 < self.max_error < math.inf:
            raise ConfigError(
                f"max_error: of what {self.state} measures expected a positive number, got "
                f"{self.max_error}"
            )
        if self.kind != "absolute" and not self.low < 0 < self.high:
            raise ConfigError(f"expected low < 0 < high, 0 being rest; got {self.low}, {self.high}")
        if self.position is not None and not (self.state and self.position[0] < self.position[1]):
            raise ConfigError(
                f"expected `state` and position [low, high], got {self.state!r}, {self.position}"
            )

    @property
    def allowed(self) -> Range:
        """Where what this moves may be [m or rad]; infinite where nobody said."""
        if self.position is not None:
            return self.position
        return (self.low, self.high) if self.kind == "absolute" else (-math.inf, math.inf)


@dataclass(frozen=True)
class Timeouts:
    """Older than this [s] is as good as not there. Ages are of the time of reception."""

    state: float = 0.1  # every measured state that the safety layer needs
    alive: float = 0.1  # the policy's heartbeat
    deadman: float = 0.1  # the operator's deadman switch
    estop: float = 0.0  # heartbeat on `estop`; 0: none is asked for
    chunk: float = 2.0  # stamp of the observation that a chunk answers
    blind: float = 0.2  # what the policy could be shown; then it does not stand behind its chunk
    device: float = 0.15  # what an operator's device said on its topic; `joy` has to repeat

    def __post_init__(self) -> None:
        for key in ("state", "alive", "deadman", "chunk", "blind", "device"):
            if not 0 < getattr(self, key) < math.inf:
                raise ConfigError(f"timeouts.{key}: expected more than 0, got {getattr(self, key)}")
        if not 0 <= self.estop < math.inf:
            raise ConfigError(f"timeouts.estop: expected 0 or more, got {self.estop}")


@dataclass(frozen=True)
class Arm:
    """How an arm is told what to do."""

    backend: Literal[
        "action",  # JointState in raw spec units, to a controller that takes actions
        "joint_trajectory",  # with the way to rest, for a joint_trajectory_controller
        "positions",  # Float64MultiArray for a forward_command_controller
        "joint",  # JointState, crisp's target_joint
        "twist",  # TwistStamped for MoveIt Servo
        "pose",  # PoseStamped, crisp's target_pose
        "follow_joint_trajectory",  # control_msgs action, where control_msgs is installed
    ]
    actions: tuple[str, ...]  # which actions it gets, in this order
    joints: tuple[str, ...] = ()  # their names at the robot; (): the same
    topic: str = ""  # "": command/ and the back end's name; of several arms, below the arm's name
    frame: str = "base"  # frame_id of twists and poses
    fence: Fence | None = None  # where points of an arm that is told joints stay


@dataclass(frozen=True)
class Gripper:
    """How a gripper is told what to do. It gets `open + (closed - open) * fraction closed`."""

    action: str  # the action that moves it
    backend: Literal["topic_float64", "joint_trajectory", "action"]
    topic: str = ""  # "": command/gripper; of several grippers, below the gripper's name
    joint: str = "gripper"
    open: float = 0.0  # what the gripper's controller calls open and closed
    closed: float = 1.0
    closes_at: Literal["high", "low"] = "high"  # which end of the action is closed
    deadband: float = 0.02  # fraction of the way; smaller changes are not sent again
    effort: float = 0.0  # [N] of the `action` back end; 0: the gripper's own


@dataclass(frozen=True)
class RobotConfig:
    """Read one with `RobotConfig.load`. `spec` is the contract with data and checkpoints."""

    robot: str
    control_hz: float
    state: dict[str, str]  # state name -> where it comes from, see Source
    actions: dict[str, Action]  # in the order of the policy
    arms: dict[str, Arm]
    cameras: dict[str, Camera] = field(default_factory=dict)
    grippers: dict[str, Gripper] = field(default_factory=dict)
    conventions: dict[str, str] = field(default_factory=dict)
    workspace: dict[str, Range] = field(default_factory=dict)  # state -> where that may be: of an
    # axis a limit as `position` is; of others where the policy may be, once it is measured there
    timeouts: Timeouts = field(default_factory=Timeouts)
    command_hz: float = 0.0  # [Hz] of commands, a multiple of control_hz; 0: control_hz
    blend: float = 0.1  # [s] in which what an arm is doing fades into a new chunk
    enabled: bool = False  # obey from the start; else somebody calls the service arm/enable
    camera_limits: Limits = field(default_factory=Limits)  # when pictures are not acted on
    state_limits: Limits = field(default_factory=Limits)  # the same, of measured states

    def __post_init__(self) -> None:
        if not 0 < self.control_hz <= 1000:
            raise ConfigError(f"control_hz: expected 0 to 1000, got {self.control_hz}")
        for name, text in self.state.items():
            Source.parse(text, f"state.{name}")
        for name, action in self.actions.items():
            if action.state and action.state not in self.state:
                raise _unknown(f"actions.{name}.state", action.state, self.state)
        twice = sorted(self.arms.keys() & self.grippers.keys())
        if twice or not self.arms:
            raise ConfigError(
                f"arms, grippers: expected an arm or more, and different names, got {twice}"
            )
        for name in self.workspace:
            if name not in self.state:
                raise _unknown("workspace", name, self.state)
        for name, action in self.actions.items():
            low, high = self.allowed(action)
            if not low < high:
                raise ConfigError(f"actions.{name}: nothing of its range is in the workspace")
        self._check_arms()
        steps = self.rate / self.control_hz
        if abs(steps - round(steps)) > 1e-9 or steps < 1:
            raise ConfigError(
                f"command_hz: expected a multiple of control_hz={self.control_hz}, got {self.rate}"
            )
        if not 0 < self.blend < math.inf:
            raise ConfigError(f"blend: expected more than 0 s, got {self.blend}")

    def _check_arms(self) -> None:
        moved = [name for arm in self.arms.values() for name in arm.actions]
        moved += [gripper.action for gripper in self.grippers.values()]
        for name in moved:
            if name not in self.actions:
                raise _unknown("arms.*.actions, grippers.*.action", name, self.actions)
        if sorted(moved) != sorted(self.actions):
            raise ConfigError(
                f"arms and grippers: expected each of {', '.join(self.actions)} to be moved by "
                f"one, got {', '.join(moved)}"
            )
        for key, arm in self.arms.items():
            if arm.joints and len(arm.joints) != len(arm.actions):
                raise ConfigError(f"arms.{key}.joints: expected {len(arm.actions)} names or none")
            if arm.fence is not None:
                self._check_fence(f"arms.{key}.fence", arm, arm.fence)
            if arm.backend == "action" and self.rate != self.control_hz:
                raise ConfigError("command_hz: the back end `action` takes control_hz only")

    def _check_fence(self, key: str, arm: Arm, fence: Fence) -> None:
        action = dict(zip(arm.joints or arm.actions, arm.actions))
        for joint in fence.movable:
            if joint not in action:
                raise _unknown(f"{key}.chain", joint, action)
            if self.actions[action[joint]].kind != "absolute":
                raise ConfigError(
                    f"{key}: expected joints that are told positions, {action[joint]} is "
                    f"{self.actions[action[joint]].kind}; a hand that is told motions has "
                    "`position` for a box"
                )

    @property
    def spec(self) -> RobotSpec:
        return RobotSpec(
            robot=self.robot,
            state_names=tuple(self.state),
            action_names=tuple(self.actions),
            action_low=tuple(a.low for a in self.actions.values()),
            action_high=tuple(a.high for a in self.actions.values()),
            cameras={name: camera.size for name, camera in self.cameras.items()},
            control_hz=self.control_hz,
            conventions=dict(self.conventions),
        )

    def allowed(self, action: Action) -> Range:
        """Where what an action moves may be [m or rad], and be within the workspace."""
        low, high = action.allowed
        least, most = self.workspace.get(action.state, (low, high))
        return max(low, least), min(high, most)

    @property
    def sources(self) -> dict[str, Source]:
        """State name -> where it comes from."""
        return {name: Source.parse(text) for name, text in self.state.items()}

    @property
    def rate(self) -> float:
        """Commands a second [Hz]."""
        return self.command_hz or self.control_hz

    def topic(self, name: str) -> str:
        """Where commands for an arm or a gripper go."""
        part = self.arms.get(name) or self.grippers[name]
        kind = part.backend if name in self.arms else "gripper"
        several = len(self.arms if name in self.arms else self.grippers) > 1
        return part.topic or (f"{name}/" if several else "") + f"command/{kind}"

    @classmethod
    def load(cls, file: str | Path, overrides: list[str] | None = None) -> RobotConfig:
        """Raises ConfigError, which names the file and the key."""
        try:
            return config.read(cls, file, overrides)
        except (ConfigError, TypeError) as error:  # TypeError: a key that must be given is not
            message = str(error).replace("__init__() missing", "needs").replace("positional ", "")
            raise ConfigError(f"robot {file}: {message}") from None


def _unknown(key: str, got: str, known: dict) -> ConfigError:
    return ConfigError(f"{key}: there is no {got!r}; there are {', '.join(known)}")
