"""The episodes of a batch evaluation, written down one by one: what is known, what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robostack.evaluate import wilson
from robostack.learn.run import RunError

EPISODES = "episodes.jsonl"
CONTROL = "none"  # the condition without any perturbation
LEAST = 10  # episodes before an interval is believed to be narrow


@dataclass(frozen=True)
class Cell:
    """What is evaluated together: one policy on one task under one condition."""

    policy: str
    task: str
    condition: str = CONTROL

    def __str__(self) -> str:
        words = f"{self.policy} on {self.task}"
        return words if self.condition == CONTROL else f"{words} under {self.condition}"

    @property
    def slug(self) -> str:
        """As part of a file name."""
        text = f"{self.policy}--{self.task}"
        text += "" if self.condition == CONTROL else f"--{self.condition}"
        return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)


class Ledger:
    """Rows of every cell by seed. A row is a plain dictionary with at least policy, task,
    condition, seed, success, steps, error and fingerprint (of the policy)."""

    def __init__(self, out: Path, cells: list[Cell], seeds: range, early_stop: float = 0.0):
        self.path = Path(out) / EPISODES
        self.cells, self.seeds, self.early_stop = cells, seeds, early_stop
        self.rows: dict[Cell, dict[int, dict]] = {cell: {} for cell in cells}
        self.problems: dict[str, list[Cell]] = {}  # why cells cannot be played at all

    def read(self, fingerprints: dict[str, str]) -> None:
        """Take over the rows of an interrupted or smaller evaluation. Raises RunError where one is
        of another policy than the name now stands for."""
        for row in read_rows(self.path.parent):
            cell = Cell(row["policy"], row["task"], row["condition"])
            if cell not in self.rows:
                continue
            if row["fingerprint"] != fingerprints[cell.policy]:
                raise RunError(
                    f"{self.path.parent} holds episodes of another policy called {cell.policy}; "
                    "use another name (NAME=DIR), another --out, or --force to start anew"
                )
            self.rows[cell][row["seed"]] = row

    def add(self, cell: Cell, row: dict) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[cell][row["seed"]] = row

    def complain(self, what: str, cell: Cell) -> None:
        """Note that a cell cannot be played; said once for all cells that share it."""
        cells = self.problems.setdefault(what, [])
        if cell not in cells:
            cells.append(cell)

    def stuck(self, cell: Cell) -> bool:
        return any(cell in cells for cells in self.problems.values())

    def counted(self, cell: Cell) -> tuple[list[dict], bool]:
        """Rows of a cell that count, in the order of their seeds, and whether they end early."""
        rows = [self.rows[cell].get(seed) for seed in self.seeds]
        return until_narrow([r for r in rows if r and not r["error"]], self.early_stop)

    def errors(self, cell: Cell) -> list[dict]:
        return [row for row in self.rows[cell].values() if row["error"]]

    def over(self, cell: Cell) -> bool:
        """Whether nothing more will be played."""
        known = all(seed in self.rows[cell] for seed in self.seeds)
        return known or self.stuck(cell) or self.counted(cell)[1]

    def missing(self) -> Iterator[tuple[Cell, int]]:
        """Cells and seeds still to be played; looks at the rows and problems as they come."""
        for cell in self.cells:
            for seed in self.seeds:
                row = self.rows[cell].get(seed)
                if row is not None and not row["error"]:
                    continue
                if self.stuck(cell) or self.counted(cell)[1]:
                    break
                yield cell, seed


def read_rows(folder: Path) -> list[dict]:
    """Episodes of an evaluation so far; a line that was cut off by a crash does not count."""
    path, rows = Path(folder) / EPISODES, []
    if not path.is_file():
        return rows
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)  # or the next line would be appended to half a one
    return [json.loads(line) for line in whole.splitlines()]


def earlier(folder: Path) -> dict[Cell, list[dict]]:
    """Rows of another evaluation, to compare with, its policies named after its folder."""
    rows = read_rows(folder)
    if not rows:
        raise RunError(f"{folder} is no evaluation (no {EPISODES}); make one with --out {folder}")
    found: dict[Cell, dict[int, dict]] = {}
    for row in rows:
        cell = Cell(f"{Path(folder).name}:{row['policy']}", row["task"], row["condition"])
        if not row["error"]:
            found.setdefault(cell, {})[row["seed"]] = row
    return {cell: list(by_seed.values()) for cell, by_seed in found.items()}


def until_narrow(rows: list[dict], width: float) -> tuple[list[dict], bool]:
    """The first rows whose 95 % interval is at most `width` wide, and whether that ends them.

    It is decided in the order of the seeds, so the number of workers does not matter. Looking
    again and again costs a little coverage; the interval is still the one of those episodes.
    """
    successes = 0
    for n, row in enumerate(rows, 1):
        successes += row["success"]
        if width > 0 and n >= LEAST:
            low, high = wilson(successes, n)
            if high - low <= width:
                return rows[:n], True
    return rows, False
