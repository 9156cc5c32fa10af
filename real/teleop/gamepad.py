"""A gamepad by SDL, which knows the layout of most: sticks and buttons have the same names on all.

Axes left_x, left_y (down is +1), right_x, right_y, trigger_left, trigger_right (0 to 1); buttons
a, b, x, y, back, guide, start, left_stick, right_stick, left_shoulder, right_shoulder, dpad_up,
dpad_down, dpad_left, dpad_right. Of a pad that SDL does not know: axis0.., button0.., hat0_up...
"""

from __future__ import annotations

import contextlib
import os

from robostack.real.teleop.device import LOST, DeviceError, Poll

AXES = ("left_x", "left_y", "right_x", "right_y", "trigger_left", "trigger_right")
BUTTONS = (
    *("a", "b", "x", "y", "back", "guide", "start", "left_stick", "right_stick"),
    *("left_shoulder", "right_shoulder", "dpad_up", "dpad_down", "dpad_left", "dpad_right"),
)  # in SDL's order


class Gamepad:
    """The first gamepad, or the one whose name holds `name`. One that is unplugged or out of reach
    is not alive, and is found again when it comes back. Raises DeviceError where there is none."""

    def __init__(self, name: str = ""):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no window; works without a display
        os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
            from pygame._sdl2 import controller
        except ImportError:
            raise DeviceError(
                "gamepads need pygame: pip install 'robostack[teleop]'; or plug the pad into the "
                "machine of the browser and use `device=browser`"
            ) from None
        self._pygame, self._controller, self._name = pygame, controller, name
        pygame.display.init()
        pygame.joystick.init()
        controller.init()
        pygame.event.pump()
        self._pad = self._find()
        if self._pad is None:
            raise DeviceError(f"no gamepad{f' named {name}' if name else ''}; {self._others()}")

    def _others(self) -> str:
        joysticks = self._pygame.joystick
        names = [joysticks.Joystick(i).get_name() for i in range(joysticks.get_count())]
        return f"SDL sees {', '.join(names) or 'none: is it plugged in, and may you read it?'}"

    def _find(self):
        joysticks = self._pygame.joystick
        for i in range(joysticks.get_count()):
            if self._name.lower() in joysticks.Joystick(i).get_name().lower():
                if self._controller.is_controller(i):
                    down = self._pygame.CONTROLLERBUTTONDOWN
                    return _Known(self._controller.Controller(i), down)
                return _Plain(joysticks.Joystick(i), self._pygame.JOYBUTTONDOWN)
        return None

    def poll(self, now: float) -> Poll:
        pygame = self._pygame
        removed, added = (pygame.JOYDEVICEREMOVED, pygame.JOYDEVICEADDED)
        tapped = set()  # down, and perhaps up again, between two polls
        for event in pygame.event.get():
            if event.type == removed and self._pad and event.instance_id == self._pad.number:
                self._pad = None
            elif event.type == added and self._pad is None:
                self._pad = self._find()
            elif self._pad is not None and event.type == self._pad.down:
                tapped |= self._pad.pressed(event)
        if self._pad is None or not self._pad.attached():
            return LOST
        return Poll(self._pad.axes(), self._pad.buttons() | tapped, True)

    def close(self) -> None:
        self._pad = None
        with contextlib.suppress(self._pygame.error):
            self._controller.quit()
            self._pygame.joystick.quit()
            self._pygame.display.quit()


class _Known:
    """A pad whose layout SDL knows."""

    def __init__(self, pad, down: int):
        self._pad, self.number, self.down = pad, pad.as_joystick().get_instance_id(), down

    def pressed(self, event) -> set[str]:
        known = event.instance_id == self.number and event.button < len(BUTTONS)
        return {BUTTONS[event.button]} if known else set()

    def attached(self) -> bool:
        return self._pad.attached()

    def axes(self) -> dict[str, float]:
        return {name: self._pad.get_axis(i) / 32767 for i, name in enumerate(AXES)}

    def buttons(self) -> frozenset[str]:
        return frozenset(name for i, name in enumerate(BUTTONS) if self._pad.get_button(i))


class _Plain:
    """Any other."""

    def __init__(self, pad, down: int):
        self._pad, self.number, self.down = pad, pad.get_instance_id(), down

    def pressed(self, event) -> set[str]:
        return {f"button{event.button}"} if event.instance_id == self.number else set()

    def attached(self) -> bool:
        return self._pad.get_init()

    def axes(self) -> dict[str, float]:
        return {f"axis{i}": self._pad.get_axis(i) for i in range(self._pad.get_numaxes())}

    def buttons(self) -> frozenset[str]:
        held = {f"button{i}" for i in range(self._pad.get_numbuttons()) if self._pad.get_button(i)}
        for i in range(self._pad.get_numhats()):
            x, y = self._pad.get_hat(i)
            sides = {"left": x < 0, "right": x > 0, "up": y > 0, "down": y < 0}
            held |= {f"hat{i}_{side}" for side, is_held in sides.items() if is_held}
        return frozenset(held)
