"""Which of several chunks is better from one state: contests that a world model learns from, and
how much each of its energies says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robostack.rewards.learned import RewardData

if TYPE_CHECKING:
    from robostack.rewards.world_model import WorldModel

EXAMPLES = 128  # states at which the ranking is calibrated
GROUPS = 8  # states from which chunks were executed that are enough for it
HELD_OUT = 4  # every fourth group is kept to calibrate by
MOST = 64  # tries of a group; what shares a name beyond that shares no start
MARGIN = 0.03  # of outcomes that differ
RIVALS = 6  # chunks that are no demonstration at each of them


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


@dataclass(frozen=True)
class Decided:
    """Chunks from one state, what every member holds of them, and which of two was better."""

    energies: Tensor  # f32[E, N, 4]
    better: Tensor  # i64[P], indices of chunks
    worse: Tensor  # i64[P]

    def margins(self, scores: Tensor) -> Tensor:
        """By how much the better ones are ahead f32[..., P] in scores f32[..., N]."""
        return scores[..., self.better] - scores[..., self.worse]


def fit_ranking(
    model: WorldModel, data: RewardData, groups: list[list[int]], episodes: list[int]
) -> Tensor:
    """Non-negative weights of the energies: what makes those of one state comparable.

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
    return weigh(found, model.config.pessimism)


def weigh(found: list[Decided], pessimism: float) -> Tensor:
    """Weights f32[4] >= 0 with which differences of `log_odds` are the log-odds of the one being
    better: logistic regression of what was decided on the members' mean energies (Bradley-Terry),
    and then of the same on what is left once their spread is taken off."""
    energies = torch.cat([d.margins(-d.energies.mean(0).T).T for d in found])
    if not len(energies):
        return torch.ones(energies.shape[1], device=energies.device)
    weights = _logistic(energies)
    ahead = [d.margins(log_odds(d.energies, weights, pessimism)) for d in found]
    return weights * _logistic(torch.cat(ahead)[:, None])


def log_odds(energies: Tensor, weights: Tensor, pessimism: float) -> Tensor:
    """Scores f32[N] of chunks by energies f32[E, N, 4]: the members' mean, less so many of their
    deviations."""
    score = -(energies @ weights)
    spread = score.std(0) if len(score) > 1 else torch.zeros_like(score[0])
    return score.mean(0) - pessimism * spread


@torch.no_grad()
def _executed(model: WorldModel, data: RewardData, group: list[int]) -> Decided:
    """Of chunks that were executed."""
    horizon, task = model.config.horizon, data.tracks[group[0]].task
    steps = np.arange(horizon)
    chunks = [data.actions[data.first[i] + np.minimum(steps, data.length[i] - 2)] for i in group]
    seen, states = model.seen(data, data.first[group])
    energies = model.imagined_energies(model.slow_eye(seen, states), np.stack(chunks), task)
    outcome = torch.from_numpy(data.outcome[group]).to(energies)
    if outcome.isnan().any() or outcome.max() <= outcome.min() + MARGIN:
        outcome = _judged(model, data, group)
    ahead = outcome[:, None] > outcome[None] + MARGIN
    return Decided(energies, *torch.nonzero(ahead, as_tuple=True))


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
) -> Decided:
    """Of a demonstrated chunk and its rivals. An episode is never measured by itself."""
    horizon, i = model.config.horizon, int(episodes[random.integers(len(episodes))])
    t = int(random.integers(max(data.length[i] - horizon, 1)))
    row = data.first[i] + t
    chunk = data.actions[row + np.minimum(np.arange(horizon), data.length[i] - 2 - t)]
    rivals = np.stack([chunk, *_rivals(chunk, data, random)])
    seen, states = model.seen(data, np.array([row]))
    latent = model.slow_eye(seen, states).expand(len(rivals), -1)
    energies = model.imagined_energies(latent, rivals, data.tracks[i].task, i)
    worse = torch.arange(1, len(rivals), device=energies.device)
    return Decided(energies, torch.zeros_like(worse), worse)


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
