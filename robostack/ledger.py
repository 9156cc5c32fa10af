"""The episodes of a batch evaluation, written down one by one: what is known, what is missing."""

from __future__ import annotations

import hashlib
import itertools
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
        """As part of a file name, of no other cell. Tasks and conditions are ours and stay apart;
        policies are called what the user likes, and `a/b` is not `a-b`."""
        policy = _plain(self.policy)[:60]
        if policy != self.policy:
            policy += "-" + hashlib.blake2b(self.policy.encode(), digest_size=4).hexdigest()
        text = f"{policy}--{_plain(self.task)}"
        return text if self.condition == CONTROL else f"{text}--{_plain(self.condition)}"


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in text)


class Ledger:
    """Rows of every cell by seed. A row is a plain dictionary with at least policy, task,
    condition, seed, success, steps, error and fingerprint (of the policy)."""

    def __init__(self, out: Path, cells: list[Cell], seeds: range, early_stop: float = 0.0):
        self.path = Path(out) / EPISODES
        self.cells, self.seeds, self.early_stop = cells, seeds, early_stop
        self.rows: dict[Cell, dict[int, dict]] = {cell: {} for cell in cells}
        self.problems: dict[str, list[Cell]] = {}  # why cells cannot be played at all
        self.failed: dict[tuple[Cell, int], int] = {}  # attempts of earlier sessions, all in vain

    def read(self, fingerprints: dict[str, str]) -> None:
        """Take over the rows of an interrupted or smaller evaluation; those that ended in an error
        are played again. Raises RunError where one is of another policy than the name now stands
        for."""
        _cut_half_a_line(self.path)
        for row in read_rows(self.path.parent):
            cell = Cell(row["policy"], row["task"], row["condition"])
            if cell not in self.rows or row["seed"] not in self.seeds:
                continue
            if row["fingerprint"] != fingerprints[cell.policy]:
                raise RunError(
                    f"{self.path.parent} holds episodes of another policy called {cell.policy}; "
                    "use another name (NAME=DIR), another --out, or --force to start anew"
                )
            if row["error"]:
                self.failed[cell, row["seed"]] = row["attempts"]
            else:
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
        """Rows of a cell that count, in the order of their seeds, and whether they end early: only
        what comes before the first missing seed decides that."""
        mine = self.rows[cell]
        known = itertools.takewhile(mine.__contains__, self.seeds)
        kept, early = until_narrow(
            [r for s in known if not (r := mine[s])["error"]], self.early_stop
        )
        if early:
            return kept, True
        return [mine[s] for s in self.seeds if s in mine and not mine[s]["error"]], False

    def errors(self, cell: Cell) -> list[dict]:
        return [row for row in self.rows[cell].values() if row["error"]]

    def failures(self) -> dict[str, list[Cell]]:
        """What went wrong in the middle of episodes -> the cell of each of them."""
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            for row in self.errors(cell):
                found.setdefault(row["error"], []).append(cell)
        return found

    def over(self, cell: Cell) -> bool:
        """Whether nothing more will be played."""
        known = all(seed in self.rows[cell] for seed in self.seeds)
        return known or self.stuck(cell) or self.counted(cell)[1]

    def missing(self) -> Iterator[tuple[Cell, int]]:
        """Cells and seeds still to be played; looks at the rows and problems as they come."""
        for cell in self.cells:
            for seed in self.seeds:
                if seed in self.rows[cell]:
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
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise RunError(
                f"{path}: line {number} is damaged; delete it, and that episode is played again"
            ) from None
    return rows


def _cut_half_a_line(path: Path) -> None:
    """Or the next line would be appended to it."""
    if path.is_file():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def earlier(folder: Path) -> dict[Cell, list[dict]]:
    """Rows of another evaluation, to compare with, its policies named after its folder."""
    rows = read_rows(folder)
    if not rows:
        raise RunError(f"{folder} is no evaluation (no {EPISODES}); make one with --out {folder}")
    found: dict[Cell, dict[int, dict]] = {}
    for row in rows:
        cell = Cell(f"{Path(folder).resolve().name}:{row['policy']}", row["task"], row["condition"])
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
