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
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import numpy as np
from cells import Manner, chosen, clone, ended, parsed, parser
from dpo_arms import ARMS, SETS, TASKS, TOLD, Arm
from outcomes import Line, gain, told, write

from robostack import preferring, score, stages
from robostack.config import to_dict
from robostack.learn.bc import BCConfig
from robostack.learn.dpo import DPOConfig
from robostack.learn.guide import GuideConfig
from robostack.learn.reward import RewardConfig
from robostack.learn.run import write_json
from robostack.policy.checkpoint import policy_folder
from robostack.policy.vla import VLAConfig
from robostack.prefer import saved
from robostack.prefer.compare import PreferConfig
from robostack.prefer.terms import OUTCOME, RANK
from robostack.rewards.load import LEARNED
from robostack.sim.arena import Arena
from robostack.sim.worker import RunnerConfig, Timed, Worker
from robostack.stages import CollectConfig, EvaluateConfig

DPO = DPOConfig()
REWARD_STEPS, GUIDE_STEPS = 600, 400
LOOKS = 20  # chunks of which the latency is the median


class Cell:
    """One seed of one task: everything that its arms share, and each of them."""

    def __init__(
        self, arena: Arena, task: str, seed: int, episodes: int, out: Path, manner: Manner
    ):
        self.arena, self.task, self.setting, self.seed = arena, task, TASKS[task], seed
        self.manner = manner
        self.evaluation = EvaluateConfig(episodes=episodes)
        self.out = out / task.replace("/", "-") / f"seed-{seed}"
        self._rewards: dict[str, str] = {}

    def evaluate(self, name: str) -> list[int]:
        """Outcomes on the shared starts."""
        summary = stages.evaluate(
            self.arena,
            replace(self.evaluation, runner=self.runner(name)),
            self.out / (ARMS.get(name, Arm()).acts or name),
            self.out / self.manner.called(f"{name}-eval"),
            existing="reuse",
            label=f"{self.out.parent.name} {self.seed} {name}",
            pictures=False,
        )
        return summary["outcomes"]

    def runner(self, name: str) -> RunnerConfig:
        """How the policy of an arm acts."""
        arm, plain = ARMS.get(name, Arm()), RunnerConfig(temperature=self.manner.temperature)
        if arm.guide:
            return replace(plain, guide=str((self.out / "guides" / arm.guide).resolve()))
        if not arm.judge:
            return plain
        own = self.out / arm.judge
        judge = own if own.is_dir() else self.out / "rewards" / arm.judge
        reference = str((self.out / "bc").resolve()) if judge == own else ""
        judged = {"judge": str(judge.resolve()), "reference": reference}
        return replace(plain, best_of=arm.best_of, **judged)

    def latency(self, name: str) -> dict[str, float]:
        """What choosing costs: medians [ms] of a chunk of the policy that acts in an arm, as it
        acts there and by itself, in turns, with as many threads as torch has here."""
        worker = Worker()  # not `make_worker`, which leaves this process one thread for good
        env = worker.env(self.arena.config)
        seen = env.reset(0).observation
        folder = str(policy_folder(self.out / ARMS[name].acts))
        ways = {"chunk_ms": self.runner(name), "plain_chunk_ms": RunnerConfig()}
        acting = {key: Timed(worker.policy(folder, way, env)) for key, way in ways.items()}
        for policy in acting.values():
            policy.reset(0)
        for _ in range(LOOKS):
            for policy in acting.values():
                policy.act(seen)
        told = {key: round(1e3 * median(policy.seconds), 2) for key, policy in acting.items()}
        worker.close()
        return told

    def learn(self, name: str) -> None:
        """The policy of an arm, if it has one of its own."""
        arm, folder, data = ARMS[name], self.out / name, [self.out / "demos"]
        if arm.acts:
            for needed in {arm.acts, arm.judge, arm.guide} & set(ARMS):
                self.learn(needed)
            if arm.guide:
                self.guide(arm.guide)
            if arm.judge in LEARNED:
                self.reward(arm.judge)
            return
        if arm.start in ARMS:
            self.learn(arm.start)
        if arm.learn is None:
            longer = BCConfig(steps=DPO.steps, lr=DPO.lr)
            stages.train_bc(longer, data, folder, self.seed, self.out / "bc", existing="reuse")
            return
        pairs = self.pairs(name)
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

    def pairs(self, name: str) -> Path:
        """Of an arm; what is there must be of the same settings."""
        arm, made = ARMS[name], self.out / f"{name}.jsonl"
        config = PreferConfig(**TOLD | {"keep": self.setting.keep} | arm.prefer)
        if not made.exists():
            tries = self.tries(arm.start, arm.led)
            rewards = self.rewards(config.weights, tries)
            preferring.prefer(config, rewards, tries, made, self.seed)
        elif (before := saved.load(made).card["config"]) != to_dict(config):
            raise ValueError(
                f"{made} was made with {before}, and {name} asks for {to_dict(config)}; give "
                "another --out, or remove what came of it"
            )
        return made

    def guide(self, name: str) -> None:
        """A reward that reads noisy chunks, from the pairs of an arm."""
        preferring.train_guide(
            GuideConfig(steps=GUIDE_STEPS),
            self.out / "bc",
            self.pairs(name),
            None,
            self.out / "guides" / name,
            self.seed,
            existing="reuse",
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
    task: str,
    arms: list[str],
    seeds: range,
    episodes: int,
    manner: Manner,
    out: Path,
    record: Path | None,
) -> tuple[dict, dict]:
    """{"bc" or arm: outcomes i64[seeds, episodes]}, and the latencies of arms that choose."""
    found: dict[str, list] = {name: [] for name in ("bc", *arms)}
    costs: dict[str, dict] = {}
    with Arena(manner.env(task)) as arena:
        for seed in seeds:
            cell = Cell(arena, task, seed, episodes, out, manner)
            setting = cell.setting
            clone(arena, cell.out, seed, setting.demos, setting.cloning, manner, setting.openings)
            for name in found:
                if name != "bc":
                    cell.learn(name)
                found[name].append(cell.evaluate(name))
                if name in ARMS and ARMS[name].acts and name not in costs:
                    costs[name] = cell.latency(name)
                if record and name != "bc":
                    ends = told(found["bc"][-1]), told(found[name][-1])
                    write(record, Line(task, name, seed, 0, *ends, **asdict(manner)))
                rates = " ".join(f"{n} {np.mean(o):.3f}" for n, o in found.items() if o)
                print(f"{task}: {rates}", file=sys.stderr, flush=True)
    return {name: np.array(outcomes) for name, outcomes in found.items()}, costs


def over_acting(name: str, found: dict) -> dict:
    """What choosing at inference gives over the same policy without it, where both were played."""
    before = found.get(ARMS[name].acts)
    if before is None:
        return {}
    over = gain(before, found[name])
    return {"over_acting": over["gain"], "over_acting_ci95": over["gain_ci95"]}


def main() -> None:
    quick = "one seed of Lift, main arm, n = 100"
    args = parsed(parser(__doc__, quick, TASKS, SETS, ARMS))
    tasks = ["Lift"] if args.quick else args.task or list(TASKS)
    sets = args.arms or ["main", "controls"]
    named = [name for each in sets for name in SETS[each]]
    arms = ["dpo"] if args.quick else args.arm or named
    with tempfile.TemporaryDirectory() as scratch:
        out, results = args.out or Path(scratch), {}
        for task in tasks:
            seeds = chosen(args, TASKS[task].seeds)
            found, costs = play(task, arms, seeds, args.episodes, args.manner, out, args.record)
            sft = found["bc"]
            about = {"task": task, "sft_success": float(sft.mean()), "seeds": len(seeds)}
            about |= {"sft_by_seed": sft.mean(1).tolist(), "episodes": sft.size}
            about["arms"] = {
                name: gain(sft, found[name]) | costs.get(name, {}) | over_acting(name, found)
                for name in arms
            }
            results[task] = about
            if args.out:
                write_json(out / f"{task.replace('/', '-')}.json", about)
        if len(tasks) == 1:
            about = results[tasks[0]]
            first = about["arms"].get("dpo")
            if first:
                about |= {"dpo_success": first["success_rate"], "gain": first["gain"]}
                about["gain_ci95"] = first["gain_ci95"]
            print(json.dumps(about))
        else:
            print(json.dumps(results))


if __name__ == "__main__":
    ended(main)
