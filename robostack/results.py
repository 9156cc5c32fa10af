"""Results of a batch evaluation: rows to intervals and comparisons, files, a page, pictures."""

from __future__ import annotations

import contextlib
import csv
import html
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from robostack import figures, page
from robostack.evaluate import mcnemar, paired_bootstrap, stops, wilson
from robostack.learn.run import write_json
from robostack.ledger import CONTROL, Cell, Ledger

COLUMNS, TILE = 8, 128  # of the grid picture
COLUMNS_CSV = (
    *("policy", "task", "condition", "seed", "success", "steps", "seconds", "act_ms", "attempts"),
    "error",
)


def _rate(rows: list[dict]) -> dict:
    outcomes = [bool(row["success"]) for row in rows]
    if not outcomes:
        return {"episodes": 0, "successes": 0, "success_rate": 0.0, "ci95": [0.0, 1.0]}
    return {
        "episodes": len(outcomes),
        "successes": sum(outcomes),
        "success_rate": sum(outcomes) / len(outcomes),
        "ci95": list(wilson(sum(outcomes), len(outcomes))),
    }


def cell_summary(cell: Cell, rows: list[dict], early: bool, errors: list[dict]) -> dict:
    """Success with its interval; steps, latency and speed as medians over episodes; where a reward
    had to stop the tries, how often it did and was right."""
    won = [row["steps"] for row in rows if row["success"]]
    acting = [row["act_ms"] for row in rows if row["act_ms"] is not None]
    told = [row for row in rows if "stopped" in row]
    speed = [row["steps"] / max(row["seconds"] - row["act_seconds"], 1e-9) for row in rows]
    return {
        "policy": cell.policy,
        "task": cell.task,
        "condition": cell.condition,
        **_rate(rows),
        "steps_to_success": float(np.median(won)) if won else None,
        "chunk_latency_ms": float(np.median(acting)) if acting else None,
        "steps_per_second": float(np.median(speed)) if speed else None,
        "stopped_early": early,
        "rerun": sum(row["attempts"] > 1 for row in [*rows, *errors]),
        "errors": len(errors),
        **({"stops": stops(*zip(*((r["success"], r["stopped"]) for r in told)))} if told else {}),
    }


def compare(pairs: dict[Cell, list[dict]], baseline: str, other: str, condition: str) -> list[dict]:
    """`other` against `baseline` on the seeds that both have played: task by task, and together."""
    found, together = [], ([], [])
    for cell, rows in pairs.items():
        if (cell.policy, cell.condition) != (other, condition):
            continue
        before = {row["seed"]: row for row in pairs.get(Cell(baseline, cell.task), [])}
        both = [(before[r["seed"]]["success"], r["success"]) for r in rows if r["seed"] in before]
        if both:
            first, second = (np.array(side, bool) for side in zip(*both))
            found.append(_comparison(baseline, other, cell.task, condition, first, second))
            together[0].append(first)
            together[1].append(second)
    if len(found) > 1:
        first, second = (np.concatenate(side) for side in together)
        found.insert(0, _comparison(baseline, other, "all", condition, first, second))
    return found


def _comparison(baseline, other, task, condition, first, second) -> dict:
    difference, low, high = paired_bootstrap(first, second)
    return {
        "baseline": baseline,
        "policy": other,
        "task": task,
        "condition": condition,
        "episodes": len(first),
        "difference": difference,
        "ci95": [low, high],
        "gained": int((second & ~first).sum()),
        "lost": int((first & ~second).sum()),
        "mcnemar_p": mcnemar(first, second),
    }


def summarise(ledger: Ledger, earlier: dict[Cell, list[dict]]) -> dict:
    """What is measured, as in results.json. The first policy is the baseline of the others, and
    every policy without perturbation is the control arm of itself under one."""
    rows = {cell: ledger.counted(cell) for cell in ledger.cells}
    cells = [cell_summary(cell, *rows[cell], ledger.errors(cell)) for cell in rows]
    labels = list(dict.fromkeys(cell.policy for cell in rows))
    conditions = list(dict.fromkeys(cell.condition for cell in rows))
    policies = []
    for label in labels:
        for condition in conditions:
            mine = [c for c in rows if (c.policy, c.condition) == (label, condition)]
            pooled = _rate([row for c in mine for row in rows[c][0]])
            policies.append({"policy": label, "condition": condition, "tasks": len(mine), **pooled})
    pairs = earlier | {cell: kept for cell, (kept, _) in rows.items()}
    before = list(dict.fromkeys(cell.policy for cell in earlier))
    comparisons = []
    for label in labels:
        for baseline in before or [base for base in labels[:1] if base != label]:
            comparisons += compare(pairs, baseline, label, CONTROL)
        for condition in conditions[1:]:
            comparisons += compare(pairs, label, label, condition)
    problems = [
        {"what": what, "cells": [str(cell) for cell in cells]}
        for what, cells in ledger.problems.items()
    ]
    failures = [
        {"what": what, "episodes": len(where), "cells": [str(c) for c in dict.fromkeys(where)]}
        for what, where in ledger.failures().items()
    ]
    return {
        "cells": cells,
        "policies": policies,
        "comparisons": comparisons,
        "problems": problems,
        "failures": failures,
    }


class Gallery:
    """Videos of the first successes and of all failures up to a cap, and how episodes ended."""

    def __init__(self, out: Path, failures: int, successes: int = 2):
        self.out, self.most = Path(out), {True: successes, False: failures}

    def _name(self, cell: Cell, success: bool, seed: int | str) -> str:
        return f"{cell.slug}--{'success' if success else 'failure'}-{seed}"

    def videos(self, cell: Cell) -> list[Path]:
        found = [
            path
            for success in (False, True)
            for path in sorted(
                self.out.glob(f"videos/{self._name(cell, success, '[0-9]*')}.webm"), key=_seed
            )
        ]
        return found

    def wants(self, cell: Cell) -> bool:
        """Whether something of another episode of the cell may still be kept. A cell that never
        fails is filmed to its end: its first failure is the one to be seen."""
        return self._open_grid(cell) or self._open(cell, True) or self._open(cell, False)

    def _open(self, cell: Cell, success: bool) -> bool:
        have = self.out.glob(f"videos/{self._name(cell, success, '[0-9]*')}.webm")
        return len(list(have)) < self.most[success]

    def _open_grid(self, cell: Cell) -> bool:
        return len(list(self.out.glob(f"ends/{cell.slug}--end-[0-9]*.png"))) < COLUMNS

    def add(self, cell: Cell, seed: int, success: bool, film: np.ndarray) -> None:
        """`film` u8[T+1, H, W, 3]."""
        side = max(TILE, film.shape[1])
        folder = self.out / "videos"
        last = figures.framed(film[-1:], success, TILE)[0]
        (self.out / "ends").mkdir(exist_ok=True)
        if self._open_grid(cell):
            with _aside(self.out / "ends" / f"{cell.slug}--end-{seed}.png") as path:
                cv2.imwrite(str(path), last[..., ::-1])
        if self._open(cell, success):
            folder.mkdir(exist_ok=True)
            frames = figures.framed(film, success, side)
            with _aside(folder / f"{self._name(cell, success, seed)}.webm") as path:
                figures.write_video(frames, path)

    def grid(self, cells: list[Cell]) -> Path | None:
        """How the first episodes ended: a row a cell, framed green for success and red for not."""
        rows = []
        for cell in cells:
            ends = sorted((self.out / "ends").glob(f"{cell.slug}--end-[0-9]*.png"), key=_seed)
            read = [cv2.imread(str(path)) for path in ends[:COLUMNS]]
            tiles = [tile for tile in read if tile is not None]
            tiles += [np.full((TILE, TILE, 3), 245, np.uint8)] * (COLUMNS - len(tiles))
            if ends:
                rows.append(np.concatenate(tiles, 1))
        if not rows:
            return None
        path = self.out / "grid.png"
        cv2.imwrite(str(path), np.concatenate(rows, 0))
        return path


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """Where to write, to be renamed when it is whole: a killed evaluation leaves no half a file."""
    partial = path.with_name(f".partial{path.suffix}")
    yield partial
    partial.replace(path)


def _seed(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def write(out: Path, found: dict, ledger: Ledger, gallery: Gallery) -> None:
    """results.json, results.csv, grid.png and index.html."""
    write_json(out / "results.json", found)
    with (out / "results.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS_CSV, extrasaction="ignore")
        table.writeheader()
        for cell in ledger.cells:
            rows = [*ledger.counted(cell)[0], *ledger.errors(cell)]
            table.writerows(sorted(rows, key=lambda row: row["seed"]))
    grid = gallery.grid(ledger.cells)
    parts = ["<h1>Evaluation</h1>", _notes(found), _overview(found), _comparisons(found)]
    parts.append(_table_of_cells(found["cells"]))
    if grid:
        parts.append(
            "<h2>How episodes ended</h2><p>A row for each line of the table above, its first "
            f"{COLUMNS} starts; green succeeded, red did not.</p><img src='grid.png' alt='ends'>"
        )
    parts.append(_videos(ledger.cells, gallery))
    page.write(out / "index.html", "robostack evaluation", parts)


def _notes(found: dict) -> str:
    notes = [f"<b>Warning:</b> {html.escape(text)}" for text in found["warnings"]]
    for problem in found["problems"]:
        where = html.escape(", ".join(problem["cells"][:5]))
        notes.append(f"<b>Not played</b> ({where}): {html.escape(problem['what'])}")
    for failure in found["failures"]:
        where = html.escape(", ".join(failure["cells"][:5]))
        count = f"{failure['episodes']} episode{'s' if failure['episodes'] > 1 else ''}"
        notes.append(f"<b>Failed</b> ({count} of {where}): {html.escape(failure['what'])}")
    return "".join(f"<p>{note}</p>" for note in notes)


def _name(row: dict) -> str:
    condition = "" if row["condition"] == CONTROL else f" under {row['condition']}"
    return f"{row['policy']}{condition}"


def _overview(found: dict) -> str:
    bars = [
        (_name(p).replace("$", r"\$"), p, p["condition"] != CONTROL)  # a name is no formula
        for p in found["policies"]
        if p["episodes"]
    ]
    return figures.success_bars(bars) if bars else ""


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _table_of_cells(cells: list[dict]) -> str:
    header = ["policy", "task", "condition", "episodes", "success [95 %]", "steps to success"]
    header += ["ms a chunk", "steps/s", "re-run", "errors"]
    told = any("stops" in c for c in cells)
    header += ["stops: right, wrong, never"] * told
    rows = [
        [
            *(html.escape(c[key]) for key in ("policy", "task", "condition")),
            f"{c['episodes']}{' (stopped early)' if c['stopped_early'] else ''}",
            page.rate(c) if c["episodes"] else "",
            _number(c["steps_to_success"]),
            _number(c["chunk_latency_ms"], 1),
            _number(c["steps_per_second"]),
            str(c["rerun"] or ""),
            str(c["errors"] or ""),
            *[", ".join(str(n) for n in c.get("stops", {}).values())] * told,
        ]
        for c in cells
    ]
    return f"<h2>Policies and tasks</h2>{page.table(header, rows)}"


def _comparisons(found: dict) -> str:
    if not found["comparisons"]:
        return ""
    rows = [
        [
            html.escape(_name(c)),
            html.escape(c["baseline"]),
            html.escape(c["task"]),
            str(c["episodes"]),
            f"<b>{c['difference']:+.0%}</b> [{c['ci95'][0]:+.0%}, {c['ci95'][1]:+.0%}]",
            f"{c['gained']} / {c['lost']}",
            f"{c['mcnemar_p']:.2g}",
        ]
        for c in found["comparisons"]
    ]
    header = ["policy", "against", "task", "pairs", "difference [95 %]", "gained / lost", "p"]
    return (
        "<h2>Compared on the same starts</h2><p>Difference of success rates with a paired "
        "bootstrap interval; starts that only one of the two solves; exact McNemar test.</p>"
        + page.table(header, rows)
    )


def _videos(cells: list[Cell], gallery: Gallery) -> str:
    parts = []
    for cell in cells:
        tags = [
            f"<video loop muted playsinline controls preload='metadata' width='{TILE + 32}' "
            f"src='videos/{path.name}' title='{path.stem}'></video>"
            for path in gallery.videos(cell)
        ]
        if tags:
            parts.append(f"<h3>{html.escape(str(cell))}</h3>{''.join(tags)}")
    return f"<h2>Videos</h2><p>Failures, then successes.</p>{''.join(parts)}" if parts else ""
