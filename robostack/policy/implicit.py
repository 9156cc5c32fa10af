"""The reward that preference learning leaves behind in a policy, to choose among chunks with.

After DeformPAM (arXiv 2410.11584): a policy that was improved by DPO, and the reference that it was
improved from, agree on most of a chunk; where they differ, their errors say which of them it suits,

    r(a) = mean over (tau, eps) of e_reference(a) - e_better(a),

at the clean end of the flow, tau in [0, LATE], and at the same draws for every chunk.
"""

from __future__ import annotations

import numpy as np
import torch

from robostack.policy.chunking import observation_batch
from robostack.policy.vla import VLA
from robostack.types import Observation

LATE = 0.3  # tau up to which errors tell chunks apart; nearer the noise they do not


class ImplicitReward:
    """A ChunkReward: higher where `better` expects a chunk more than `reference` does.

    Raises SpecMismatch where the two are of different robots, ValueError where their chunks differ
    in length.
    """

    name = "implicit"

    def __init__(self, better: VLA, reference: VLA, draws: int = 8, seed: int = 0):
        better.spec.require_same(reference.spec, "the judge", "its reference")
        if better.config.horizon != reference.config.horizon:
            raise ValueError(
                f"the judge has chunks of {better.config.horizon} actions, its reference of "
                f"{reference.config.horizon}"
            )
        self.better, self.reference, self.draws = better.eval(), reference.eval(), draws
        generator = torch.Generator().manual_seed(seed)
        self._noise = better.noise(draws, generator)
        spread = (torch.arange(draws) + torch.rand(draws, generator=generator)) / draws
        self._time = (LATE * spread).to(self._noise)

    @torch.no_grad()
    def rank(self, observation: Observation, chunks: np.ndarray) -> np.ndarray:
        """r f32[N] of chunks f32[N, H, A]."""
        errors = [self._error(vla, observation, chunks) for vla in (self.reference, self.better)]
        return (errors[0] - errors[1]).cpu().numpy()

    def _error(self, vla: VLA, observation: Observation, chunks: np.ndarray) -> torch.Tensor:
        count, horizon = chunks.shape[:2]
        batch = observation_batch(observation, chunks.shape[1:])
        batch = batch.to(vla.normalize_action.low.device)
        prefix = vla.encode(batch).repeat(count * self.draws)
        batch = batch.repeat(count * self.draws)
        batch.chunk = torch.from_numpy(chunks).to(batch.state).repeat_interleave(self.draws, 0)
        error = vla.flow_loss(
            batch, self._noise.repeat(count, 1, 1)[:, :horizon], self._time.repeat(count), prefix
        )
        return error.reshape(count, self.draws).mean(1)
