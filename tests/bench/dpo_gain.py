"""What preferences add to a cloned policy, with the controls that say what did it.

    python tests/bench/dpo_gain.py --quick                      # one seed of Lift, some minutes
    python tests/bench/dpo_gain.py --out runs/dpo-gain          # the main arms on all tasks
    python tests/bench/dpo_gain.py --out runs/dpo-gain --task Lift --arms sources

Every arm of every seed is a folder; what is there is gone on from and re-used. All arms of a seed
share demonstrations, cloned policy, tries and rewards, and all are evaluated on the same starts,
which nothing was trained on. The last line is a JSON object; with more than one task or arm it has
them all under "arms".
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from outcomes import chosen, gain, parser, write

from robostack import preferring, score, stages
from robostack.learn.bc import BCConfig
from robostack.learn.dpo import DPOConfig
from robostack.learn.reward import RewardConfig
from robostack.learn.run import write_json
from robostack.policy.vla import VLAConfig
from robostack.prefer.compare import PreferConfig
from robostack.prefer.terms import OUTCOME, RANK
from robostack.rewards.load import LEARNED
from robostack.sim.arena import Arena, BranchConfig
from robostack.sim.env import EnvConfig
from robostack.sim.worker import RunnerConfig
from robostack.stages import CollectConfig, EvaluateConfig


@dataclass(frozen=True)
class Setting:
    """How a task is cloned to between 30 and 70 %, and where its tries begin."""

    demos: int
    cloning: int  # steps
    branch: BranchConfig
    starts: int = 40  # rollouts along which tries begin
    seeds: int = 2


def branch(points: int, every: int, span: int) -> BranchConfig:
    """Tries cut off after some 2 s: what a chunk has done shows, and what came later does not."""
    return BranchConfig(points=points, every=every, span=span)


TASKS = {
    "Lift": Setting(8, 1200, branch(points=5, every=8, span=32), seeds=3),
    "PickPlaceCan": Setting(16, 2000, branch(points=5, every=10, span=48), 80),  # to the grasp
    "tabletop/pick": Setting(400, 8000, branch(points=5, every=15, span=32)),
}
TOLD = {"weights": {OUTCOME: 1.0, "keypoints": 1.0}, "keep": 0.7}  # what differs of all preferences
DPO = DPOConfig()
ALL_TERMS = {
    OUTCOME: 1.0,
    "keypoints": 1.0,
    "progress": 0.5,
    "world_model": 0.5,
    "world_model.rank": 0.25,
    "success": 0.25,
    "deviation.rank": 0.25,
}
REWARD_STEPS = 600


@dataclass(frozen=True)
class Arm:
    """One way to go on from the cloned policy, or from that of another arm."""

    prefer: dict | None = None  # what differs of the preferences; None: there are none
    learn: dict | None = None  # what differs of learning from them; None: nothing is learned
    best_of: int = 1  # chunks at inference
    judge: str = ""  # of these: an arm (implicit reward against the cloned policy), or a reward
    acts: str = ""  # the arm whose policy acts, where nothing is learned
    start: str = "bc"  # the arm whose policy tries and goes on learning
    led: int = 0  # of the tries of a state, those that the keypoint program leads


MAIN = {
    "dpo": Arm({}, {}),
    "dpo twice": Arm({}, {}, start="dpo"),
    "dpo best of 8": Arm(best_of=8, judge="world_model", acts="dpo"),
    "cloned best of 8": Arm(best_of=8, judge="world_model", acts="bc"),
    "cloned best of 8 by dpo": Arm(best_of=8, judge="dpo", acts="bc"),
}
CONTROLS = {
    "more cloning": Arm(),
    "shuffled": Arm({"shuffle": True}, {}),
    "winners": Arm({}, {"objective": "rwr"}),
}
SOURCES = {
    f"by {name}": Arm({"weights": {name: 1.0}}, {})
    for name in (OUTCOME, "keypoints", "progress", "world_model", "success")
} | {
    "by deviation": Arm({"weights": {"deviation.rank": 1.0}}, {}),
    "by imagination": Arm({"weights": {"world_model.rank": 1.0}}, {}),
    "by all": Arm({"weights": ALL_TERMS}, {}),
}
PAIRS = {f"{share:.0%} of the pairs": Arm({"keep": share}, {}) for share in (0.09, 0.18, 0.35)}
LED = {
    "led": Arm({}, {}, led=2),
    "led winners": Arm({}, {"objective": "rwr"}, led=2),
    "led twice": Arm({}, {}, start="led", led=2),
    "led shuffled": Arm({"shuffle": True}, {}, led=2),
}
METHOD = {
    "first chunk only": Arm({"clip": 0}, {}),
    "frozen backbone": Arm({}, {"freeze": True}),
    "soft labels": Arm({}, {"temperature": 1.0}),
    "no safeguard": Arm({}, {"safeguard": 0.0}),
    "no anchor": Arm({}, {"anchor": 0.0}),
}
SETS = {
    "main": MAIN,
    "controls": CONTROLS,
    "led": LED,
    "sources": SOURCES,
    "pairs": PAIRS,
    "method": METHOD,
}
ARMS = {name: arm for arms in SETS.values() for name, arm in arms.items()}


class Cell:
    """One seed of one task: everything that its arms share, and each of them."""

    def __init__(self, arena: Arena, task: str, seed: int, episodes: int, out: Path):
        self.arena, self.setting, self.seed = arena, TASKS[task], seed
        self.evaluation = EvaluateConfig(episodes=episodes)
        self.out = out / task.replace("/", "-") / f"seed-{seed}"
        self._rewards: dict[str, str] = {}

    def clone(self) -> None:
        demos = CollectConfig(seeds=self.setting.demos, first_seed=1_000 * self.seed)
        stages.collect(self.arena, demos, self.out / "demos", existing="reuse")
        cloning = BCConfig(steps=self.setting.cloning)
        stages.train_bc(cloning, [self.out / "demos"], self.out / "bc", self.seed, existing="reuse")

    def evaluate(self, name: str) -> list[int]:
        """Outcomes on the shared starts."""
        arm, config = ARMS.get(name, Arm()), self.evaluation
        if arm.judge:
            own = self.out / arm.judge
            judge = own if own.is_dir() else self.out / "rewards" / arm.judge
            runner = {"best_of": arm.best_of, "judge": str(judge.resolve())}
            if judge == own:
                runner["reference"] = str((self.out / "bc").resolve())
            config = replace(config, runner=RunnerConfig(**runner))
        summary = stages.evaluate(
            self.arena,
            config,
            self.out / (arm.acts or name),
            self.out / f"{name}-eval",
            existing="reuse",
            label=f"{self.out.parent.name} {self.seed} {name}",
            pictures=False,
        )
        return summary["outcomes"]

    def learn(self, name: str) -> None:
        """The policy of an arm, if it has one of its own."""
        arm, folder, data = ARMS[name], self.out / name, [self.out / "demos"]
        if arm.acts:
            for needed in {arm.acts, arm.judge} & set(ARMS):
                self.learn(needed)
            if arm.judge in LEARNED:
                self.reward(arm.judge)
            return
        if arm.start in ARMS:
            self.learn(arm.start)
        if arm.learn is None:
            longer = BCConfig(steps=DPO.steps, lr=DPO.lr)
            stages.train_bc(longer, data, folder, self.seed, self.out / "bc", existing="reuse")
            return
        pairs = self.out / f"{name}.jsonl"
        if not pairs.exists():
            config = PreferConfig(**TOLD | arm.prefer)
            tries = self.tries(arm.start, arm.led)
            rewards = self.rewards(config.weights, tries)
            preferring.prefer(config, rewards, tries, pairs, self.seed)
        preferring.train_dpo(
            replace(DPO, **arm.learn),
            self.out / arm.start,
            pairs,
            None,
            data,
            folder,
            self.seed,
            existing="reuse",
            label=f"{self.out.parent.name} {self.seed} {name}",
        )

    def tries(self, policy: str = "bc", led: int = 0) -> Path:
        """Of the policy of an arm, each from its own starts."""
        again = policy != "bc"
        config = CollectConfig(
            by="branch",
            seeds=self.setting.starts,
            first_seed=20_000 + 1_000 * self.seed + 500 * again,
            branch=replace(self.setting.branch, led=led),
            runner=RunnerConfig(level=0.5),
        )
        name = f"tries of {policy}" if again else "tries"
        folder = self.out / (f"{name} led" if led else name)
        stages.collect(self.arena, config, folder, self.out / policy, existing="reuse")
        return folder

    def reward(self, kind: str) -> str:
        """Folder of a reward that learned from the tries and from the demonstrations."""
        learned, data = self.out / "rewards" / kind, [self.out / "demos", self.tries()]
        config = RewardConfig(kind=kind, steps=REWARD_STEPS)
        stages.train_reward(config, data, learned, self.seed, existing="reuse")
        return str(learned)

    def rewards(self, weights: dict[str, float], tries: Path) -> dict:
        """Those that the terms name, with their scores of the tries."""
        names = {term.removesuffix(RANK) for term in weights} - {OUTCOME}
        if "deviation" in names:  # it sees through the eye of a world model
            names.add("world_model")
        for name in sorted(names - set(self._rewards)):
            self._rewards[name] = self.reward(name) if name in LEARNED else name
        chosen = [self._rewards[name] for name in sorted(names)]
        rewards = score.load_rewards(chosen, [self.out / "demos"], VLAConfig().horizon)
        score.score(rewards, tries)
        return rewards


def play(
    task: str, arms: list[str], seeds: range, episodes: int, out: Path, record: Path | None
) -> dict:
    """{"bc" or arm: outcomes i64[seeds, episodes]}"""
    found: dict[str, list] = {name: [] for name in ("bc", *arms)}
    with Arena(EnvConfig(task=task)) as arena:
        for seed in seeds:
            cell = Cell(arena, task, seed, episodes, out)
            cell.clone()
            for name in found:
                if name != "bc":
                    cell.learn(name)
                found[name].append(cell.evaluate(name))
                if record and name != "bc":
                    write(record, task, name, seed, 0, found["bc"][-1], found[name][-1])
                told = " ".join(f"{n} {np.mean(o):.3f}" for n, o in found.items() if o)
                print(f"{task}: {told}", file=sys.stderr, flush=True)
    return {name: np.array(outcomes) for name, outcomes in found.items()}


def main() -> None:
    quick = "one seed of Lift, main arm, n = 100"
    args = parser(__doc__, quick, TASKS, SETS, ARMS).parse_args()
    tasks = ["Lift"] if args.quick else args.task or list(TASKS)
    sets = args.arms or ["main", "controls"]
    named = [name for each in sets for name in SETS[each]]
    arms = ["dpo"] if args.quick else args.arm or named
    episodes = 100 if args.quick else args.episodes
    with tempfile.TemporaryDirectory() as scratch:
        out, told = args.out or Path(scratch), {}
        for task in tasks:
            seeds = chosen(args, TASKS[task].seeds)
            found = play(task, arms, seeds, episodes, out, args.record)
            sft = found.pop("bc")
            about = {"task": task, "sft_success": float(sft.mean()), "seeds": len(seeds)}
            about |= {"sft_by_seed": sft.mean(1).tolist(), "episodes": sft.size}
            about["arms"] = {name: gain(sft, outcomes) for name, outcomes in found.items()}
            told[task] = about
            if args.out:
                write_json(out / f"{task.replace('/', '-')}.json", about)
        if len(tasks) == 1:
            about = told[tasks[0]]
            first = about["arms"].get("dpo")
            if first:
                about |= {"dpo_success": first["success_rate"], "gain": first["gain"]}
                about["gain_ci95"] = first["gain_ci95"]
            print(json.dumps(about))
        else:
            print(json.dumps(told))


if __name__ == "__main__":
    main()
