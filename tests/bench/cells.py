"""Which cells a benchmark of learning plays, and the cloned policy that each begins with."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from robostack import stages
from robostack.learn.bc import BCConfig
from robostack.policy.backbone import SmallConfig
from robostack.policy.chunking import require_temperature
from robostack.sim.arena import Arena
from robostack.sim.env import EnvConfig
from robostack.stages import CollectConfig


@dataclass(frozen=True)
class Manner:
    """How the policies of a benchmark see and act."""

    points: int = SmallConfig().points  # heat maps
    cameras: str = ""  # name=edge [px], ...; "": the task's own, of 64 px
    temperature: float = 1.0  # runner.temperature, of practice, too, where no likelihood is asked

    def env(self, task: str) -> EnvConfig:
        if not self.cameras:
            return EnvConfig(task=task)
        named = [each.split("=") for each in self.cameras.split(",")]
        return EnvConfig(task=task, cameras={name: int(edge) for name, edge in named})

    def called(self, name: str) -> str:
        """The folder of what an arm does in this manner."""
        return name + (f"-{self.temperature:g}" if self.temperature != 1 else "")


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
    heat, other = "heat maps of the policies (policy.small.points)", "others than the task's own"
    made.add_argument("--points", type=int, default=Manner().points, help=heat)
    made.add_argument("--cameras", default="", type=_cameras, metavar="NAME=PX,...", help=other)
    cool = "at which policies practise and are evaluated (runner.temperature)"
    made.add_argument("--temperature", type=_temperature, default=1.0, metavar="T", help=cool)
    made.add_argument("--episodes", type=int, help="of an evaluation, instead of 200")
    return made


def ended(main: Callable[[], None]) -> None:
    """`main`, of which what went wrong is told in one line, as robostack's own commands do."""
    try:
        main()
    except (ValueError, RuntimeError, OSError) as error:
        if os.environ.get("ROBOSTACK_DEBUG"):
            raise
        sys.exit(f"{Path(sys.argv[0]).name}: {str(error).split(chr(10) * 2)[0]}")


def _cameras(text: str) -> str:
    if text and not re.fullmatch(r"\w+=\d+(,\w+=\d+)*", text):
        raise argparse.ArgumentTypeError(f"expected name=pixels, with commas between, got {text!r}")
    return ",".join(sorted(text.split(",")))


def _temperature(text: str) -> float:
    try:
        require_temperature(float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return float(text)


def parsed(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, of which --quick, which is one cell, takes none that choose cells."""
    args = made.parse_args()
    named = ("task", "arms", "arm", "seeds", "seed", "episodes")
    also = [f"--{name}" for name in named if getattr(args, name) is not None]
    if args.quick and also:
        made.error(f"--quick is one cell of its own; leave {', '.join(also)} out, or --quick")
    args.episodes = args.episodes or (100 if args.quick else 200)
    args.manner = Manner(args.points, args.cameras, args.temperature)
    return args


def chosen(args: argparse.Namespace, usual: int) -> range:
    """Seeds by the arguments --quick, --seed and --seeds."""
    if args.seed is not None:
        return range(args.seed, args.seed + 1)
    return range(1 if args.quick else args.seeds or usual)


def clone(
    arena: Arena,
    out: Path,
    seed: int,
    demos: int,
    steps: int,
    manner: Manner,
    openings: float = BCConfig().openings,
) -> None:
    """`out`/bc, cloned for so many steps from so many demonstrations, which are `out`/demos."""
    collecting = CollectConfig(seeds=demos, first_seed=1_000 * seed)
    stages.collect(arena, collecting, out / "demos", existing="reuse")
    cloning = BCConfig(steps=steps, openings=openings)
    small = replace(cloning.policy.small, points=manner.points)
    cloning = replace(cloning, policy=replace(cloning.policy, small=small))
    stages.train_bc(cloning, [out / "demos"], out / "bc", seed, existing="reuse")
