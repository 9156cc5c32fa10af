"""How our rewards do in their exam: made, trained and examined from nothing.

    python tests/bench/reward_exam.py --quick            # Lift, little of the rest: minutes
    python tests/bench/reward_exam.py --out runs/rewards # all tasks; goes on where it was

Cases for training and for the exam come from different seeds. Robosuite's tasks share a robot and
are judged by one reward of each kind; the tabletop, whose cameras differ, by others. `clock`, which
counts time and looks at nothing, is the control: an exam that it passes would be worthless.
The `adapted` row is one-shot adaptation: progress on a task that its training lacked, before and
after a few steps on one demonstration of it. `keypoint` reads a simulator's bodies; its row
`from_pictures` follows points through three cameras, as it was shown them in one success.

Prints a JSON object as its last line, {"modules": {module: {number: value, ..., "by_data": {task:
{number: value}}}}}. A module's own numbers are of the first part that has them; those about words
are the tabletop's. `success_auc` is the exam's `auc`, `kendall_tau` its `kendall` (Somers' D, which
the aim of 0.75 is for; tau-b is `kendall_tau_b`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from robostack import stages
from robostack.cases import SHIFTED, CasesCommand, make_in
from robostack.data.store import Store, find_stores, open_store
from robostack.exam.sheet import ExamConfig
from robostack.exam.sit import sit
from robostack.learn.reward import RewardConfig
from robostack.rewards.eye import EyeConfig
from robostack.rewards.keypoints.camera import CALIBRATION
from robostack.rewards.keypoints.chosen import KeypointsConfig
from robostack.rewards.load import load_reward
from robostack.rewards.progress import ProgressConfig
from robostack.sim.arena import Arena
from robostack.sim.cases import KINDS as OF_CASES
from robostack.sim.cases import CaseConfig, TryConfig
from robostack.sim.env import EnvConfig

SHIFTS = {"camera": 0.5, "light": 1.0, "distractors": 1.0}
TRAIN = 30_000  # the first seed to learn from; those to examine by are the command's own
ALIASES = {"kendall_tau": "kendall", "success_auc": "auc"}
WHOLE = tuple(kind for kind in OF_CASES if kind not in ("try", "wrong object"))
KINDS = ("progress", "success", "world_model", "keypoints")
COMPOSED = {"deviation": ("world_model",), "combined": ("world_model", "progress", "keypoints")}


@dataclass(frozen=True)
class Part:
    """Tasks that are judged by the same rewards, and how much these learn."""

    tasks: tuple[str, ...]
    train: int  # start states
    exam: int
    steps: dict[str, int]
    side: int  # [px] of what the rewards look at
    points: int = 2  # states of an episode that tries start from
    wrong: float = 0.25  # share of progress' lessons under another instruction
    kinds: tuple[str, ...] = (*KINDS, *COMPOSED)


@dataclass(frozen=True)
class Adapt:
    """One-shot adaptation of progress to a task of robosuite."""

    task: str
    steps: int = 150
    exam: int = 20  # start states, where the task is none of the parts'


@dataclass(frozen=True)
class Pictures:
    """Keypoints that are followed in pictures."""

    tasks: tuple[str, ...]
    exam: int = 20  # start states
    side: int = 160  # [px] of each view
    views: tuple[str, ...] = ("agentview", "sideview", "frontview")


@dataclass(frozen=True)
class Scale:
    parts: dict[str, Part]
    adapt: Adapt
    pictures: Pictures
    draws: int = 1000
    shifts: tuple[str, ...] = tuple(SHIFTS)
    pixels: int = EnvConfig().pixels


LONG = {"progress": 4000, "success": 3000, "world_model": 1200}
FULL = Scale(
    {
        "robosuite": Part(("Lift", "Stack", "PickPlaceCan"), 60, 20, LONG, side=64),
        # words are only read where many scenes, and many wrong ones, are there to learn them from
        "tabletop": Part(("tabletop/pick",), 240, 20, LONG, side=64, points=1, wrong=0.45),
    },
    Adapt("PickPlaceCan"),
    Pictures(("Lift", "Stack")),
)
QUICK = Scale(
    {
        "robosuite": Part(
            ("Lift",), 24, 8, {"progress": 500, "success": 400, "world_model": 400}, side=48
        ),
        "tabletop": Part(
            ("tabletop/pick",),
            10,
            5,
            {"progress": 200},
            side=48,
            points=1,
            wrong=0.45,
            kinds=("progress", "keypoints"),
        ),
    },
    Adapt("Stack", steps=60, exam=5),
    Pictures(("Lift",), exam=5),
    draws=200,
    shifts=("light",),
)


class Clock:
    """Any video makes progress while it lasts."""

    name = "clock"

    def score(self, episode):
        return (np.arange(len(episode) + 1) / len(episode)).astype(np.float32)

    def fingerprint(self):
        return "clock"


def learned(part: Part, kind: str) -> RewardConfig:
    eye = EyeConfig(side=part.side)
    progress = ProgressConfig(wrong=part.wrong)
    return RewardConfig(kind=kind, steps=part.steps.get(kind, 1), eye=eye, progress=progress)


def played(arena: Arena, out: Path, **settings) -> Path:
    """Cases under `out`."""
    make_in(arena, CasesCommand(**{"env": arena.config} | settings), out, "reuse")
    return out


def judged(arena: Arena, scale: Scale, name: str, out: Path) -> dict:
    """Train on and examine by the tasks of one part; {reward: its part of the exam}."""
    part, home = scale.parts[name], out / name
    shifts = {shift: SHIFTS[shift] for shift in scale.shifts}
    learn = {"seeds": part.train, "first_seed": TRAIN, "shifts": {}}
    cases = CaseConfig(tries=TryConfig(points=part.points))
    played(arena, home / "cases", tasks=part.tasks, cases=cases, **learn)
    played(arena, home / "exam", tasks=part.tasks, seeds=part.exam, shifts=shifts)
    rewards = {"clock": Clock()}
    for kind in [kind for kind in KINDS if kind in part.kinds]:
        stages.train_reward(learned(part, kind), [home / "cases"], home / kind, existing="reuse")
        rewards[kind] = load_reward(home / kind)
    for kind, members in COMPOSED.items():
        if kind not in part.kinds:
            continue
        parts = [home / member for member in members]
        config = learned(part, kind)
        stages.train_reward(config, [home / "cases"], home / kind, existing="reuse", members=parts)
        rewards[kind] = load_reward(home / kind)
    found = sit(rewards, [home / "exam"], home / "card", ExamConfig(draws=scale.draws))
    print(f"card: {home / 'card' / 'index.html'}", file=sys.stderr)
    return found["rewards"]


def told(numbers: dict) -> dict:
    """{number: value}, also under the names of ALIASES."""
    values = {number: round(about["value"], 3) for number, about in numbers.items()}
    return values | {new: values[old] for new, old in ALIASES.items() if old in values}


def modules(arena: Arena, scale: Scale, out: Path) -> dict:
    """{module: its numbers, and under by_data those of every task}."""
    found: dict[str, dict] = {}
    for name, part in scale.parts.items():
        for reward, result in judged(arena, scale, name, out).items():
            module = found.setdefault("keypoint" if reward == "keypoints" else reward, {})
            data = module.pop("by_data", {})
            by_task = result["by_task"] or {part.tasks[0]: result["numbers"]}
            data |= {task: told(numbers) for task, numbers in by_task.items()}
            module |= {n: v for n, v in told(result["numbers"]).items() if n not in module}
            module["by_data"] = data
    found["progress"]["adapted"] = adapted(arena, scale, out)
    found["keypoint"]["from_pictures"] = pictured(arena, scale, out / "pictures")
    return found


def pictured(arena: Arena, scale: Scale, out: Path) -> dict:
    """{task: numbers} of keypoints that are followed in pictures."""
    pictures, found = scale.pictures, {}
    env = replace(arena.config, cameras=dict.fromkeys(pictures.views, pictures.side))
    one, ends = (CaseConfig(kinds=kinds) for kinds in (("success",), WHOLE))
    for task in pictures.tasks:
        home, plain = out / task, {"env": env, "tasks": (task,), "shifts": {}}
        shown = played(arena, home / "cases", seeds=1, first_seed=TRAIN, cases=one, **plain)
        unseen = played(arena, home / "exam", seeds=pictures.exam, cases=ends, **plain)
        where = KeypointsConfig(str(find_stores(shown)[0] / CALIBRATION))
        config = RewardConfig(kind="keypoints", keypoints=where)
        stages.train_reward(config, [shown], home / "reward", existing="reuse")
        judge = {"keypoints": load_reward(home / "reward")}
        result = sit(judge, [unseen], home / "card", ExamConfig(draws=scale.draws))
        found[task] = told(result["rewards"]["keypoints"]["numbers"])
    return found


def adapted(arena: Arena, scale: Scale, out: Path) -> dict:
    """One-shot adaptation to a task, learned without it."""
    part, adapt = scale.parts["robosuite"], scale.adapt
    folder, cases = out / "adapted", out / "robosuite" / "cases"
    config = learned(part, "progress")
    if adapt.task in part.tasks:
        known = [store for store in find_stores(cases) if adapt.task not in str(store)]
        before = folder / "before"
        stages.train_reward(config, known, before, existing="reuse")
        new = next(store for store in find_stores(cases) if adapt.task in str(store))
        unseen = out / "robosuite" / "exam" / adapt.task / "plain"
    else:
        before, plain = out / "robosuite" / "progress", {"tasks": (adapt.task,), "shifts": {}}
        one, ends = (CaseConfig(kinds=kinds) for kinds in (("success",), SHIFTED))
        new = played(arena, folder / "cases", seeds=1, first_seed=TRAIN, cases=one, **plain)
        unseen = played(arena, folder / "exam", seeds=adapt.exam, cases=ends, **plain)
        new = find_stores(new)[0]
    demonstration = folder / "demonstration"
    if not (demonstration / "zarr.json").is_file():
        first = next(e for _, e in open_store(new).episodes() if e.label == "success")
        Store.create(demonstration, first.spec).append(first)
    few = replace(config, steps=adapt.steps, lr=3e-4)
    stages.train_reward(few, [demonstration], folder / "after", existing="reuse", start=before)
    found = {}
    for state, reward in (("before", before), ("after", folder / "after")):
        judge = {"progress": load_reward(reward)}
        judge["progress"].home = None  # this is not the exam that it goes by
        trials = ExamConfig(draws=scale.draws, trials=("order", "outcome"))
        result = sit(judge, [unseen], folder / f"{state}-card", trials)
        found[state] = told(result["rewards"]["progress"]["numbers"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Lift and a little of the rest")
    parser.add_argument("--out", type=Path, help="keep everything here, and go on from it")
    args = parser.parse_args()
    scale = QUICK if args.quick else FULL
    with tempfile.TemporaryDirectory() as scratch, Arena(EnvConfig(pixels=scale.pixels)) as arena:
        print(json.dumps({"modules": modules(arena, scale, args.out or Path(scratch))}))


if __name__ == "__main__":
    main()
