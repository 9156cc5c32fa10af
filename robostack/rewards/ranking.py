"""Which of several chunks is better from one state: contests that a world model learns from, and
how much each of its energies says."""

from __future__ import annotations

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
