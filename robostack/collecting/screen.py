"""A session on a terminal: redrawn where it is one, a line for each turn where it is a log."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from robostack.real.teleop.device import DeviceError
from robostack.real.teleop.keyboard import TerminalKeyboard
from robostack.real.teleop.mapping import Mapping

REDRAWN = 0.2  # [s]
STYLE = {"ready": "cyan", "recording": "bold white on red", "review": "black on yellow"}


class TerminalWords:
    """The keys of the terminal as words of the session, where another device drives."""

    def __init__(self, mapping: Mapping):
        """Raises DeviceError where there is no terminal."""
        self.session = mapping.session
        self._keyboard, self._before = TerminalKeyboard(mapping.hold), frozenset()

    def said(self, now: float) -> list[Sequence[str]]:
        held = self._keyboard.poll(now).buttons
        pressed, self._before = held - self._before, held
        found = [[w for w, key in self.session.items() if key == each] for each in pressed]
        return [words for words in found if words]

    def close(self) -> None:
        self._keyboard.close()


def terminal_words(mapping: Mapping) -> TerminalWords | None:
    """None where there is no terminal."""
    try:
        return TerminalWords(mapping) if sys.stderr.isatty() else None
    except DeviceError:
        return None


class Screen:
    """What a session is doing, on standard error. `session` names the key of each word, `legend`
    what the others do."""

    def __init__(self, where: str, session: dict[str, str], legend: str):
        self.where, self.session, self.legend = where, session, legend
        self.console = Console(stderr=True, markup=False, emoji=False)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self._drawn, self._state, self._said = -REDRAWN, "", ""

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self.live.start()
        else:
            print(self.where, file=sys.stderr, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def due(self, now: float) -> bool:
        """Whether it is time to be shown something again."""
        return now - self._drawn >= REDRAWN or not self.console.is_terminal

    def show(self, status: dict, now: float) -> None:
        self._drawn = now
        if self.console.is_terminal:
            self.live.update(self._drawing(status), refresh=True)
        elif (status["state"], status["message"]) != (self._state, self._said):
            self._state, self._said = status["state"], status["message"]
            print(line(status), file=sys.stderr, flush=True)

    def _drawing(self, status: dict) -> Panel:
        state = status["state"]
        head = Text.assemble((f" {state} ", STYLE.get(state, "")), f"  {status['task']}")
        table = Table.grid(padding=(0, 3))
        for row in rows(status):
            table.add_row(*row)
        keys = "  ".join(f"{w} [{self.session.get(w, 'page')}]" for w in status["words"])
        parts = [head, Text(status["message"] or status["note"], style="yellow"), table]
        parts += [Text(f"  {f}", style="red") for f in status["findings"]]
        parts += [Text(keys, style="bold"), Text(self.legend, style="dim")]
        return Panel(Group(*parts), title=Text(self.where), width=min(100, self.console.width))


def rows(status: dict) -> list[tuple[str, str, str]]:
    goal = f" of {status['goal']}" if status["goal"] else ""
    success = {None: "unknown", True: "yes", False: "not yet"}[status["success"]]
    fingers = {None: "", True: "fingers closed", False: "fingers open"}[status["closed"]]
    device = "device alive" if status["alive"] else "DEVICE LOST OR SILENT"
    return [
        (f"kept {status['kept']}{goal}", f"{status['seconds']:.1f} s", f"success: {success}"),
        (f"trash {status['trash']}", f"start {status['seed']}", f"{status['free_mb']} MB free"),
        (device, f"speed {100 * status['speed']:.0f} %", fingers),
        (
            f"{status['rate']:.1f} of {status['hz']:g} Hz",
            f"{status['late']} late",
            "  ".join(f"{name} {1000 * age:.0f} ms old" for name, age in status["ages"].items()),
        ),
        *([(f"arm {status['arm']}", "", "")] if status["arm"] else []),
    ]


def line(status: dict) -> str:
    """One line of a log."""
    found = f"; {status['found']}" if status["found"] else ""
    message = f": {status['message']}" if status["message"] else ""
    what = f", {status['seconds']:.1f} s" if status["state"] == "review" else ""
    start = "" if status["state"] == "over" else f" (start {status['seed']}{what}{found})"
    return f"{status['kept']} kept; {status['state']}{start}{message}"
