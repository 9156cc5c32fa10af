"""The loop of online learning, the same for every algorithm."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from robostack.alarms import Watch
from robostack.assist import Led
from robostack.data.store import Store
from robostack.learn.readings import Readings
from robostack.learn.rl.config import LIKELIHOOD, RLConfig
from robostack.learn.rl.curiosity import Curiosity
from robostack.learn.rl.flow_learner import Algorithm
from robostack.learn.rl.policy_gradient import GRPO, PPO
from robostack.learn.rl.replay import Replay
from robostack.learn.rl.rlpd import RLPD
from robostack.learn.rl.step_nft import StepNFT
from robostack.learn.rl.traces import Acting
from robostack.learn.rl.weighted import Filtered, Weighted
from robostack.learn.run import Run, write_json
from robostack.learn.trials import Check
from robostack.policy.checkpoint import CARD
from robostack.policy.vla import VLA
from robostack.protocols import Scores
from robostack.rollout import hash_seed
from robostack.types import Episode

Score = Callable[[Episode], Scores]  # the combined potential and how sure it is
HISTORY, CHECKS = "alarms.json", "checks.json"  # readings and checks of every iteration
ALGORITHMS: dict[str, type] = {
    "awr": Weighted,
    "filtered": Filtered,
    "ppo": PPO,
    "grpo": GRPO,
    "nft": StepNFT,
    "rlpd": RLPD,
}


@dataclass(frozen=True)
class Outside:
    """What the loop asks of the world."""

    collect: Callable[[Path, list[int], int, Led], Iterable[Episode]]
    """(policy folder, seeds, tries of each, how they are led) -> episodes in that order,
    the policy of try k of seed s having been reset with hash_seed(s, k)."""
    score: Score
    check: Check | None = None  # of each iteration's policy; the best one is what is returned
    refresh: Callable[[int], Score] | None = None
    """Score of an iteration whose rewards have learned from all rollouts before it."""


def train(
    config: RLConfig,
    start: VLA,
    outside: Outside,
    demonstrations: Iterable[Episode],
    run: Run,
    seed: int = 0,
    label: str = "train rl",
    acting: Acting = Acting(),  # noqa: B008
) -> VLA:
    """Improve `start` by its own rollouts, which are kept in `run.path / "store"`.

    An interrupted run goes on: finished rollouts are never collected again, and it ends at the
    weights that an uninterrupted one ends at. `acting` is how `outside.collect` runs the policy.
    """
    replay = Replay(start.spec, start.config.horizon, config)
    for episode in demonstrations:
        replay.add(episode, outside.score(episode))
    if config.refresh and outside.refresh is None:
        raise ValueError(f"rl: refresh={config.refresh}: expected 0, or rewards that can learn")
    readings = Readings(start, replay.data, seed)
    curiosity = None
    if config.curiosity.weight:
        curiosity = Curiosity(config.curiosity, replay.data.episodes, seed)
    algorithm = _algorithm(config, start, replay, seed, acting)
    turns = _Turns(config, algorithm, outside, replay, readings, curiosity, run, label)
    store = Store.create(run.path / "store", start.spec)
    done, raised = algorithm.resume(run), []
    for iteration in range(config.iterations):
        raised = turns.turn(iteration, store, iteration < done)
        if raised and config.alarms.stop:
            break
    turns.finish(iteration, raised if config.alarms.stop else [], len(store))
    return VLA.load(run.path / "policy", edited=True)


def _algorithm(
    config: RLConfig, start: VLA, replay: Replay, seed: int, acting: Acting
) -> Algorithm:
    torch.manual_seed(seed)
    return ALGORITHMS[config.algorithm](config, start, replay, seed, acting)


class _Turns:
    """One run's iterations: roll out, score, look for alarms, learn, log, save, check."""

    def __init__(
        self,
        config: RLConfig,
        algorithm: Algorithm,
        outside: Outside,
        replay: Replay,
        readings: Readings,
        curiosity: Curiosity | None,
        run: Run,
        label: str,
    ):
        self.curiosity, self.score = curiosity, outside.score
        self.config, self.algorithm, self.outside, self.run = config, algorithm, outside, run
        self.replay, self.readings, self.label = replay, readings, label
        self.watch = Watch(config.alarms, _kept(run.path / HISTORY))
        self.checks: list[float] = _kept(run.path / CHECKS)
        self.rates: list[float] = []  # success of each iteration's rollouts
        self.metrics: dict[str, float] = {}

    def turn(self, iteration: int, store: Store, relived: bool) -> list[str]:
        """Returns the alarms that the iteration's rollouts raised."""
        led = self.config.assist.after(self.rates)
        episodes = self._rollouts(store, iteration, led)
        self.rates.append(float(np.mean([bool(e.success) for e in episodes])))
        if self.config.refresh and iteration and iteration % self.config.refresh == 0:
            self.score = self.outside.refresh(iteration)
            self.replay.judge_again(self.score)
        scores = [self.score(e) for e in episodes]
        curious = self._add(episodes, scores, iteration)
        if iteration == 0:
            self.readings.base(episodes, scores)
        fresh, seeds = self._own(episodes)
        if relived:
            if fresh:
                self.algorithm.relive(iteration, fresh)
            return []
        with self.algorithm.acting() as vla:
            taken = self.readings.take(vla, episodes, scores)
        raised = self._watched(iteration, taken)
        if raised and self.config.alarms.stop:
            return raised
        learned = {"updates": 0}
        if fresh:
            learned = self.algorithm.learn(iteration, fresh, seeds, self._bar(iteration))
        self.metrics = learned | {
            "rollout_success": self.rates[-1],
            "assist": led.share,
            "interventions": sum(e.source == "intervention" for e in episodes),
            "rollouts": len(episodes) * (iteration + 1),
            **curious,
            "potential_gain": float(np.mean([s.potential[-1] - s.potential[0] for s in scores])),
            **{f"alarm_{name}": value for name, value in taken.items()},
        }
        self._save(iteration)
        return raised

    def _own(self, episodes: list[Episode]) -> tuple[list[int], list[int]]:
        """Indices in the replay, of which they are the last, and seeds of the policy. Where the
        likelihood counts, those in which somebody intervened are none of its own."""
        first, tries = len(self.replay) - len(episodes), self.algorithm.tries
        own = [
            (first + k, hash_seed(episode.seed, k % tries))
            for k, episode in enumerate(episodes)
            if self.config.algorithm not in LIKELIHOOD or episode.source != "intervention"
        ]
        return [index for index, _ in own], [seed for _, seed in own]

    def _add(
        self, episodes: list[Episode], scores: list[Scores], iteration: int
    ) -> dict[str, float]:
        """To the replay; returns what there is to tell of curiosity."""
        if self.curiosity is None:
            for episode, judged in zip(episodes, scores):
                self.replay.add(episode, judged)
            return {}
        weight = self.curiosity.weight(iteration, self.config.iterations)
        paid = [self.curiosity.bonus(episode, weight) for episode in episodes]
        for episode, judged, bonus in zip(episodes, scores, paid):
            self.replay.add(episode, judged, bonus)
        self.curiosity.learn(episodes, iteration)
        return {"curiosity": float(np.concatenate(paid).mean()), "curiosity_weight": weight}

    def _bar(self, iteration: int):
        label = f"{self.label} {iteration + 1}/{self.config.iterations}"
        return lambda count: self.run.steps(0, count, label)

    def _watched(self, iteration: int, taken: dict[str, float]) -> list[str]:
        raised = self.watch.update(iteration, taken)
        write_json(self.run.path / HISTORY, self.watch.history)
        for alarm in raised:
            text = f"warning: {self.label}, iteration {iteration + 1}: {alarm}"
            print(text, file=sys.stderr, flush=True)
        return raised

    def _save(self, iteration: int) -> None:
        """Log and save, the policy first: what is resumed may then be checked again, not lost."""
        folder = self._folder(iteration + 1)
        self.algorithm.put(folder)
        if self.outside.check is not None:
            self.checks = [*self.checks[:iteration], self.outside.check(folder)]
            write_json(self.run.path / CHECKS, self.checks)
            self.metrics["checked_success"] = self.checks[-1]
        self.run.log(max(self.algorithm.step - 1, 0), self.metrics)
        self.algorithm.save(self.run, iteration)

    def _folder(self, iteration: int) -> Path:
        """Of the policy that an iteration's rollouts are by."""
        return self.run.path / "rollout-policy" / f"{iteration:03d}"

    def _rollouts(self, store: Store, iteration: int, led: Led) -> list[Episode]:
        """The iteration's episodes: those already in the store, then new ones, saved one by one."""
        config, tries = self.config, self.algorithm.tries
        first = iteration * config.episodes
        episodes = [store.read(i) for i in store.ids()[first : first + config.episodes]]
        whole, cut = divmod(len(episodes), tries)
        starts = config.episodes // tries
        begin = config.first_seed + iteration * starts
        seeds = list(range(begin + whole, begin + starts))
        if seeds:
            folder = self._folder(iteration)
            if not (folder / CARD).is_file():  # the very first, or one that was half written
                self.algorithm.put(folder)
            for k, episode in enumerate(self.outside.collect(folder, seeds, tries, led)):
                if k >= cut:  # tries of a start that was interrupted are played again, not kept
                    store.append(episode)
                    episodes.append(episode)
        return episodes

    def finish(self, iteration: int, raised: list[str], rollouts: int) -> None:
        """Keep the policy to be returned: the best that was checked, or the last; after an alarm
        the last whose rollouts raised none."""
        best = iteration + 1
        if raised:
            best = max(iteration - 1, 0)
        elif self.checks:
            best = 1 + int(np.argmax(self.checks))
        policy = self.run.path / "policy"
        shutil.rmtree(policy, ignore_errors=True)
        shutil.copytree(self._folder(best), policy)
        ended = {"stopped": {"iteration": iteration + 1, "alarms": raised}} if raised else {}
        if self.checks:
            ended |= {"checks": self.checks, "best_iteration": best}
        if not self.config.keep:
            shutil.rmtree(self.run.path / "rollout-policy", ignore_errors=True)
        self.run.finish({"rollouts": rollouts, **self.metrics, **ended})


def _kept(file: Path) -> list:
    """What an interrupted run wrote, up to where it was cut."""
    return json.loads(file.read_text()) if file.is_file() else []
