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
from dataclasses import asdict, dataclass
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
    code: str = ""  # version
    day: str = ""

    @property
    def key(self) -> tuple:
        return self.task, self.arm, self.rollouts, self.seed


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


def write(file: Path, task: str, arm: str, seed: int, rollouts: int, *outcomes: Iterable) -> None:
    """Append a line, unless the same was measured last time; `outcomes`: before, after."""
    before, after = ("".join(str(int(o)) for o in each) for each in outcomes)
    line = Line(task, arm, seed, rollouts, before, after)
    known = {each.key: (each.before, each.after) for each in read(file)}
    if known.get(line.key) == (before, after):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    named = {"code": code_version(), "day": time.strftime("%Y-%m-%d")}
    with file.open("a") as out:
        out.write(json.dumps(asdict(line) | named) + "\n")


def parser(
    doc: str, quick: str, tasks: Iterable, sets: Iterable, arms: Iterable
) -> argparse.ArgumentParser:
    """Of a benchmark's command line: which cells, with how many starts, and where they are kept."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help=quick)
    made.add_argument("--out", type=Path, help="keep everything here, and go on from it")
    made.add_argument("--record", type=Path, metavar="FILE", help="append outcomes (outcomes.py)")
    made.add_argument("--task", action="append", choices=list(tasks))
    made.add_argument("--arms", action="append", choices=list(sets))
    made.add_argument("--arm", action="append", choices=list(arms), help="this one only")
    made.add_argument("--seeds", type=int, help="instead of each task's own number")
    made.add_argument("--seed", type=int, help="this one only")
    made.add_argument("--episodes", type=int, help="of an evaluation, instead of 200")
    return made


def parsed(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, of which --quick, which is one cell, takes none that choose cells."""
    args = made.parse_args()
    named = ("task", "arms", "arm", "seeds", "seed", "episodes")
    also = [f"--{name}" for name in named if getattr(args, name) is not None]
    if args.quick and also:
        made.error(f"--quick is one cell of its own; leave {', '.join(also)} out, or --quick")
    args.episodes = args.episodes or (100 if args.quick else 200)
    return args


def chosen(args: argparse.Namespace, usual: int) -> range:
    """Seeds by the arguments --quick, --seed and --seeds."""
    if args.seed is not None:
        return range(args.seed, args.seed + 1)
    return range(1 if args.quick else args.seeds or usual)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0")


def _row(name: str, lines: list[Line]) -> str:
    before, after = (
        np.array([[int(o) for o in getattr(line, part)] for line in lines])
        for part in ("before", "after")
    )
    told = gain(before, after)
    (low, high), (least, most) = told["ci95"], told["gain_ci95"]
    sign = "+" if told["gain"] > 0 else ""
    return (
        f"| {name} | {after.size} | {_percent(before.mean())} % | "
        f"{_percent(told['success_rate'])} % [{_percent(low)}, {_percent(high)}] | "
        f"{sign}{_percent(told['gain'])} [{_percent(least)}, {_percent(most)}] |"
    )


def table(lines: list[Line]) -> str:
    """Markdown: a row for each seed of an arm, and one for all of them where there are several."""
    rows = ["| task, arm, seed | n | cloned | after | gain, paired |", "|---|---|---|---|---|"]
    arms: dict[tuple, list[Line]] = {}
    for line in lines:
        arms.setdefault(line.key[:3], []).append(line)
    for (task, arm, rollouts), each in arms.items():
        name = f"{task}, `{arm}`" + (f", {rollouts} rollouts" if rollouts else "")
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
