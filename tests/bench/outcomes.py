"""What the benchmarks of learning measured, episode by episode, and the tables made of it.

    python tests/bench/outcomes.py docs/outcomes/rl.jsonl

A line is one arm of one seed of one task: the outcomes of the policy that it began with and of what
became of it, on the same starts, as strings of 0 and 1. So whoever doubts an interval can compute
it, cells of different machines and days add up, and each is compared with its own beginning only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from robostack.evaluate import paired_bootstrap, wilson
from robostack.learn.run import code_version


@dataclass(frozen=True)
class Line:
    task: str
    arm: str
    seed: int
    rollouts: int  # that were made to learn from; 0 where none were
    before: str  # outcomes of the cloned policy, start by start
    after: str
    points: int = 0  # heat maps of the policy (policy.small.points)
    cameras: str = ""  # that it sees by, if not the task's own of 64 px (env.cameras)
    temperature: float = 1.0  # at which it was evaluated (runner.temperature)
    code: str = ""  # version
    day: str = ""

    @property
    def key(self) -> tuple:
        how = self.points, self.cameras, self.temperature
        return self.task, self.arm, *how, self.rollouts, self.seed


def told(outcomes: Iterable) -> str:
    """As a line holds them."""
    return "".join(str(int(o)) for o in outcomes)


def gain(before: np.ndarray, after: np.ndarray) -> dict:
    """Of outcomes i64[seeds, episodes], paired over both."""
    difference, low, high = paired_bootstrap(before.ravel(), after.ravel())
    return {
        "success_rate": round(float(after.mean()), 4),
        "ci95": [round(x, 4) for x in wilson(int(after.sum()), after.size)],
        "gain": round(difference, 4),
        "gain_ci95": [round(low, 4), round(high, 4)],
        "by_seed": after.mean(1).round(4).tolist(),
    }


def read(file: Path) -> list[Line]:
    """The latest line of every arm of every seed, in the order in which they first came."""
    found: dict[tuple, Line] = {}
    for text in file.read_text().splitlines() if file.is_file() else []:
        line = Line(**json.loads(text))
        found[line.key] = line
    return list(found.values())


def write(file: Path, line: Line) -> None:
    """Append a line, with version and day, unless the same was measured last time."""
    known = {each.key: (each.before, each.after) for each in read(file)}
    if known.get(line.key) == (line.before, line.after):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    line = replace(line, code=code_version(), day=time.strftime("%Y-%m-%d"))
    with file.open("a") as out:
        out.write(json.dumps(asdict(line)) + "\n")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0")


def _row(name: str, lines: list[Line]) -> str:
    before, after = (
        np.array([[int(o) for o in getattr(line, part)] for line in lines])
        for part in ("before", "after")
    )
    found = gain(before, after)
    (low, high), (least, most) = found["ci95"], found["gain_ci95"]
    sign = "+" if found["gain"] > 0 else ""
    return (
        f"| {name} | {after.size} | {_percent(before.mean())} % | "
        f"{_percent(found['success_rate'])} % [{_percent(low)}, {_percent(high)}] | "
        f"{sign}{_percent(found['gain'])} [{_percent(least)}, {_percent(most)}] |"
    )


def table(lines: list[Line]) -> str:
    """Markdown: a row for each seed of an arm, and one for all of them where there are several."""
    rows = ["| task, arm, seed | n | cloned | after | gain, paired |", "|---|---|---|---|---|"]
    arms: dict[tuple, list[Line]] = {}
    for line in lines:
        arms.setdefault(line.key[:-1], []).append(line)
    for (task, arm, points, cameras, temperature, rollouts), each in arms.items():
        name = f"{task}, `{arm}`" + (f", {points} heat maps" if points else "")
        name += f" ({cameras})" if cameras else ""
        name += f", temperature {temperature:g}" if temperature != 1 else ""
        name += f", {rollouts} rollouts" if rollouts else ""
        rows += [_row(f"{name}, {line.seed}", [line]) for line in each]
        same = len({len(line.after) for line in each}) == 1
        if len(each) > 1 and same:
            rows.append(_row(f"**{name}, all**", each))
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    if not args.file.is_file():
        parser.error(f"there is no {args.file}; the benchmarks write one with --record FILE")
    print(table(read(args.file)))


if __name__ == "__main__":
    main()
