"""The live table of a batch evaluation: on a terminal it is redrawn, in a log a cell is a line."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from robostack.evaluate import wilson
from robostack.ledger import CONTROL, Cell, Ledger

SHOWN = 20  # rows, so that the table fits on a screen


class Board:
    """Shows how far every cell is, while they are played; at the end, what could not be."""

    def __init__(self, ledger: Ledger, warnings: list[str]):
        self.ledger, self.warnings, self.started = ledger, warnings, time.monotonic()
        self.console = Console(stderr=True, markup=False, emoji=False)  # names are only names
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self._said: set[Cell] = set()

    def __enter__(self) -> Board:
        for text in self.warnings:
            print(f"warning: {text}", file=sys.stderr, flush=True)
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.update()
        if self.console.is_terminal:
            self.live.stop()
            self.console.print(self._table(self.ledger.cells))
        for what, cells in self.ledger.problems.items():
            print(f"not played: {_where(cells)}: {what}", file=sys.stderr, flush=True)
        for what, cells in self.ledger.failures().items():
            count = f"{len(cells)} episode{'s' if len(cells) > 1 else ''}"
            where = _where(list(dict.fromkeys(cells)))
            print(f"failed: {count} of {where}: {what}", file=sys.stderr, flush=True)

    def update(self) -> None:
        if self.console.is_terminal:
            self.live.update(self._table(self._interesting()), refresh=True)
        for cell in self.ledger.cells:
            if cell not in self._said and self.ledger.over(cell):
                self._said.add(cell)
                if not self.console.is_terminal:
                    print(self._line(cell), file=sys.stderr, flush=True)

    def _line(self, cell: Cell) -> str:
        return f"{cell}: " + " ".join(text for text in self._columns(cell)[3:] if text)

    def _columns(self, cell: Cell) -> list[str]:
        rows, early = self.ledger.counted(cell)
        won = sum(row["success"] for row in rows)
        rate = interval = steps = ""
        if rows:
            low, high = wilson(won, len(rows))
            rate, interval = f"{won / len(rows):.0%}", f"[{low:.0%}, {high:.0%}]"
            steps = f"{sum(row['steps'] for row in rows) / len(rows):.0f} steps"
        errors = len(self.ledger.errors(cell))
        again = sum(row["attempts"] > 1 for row in self.ledger.rows[cell].values())
        notes = [f"{errors} errors" if errors else "", f"{again} re-run" if again else ""]
        if self.ledger.stuck(cell):
            notes.append("not played, see below")
        if early:
            notes.append("interval narrow enough")
        count = f"{won}/{len(rows)}" + ("" if early else f" of {len(self.ledger.seeds)}")
        return [
            cell.policy,
            cell.task,
            "" if cell.condition == CONTROL else cell.condition,
            *(count, rate, interval, steps),
            ", ".join(note for note in notes if note),
        ]

    def _interesting(self) -> list[Cell]:
        """The cells around the one that is being played."""
        cells = self.ledger.cells
        now = next((i for i, cell in enumerate(cells) if not self.ledger.over(cell)), len(cells))
        begin = max(0, min(now - SHOWN // 2, len(cells) - SHOWN))
        return cells[begin : begin + SHOWN]

    def _table(self, cells: list[Cell]) -> Table:
        done = sum(len(rows) for rows in self.ledger.rows.values())
        total = len(self.ledger.cells) * len(self.ledger.seeds)
        seconds = time.monotonic() - self.started
        title = f"{done} of at most {total} episodes, {seconds:.0f} s"
        table = Table(title=title, title_justify="left")
        for name in ("policy", "task", "condition", "episodes", "success", "95 %", "length", ""):
            table.add_column(name)
        for cell in cells:
            table.add_row(*self._columns(cell))
        return table


def _where(cells: list[Cell]) -> str:
    return f"{cells[0]}" + (f" and {len(cells) - 1} more" if len(cells) > 1 else "")
