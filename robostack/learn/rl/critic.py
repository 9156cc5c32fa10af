"""The value of an observation, by eyes of its own."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from robostack.data.chunks import ChunkData
from robostack.data.normalize import Normalizer
from robostack.device import device
from robostack.rewards.eye import EyeConfig, SmallEye

SIDE = 32  # [px] of the pictures that the critic looks at


class Critic(nn.Module):
    """Value of an observation: the shaped return still to come."""

    def __init__(self, data: ChunkData, width: int = 64):
        super().__init__()
        spec = data.spec
        self.normalize_state = Normalizer(spec.state_dim)
        self.normalize_state.fit(data.column("state"))
        self.encoder = SmallEye(
            EyeConfig(side=SIDE, width=width), len(spec.cameras), spec.state_dim
        )
        self.head = nn.Sequential(nn.GELU(), nn.Linear(width, 1))
        nn.init.zeros_(self.head[1].weight)  # no opinion before the first update
        nn.init.zeros_(self.head[1].bias)

    def forward(self, frames: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(frames, self.normalize_state(state))).squeeze(-1)

    @torch.no_grad()
    def values(self, frames: np.ndarray, states: np.ndarray) -> np.ndarray:
        """f32[T+1] of an episode's small pictures and its states f32[T+1, S]."""
        seen, state = torch.from_numpy(frames).to(device()), torch.from_numpy(states).to(device())
        return self(seen, state).cpu().numpy()


def regress(
    critic: Critic,
    optimizer: torch.optim.Optimizer,
    frames: np.ndarray,
    states: np.ndarray,
    returns: np.ndarray,
    updates: int,
    batch: int,
    random: np.random.Generator,
) -> float:
    """Towards `returns` f32[N] of so many observations; returns the last error.

    Raises FloatingPointError before a bad loss can touch the weights.
    """
    error = 0.0
    for k in range(updates):
        pick = random.choice(len(returns), batch)
        value = critic(
            torch.from_numpy(frames[pick]).to(device()),
            torch.from_numpy(states[pick]).to(device()),
        )
        loss = F.mse_loss(value, torch.from_numpy(returns[pick]).to(device()))
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the critic's loss became {float(loss)} at its update {k}; nothing is saved from "
                "here on. Look for states or rewards that are no numbers in the data"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        error = float(loss.detach())
    return error
