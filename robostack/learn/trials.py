"""When to end training early: the policy moves away from what it should imitate, or it gets no
better where it acts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from robostack.learn import processes
from robostack.learn.run import Run, write_json
from robostack.policy.vla import VLA

Check = Callable[[Path], float]  # a success rate of the policy in a folder


class Drift:
    """Whether the chosen error has stayed above the reference's by more than `most`; for how many
    steps `before` an interruption, `Learner.save` remembers."""

    def __init__(self, most: float, before: int = 0, patience: int = 20):
        self.most, self.patience, self.over = most, patience, before

    def far(self, metrics: dict[str, float]) -> bool:
        self.over = self.over + 1 if self.most and metrics["chosen_drift"] > self.most else 0
        return self.over >= self.patience


class Trials:
    """The policies that were tried in mid-training: the best is kept in the run, for resuming."""

    def __init__(self, run: Run, check: Check | None, every: int, patience: int):
        if every and processes.count() > 1:
            raise ValueError("check_every: a policy is tried by one process; 0 where several train")
        self.run, self.check = run, check if every else None
        self.every, self.patience = every, patience
        self._file = run.path / "trials.json"
        self.success = json.loads(self._file.read_text()) if self._file.is_file() else {}

    def due(self, step: int, last: int) -> bool:
        """Whether to try the policy after `step`, if that has not been done."""
        return (
            self.check is not None
            and str(step) not in self.success
            and ((step + 1) % self.every == 0 or step == last)
        )

    def hold(self, vla: VLA, step: int) -> float:
        best = max(self.success.values(), default=-1.0)
        tried = self.run.path / f"tried-{step}"  # of its own: who plays it may keep it by name
        vla.save(tried)
        rate = self.check(tried)
        if rate > best:
            vla.save(self.run.path / "best")
        shutil.rmtree(tried)
        self.success[str(step)] = rate
        write_json(self._file, self.success)
        return rate

    @property
    def over(self) -> bool:
        """Whether the last `patience` trials were no better than one before."""
        rates = list(self.success.values())
        return len(rates) > self.patience and max(rates[-self.patience :]) <= max(
            rates[: -self.patience]
        )
