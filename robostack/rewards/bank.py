"""Observations of successes as a world model keeps them: goals to compare others with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.rewards.learned import RewardData
from robostack.rewards.lessons import ALIKE, Lessons, nearest

if TYPE_CHECKING:
    from robostack.rewards.world_model import WorldModel

EXAMPLES = 256  # states at which the ranking is calibrated
RIVALS = 6  # chunks that are no demonstration at each of them


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
        self.reach = torch.stack(others).median() if others else torch.ones((), device=device)

    def _usual(self, episode: int) -> Tensor:
        """Median distance of an episode's observations to their neighbours in other episodes."""
        own = self.episode == episode
        return _distance(self.latents[own], self.latents[~own]).amin(1).median()

    def of(self, task: str, neighbours: int, without: int | None = None) -> Goals:
        """Goals of an instruction: of the same one, or of the most alike where there are none."""
        order = nearest(task, self.tasks, ALIKE)
        chosen = [order[0]] if self.tasks[order[0]] == task and _few(self, order[0]) else order
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


def _few(bank: Bank, task: int) -> bool:
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

    def to_sub_goal(self, now: Tensor, ends: Tensor) -> Tensor:
        """Distance f32[N] of `ends` to where successes had come, a chunk after they had been near
        `now`; the nearer they had been, the more they count."""
        distance, index = _distance(now, self.latents).topk(self.neighbours, dim=1, largest=False)
        weight = F.softmax(-4 * distance / self.scale, dim=1)
        gap = (ends[:, None] - self.later[index]).abs().mean(-1)
        return (weight * gap).sum(1)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return torch.cdist(first, second, p=1) / first.shape[1]


def fit_ranking(model: WorldModel, data: RewardData, episodes: list[int]) -> Tensor:
    """Non-negative weights of the energies, by logistic regression of "this chunk was the
    demonstrated one" on their differences within a state (Bradley-Terry): what makes energies of
    one state comparable. An episode is never measured by its own goals."""
    random = np.random.default_rng(0)
    horizon, differences = model.config.horizon, []
    long = [i for i in episodes if data.length[i] > horizon] or episodes
    for _ in range(EXAMPLES):
        i = int(long[random.integers(len(long))])
        t = int(random.integers(max(data.length[i] - horizon, 1)))
        row = data.first[i] + t
        chunk = data.actions[row + np.minimum(np.arange(horizon), data.length[i] - 2 - t)]
        rivals = np.stack([chunk, *_rivals(chunk, data, random)])
        with torch.no_grad():
            seen, states = model.seen(data, np.array([row]))
            latent = model.slow_eye(seen, states).expand(len(rivals), -1)
            ends = model.imagine(latent, torch.from_numpy(rivals).to(model.device))[:, :, -1]
            task = data.tracks[i].task
            energy = torch.stack([model.energies(latent, end, task, i) for end in ends]).mean(0)
        differences.append(energy[1:] - energy[:1])
    return _logistic(torch.cat(differences))


def _rivals(chunk: np.ndarray, data: RewardData, random: np.random.Generator) -> list[np.ndarray]:
    """Chunks near the demonstrated one, as a policy's samples are, and some of elsewhere."""
    spread = data.actions.std(0) + 1e-6
    found = [
        chunk + scale * spread * random.standard_normal(chunk.shape[1])
        for scale in random.uniform(0.2, 1.0, RIVALS - 1)
    ]
    row = int(random.integers(len(data.actions) - len(chunk)))
    found.append(data.actions[row : row + len(chunk)])
    low, high = np.array(data.spec.action_low), np.array(data.spec.action_high)
    return [np.clip(x, low, high).astype(np.float32) for x in found]


def _logistic(differences: Tensor) -> Tensor:
    """Weights w >= 0 of least mean log(1 + exp(-differences @ w)), with a small ridge."""
    raw = torch.zeros(differences.shape[1], device=differences.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([raw], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        weight = F.softplus(raw)
        loss = F.softplus(-differences @ weight).mean() + 1e-3 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return F.softplus(raw).detach()
