"""How our rewards do in their exam: made, trained and examined from nothing.

    python tests/bench/reward_exam.py --quick            # Lift alone, a few minutes on two cores
    python tests/bench/reward_exam.py --out runs/rewards # all tasks; goes on where it was

Cases for training and for the exam come from different seeds. Robosuite's tasks share a robot and
are judged by one reward of each kind; the tabletop, whose cameras differ, by others. `clock`, which
counts time and looks at nothing, is the control: an exam that it passes would be worthless.
The `adapted` row is one-shot adaptation: progress on a task that its training lacked, before and
after a few steps on one demonstration of it.

Prints a JSON object as its last line, {"modules": {module: {data: {number: value}}}}.
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
from robostack.cases import CasesCommand, make
from robostack.data.store import Store, find_stores, open_store
from robostack.exam.sheet import ExamConfig
from robostack.exam.sit import sit
from robostack.learn.reward import RewardConfig
from robostack.rewards.eye import EyeConfig
from robostack.rewards.load import load_reward
from robostack.rewards.progress import ProgressConfig
from robostack.sim.cases import CaseConfig, TryConfig

SHIFTS = {"camera": 0.5, "light": 1.0, "distractors": 1.0}
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


@dataclass(frozen=True)
class Scale:
    parts: dict[str, Part]
    draws: int = 1000
    shifts: tuple[str, ...] = tuple(SHIFTS)


LONG = {"progress": 4000, "success": 3000, "world_model": 1200}
FULL = Scale(
    {
        "robosuite": Part(("Lift", "Stack", "PickPlaceCan"), 60, 20, LONG, side=64),
        # words are only read where many scenes, and many wrong ones, are there to learn them from
        "tabletop": Part(("tabletop/pick",), 240, 20, LONG, side=64, points=1, wrong=0.45),
    }
)
QUICK = Scale(
    {
        "robosuite": Part(
            ("Lift",), 24, 8, {"progress": 500, "success": 400, "world_model": 400}, side=48
        )
    },
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


def judged(scale: Scale, name: str, out: Path) -> dict:
    """Train on and examine by the tasks of one part; {reward: numbers}."""
    part, home = scale.parts[name], out / name
    cases = CaseConfig(tries=TryConfig(points=part.points))
    learn = CasesCommand(
        tasks=part.tasks, seeds=part.train, first_seed=30_000, shifts={}, cases=cases
    )
    shifts = {shift: SHIFTS[shift] for shift in scale.shifts}
    make(learn, home / "cases", existing="reuse")
    make(CasesCommand(tasks=part.tasks, seeds=part.exam, shifts=shifts), home / "exam", 0, "reuse")
    rewards = {"clock": Clock()}
    for kind in KINDS:
        stages.train_reward(learned(part, kind), [home / "cases"], home / kind, existing="reuse")
        rewards[kind] = load_reward(home / kind)
    for kind, members in COMPOSED.items():
        parts = [home / member for member in members]
        config = learned(part, kind)
        stages.train_reward(config, [home / "cases"], home / kind, existing="reuse", members=parts)
        rewards[kind] = load_reward(home / kind)
    found = sit(rewards, [home / "exam"], home / "card", ExamConfig(draws=scale.draws))
    print(f"card: {home / 'card' / 'index.html'}", file=sys.stderr)
    return {
        reward: {number: round(about["value"], 3) for number, about in part["numbers"].items()}
        for reward, part in found["rewards"].items()
    }


def adapted(scale: Scale, out: Path) -> dict:
    """One-shot adaptation to the last of robosuite's tasks, learned without it."""
    part = scale.parts["robosuite"]
    tasks = part.tasks
    if len(tasks) < 2:
        return {}
    folder = out / "adapted"
    known = [s for s in find_stores(out / "robosuite" / "cases") if tasks[-1] not in str(s)]
    config = learned(part, "progress")
    stages.train_reward(config, known, folder / "before", existing="reuse")
    new = next(s for s in find_stores(out / "robosuite" / "cases") if tasks[-1] in str(s))
    demonstration = folder / "demonstration"
    if not (demonstration / "zarr.json").is_file():
        first = next(e for _, e in open_store(new).episodes() if e.label == "success")
        Store.create(demonstration, first.spec).append(first)
    few = replace(config, steps=150, lr=3e-4)
    stages.train_reward(
        few, [demonstration], folder / "after", existing="reuse", start=folder / "before"
    )
    unseen = out / "robosuite" / "exam" / tasks[-1] / "plain"
    found = {}
    for state in ("before", "after"):
        reward = {"progress": load_reward(folder / state)}
        trials = ExamConfig(draws=scale.draws, trials=("order", "outcome"))
        numbers = sit(reward, [unseen], folder / f"{state}-card", trials)["rewards"]["progress"]
        found[state] = {n: round(v["value"], 3) for n, v in numbers["numbers"].items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Lift alone, little training")
    parser.add_argument("--out", type=Path, help="keep everything here, and go on from it")
    args = parser.parse_args()
    scale = QUICK if args.quick else FULL
    with tempfile.TemporaryDirectory() as scratch:
        out = args.out or Path(scratch)
        modules: dict[str, dict] = {}
        for name in scale.parts:
            for reward, numbers in judged(scale, name, out).items():
                modules.setdefault(reward, {})[name] = numbers
        modules.setdefault("progress", {}).update(adapted=adapted(scale, out))
        modules["keypoint"] = modules.pop("keypoints")
        if len(scale.parts) == 1:  # one set of data: no need to name it
            adapt = modules["progress"].pop("adapted")
            modules = {reward: next(iter(by.values())) for reward, by in modules.items()}
            modules["progress"] |= {"adapted": adapt} if adapt else {}
        print(json.dumps({"modules": modules}))


if __name__ == "__main__":
    main()
