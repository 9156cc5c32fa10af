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

EXAMPLES = 128  # states at which the ranking is calibrated
GROUPS = 8  # states from which chunks were executed that are enough for it
HELD_OUT = 4  # every fourth group is kept to calibrate by
MOST = 64  # tries of a group; what shares a name beyond that shares no start
NEAREST = 1e-4  # usual distance where the same episodes are there twice
MARGIN = 0.03  # of outcomes that differ
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

    def to_sub_goal(self, now: Tensor, ends: Tensor) -> Tensor:
        """Distance f32[N] of `ends` to where successes had come, a chunk after they had been near
        `now`; the nearer they had been, the more they count."""
        distance, index = _distance(now, self.latents).topk(self.neighbours, dim=1, largest=False)
        weight = F.softmax(-4 * distance / self.scale, dim=1)
        gap = (ends[:, None] - self.later[index]).abs().mean(-1)
        return (weight * gap).sum(1)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return torch.cdist(first, second, p=1) / first.shape[1]


def split(data: RewardData) -> tuple[list[list[int]], list[list[int]]]:
    """Groups of tries to learn from, and others to calibrate by; where there are few, all are for
    the latter."""
    groups = [group for group in data.groups() if len(group) <= MOST]
    if len(groups) < HELD_OUT * GROUPS:
        return [], groups
    return [g for i, g in enumerate(groups) if i % HELD_OUT], groups[::HELD_OUT]


def contests(data: RewardData, groups: list[list[int]]) -> list[np.ndarray]:
    """Of every group of tries whose outcomes differ and are known, (better, worse) i64[M, 2]."""
    found = []
    for group in groups:
        outcome = data.outcome[group]
        pairs = np.argwhere(outcome[:, None] > outcome[None] + MARGIN)
        if len(pairs):
            found.append(np.array(group)[pairs])
    return found


def fit_ranking(
    model: WorldModel, data: RewardData, groups: list[list[int]], episodes: list[int]
) -> Tensor:
    """Non-negative weights of the energies, by logistic regression of "this chunk was better than
    that one" on their differences within a state (Bradley-Terry): what makes energies of one state
    comparable.

    Better is what came out better where chunks were executed from one state: by the data where
    they know, else by progress in the real last observation. Without such groups, it is the
    demonstrated chunk of a success, against chunks near it.
    """
    random = np.random.default_rng(0)
    if len(groups) >= GROUPS:
        order = random.permutation(len(groups))[:EXAMPLES]
        found = [_executed(model, data, groups[i]) for i in order]
    else:
        long = [i for i in episodes if data.length[i] > model.config.horizon] or episodes
        found = [_demonstrated(model, data, long, random) for _ in range(EXAMPLES)]
    differences = torch.cat(found)
    if not len(differences):
        return torch.ones(differences.shape[1], device=differences.device)
    return _logistic(differences)


@torch.no_grad()
def _executed(model: WorldModel, data: RewardData, group: list[int]) -> Tensor:
    """Energy of the worse minus that of the better one, f32[pairs, 3], of executed chunks."""
    horizon, task = model.config.horizon, data.tracks[group[0]].task
    steps = np.arange(horizon)
    chunks = [data.actions[data.first[i] + np.minimum(steps, data.length[i] - 2)] for i in group]
    seen, states = model.seen(data, data.first[group])
    energy = model.imagined_energies(model.slow_eye(seen, states), np.stack(chunks), task).mean(0)
    outcome = torch.from_numpy(data.outcome[group]).to(energy)
    if outcome.isnan().any() or outcome.max() <= outcome.min() + MARGIN:
        outcome = _judged(model, data, group)
    better, worse = torch.nonzero(outcome[:, None] > outcome[None] + MARGIN, as_tuple=True)
    return energy[worse] - energy[better]


def _judged(model: WorldModel, data: RewardData, group: list[int]) -> Tensor:
    """How far tries f32[N] came, by the model's own view of their real last observations."""
    horizon, task = model.config.horizon, data.tracks[group[0]].task
    last = data.first[group] + np.minimum(horizon, data.length[group] - 1)
    real = model.slow_eye(*model.seen(data, last))
    bank = model.bank.of(task, model.config.neighbours)
    value = model.worth(real, [task] * len(real))
    success = torch.from_numpy(data.success[group] & (data.length[group] <= horizon + 1))
    return (bank.progress(real)[0] + value) / 2 + success.to(real.device).float()


@torch.no_grad()
def _demonstrated(
    model: WorldModel, data: RewardData, episodes: list[int], random: np.random.Generator
) -> Tensor:
    """The same of a demonstrated chunk and its rivals. An episode is never measured by itself."""
    horizon, i = model.config.horizon, int(episodes[random.integers(len(episodes))])
    t = int(random.integers(max(data.length[i] - horizon, 1)))
    row = data.first[i] + t
    chunk = data.actions[row + np.minimum(np.arange(horizon), data.length[i] - 2 - t)]
    rivals = np.stack([chunk, *_rivals(chunk, data, random)])
    seen, states = model.seen(data, np.array([row]))
    latent = model.slow_eye(seen, states).expand(len(rivals), -1)
    energy = model.imagined_energies(latent, rivals, data.tracks[i].task, i).mean(0)
    return energy[1:] - energy[:1]


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
