"""The screen of `robostack teleop --calibrate`: what a device tells, live, and the questions."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from robostack.real.teleop.calibrate import Calibration
from robostack.real.teleop.device import DeviceError, Poll, TeleopDevice, open_device
from robostack.real.teleop.keyboard import TerminalKeyboard
from robostack.real.teleop.mapping import write_mapping

PERIOD = 0.05  # [s]
SKIP = "escape"
WIDE = 21  # letters of an axis


def calibrate(kind: str, path: str, out: Path) -> dict:
    """Ask for every motion and button, write the mapping to `out`. Raises ValueError where `out`
    exists, DeviceError where there is no such device."""
    if out.exists():
        raise ValueError(f"{out} exists; give the mapping another name")
    if out.suffix not in (".yaml", ".yml"):
        raise ValueError(f"--out {out}: expected a file that ends in .yaml")
    if kind == "browser":
        raise ValueError(
            "device=browser: keys and pads have known names in a browser; copy and change "
            "configs/teleop/browser.yaml or gamepad.yaml"
        )
    device = open_device(kind, hold=0.15, path=path)
    keyboard = None
    try:
        keyboard = _keyboard(kind)
        asking = Calibration(kind)
        _ask(asking, device, keyboard)
    finally:
        device.close()
        if keyboard is not None:
            keyboard.close()
    if not asking.mapping.motions:
        raise ValueError(f"no motion was answered; {out} is not written")
    write_mapping(asking.mapping, out)
    return {"mapping": str(out), "use": f"robostack teleop --out DIR device={kind} mapping={out}"}


def _keyboard(kind: str) -> TerminalKeyboard | None:
    """To skip questions with, beside another device."""
    try:
        return None if kind == "keyboard" else TerminalKeyboard(PERIOD)
    except DeviceError:  # then nothing can be skipped
        return None


def _ask(asking: Calibration, device: TeleopDevice, keyboard: TerminalKeyboard | None) -> None:
    console, understood, before = Console(stderr=True, markup=False, emoji=False), "", False
    with Live(console=console, auto_refresh=False, transient=True) as live:
        said = ""
        while asking.question:
            now = time.monotonic()
            poll = device.poll(now)
            skip = SKIP in (keyboard.poll(now) if keyboard else poll).buttons
            if skip and not before:
                asking.skip()
            before = skip
            if not skip:
                understood = asking.feed(poll) or understood
            if console.is_terminal:
                live.update(_drawing(asking, poll, understood), refresh=True)
            elif said != (said := asking.question):
                print(f"{said}?", file=sys.stderr, flush=True)
            time.sleep(PERIOD)


def _drawing(asking: Calibration, poll: Poll, understood: str) -> Panel:
    table = Table.grid(padding=(0, 2))
    for name, value in sorted(poll.command.items()):
        table.add_row(name, bar(value), f"{value:+.2f}")
    told = "the device is lost" if not poll.alive else "let everything go"
    question = told if asking.waits or not poll.alive else f"{asking.question}?"
    return Panel(
        Group(
            Text(question, style="bold cyan"),
            Text(understood, style="green"),
            table,
            Text("held: " + (", ".join(sorted(poll.buttons)) or "nothing")),
            Text(f"{SKIP} leaves a question out, Ctrl-C ends without writing", style="dim"),
        ),
        width=60,
    )


def bar(value: float) -> str:
    """An axis as letters, its middle marked."""
    letters = ["·"] * WIDE
    letters[WIDE // 2] = "|"
    letters[round((max(-1.0, min(1.0, value)) + 1) / 2 * (WIDE - 1))] = "█"
    return "".join(letters)
