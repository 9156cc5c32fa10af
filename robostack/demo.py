"""The whole ring in one go: demonstrations, cloning, tries, rewards, preferences, DPO, RL, report.

Every stage is a folder, so an interrupted demo goes on where it was and a finished one is re-used.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from robostack import practising, preferring, score, stages
from robostack.assist import AssistConfig
from robostack.cases import CasesCommand, make_in, scripted
from robostack.evaluate import wilson
from robostack.exam.results import Trust
from robostack.exam.sheet import ExamConfig
from robostack.exam.sit import sit
from robostack.learn.bc import BCConfig
from robostack.learn.dpo import DPOConfig
from robostack.learn.reward import RewardConfig
from robostack.learn.rl import RLConfig
from robostack.learn.run import finished, write_json
from robostack.pool import PATIENCE
from robostack.practising import TrainRLConfig
from robostack.prefer.compare import PreferConfig
from robostack.prefer.terms import OUTCOME
from robostack.rewards.load import LEARNED
from robostack.sim.arena import Arena, BranchConfig
from robostack.sim.env import EnvConfig
from robostack.sim.worker import RunnerConfig
from robostack.stages import CollectConfig, EvaluateConfig

CONTROLS = {
    "bc_longer": "cloning for as many more steps as DPO and RL took, on the same demonstrations",
    "dpo_shuffled": "DPO on the same pairs with winner and loser drawn by a coin",
    "rl_constant": "RL with as many rollouts and updates, led alike, but a constant reward",
    "rl_alone": "RL with as many rollouts and updates, which nobody leads",
}


@dataclass(frozen=True)
class DemoConfig:
    """The ring's stages. `seeds` repeats all of it with other demonstrations and other draws."""

    seeds: int = 1
    controls: bool = False
    env: EnvConfig = field(default_factory=EnvConfig)
    demos: CollectConfig = field(default_factory=lambda: CollectConfig(seeds=8))
    bc: BCConfig = field(default_factory=BCConfig)
    tries: CollectConfig = field(
        default_factory=lambda: CollectConfig(
            by="branch",
            seeds=40,
            first_seed=20_000,
            branch=BranchConfig(span=32),  # what a chunk has done shows; what came later does not
            runner=RunnerConfig(level=0.5),
        )
    )
    reward: RewardConfig = field(default_factory=lambda: RewardConfig(steps=300))
    exam: int = 5  # start states of the small exam that the rewards sit; 0: none is held
    prefer: PreferConfig = field(
        default_factory=lambda: PreferConfig(weights={OUTCOME: 1.0, "keypoints": 1.0}, keep=0.7)
    )
    dpo: DPOConfig = field(default_factory=DPOConfig)
    rl: TrainRLConfig = field(
        default_factory=lambda: TrainRLConfig(
            rl=RLConfig(iterations=5, episodes=30, updates=300, assist=AssistConfig(share=0.5)),
            runner=RunnerConfig(level=0.5, explore=0.025),
        )
    )
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


class Ring:
    """One turn of the ring in one folder, with one seed."""

    def __init__(self, arena: Arena, config: DemoConfig, out: Path, seed: int):
        self.arena, self.config, self.out, self.seed = arena, config, out, seed
        self.demos = out / "demos"
        self.trust = Trust((out / "exam",))

    def _say(self, stage: str, text: str) -> None:
        print(f"seed {self.seed}  {stage:<22} {text}", file=sys.stderr, flush=True)

    def _offset(self, config: CollectConfig) -> CollectConfig:
        return replace(config, first_seed=config.first_seed + 1_000 * self.seed)

    def evaluate(self, name: str) -> dict:
        against = None if name == "bc" else self.out / "bc-eval"
        summary = stages.evaluate(
            self.arena,
            self.config.evaluate,
            self.out / name,
            self.out / f"{name}-eval",
            against,
            existing="reuse",
            label=f"evaluate {name}",
        )
        low, high = summary["ci95"]
        rate = f"{summary['successes']}/{summary['episodes']} = {summary['success_rate']:.0%}"
        self._say(f"evaluate {name}", f"{rate}, 95 % interval {low:.0%} to {high:.0%}")
        return summary

    def clone(self) -> None:
        collected = stages.collect(
            self.arena,
            self._offset(self.config.demos),
            self.demos,
            existing="reuse",
            label="collect demos",
        )
        self._say("collect demos", f"{collected['successes']} of {collected['episodes']} succeed")
        done = stages.train_bc(
            self.config.bc, [self.demos], self.out / "bc", self.seed, existing="reuse"
        )
        self._say("train bc", f"{done['parameters']:,} parameters, {done['seconds']:.0f} s")

    def judge(self) -> None:
        """Tries from shared states, the rewards that learn from them, their scores, the pairs."""
        tries = self.out / "tries"
        collected = stages.collect(
            self.arena,
            self._offset(self.config.tries),
            tries,
            self.out / "bc",
            existing="reuse",
            label="collect tries",
        )
        self._say("collect tries", f"{collected['episodes']} tries from shared states")
        for kind in LEARNED:
            stages.train_reward(
                replace(self.config.reward, kind=kind),
                [self.demos, tries],
                self.out / "rewards" / kind,
                self.seed,
                existing="reuse",
            )
        self.rewards = score.load_rewards(
            ["keypoints", "deviation", *(str(self.out / "rewards" / kind) for kind in LEARNED)],
            [self.demos],
            self.config.bc.policy.horizon,
        )
        self.examine()
        score.score(self.rewards, tries)
        self._say("score", f"{collected['episodes']} tries by {', '.join(self.rewards)}")
        card = self._prefer(self.config.prefer, "preferences")
        won, decided = card["chosen_succeeded"], card["decided_by_success"]
        self._say("prefer", f"{card['preferences']} pairs; winner succeeded in {won} of {decided}")

    def examine(self) -> None:
        """A small exam on starts that nothing else uses, where the task has scripts to make one;
        what there is to doubt is told once, before anybody learns from it."""
        env = self.config.env
        if self.config.exam and scripted(env.task):
            held, first = self.out / "exam-cases", 300_000 + 1_000 * self.seed
            asked = CasesCommand((env.task,), self.config.exam, first, shifts={}, env=env)
            make_in(self.arena, asked, held, existing="reuse")
            sit(self.rewards, [held], self.out / "exam", ExamConfig(draws=200))
            self._say("exam", f"{self.out / 'exam' / 'index.html'}")
        self.trust.require(self.rewards)

    def _prefer(self, config: PreferConfig, name: str) -> dict:
        path = self.out / f"{name}.jsonl"
        config = replace(config, horizon=self.config.bc.policy.horizon)
        tries, trust = self.out / "tries", self.trust
        return preferring.prefer(config, self.rewards, tries, path, self.seed, trust=trust)

    def _dpo(self, name: str, pairs: str) -> None:
        done = preferring.train_dpo(
            self.config.dpo,
            self.out / "bc",
            self.out / f"{pairs}.jsonl",
            self.out / "tries",
            [self.demos],
            self.out / name,
            self.seed,
            existing="reuse",
            label=f"train {name}",
        )
        self._say(f"train {name}", f"{done['pairs']} pairs, {done['seconds']:.0f} s")

    def _rl(self, name: str, **changed) -> None:
        config = self.config.rl
        first_seed = config.rl.first_seed + 1_000 * self.seed
        inner = replace(config.rl, first_seed=first_seed, **changed)
        done = practising.train_rl(
            self.arena,
            replace(config, rl=inner),
            self.out / "dpo",
            self.rewards,
            [self.demos],
            self.out / name,
            self.seed,
            existing="reuse",
            label=f"train {name}",
            trust=self.trust,
        )
        self._say(f"train {name}", f"{done['rollouts']} rollouts, {done['seconds']:.0f} s")

    def turn(self) -> dict[str, dict]:
        """All stages; {stage: evaluation summary with the seconds its training took}."""
        self.clone()
        results = {"bc": self.evaluate("bc")}
        self.judge()
        score.score(self.rewards, self.out / "bc-eval")  # held-out rollouts, for the report
        self._dpo("dpo", "preferences")
        results["dpo"] = self.evaluate("dpo")
        self._rl("rl")
        results["rl"] = self.evaluate("rl")
        return results

    def controls(self) -> dict[str, dict]:
        config = self.config
        extra = config.dpo.steps + config.rl.rl.iterations * config.rl.rl.updates
        longer = replace(config.bc, steps=extra, lr=config.rl.rl.lr)
        stages.train_bc(
            longer,
            [self.demos],
            self.out / "bc_longer",
            self.seed,
            self.out / "bc",
            existing="reuse",
            label="train bc_longer",
        )
        self._prefer(replace(config.prefer, shuffle=True), "preferences-shuffled")
        self._dpo("dpo_shuffled", "preferences-shuffled")
        self._rl("rl_constant", constant_reward=True)
        self._rl("rl_alone", assist=AssistConfig())
        return {name: self.evaluate(name) for name in CONTROLS}


def pooled(results: list[dict]) -> dict:
    """Several seeds' evaluations as one: summed episodes and the Wilson interval of the sum."""
    successes, episodes = (sum(r[key] for r in results) for key in ("successes", "episodes"))
    return {
        "success_rate": successes / episodes,
        "successes": successes,
        "episodes": episodes,
        "ci95": list(wilson(successes, episodes)),
        "by_seed": [r["success_rate"] for r in results],
        "seconds": round(sum(r["seconds"] for r in results), 1),
    }


def run(config: DemoConfig, out: Path, workers: int | str = 0, patience: float = PATIENCE) -> dict:
    """The whole demo; returns what it writes to `out/summary.json`."""
    if config.seeds < 1:
        raise ValueError(f"seeds: expected 1 or more, got {config.seeds}")
    turns, controls = [], []
    with Arena(config.env, workers, patience=patience) as arena:
        for seed in range(config.seeds):
            ring = Ring(arena, config, out / f"seed-{seed}", seed)
            turns.append(_timed(ring, ring.turn()))
            if config.controls:
                controls.append(_timed(ring, ring.controls()))
    summary = {
        "stages": {name: pooled([t[name] for t in turns]) for name in turns[0]},
        "controls": {name: pooled([c[name] for c in controls]) for name in CONTROLS if controls},
        "seconds": round(_seconds(out), 1),
    }
    write_json(out / "summary.json", summary)
    return summary


def _timed(ring: Ring, results: dict[str, dict]) -> dict[str, dict]:
    """Each stage's seconds are those of its training and of its evaluation."""
    return {
        name: {**r, "seconds": r["seconds"] + finished(ring.out / name)["seconds"]}
        for name, r in results.items()
    }


def _seconds(out: Path) -> float:
    """Work of all stages under `out`, whenever they ran."""
    return sum(finished(path.parent)["seconds"] for path in out.glob("seed-*/**/summary.json"))
