"""A world model that follows a try: where it has come to, and whether its members saw it coming."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from robostack.alarms import SPREAD
from robostack.protocols import Scores
from robostack.rewards.bank import Goals
from robostack.rewards.following import LearnedFollower

if TYPE_CHECKING:
    from robostack.rewards.world_model import WorldModel


class Following(LearnedFollower["WorldModel"]):
    """Keeps the latents and the actions of the last chunk's steps: what the members would have
    imagined then of what is seen now tells whether they know their way about here."""

    def __init__(self, reward: WorldModel, task: str | None = None):
        super().__init__(reward, task)
        self._latents = torch.zeros(0, reward.eye.config.width, device=reward.device)
        self._actions = torch.zeros(0, reward.spec.action_dim, device=reward.device)
        self._bank: Goals | None = None

    def go_on(self, seen: Tensor, states: Tensor, actions: np.ndarray) -> Scores:
        reward = self.reward
        if self._bank is None:
            self._bank = reward.bank.of(self.task, reward.config.neighbours)
        latents, bank = reward.slow_eye(seen, states), self._bank
        progress, trust = bank.progress(latents)
        value = reward.worth(latents, [self.task] * len(latents))
        closeness = torch.exp(-bank.to_end(latents) / bank.scale)
        spread = self._spread(latents, actions)
        doubt = 1 - (reward.usual / spread.clamp_min(1e-9)).clamp(max=1)
        potential = (trust * progress + (1 - trust) * torch.minimum(progress, value)).clamp(0, 1)
        terms = {"value": value, "goal": closeness, "nearest": progress, SPREAD: doubt}
        return Scores(
            potential.cpu().numpy(),
            (trust * (1 - doubt)).cpu().numpy(),
            {name: term.cpu().numpy() for name, term in terms.items()},
        )

    def _spread(self, latents: Tensor, actions: np.ndarray) -> Tensor:
        """How far the members part f32[N] over these latents f32[N, D], each imagined from up to
        `horizon` steps before; 0 where nothing came before."""
        horizon, known = self.reward.config.horizon, len(self._latents)
        line = torch.cat([self._latents, latents])
        acted = torch.cat([self._actions, torch.from_numpy(actions).to(self._actions)])
        self._latents = line[-horizon:]
        self._actions = acted[len(acted) - len(self._latents) + 1 :]  # those between them
        now = torch.arange(known, len(line), device=line.device)
        begin = (now - horizon).clamp(min=0)
        # action t of `acted` followed latent t of `line`; what lies beyond `now` is for nothing
        steps = begin[:, None] + torch.arange(horizon, device=line.device)
        acted = torch.cat([acted, acted.new_zeros(horizon, acted.shape[1])])
        ends = self.reward.imagine(line[begin], acted[steps])
        last = (now - begin - 1).clamp(min=0)
        return apart(ends[:, torch.arange(len(now)), last]) * (now > begin)


def apart(imagined: Tensor) -> Tensor:
    """Deviation f32[...] between the members of what they imagine f32[E, ..., D]."""
    return imagined.std(0, correction=0).mean(-1)
