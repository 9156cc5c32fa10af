"""What the algorithms share that train the velocity field itself."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from robostack.device import device
from robostack.learn.learner import Learner
from robostack.learn.rl.config import RLConfig
from robostack.learn.rl.critic import Critic
from robostack.learn.rl.replay import Replay
from robostack.learn.rl.traces import Acting, Traces
from robostack.learn.run import Run, rng, write_json
from robostack.policy.vla import VLA

MARKS = "iterations.json"  # updates that each iteration ended at
Steps = Callable[[int], Iterator[int]]  # so many updates, behind a progress bar


class Algorithm(Protocol):
    """One way to learn from rollouts. `fresh` are the indices in the replay of those episodes of an
    iteration that it may learn from as its own, `seeds` what the policy was reset with in each."""

    tries: int  # rollouts of each start
    step: int  # updates so far

    def resume(self, run: Run) -> int:
        """Go on where `save` left off; returns how many iterations are done."""

    def relive(self, iteration: int, fresh: Sequence[int]) -> None:
        """In the place of `learn`, in an iteration that a resumed run finds done."""

    def learn(
        self, iteration: int, fresh: Sequence[int], seeds: Sequence[int], steps: Steps
    ) -> dict[str, float]: ...

    def save(self, run: Run, iteration: int) -> None: ...

    def acting(self) -> contextlib.AbstractContextManager[VLA]:
        """The policy that rolls out, for a while."""

    def put(self, folder: Path) -> None:
        """Save what rolls out."""


class FlowLearner:
    """A policy under a `Learner`, with a critic that is fitted anew to each iteration's data.

    Draws are functions of (seed, iteration, update), so a resumed run ends at the same weights.
    """

    tries = 1
    averages = True  # whether the average of the weights acts, or they themselves

    def __init__(self, config: RLConfig, start: VLA, replay: Replay, seed: int, acting: Acting):
        self.config, self.replay, self.seed, self.way = config, replay, seed, acting
        vla = copy.deepcopy(start).to(device())
        if config.freeze:
            for parameter in vla.backbone.parameters():
                parameter.requires_grad_(False)
        self.learner = Learner(
            vla.train(),
            config.lr,
            config.iterations * config.updates,
            config.warmup,
            config.average if self.averages else 0.0,
            compute=config.compute,
        )
        self.critic = Critic(replay.data).to(device())
        self._optimizer = torch.optim.AdamW(self.critic.parameters(), lr=1e-3, weight_decay=1e-4)
        self._marks: list[int] = []

    @property
    def vla(self) -> VLA:
        return self.learner.model

    @property
    def step(self) -> int:
        return self.learner.step_count

    def fit_critic(self, iteration: int, episodes: Sequence[int] | None = None) -> float:
        random = rng(self.seed, iteration)
        return self.replay.fit_critic(self.critic, self._optimizer, random, episodes)

    @torch.no_grad()
    def across(self, function: Callable, traces: Traces) -> Tensor:
        """function(vla, batch, step) f32[C, ...] of all chunks, in the precision of the updates,
        so that what an update compares with it was equal to it before the first one."""
        found = []
        for k in range(0, len(traces), self.config.batch):
            part = slice(k, k + self.config.batch)
            batch = self.replay.data.batch(traces.rows[part]).to(device())
            found.append(self.learner(function, batch, traces.step.part(part)))
        return torch.cat(found)

    def batch_size(self, chunks: int) -> int:
        """Of an update where there are only so many: a multiple of the pieces it is taken in."""
        pieces = self.config.compute.accumulate
        size = min(self.config.batch, chunks) // pieces * pieces
        if not size:
            raise ValueError(
                f"rl: {chunks} chunks in an iteration: expected {pieces} or more, one a piece "
                "of compute.accumulate; play more episodes"
            )
        return size

    def relive(self, iteration: int, fresh: Sequence[int]) -> None:
        self.fit_critic(iteration)

    def resume(self, run: Run) -> int:
        done = self.learner.resume(run)
        if done:
            self._marks = json.loads((run.path / MARKS).read_text())
            self._marks = [mark for mark in self._marks if mark <= done]
        return len(self._marks)

    def save(self, run: Run, iteration: int) -> None:
        self._marks = [*self._marks[:iteration], self.step]
        write_json(run.path / MARKS, self._marks)
        self.learner.save(run)

    @contextlib.contextmanager
    def acting(self) -> Iterator[VLA]:
        if self.learner.average is None:
            training = self.vla.training
            yield self.vla.eval()
            self.vla.train(training)
            return
        with self.learner.averaged() as vla:
            yield vla

    def put(self, folder: Path) -> None:
        with self.acting() as vla:
            vla.learns(self.replay.data.instructions)
            vla.save(folder)
