"""One iteration of online learning after the other: what is asked of the world, told and kept."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robostack.alarms import Watch
from robostack.assist import Led
from robostack.data.store import Store
from robostack.evaluate import wilson
from robostack.learn.readings import Readings
from robostack.learn.rl.config import LIKELIHOOD, RLConfig
from robostack.learn.rl.curiosity import Curiosity
from robostack.learn.rl.flow_learner import Algorithm
from robostack.learn.rl.replay import Replay
from robostack.learn.run import Run, write_json
from robostack.learn.trials import Check
from robostack.policy.checkpoint import CARD
from robostack.protocols import Scores
from robostack.rollout import hash_seed
from robostack.types import Episode

Score = Callable[[Episode], Scores]  # the combined potential and how sure it is
HISTORY, CHECKS = "alarms.json", "checks.json"  # readings and checks of every iteration
SHORT = 0.1  # of the updates that were asked for


@dataclass(frozen=True)
class Outside:
    """What the loop asks of the world."""

    collect: Callable[[Path, list[int], int, Led], Iterable[Episode]]
    """(policy folder, seeds, tries of each, how they are led) -> episodes in that order,
    the policy of try k of seed s having been reset with hash_seed(s, k)."""
    score: Score
    check: Check | None = None  # of the start and of each iteration's policy; the best is returned
    refresh: Callable[[int], Score] | None = None
    """Score of an iteration, whose rewards have learned from all rollouts, its own included."""
    lost: Callable[[], int] = lambda: 0  # workers so far that died or hung
    told: Callable[[dict | None], None] = lambda summary: None
    """After each iteration, whose metrics are written then; at the end with the summary, before
    that is written: who is killed meanwhile is told again."""


class Turns:
    """One run's iterations: roll out, score, look for alarms, learn, log, save, check, tell."""

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
        self.checks: list[float] = _kept(run.path / CHECKS)  # of the start, then of each iteration
        self.rates: list[float] = []  # success of each iteration's rollouts
        self.pace = Pace(config)

    def turn(self, iteration: int, store: Store, relived: bool) -> list[str]:
        """Returns the alarms that the iteration's rollouts raised."""
        led, lost = self.config.assist.after(self.rates), self.outside.lost()
        episodes = self._rollouts(store, iteration, led)
        self.rates.append(float(np.mean([bool(e.success) for e in episodes])))
        if self.config.refresh and iteration and iteration % self.config.refresh == 0:
            self.score = self.outside.refresh(iteration)
            self.replay.judge_again(self.score)
            self.readings.judge_again(self.score)
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
        stopped, learned = bool(raised and self.config.alarms.stop), {"updates": 0}
        if fresh and not stopped:
            learned = self.algorithm.learn(iteration, fresh, seeds, self._bar(iteration))
            self._told_of_a_short_one(iteration, learned)
        metrics = learned | {
            "rollout_success": self.rates[-1],
            "assist": led.share,
            "led": sum(e.source == "led" for e in episodes),
            "interventions": sum(e.source == "intervention" for e in episodes),
            "unjudged": sum(e.success is None for e in episodes),
            "workers_lost": self.outside.lost() - lost,
            "rollouts": len(episodes) * (iteration + 1),
            **curious,
            "potential_gain": float(np.mean([s.potential[-1] - s.potential[0] for s in scores])),
            **{f"alarm_{name}": value for name, value in taken.items()},
        }
        if stopped:
            self._log(metrics)
        else:
            self._save(iteration, metrics)
        print(f"{self.label}: {self.pace.told(iteration, episodes)}", file=sys.stderr, flush=True)
        self.outside.told(None)
        return raised

    def _own(self, episodes: list[Episode]) -> tuple[list[int], list[int]]:
        """Indices in the replay, of which they are the last, and seeds of the policy. Where the
        likelihood counts, those in which somebody intervened are none of its own, and of those
        that nobody judged nothing can be learned without a critic."""
        first, tries = len(self.replay) - len(episodes), self.algorithm.tries
        own = [
            (first + k, hash_seed(episode.seed, k % tries))
            for k, episode in enumerate(episodes)
            if self.config.algorithm not in LIKELIHOOD
            or (episode.source != "intervention" and episode.success is not None)
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
        novelty = [self.curiosity.novelty(episode) for episode in episodes]
        for episode, judged, new in zip(episodes, scores, novelty):
            self.replay.add(episode, judged, new)
        self.replay.curious = weight
        self.curiosity.learn(episodes, iteration)
        mean = float(np.concatenate(novelty).mean())
        return {"curiosity": weight * mean, "curiosity_weight": weight}

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

    def _told_of_a_short_one(self, iteration: int, learned: dict[str, float]) -> None:
        """Where the KL from what acted ended the updates when they had hardly begun."""
        config, done = self.config, learned.get("updates", self.config.updates)
        if done < SHORT * config.updates and learned.get("last_kl", 0) > config.clip.most_kl:
            text = (
                f"warning: {self.label}, iteration {iteration + 1}: ended after {done} of "
                f"{config.updates} updates at a KL of {learned['last_kl']:.2g} "
                f"(rl.clip.most_kl={config.clip.most_kl:g}); a lower rl.lr, now {config.lr:g}, "
                "makes more of the rollouts"
            )
            print(text, file=sys.stderr, flush=True)

    def _save(self, iteration: int, metrics: dict[str, float]) -> None:
        """Log and save, the policy first: what is resumed may then be checked again, not lost."""
        self.algorithm.put(self._folder(iteration + 1))
        if self.outside.check is not None:
            for k in range(len(self.checks[: iteration + 1]), iteration + 2):  # the start's, too
                self.checks = [*self.checks[:k], self.outside.check(self._folder(k))]
                write_json(self.run.path / CHECKS, self.checks)
            metrics["checked_success"] = self.checks[iteration + 1]
        self._log(metrics)
        self.algorithm.save(self.run, iteration)

    def _log(self, metrics: dict[str, float]) -> None:
        """Dashboards draw it at the number of rollouts, which rises where nothing was learned."""
        self.run.log(max(self.algorithm.step - 1, 0), metrics, at=metrics["rollouts"])

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
        """Keep the policy to be returned: the best that was checked, of equals the latest, or the
        last; after an alarm of those whose rollouts raised none. What it is made of goes last, so
        that a run that is cut here can be finished."""
        last = max(iteration - 1, 0) if raised else iteration + 1
        counted = self.checks[: last + 1]
        best = max(range(len(counted)), key=lambda k: (counted[k], k), default=last)
        policy, partial = self.run.path / "policy", self.run.path / ".policy"
        for old in (partial, policy):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(self._folder(best), partial)
        partial.rename(policy)
        ended = {"stopped": {"iteration": iteration + 1, "alarms": raised}} if raised else {}
        if self.checks:
            ended |= {"checks": self.checks, "best_iteration": best}
        summary = {**_last(self.run.path / "metrics.jsonl"), "rollouts": rollouts, **ended}
        self.outside.told({**summary, "seconds": self.run.seconds()})
        self.run.finish(summary)
        if not self.config.keep:
            shutil.rmtree(self.run.path / "rollout-policy", ignore_errors=True)


class Pace:
    """How far training has come, as a line after each iteration."""

    def __init__(self, config: RLConfig):
        self.config, self.began, self.turns = config, time.monotonic(), 0

    def told(self, iteration: int, episodes: list[Episode]) -> str:
        self.turns += 1
        whole = self.config.iterations * self.config.episodes
        count = sum(bool(episode.success) for episode in episodes)
        low, high = wilson(count, len(episodes))
        line = (
            f"{(iteration + 1) * self.config.episodes} of {whole} rollouts, of the newest "
            f"{len(episodes)} {count / len(episodes):.0%} [{low:.0%}, {high:.0%}] succeeded"
        )
        left = (time.monotonic() - self.began) / self.turns
        left *= self.config.iterations - iteration - 1
        return line + (f"; about {left / 60:.0f} min left" if left > 60 else "")


def _kept(file: Path) -> list:
    """What an interrupted run wrote, up to where it was cut."""
    return json.loads(file.read_text()) if file.is_file() else []


def _last(file: Path) -> dict[str, float]:
    """The metrics of the last iteration, which may be an interrupted run's."""
    lines = file.read_text().splitlines() if file.is_file() else []
    return {k: v for k, v in json.loads(lines[-1]).items() if k != "step"} if lines else {}
