"""Observations of successes as a world model keeps them: goals to compare others with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.rewards.lessons import ALIKE, Lessons, nearest

NEAREST = 1e-4  # usual distance where the same episodes are there twice


class Bank(nn.Module):
    """Latents of successes, with where they led, how far along they were, and of which episode."""

    def __init__(self, width: int):
        super().__init__()
        self.tasks: tuple[str, ...] = ()
        self.register_buffer("latents", torch.zeros(0, width))
        self.register_buffer("later", torch.zeros(0, width))  # a chunk's steps after each
        self.register_buffer("progress", torch.zeros(0))
        self.register_buffer("final", torch.zeros(0, dtype=torch.bool))
        self.register_buffer("episode", torch.zeros(0, dtype=torch.long))
        self.register_buffer("task", torch.zeros(0, dtype=torch.long))  # index into `tasks`
        self.register_buffer("reach", torch.ones(()))  # distance to neighbours that is usual

    def fill(
        self, lessons: Lessons, latents: Callable[[np.ndarray], Tensor], horizon: int, most: int
    ) -> None:
        """At most `most` observations, evenly from all labelled successes, their ends included."""
        data = lessons.data
        share = max(most // len(lessons.labelled), 2)
        rows, later, episode, final = [], [], [], []
        for i in lessons.labelled[:most]:
            own = data.rows(i)
            known = np.flatnonzero(np.isfinite(lessons.progress[own]))
            pick = known[np.unique(np.linspace(0, len(known) - 1, share).round().astype(int))]
            pick = np.union1d(pick, [data.length[i] - 1])
            rows += list(own.start + pick)
            later += list(own.start + np.minimum(pick + horizon, data.length[i] - 1))
            episode += [i] * len(pick)
            final += list(pick == data.length[i] - 1)
        names = [data.tracks[i].task for i in episode]
        self.tasks = tuple(sorted(set(names)))
        device = self.reach.device
        self.latents, self.later = latents(np.array(rows)), latents(np.array(later))
        self.progress = torch.from_numpy(np.nan_to_num(lessons.progress[rows], nan=1.0)).to(device)
        self.final = torch.tensor(final, device=device)
        self.episode = torch.tensor(episode, device=device)
        self.task = torch.tensor([self.tasks.index(n) for n in names], device=device)
        others = [self._usual(i) for i in lessons.labelled[:64] if len(lessons.labelled) > 1]
        reach = torch.stack(others).median() if others else torch.ones((), device=device)
        self.reach = reach.clamp_min(NEAREST)

    def _usual(self, episode: int) -> Tensor:
        """Median distance of an episode's observations to their neighbours in other episodes."""
        own = self.episode == episode
        return _distance(self.latents[own], self.latents[~own]).amin(1).median()

    def of(self, task: str, neighbours: int, without: int | None = None) -> Goals:
        """Goals of an instruction: of the same one, or of the most alike where there are none."""
        order = nearest(task, self.tasks, ALIKE)
        chosen = [order[0]] if self.tasks[order[0]] == task and _several(self, order[0]) else order
        keep = torch.isin(self.task, torch.tensor(chosen, device=self.task.device))
        if without is not None and (keep & (self.episode != without)).any():
            keep &= self.episode != without
        return Goals(
            self.latents[keep],
            self.later[keep],
            self.progress[keep],
            self.final[keep],
            float(self.reach),
            min(neighbours, int(keep.sum())),
        )


def _several(bank: Bank, task: int) -> bool:
    """Whether one instruction has goals of several episodes."""
    return len(torch.unique(bank.episode[bank.task == task])) >= ALIKE // 2


@dataclass(frozen=True)
class Goals:
    """The part of a bank that one instruction is measured by."""

    latents: Tensor  # f32[M, D]
    later: Tensor  # f32[M, D]
    label: Tensor  # f32[M], progress in [0, 1]
    final: Tensor  # bool[M]
    scale: float  # usual distance of neighbours
    neighbours: int

    def progress(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Progress f32[N] of the nearest observations, and trust in it: 1 where they are as near
        as neighbours usually are."""
        distance, index = _distance(latents, self.latents).topk(
            self.neighbours, dim=1, largest=False
        )
        weight = F.softmax(-4 * distance / self.scale, dim=1)
        trust = (1.5 * self.scale / distance[:, 0].clamp_min(1e-6)).clamp(max=1)
        return (weight * self.label[index]).sum(1), trust

    def to_end(self, latents: Tensor) -> Tensor:
        """Mean absolute distance f32[N] to the nearest end of a success."""
        return _distance(latents, self.latents[self.final]).amin(1)

    def to_nearest(self, latents: Tensor) -> Tensor:
        """Distance f32[N] to the nearest observations of successes, whichever they are: how far off
        their way."""
        distance, _ = _distance(latents, self.latents).topk(self.neighbours, dim=1, largest=False)
        return (F.softmax(-4 * distance / self.scale, dim=1) * distance).sum(1)

    def to_sub_goal(self, now: Tensor, ends: Tensor) -> Tensor:
        """Distance f32[N] of `ends` to where successes had come, a chunk after they had been near
        `now`; the nearer they had been, the more they count."""
        distance, index = _distance(now, self.latents).topk(self.neighbours, dim=1, largest=False)
        weight = F.softmax(-4 * distance / self.scale, dim=1)
        gap = (ends[:, None] - self.later[index]).abs().mean(-1)
        return (weight * gap).sum(1)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return torch.cdist(first, second, p=1) / first.shape[1]
