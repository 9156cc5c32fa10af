"""What a failure is worth: how much it looks like one's own successes (SRPO, arXiv 2511.15605).

The release scales distances anew in every batch, so that its best failure is worth the same
however bad it is, and lets a failure be told by its length. Here the scale is absolute (the chance
of success at such a distance, fitted to everything remembered), and every episode is looked at at
the same times: when a longer one comes, what is remembered is looked at anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robostack.data.chunks import Batch
from robostack.device import device
from robostack.policy.vla import VLA
from robostack.rewards.calibrate import platt
from robostack.types import Episode

LOOKS = 8  # times at which an episode is looked at
DIRECTIONS = 16  # of the embeddings, at most
NEAREST = 5
LEAST = 2  # successes, and failures, before a distance means anything


@dataclass
class Remembered:
    """An episode, how it looks, and up to which time [steps] it was looked at for that."""

    episode: Episode
    looks: np.ndarray | None = None  # f32[LOOKS * D]
    until: int = 0


class SelfReference:
    """Remembers how the last `bank` successes and failures of each task look to a policy's frozen
    eyes."""

    def __init__(self, start: VLA, bank: int, partial: float):
        self.start, self.bank, self.partial = start.eval(), bank, partial
        self.longest = 0  # [steps] episode that was seen or asked about
        self._kept: dict[str, dict[bool, deque[Remembered]]] = {}

    @property
    def ready(self) -> bool:
        """Whether it can tell anything of any task."""
        return any(self._told(kept) for kept in self._kept.values())

    @staticmethod
    def _told(kept: dict[bool, deque[Remembered]]) -> bool:
        return min(len(kept[True]), len(kept[False])) >= LEAST

    def see(self, episode: Episode) -> None:
        if self.bank and episode.success is not None:
            self.longest = max(self.longest, len(episode))
            empty = {good: deque(maxlen=self.bank) for good in (True, False)}
            kept = self._kept.setdefault(episode.task, empty)
            kept[bool(episode.success)].append(Remembered(episode))

    @torch.no_grad()
    def embed(self, episode: Episode) -> np.ndarray:
        """f32[LOOKS * D]: the mean value vectors of the backbone's last layer, at times up to that
        of the longest episode, however long this one was. What has ended stays as it ended."""
        times = np.linspace(0, self.longest, LOOKS + 1)[1:].round().astype(int)
        shape = self.start.config.horizon, self.start.spec.action_dim
        at = np.minimum(times, len(episode))
        batch = Batch(
            images={name: torch.from_numpy(frames[at]) for name, frames in episode.images.items()},
            state=torch.from_numpy(episode.states[at]),
            tasks=[episode.task] * LOOKS,
            chunk=torch.zeros(LOOKS, *shape),
            valid=torch.ones(LOOKS, shape[0], dtype=torch.bool),
        )
        seen = self.start.encode(batch.to(device())).values[-1]
        return seen.float().mean(2).reshape(-1).cpu().numpy()

    def worth(self, episodes: Sequence[Episode]) -> np.ndarray:
        """f32[N]: 1 of a success; of a failure `partial` times the chance of success that such a
        distance from remembered successes has, and 0 where too little is remembered."""
        found = np.zeros(len(episodes), np.float32)
        self.longest = max([self.longest, *map(len, episodes)])
        for task in {episode.task for episode in episodes}:
            own = [i for i, episode in enumerate(episodes) if episode.task == task]
            chance = self._chances(task, [episodes[i] for i in own])
            for i, p in zip(own, chance):
                found[i] = 1.0 if episodes[i].success else self.partial * p
        return found

    def _looks(self, remembered: Remembered) -> np.ndarray:
        if remembered.until != self.longest:
            remembered.looks = self.embed(remembered.episode)
            remembered.until = self.longest
        return remembered.looks

    def _chances(self, task: str, episodes: list[Episode]) -> np.ndarray:
        kept = self._kept.get(task)
        if kept is None or not self._told(kept):
            return np.zeros(len(episodes), np.float32)
        good, bad = ([self._looks(r) for r in kept[k]] for k in (True, False))
        project = _projection(np.stack([*good, *bad]))
        goals = project(np.stack(good))
        away = np.concatenate(
            [
                [_distance(goals[k], np.delete(goals, k, 0)) for k in range(len(goals))],
                [_distance(x, goals) for x in project(np.stack(bad))],
            ]
        )
        label = torch.tensor([1.0] * len(good) + [0.0] * len(bad))
        centre, spread = float(away.mean()), max(float(away.std()), 1e-6)
        slope, offset = platt(_logit(away, centre, spread), label)
        known = {id(r.episode): r for k in (True, False) for r in kept[k]}
        seen = [self._looks(known.get(id(e), Remembered(e))) for e in episodes]
        distance = np.array([_distance(x, goals) for x in project(np.stack(seen))])
        logit = slope * _logit(distance, centre, spread) + offset
        return torch.sigmoid(logit).numpy().astype(np.float32)


def _logit(distance: np.ndarray, centre: float, spread: float) -> Tensor:
    """The nearer the higher, in standard deviations."""
    return torch.from_numpy((centre - distance) / spread).float()


def _projection(rows: np.ndarray):
    """Onto the main directions of rows f32[N, D], fewer than there are rows to find them by. What
    varies most stays what counts most: whitened, the difference between success and failure would
    weigh no more than noise."""
    mean = rows.mean(0)
    _, _, directions = np.linalg.svd(rows - mean, full_matrices=False)
    main = directions[: max(1, min(DIRECTIONS, len(rows) // 4))].T
    return lambda x: (x - mean) @ main


def _distance(x: np.ndarray, goals: np.ndarray) -> float:
    """Soft minimum over the nearest goals."""
    near = np.sort(np.linalg.norm(goals - x, axis=1))[:NEAREST]
    return float(-np.log(np.mean(np.exp(-(near - near[0])))) + near[0])
