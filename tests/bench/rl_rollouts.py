"""Success against the number of online rollouts, with the controls that say what did it.

    python tests/bench/rl_rollouts.py --quick                          # one cell, Lift, seed 0
    python tests/bench/rl_rollouts.py --out runs/rl-rollouts           # the main arms, all tasks
    python tests/bench/rl_rollouts.py --out runs/rl-rollouts --task Lift --arms algorithms

Every arm of every seed is a folder; what is there is gone on from and re-used. All arms of a seed
begin at the same cloned policy, and all are evaluated on the same starts, which nothing was trained
on. The last line is a JSON object; with more than one task or arm it has them all under "tasks".
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from cells import Manner, chosen, clone, ended, parsed, parser
from outcomes import Line, gain, told, write

from robostack import config as configs
from robostack import figures, practising, score, stages
from robostack.evaluate import wilson
from robostack.learn.bc import BCConfig
from robostack.learn.rl import LIKELIHOOD
from robostack.learn.run import write_json
from robostack.policy.vla import VLAConfig
from robostack.sim.arena import Arena
from robostack.sim.worker import RunnerConfig
from robostack.stages import CollectConfig, EvaluateConfig


@dataclass(frozen=True)
class Setting:
    """How a task is cloned to between 5 and 60 %, and how long it may practise."""

    demos: int
    cloning: int  # steps
    seeds: int = 2
    iterations: int = 5
    episodes: int = 30  # rollouts an iteration
    updates: int = 300  # an iteration


TASKS = {
    "Lift": Setting(8, 1200, seeds=3),
    "Stack": Setting(60, 3000),
    "PickPlaceCan": Setting(8, 2000, iterations=10, episodes=50),
    "metaworld/door-open-v3": Setting(4, 800, seeds=1),
    "metaworld/drawer-open-v3": Setting(4, 800, seeds=1),
    "metaworld/button-press-topdown-v3": Setting(4, 800, seeds=1),
}
LED = {"assist": {"share": 0.5}}  # by the keypoint program, withdrawn as rollouts succeed
MAIN = {
    "led": LED,
    "led-sparse": LED | {"algorithm": "filtered", "shaping": 0.0},
    "shaped": {},
    "sparse": {"shaping": 0.0},
    "naive": {"naive": True},
    "filtered": {"algorithm": "filtered", "shaping": 0.0},
}
LONGER = {
    "led-longer": LED | {"updates": 500},
    "led-longest": LED | {"updates": 1000},
    "led-rescued": {"assist": {"share": 0.5, "rescue": 30}, "updates": 1000},
    "rescued-only": {"assist": {"rescue": 30}, "updates": 1000},
    "led-often": LED | {"iterations": 10, "episodes": 15, "updates": 250},  # as many in all
    "led-sparse-longer": MAIN["led-sparse"] | {"updates": 500},
    "sparse-longer": MAIN["sparse"] | {"updates": 500},
}
ALGORITHMS = {
    "ppo": {"algorithm": "ppo", "average": 0.0, "lr": 1e-5},
    "grpo": {"algorithm": "grpo", "average": 0.0, "lr": 1e-5, "episodes": 32},
    "nft": {"algorithm": "nft", "lr": 1e-5},
    "rlpd": {"algorithm": "rlpd", "updates": 600},
}
CLONING = "more cloning"
CEILING = "more demonstrations"  # as many as rollouts, of the same starts
CLONED = {CLONING: "led", CEILING: "led-longer"}  # for as many steps as these practise
SETS = {
    "main": [*MAIN, CLONING],
    "longer": [*LONGER, CEILING],
    "algorithms": list(ALGORITHMS),
}
ARMS = MAIN | LONGER | ALGORITHMS
EXPLORE = 0.025  # by which rollouts are pulled aside, where no likelihood is asked for


class Cell:
    """One seed of one task: its cloned policy, and each arm that goes on from there."""

    def __init__(
        self, arena: Arena, task: str, seed: int, episodes: int, out: Path, manner: Manner
    ):
        self.arena, self.setting, self.seed, self.manner = arena, TASKS[task], seed, manner
        acting = RunnerConfig(temperature=manner.temperature)
        self.evaluation = EvaluateConfig(episodes=episodes, runner=acting)
        self.out = out / task.replace("/", "-") / f"seed-{seed}"
        self.label = f"{task} {seed}"

    def config(self, name: str) -> practising.TrainRLConfig:
        own, base = ARMS[name], practising.TrainRLConfig(weights={"keypoints": 1.0})
        counts = {n: getattr(self.setting, n) for n in ("iterations", "episodes", "updates")}
        changed = counts | {"first_seed": 50_000 + 1_000 * self.seed, "keep": True} | own
        rl = configs.build(type(base.rl), configs.to_dict(base.rl) | changed)
        free = {"explore": EXPLORE, "temperature": self.manner.temperature}
        own = {} if rl.algorithm in LIKELIHOOD else free
        return replace(base, rl=rl, runner=replace(base.runner, **own))

    def folder(self, name: str) -> Path:
        """Of what an arm learns; cloning does not act."""
        return self.out / (name if name == "bc" or name in CLONED else self.manner.called(name))

    def learn(self, name: str) -> None:
        folder, demos = self.folder(name), [self.out / "demos"]
        if name in CLONED:
            self.clone_longer(name, folder, demos)
            return
        config = self.config(name)
        rewards = score.load_rewards(list(config.weights), demos, VLAConfig().horizon)
        given = self.out / "bc", rewards, demos, folder, self.seed
        practising.train_rl(
            self.arena, config, *given, existing="reuse", label=f"{self.label} {name}"
        )

    def clone_longer(self, name: str, folder: Path, demos: list[Path]) -> None:
        rl = self.config(CLONED[name]).rl
        if name == CEILING:
            more = CollectConfig(seeds=rl.iterations * rl.episodes, first_seed=rl.first_seed)
            demos = [*demos, self.out / "more-demos"]
            stages.collect(self.arena, more, demos[-1], existing="reuse")
        longer = BCConfig(steps=rl.iterations * rl.updates, lr=rl.lr)
        stages.train_bc(longer, demos, folder, self.seed, self.out / "bc", existing="reuse")

    def policies(self, name: str) -> dict[int, Path]:
        """By the number of rollouts that each learned from."""
        folder = self.folder(name)
        if name == "bc":
            return {0: folder}
        if name in CLONED:
            return {self.setting.iterations * self.setting.episodes: folder}
        each = self.config(name).rl.episodes
        kept = sorted((folder / "rollout-policy").iterdir())
        return {k * each: path for k, path in enumerate(kept) if k}

    def evaluate(self, name: str, every: bool) -> dict[int, list[int]]:
        """{rollouts: outcomes on the shared starts}, of the last policy or of all of them."""
        policies = self.policies(name)
        counts = sorted(policies) if every else [max(policies)]
        return {
            count: stages.evaluate(
                self.arena,
                self.evaluation,
                policies[count],
                self.out / self.manner.called(f"{name}-eval") / f"{count:04d}",
                existing="reuse",
                label=f"{self.label} {name} after {count}",
                pictures=False,
            )["outcomes"]
            for count in counts
        }


def play(
    task: str,
    arms: list[str],
    seeds: range,
    episodes: int,
    manner: Manner,
    out: Path,
    every: bool,
    record: Path | None,
) -> dict:
    """{"bc" or arm: {rollouts: outcomes i64[seeds, episodes]}}"""
    found: dict[str, dict[int, list]] = {name: {} for name in ("bc", *arms)}
    with Arena(manner.env(task)) as arena:
        for seed in seeds:
            cell = Cell(arena, task, seed, episodes, out, manner)
            setting = cell.setting
            clone(arena, cell.out, seed, setting.demos, setting.cloning, manner)
            for name in found:
                if name != "bc":
                    cell.learn(name)
                for count, outcomes in cell.evaluate(name, every).items():
                    found[name].setdefault(count, []).append(outcomes)
                    if record and name != "bc":
                        ends = told(found["bc"][0][-1]), told(outcomes)
                        write(record, Line(task, name, seed, count, *ends, **asdict(manner)))
                rates = {c: f"{np.mean(o[-1]):.3f}" for c, o in found[name].items()}
                print(f"{task}, seed {seed}, {name}: {rates}", file=sys.stderr, flush=True)
    return {name: {c: np.array(o) for c, o in by.items()} for name, by in found.items()}


def curves(about: dict) -> str:
    """Success against rollouts of every arm, from the cloned policy on, as a picture (SVG)."""
    lines = {}
    for name, by in about["arms"].items():
        points = [(0, about["start_success"], about["start_ci95"])]
        points += [(int(n), after["success_rate"], after["ci95"]) for n, after in by.items()]
        lines[name] = tuple(list(column) for column in zip(*points))
    return figures.success_curves(lines)


def main() -> None:
    quick = "Lift, seed 0, main arm, n = 100"
    cells = parser(__doc__, quick, TASKS, SETS, [*ARMS, *CLONED])
    cells.add_argument("--curve", action="store_true", help="evaluate every iteration's policy")
    args = parsed(cells)
    tasks = ["Lift"] if args.quick else args.task or list(TASKS)
    named = [name for each in args.arms or ["main"] for name in SETS[each]]
    arms = ["led"] if args.quick else args.arm or named
    begin, results = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as scratch:
        out = args.out or Path(scratch)
        for task in tasks:
            seeds = chosen(args, TASKS[task].seeds)
            found = play(
                task, arms, seeds, args.episodes, args.manner, out, args.curve, args.record
            )
            start = found.pop("bc")[0]
            about = {"task": task, "start_success": float(start.mean()), "seeds": len(seeds)}
            about["start_ci95"] = list(wilson(int(start.sum()), start.size))
            about["arms"] = {
                name: {count: gain(start, outcomes) for count, outcomes in by.items()}
                for name, by in found.items()
            }
            results[task] = about
            if args.out:
                stem = task.replace("/", "-")
                write_json(out / f"{stem}.json", about)
                (out / f"{stem}.svg").write_text(curves(about))
    if len(tasks) == len(arms) == 1:
        about = results[tasks[0]]
        rollouts, last = max(about["arms"][arms[0]].items(), key=lambda item: int(item[0]))
        about = {k: v for k, v in about.items() if k != "arms"} | last | {"rollouts": rollouts}
        print(json.dumps(about | {"seconds": round(time.monotonic() - begin, 1)}))
    else:
        print(json.dumps({"tasks": results}))


if __name__ == "__main__":
    ended(main)
