"""A bonus for where the policy has not been, that ends with training.

Random network distillation (RND, arXiv 1810.12894): a network learns to predict a random one's
answer; where it errs, it has not been. It looks at how the object lies to the gripper (after
EvoVLA's pose curiosity, arXiv 2511.16166), not at pictures: what moves in those need not matter.
Unlike a potential the bonus changes what is optimal, so it is annealed to 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from robostack.learn.rl.config import CuriosityConfig
from robostack.learn.run import rng
from robostack.types import Episode

WIDTH, ANSWERS = 64, 16
STEPS, BATCH = 200, 128  # of the predictor, after each iteration


def whereabouts(episode: Episode) -> np.ndarray:
    """f32[T+1, F]: every keypoint relative to the gripper, or where there are none the state."""
    points = episode.keypoints
    hand = next((points[n] for n in sorted(points) if n.startswith("gripper")), None)
    others = [points[n] for n in sorted(points) if not n.startswith("gripper")]
    if hand is None or not others:
        return episode.states
    return np.concatenate([each - hand for each in others], 1).astype(np.float32)


class Curiosity:
    """Novelty is told in units of its mean over the episodes that it began with."""

    def __init__(self, config: CuriosityConfig, base: Iterable[Episode], seed: int):
        self.config, self.seed = config, seed
        self._seen: list[np.ndarray] = [whereabouts(episode) for episode in base]
        rows = np.concatenate(self._seen)
        self.mean, self.deviation = rows.mean(0), np.maximum(rows.std(0), 1e-3)
        draws = torch.random.get_rng_state()
        torch.manual_seed(seed)
        self.question, self.answer = _network(rows.shape[1]), _network(rows.shape[1])
        torch.random.set_rng_state(draws)
        self._optimizer = torch.optim.Adam(self.answer.parameters(), lr=1e-3)
        self.unit = max(float(self._novelty(rows).mean()), 1e-8)
        self._learn(0)

    def weight(self, iteration: int, iterations: int) -> float:
        """Linear, from its own to 0 in the last iteration; an only one has the whole."""
        return self.config.weight * max(0.0, 1 - iteration / max(1, iterations - 1))

    def novelty(self, episode: Episode) -> np.ndarray:
        """f32[T] of each action: how new it is where it led."""
        return (self._novelty(whereabouts(episode)[1:]) / self.unit).astype(np.float32)

    def learn(self, episodes: Sequence[Episode], iteration: int) -> None:
        self._seen += [whereabouts(episode) for episode in episodes]
        self._learn(iteration + 1)

    def _inputs(self, rows: np.ndarray) -> torch.Tensor:
        normal = np.clip((rows - self.mean) / self.deviation, -5, 5)
        return torch.from_numpy(normal.astype(np.float32))

    @torch.no_grad()
    def _novelty(self, rows: np.ndarray) -> np.ndarray:
        x = self._inputs(rows)
        return (self.question(x) - self.answer(x)).square().mean(1).numpy()

    def _learn(self, key: int) -> None:
        rows, random = np.concatenate(self._seen), rng(self.seed, key, 2)
        for _ in range(STEPS):
            x = self._inputs(rows[random.choice(len(rows), min(BATCH, len(rows)))])
            with torch.no_grad():
                wanted = self.question(x)
            self._optimizer.zero_grad(set_to_none=True)
            F.mse_loss(self.answer(x), wanted).backward()
            self._optimizer.step()


def _network(inputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, WIDTH),
        nn.GELU(),
        nn.Linear(WIDTH, WIDTH),
        nn.GELU(),
        nn.Linear(WIDTH, ANSWERS),
    )
