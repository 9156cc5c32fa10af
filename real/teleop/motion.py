"""Three ways in which a hand moves an arm: sticks and keys, a tracked hand, a leader arm.

Each gets what the device tells and returns the actions of one arm, or why it stays. All are
relative: taking hold of an arm never makes it jump.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from robostack.real.teleop.device import Poll
from robostack.real.teleop.mapping import Mapping
from robostack.types import RobotSpec

PLACE, TURN = ("dx", "dy", "dz"), ("rx", "ry", "rz")
ARM = r"^(robot\d+|left|right)[_/]"  # how action names of one of several arms begin
BEHIND = 3.0  # actions by which a hand may be ahead of the arm; what is more is forgotten


class Motions(Protocol):
    rows: list[int]  # of the actions that it drives

    def ask(
        self, poll: Poll, hold: np.ndarray, state: Sequence[float] | np.ndarray, speed: float
    ) -> tuple[np.ndarray | None, str]:
        """f32[rows] or None for nothing to do, and why the arm must stay, "" where it need not.
        `hold` f32[A] is what the whole robot was asked last."""

    def let_go(self) -> None:
        """Nobody drives: what comes next begins anew."""


class Rates:
    """Sticks and keys: how far they are pushed is how fast the arm moves."""

    def __init__(self, mapping: Mapping, spec: RobotSpec, rows: list[int], absolute: bool):
        self.mapping, self.spec, self.rows, self.absolute = mapping, spec, rows, absolute
        self._names = _own(spec, rows)
        if missing := [n for n in self._names if n not in mapping.motions]:
            raise ValueError(
                f"{spec.robot} cannot be driven by this mapping for {mapping.device}: nothing "
                f"moves {', '.join(missing)}; its motions: {', '.join(mapping.motions) or 'none'}"
            )
        self._low, self._high = (np.array(b)[rows] for b in (spec.action_low, spec.action_high))

    def ask(self, poll, hold, state, speed):
        pushed = np.array([self._pushed(poll, name) for name in self._names])
        if not pushed.any():
            return None, ""
        pushed = turned(self._names, pushed, self.mapping.yaw)
        if self.absolute:
            scale = np.array([abs(self.mapping.motions[n].scale) for n in self._names])
            asked = hold[self.rows] + pushed * speed * scale / self.spec.control_hz
        else:
            asked = speed * np.where(pushed > 0, pushed * self._high, -pushed * self._low)
        return asked.astype(np.float32), ""

    def _pushed(self, poll: Poll, name: str) -> float:
        """-1 to 1."""
        motion = self.mapping.motions[name]
        sign = 1.0 if self.absolute else abs(motion.scale)
        sign = np.copysign(sign, motion.scale)
        if motion.axis:
            value = float(np.clip(poll.command.get(motion.axis, 0.0), -1, 1))
            dead = self.mapping.deadzone
            value = np.sign(value) * max(abs(value) - dead, 0) / (1 - dead)
        else:
            value = (motion.plus in poll.buttons) - (motion.minus in poll.buttons)
        return float(np.clip(sign * value, -1, 1))

    def let_go(self) -> None:
        pass


class Pose:
    """A tracked hand: the arm moves and turns as much as the hand has since it took hold."""

    def __init__(self, mapping: Mapping, spec: RobotSpec, rows: list[int], absolute: bool):
        self.mapping, self.spec, self.rows = mapping, spec, rows
        self._names = _own(spec, rows)
        if absolute or (wrong := [n for n in self._names if n not in PLACE + TURN]):
            which = "absolute actions" if absolute else ", ".join(wrong)
            raise ValueError(
                f"{spec.robot} cannot be driven by a tracked hand: it has {which}; expected "
                f"differences {', '.join(PLACE + TURN)}"
            )
        metres, radians = _units(mapping, spec, self._names)
        self._unit = np.array([metres if n in PLACE else radians for n in self._names])
        self.let_go()

    def ask(self, poll, hold, state, speed):
        if not {"x", "y", "z", "qw", "qx", "qy", "qz"} <= poll.command.keys():
            return None, "no pose of the hand yet"
        place = np.array([poll.command[n] for n in "xyz"])
        turn = rotation_matrix([poll.command[n] for n in ("qw", "qx", "qy", "qz")])
        if self._last is None:
            self._last = place, turn
            return None, ""
        moved = np.concatenate([place - self._last[0], rotation_vector(turn @ self._last[1].T)])
        self._last = place, turn
        wanted = dict(zip(PLACE + TURN, moved))
        asked = turned(self._names, np.array([wanted[n] for n in self._names]), self.mapping.yaw)
        behind = np.clip(self._behind + asked / self._unit, -BEHIND, BEHIND)
        step = np.clip(behind, -speed, speed)
        self._behind = behind - step
        return (step.astype(np.float32) if step.any() else None), ""

    def let_go(self) -> None:
        self._last, self._behind = None, np.zeros(len(self.rows))


class Joints:
    """A leader arm: joints of the same names lead. With follow=relative the arm moves as much as
    the leader has since it took hold; with follow=match it goes where the leader is, and only once
    the leader has been brought near to where the arm is."""

    def __init__(self, mapping: Mapping, spec: RobotSpec, rows: list[int], absolute: bool):
        self.mapping, self.spec, self.rows, self.absolute = mapping, spec, rows, absolute
        self._names = _own(spec, rows)
        self._motions = [mapping.motions.get(n) for n in self._names]
        self._leads = [m.axis if m else n for n, m in zip(self._names, self._motions)]
        self._scale = np.array([m.scale if m else 1.0 for m in self._motions])
        if cartesian := [n for n in self._names if n in PLACE + TURN]:
            raise ValueError(
                f"{spec.robot} cannot be driven by a leader arm, which leads joints: its actions "
                f"are {', '.join(cartesian)}"
            )
        if mapping.follow == "match" and not absolute:
            raise ValueError(f"{spec.robot}: follow=match needs absolute joint actions")
        if not absolute:
            self._unit = _units(mapping, spec, ["rz"])[1]
        self.let_go()

    def ask(self, poll, hold, state, speed):
        if missing := [n for n in self._leads if n not in poll.command]:
            has = ", ".join(sorted(poll.command)) or "nothing"
            return None, f"the leader does not tell {', '.join(missing)}; it has {has}"
        leader = self._scale * np.array([poll.command[n] for n in self._leads])
        if not self.absolute:
            moved = 0 if self._last is None else leader - self._last
            self._last = leader
            step = np.clip(self._behind + moved / self._unit, -1, 1)
            self._behind = np.clip(self._behind + moved / self._unit - step, -BEHIND, BEHIND)
            return (step.astype(np.float32) if step.any() else None), ""
        if self._last is None:
            off = leader - hold[self.rows]
            if self.mapping.follow == "match":
                worst = int(np.argmax(np.abs(off)))
                if abs(off[worst]) > self.mapping.tolerance:
                    name = self._names[worst]
                    return None, f"bring the leader to the arm: {name} is {off[worst]:+.2f} off"
                off = np.zeros(len(off))
            self._last = off
        return (leader - self._last).astype(np.float32), ""

    def let_go(self) -> None:
        self._last, self._behind = None, np.zeros(len(self.rows))


def _own(spec: RobotSpec, rows: list[int]) -> list[str]:
    """Names of actions, without the prefix of their arm."""
    return [re.sub(ARM, "", spec.action_names[row]) for row in rows]


def _units(mapping: Mapping, spec: RobotSpec, names: list[str]) -> tuple[float, float]:
    """[m] and [rad] that a motion of 1 asks for: the mapping's, else what the spec's conventions
    say, as in "delta, 1 = 0.05 m or 0.5 rad". Raises ValueError where neither does."""
    found = []
    for given, unit, of in ((mapping.metres, "m", PLACE), (mapping.radians, "rad", TURN)):
        told = spec.unit(unit)
        if not given and told is None and any(n in of for n in names):
            key = "metres" if unit == "m" else "radians"
            said = spec.conventions.get("action", "")
            raise ValueError(
                f"{spec.robot}: nobody says how far an action of 1 goes: conventions['action'] is "
                f"{said!r}, and the mapping has no {key}"
            )
        found.append(given or told or 1.0)
    return found[0], found[1]


def turned(names: list[str], values: np.ndarray, degrees: float) -> np.ndarray:
    """Motions asked by somebody who stands turned about the vertical, in the robot's frame."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    out = values.copy()
    for x, y in (PLACE[:2], TURN[:2]):
        if x in names and y in names:
            i, j = names.index(x), names.index(y)
            out[i], out[j] = c * values[i] - s * values[j], s * values[i] + c * values[j]
    return np.where(np.abs(out) < 1e-9, 0, out)


def rotation_matrix(quaternion: Sequence[float]) -> np.ndarray:
    """Of a quaternion wxyz of any length but 0."""
    w, x, y, z = np.asarray(quaternion, float) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Axis times angle f64[3] of a rotation of less than half a turn."""
    vector = np.array(
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
    )
    sine, cosine = np.linalg.norm(vector) / 2, (np.trace(matrix) - 1) / 2
    return np.zeros(3) if sine < 1e-9 else vector / (2 * sine) * np.arctan2(sine, cosine)
