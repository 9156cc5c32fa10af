"""From what a device tells to what a robot is asked: deadman, clutch, speed, fingers, two arms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from robostack.real.teleop.device import LOST, Poll
from robostack.real.teleop.mapping import Mapping
from robostack.real.teleop.motion import ARM, Joints, Motions, Pose, Rates
from robostack.types import RobotSpec

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)  # of speed
GRIPPER = "gripper"
HALF = 0.5  # of a trigger, from where on it counts as pressed


class Drive(NamedTuple):
    """What is asked of the robot for one control period."""

    action: np.ndarray  # f32[A], within the spec's bounds; a hold action unless engaged
    engaged: bool  # whether somebody drives: device alive, deadman held, something moved
    events: tuple[str, ...]  # words of the session whose buttons have just gone down
    note: str  # why the arm stays, "" while it does not


class Driver:
    """Turns polls of a device into actions of a robot.

    It begins with open fingers; `take_over` begins with what the arm was told last. Raises
    ValueError where the mapping cannot drive the robot, and says which actions are left out.
    """

    def __init__(self, mapping: Mapping, spec: RobotSpec):
        self.mapping, self.spec = mapping, spec
        self.absolute = _absolute(spec)
        self.arms = arms(spec)
        self._fingers = [i for i, n in enumerate(spec.action_names) if n.endswith(GRIPPER)]
        self.fingers = _fingers(spec) if self._fingers else (1.0, -1.0)  # closed, open
        self._closed, self._open = self.fingers
        styles = {"pose": Pose, "leader": Joints}
        style = styles.get(mapping.device, Rates)
        self._motions: list[Motions] = [
            style(mapping, spec, rows, self.absolute) for rows in self._rows()
        ]
        if self._fingers and mapping.gripper is None:
            raise ValueError(
                f"{spec.robot} has a gripper, and the mapping for {mapping.device} does not drive "
                "it; add e.g. gripper: {toggle: BUTTON}"
            )
        self.speed = mapping.speed
        self.reset()

    def _rows(self) -> list[list[int]]:
        """Indices of each arm's actions, fingers apart."""
        names = self.spec.action_names
        return [
            [i for i, n in enumerate(names) if n.startswith(arm) and i not in self._fingers]
            for arm in self.arms
        ]

    def reset(self) -> None:
        """Before an episode: open fingers, nothing held, the first arm. The speed stays."""
        hold = np.zeros(self.spec.action_dim, np.float32)
        hold[self._fingers] = self._open
        self.arm = 0
        self._before: frozenset[str] = frozenset()
        self._started = False
        self._engaged = False
        self.take_over(hold)
        self._known = not self.absolute

    def take_over(self, action: np.ndarray) -> None:
        """Go on from the action f32[A] that the arm was told last: nothing jumps."""
        self._hold = np.array(action, np.float32)
        if not self.absolute:
            moves = np.ones(len(self._hold), bool)
            moves[self._fingers] = False
            self._hold[moves] = 0
        self._known = True

    @property
    def hold(self) -> np.ndarray:
        """The action f32[A] that changes nothing."""
        return self.spec.clip(self._hold)

    @property
    def closed(self) -> bool | None:
        """Whether the fingers of the present arm are asked to be closed; None where it has none."""
        row = self._own_fingers()
        if not row:
            return None
        value = float(self._hold[row[0]])
        return abs(value - self._closed) < abs(value - self._open)

    def _own_fingers(self) -> list[int]:
        prefix = self.arms[self.arm]
        return [i for i in self._fingers if self.spec.action_names[i].startswith(prefix)]

    def act(self, poll: Poll, now: float, state: Sequence[float] | np.ndarray) -> Drive:
        """The action of this control period; `state` f32[S] is in the order of the spec.

        A button that is held when the device is first seen must be let go before it counts.
        """
        if not self._known:  # an absolute robot stays where it is
            self._hold = standing(self.spec, state, self._hold, self._fingers)
            self._known = True
        poll = poll if poll.alive else LOST
        if not self._started:
            self._before, self._started = poll.buttons, poll.alive
        pressed = poll.buttons - self._before if poll.alive else frozenset()
        if poll.alive:  # else: a button that is held through a gap was not pressed again
            self._before = poll.buttons
        events = tuple(w for w, b in self.mapping.session.items() if b in pressed)
        if not poll.alive:
            return self._stay("the device is lost or silent", events)
        self._settle(pressed)
        if self.mapping.deadman and self.mapping.deadman not in poll.buttons:
            return self._stay(f"{self.mapping.deadman} is not held", events)
        moved = self._grip(poll, pressed)
        if self.mapping.clutch and self.mapping.clutch in poll.buttons:
            return self._stay(f"clutch: {self.mapping.clutch} is held", events)
        asked, note = self._motions[self.arm].ask(poll, self._hold, state, self.speed)
        if note:
            return self._stay(note, events)
        still = asked is None and not moved
        if still and not self.mapping.deadman:
            return self._stay("nothing is pressed", events)
        action = self._hold.copy()
        if asked is not None:
            rows = self._motions[self.arm].rows
            action[rows] = asked
            action = self.spec.clip(action)
            if self.absolute:
                self._hold[rows] = action[rows]
        return Drive(self.spec.clip(action), True, events, "")

    def _stay(self, note: str, events: tuple[str, ...]) -> Drive:
        for motions in self._motions:
            motions.let_go()
        return Drive(self.hold, False, events, note)

    def _settle(self, pressed: frozenset[str]) -> None:
        """Speed and arm."""
        step = (self.mapping.faster in pressed) - (self.mapping.slower in pressed)
        if step > 0:
            self.speed = min((v for v in LEVELS if v > self.speed + 1e-6), default=1.0)
        elif step < 0:
            self.speed = max((v for v in LEVELS if v < self.speed - 1e-6), default=LEVELS[0])
        if self.mapping.switch in pressed and len(self.arms) > 1:
            self._motions[self.arm].let_go()
            self.arm = (self.arm + 1) % len(self.arms)

    def _grip(self, poll: Poll, pressed: frozenset[str]) -> bool:
        """Set the fingers of the present arm; whether they were asked to change."""
        gripper = self.mapping.gripper
        row = [
            i for i in self._fingers if self.spec.action_names[i].startswith(self.arms[self.arm])
        ]
        if gripper is None or not row:
            return False
        before = self._hold[row].copy()
        if gripper.toggle:
            if gripper.toggle in pressed:
                self._hold[row] = self._open if self.closed else self._closed
        elif gripper.close:
            self._hold[row] = self._closed if gripper.close in poll.buttons else self._open
        elif gripper.axis in poll.command:
            share = float(np.clip(poll.command[gripper.axis], 0, 1))
            self._hold[row] = self._open + share * (self._closed - self._open)
        return bool((self._hold[row] != before).any())


def arms(spec: RobotSpec) -> list[str]:
    """Prefixes of the action names of each arm; [""] of a robot with one."""
    found = dict.fromkeys(m[0] for n in spec.action_names if (m := re.match(ARM, n)))
    return list(found) or [""]


def _absolute(spec: RobotSpec) -> bool:
    """Whether actions are places to be and not ways to go. Raises ValueError where the spec does
    not say, because 0 means "stay" in one case and a place in the other."""
    said = spec.conventions.get("action", "")
    if "absolute" in said:
        return True
    if "delta" in said or "velocity" in said:
        return False
    raise ValueError(
        f"{spec.robot} cannot be driven by hand: conventions['action'] is {said!r}; expected one "
        "that says delta, velocity or absolute, else nobody knows which action means to stay"
    )


def _fingers(spec: RobotSpec) -> tuple[float, float]:
    """Values of a gripper's action that close and open it, by the spec's conventions."""
    said = spec.conventions.get(GRIPPER, "")
    row = next(i for i, n in enumerate(spec.action_names) if n.endswith(GRIPPER))
    low, high = spec.action_low[row], spec.action_high[row]
    if re.search(r"(\+1|1|high\w*) closes", said):
        return high, low
    if re.search(r"(-1|0|low\w*) closes|(\+1|1|high\w*) opens", said):
        return low, high
    raise ValueError(
        f"{spec.robot}: conventions['gripper'] is {said!r}; expected '+1 closes' or '+1 opens'"
    )


def standing(
    spec: RobotSpec, state: Sequence[float] | np.ndarray, hold: np.ndarray, but: list[int]
) -> np.ndarray:
    """The absolute action f32[A] that asks for where the robot is. Raises ValueError where an
    action has no state of its name."""
    found, missing = hold.copy(), []
    for row, name in enumerate(spec.action_names):
        if name in spec.state_names:
            found[row] = state[spec.state_names.index(name)]
        elif row not in but:
            missing.append(name)
    if missing:
        raise ValueError(
            f"{spec.robot}: actions {', '.join(missing)} are absolute and no state has their "
            "names, so nobody knows where the arm stands when a hand takes over"
        )
    return found
