"""A VLA as a Policy: it samples a chunk and hands out its first actions."""

from __future__ import annotations

import numpy as np
import torch

from robostack.data.chunks import Batch
from robostack.policy.vla import VLA
from robostack.types import Observation


def observation_batch(observation: Observation, chunk_shape: tuple[int, int]) -> Batch:
    """A batch of one observation; its chunk is empty, for sampling only."""
    return Batch(
        images={n: torch.from_numpy(i.copy())[None] for n, i in observation.images.items()},
        state=torch.from_numpy(observation.state)[None],
        tasks=[observation.task],
        chunk=torch.zeros(1, *chunk_shape),
        valid=torch.ones(1, chunk_shape[0], dtype=torch.bool),
    )


class ChunkRunner:
    """Samples a chunk every `execute` steps and executes it open loop in between.

    `level` > 0 samples the flow's SDE: same distribution in theory, more varied tries in practice.
    """

    def __init__(self, vla: VLA, execute: int = 8, steps: int = 5, level: float = 0.0):
        if not 1 <= execute <= vla.config.horizon:
            raise ValueError(
                f"execute: expected 1 to {vla.config.horizon} (the chunk), got {execute}"
            )
        self.vla, self.execute, self.steps, self.level = vla.eval(), execute, steps, level
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def act(self, observation: Observation) -> np.ndarray:
        return self.propose(observation, 1)[0, : self.execute]

    @torch.inference_mode()
    def propose(self, observation: Observation, count: int) -> np.ndarray:
        """`count` chunks f32[N, H, A] for one observation, which is encoded once."""
        vla = self.vla
        shape = (vla.config.horizon, vla.spec.action_dim)
        batch = observation_batch(observation, shape).to(vla.normalize_action.low.device)
        prefix = vla.encode(batch).repeat(count)
        batch.state = batch.state.repeat(count, 1)
        chunks = vla.sample(
            batch,
            vla.noise(count, self._generator),
            self.steps,
            self.level,
            self._generator,
            prefix,
        )
        if not torch.isfinite(chunks).all():
            raise FloatingPointError("the policy produced actions that are not finite")
        return vla.spec.clip(chunks.cpu().numpy())
