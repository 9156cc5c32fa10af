"""Finding out which axis or button does what: the pure part of `robostack teleop --calibrate`.

One question after the other ("move forward"); the answer is the axis that went furthest from where
it rested, or the button that was pressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from robostack.real.teleop.device import SESSION, Poll
from robostack.real.teleop.mapping import Gripper, Mapping, Motion

MOTIONS = {
    "dx": ("forward", "back"),
    "dy": ("left", "right"),
    "dz": ("up", "down"),
    "rx": ("tilt left", "tilt right"),
    "ry": ("tip down", "tip up"),
    "rz": ("turn left", "turn right"),
}
BUTTONS = {
    "gripper": "open and close the fingers",
    "deadman": "hold to drive",
    "clutch": "hold while you move your hand and the arm stays",
    "slower": "drive slower",
    "faster": "drive faster",
    "switch": "drive the other one of two arms",
    "start": "start, stop and keep a recording",
    "success": "say that it succeeded",
    "failure": "say that it failed; later: undo",
    "redo": "do a recording again",
    "discard": "discard a recording",
    "quit": "end the session",
}
WORDS = {"start": ("start", "stop", "keep"), "failure": ("failure", "undo")}  # else its own name
FAR, NEAR = 0.6, 0.2  # how far an axis must go to be an answer, and come back for the next question
NOISE = 2.0  # deadzone, in multiples of what an axis moves at rest


class Calibration:
    """Questions for a device, fed with polls; done when `question` is "".

    A button answers a motion, too: the question for the other way follows.
    """

    def __init__(self, device: str, motions: Sequence[str] = tuple(MOTIONS), clearly: int = 3):
        """`clearly`: polls in a row that must agree on an answer."""
        self._todo = [("motion", name, 0) for name in motions]
        self._todo += [("button", name, 0) for name in BUTTONS]
        self._clearly, self._agreed = clearly, ("", 0)
        self._rest: dict[str, float] | None = None  # where axes are when let go; not known yet
        self._noise, self._waits = 0.0, True  # until all is let go
        self.mapping = Mapping(device=device)

    @property
    def question(self) -> str:
        if not self._todo:
            return ""
        kind, name, way = self._todo[0]
        return MOTIONS[name][way] if kind == "motion" else BUTTONS[name]

    @property
    def waits(self) -> bool:
        """Whether everything must be let go first."""
        return self._waits

    def skip(self) -> None:
        """Leave the present question without an answer."""
        kind, name, way = self._todo.pop(0)
        if way:
            motions = {n: m for n, m in self.mapping.motions.items() if n != name}
            self.mapping = replace(self.mapping, motions=motions)
        self._waits = True

    def feed(self, poll: Poll) -> str:
        """One poll; returns what was understood, "" for nothing yet."""
        if not poll.alive or not self._todo:
            return ""
        rest = self._rest or {}
        moved = {
            name: value - rest.get(name, value)
            for name, value in poll.command.items()
            if abs(rest.get(name, 0.0)) < FAR  # a raw trigger rests at -1, and would drive there
        }
        if self._waits:
            return self._settle(poll, moved)
        far = max(moved, key=lambda n: abs(moved[n]), default="")
        answer = ""
        if poll.buttons:
            answer = min(poll.buttons)
        elif far and abs(moved[far]) > FAR and self._todo[0][0] == "motion":
            answer = f"{'+' if moved[far] > 0 else '-'}{far}"
        before, count = self._agreed
        self._agreed = (answer, count + 1 if answer == before else 1)
        if not answer or self._agreed[1] < self._clearly:
            return ""
        return self._take(answer, not poll.buttons)

    def _settle(self, poll: Poll, moved: dict[str, float]) -> str:
        """Learn where axes rest, once all is let go."""
        if self._rest is None:
            self._rest = dict(poll.command)
        elif not poll.buttons and all(abs(v) < NEAR for v in moved.values()):
            self._noise = max([self._noise, *map(abs, moved.values())])
            self._waits, self._agreed = False, ("", 0)
        return ""

    def _take(self, answer: str, is_axis: bool) -> str:
        self._waits = True
        axes = {motion.axis for motion in self.mapping.motions.values()}
        if answer[1:] in axes if is_axis else answer in self.mapping.buttons():
            return f"{answer} means something else already"
        kind, name, way = self._todo.pop(0)
        if kind == "button":
            self._button(name, answer)
            return f"{BUTTONS[name]}: {answer}"
        motions = dict(self.mapping.motions)
        if is_axis:
            motions[name] = Motion(axis=answer[1:], scale=1.0 if answer[0] == "+" else -1.0)
        elif way:
            motions[name] = replace(motions[name], minus=answer)
        else:
            motions[name] = Motion(plus=answer)
            self._todo.insert(0, (kind, name, 1))
        deadzone = round(min(0.5, max(self.mapping.deadzone, NOISE * self._noise)), 3)
        self.mapping = replace(self.mapping, motions=motions, deadzone=deadzone)
        return f"{MOTIONS[name][way]}: {answer}"

    def _button(self, name: str, answer: str) -> None:
        if name == "gripper":
            self.mapping = replace(self.mapping, gripper=Gripper(toggle=answer))
        elif name in SESSION or name in WORDS:
            words = WORDS.get(name, (name,))
            session = {**self.mapping.session, **dict.fromkeys(words, answer)}
            self.mapping = replace(self.mapping, session=session)
        else:
            self.mapping = replace(self.mapping, **{name: answer})
