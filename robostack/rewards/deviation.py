"""Deviation from demonstrated actions: the R_act of NORA-1.5 (arXiv 2511.14659).

Its term compares a chunk with the demonstrated one at the same state. Away from the demonstrations
there is no such chunk, so the demonstrated state nearest in the world model's latents stands in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch

from robostack.rewards.world_model import WorldModel
from robostack.types import Episode, Observation
from robostack.vision import shrink

SCALE = 0.5  # mean absolute action difference at which the potential has fallen to 1/e


class Deviation:
    name = "deviation"

    def __init__(self, world_model: WorldModel, demonstrations: Iterable[Episode], horizon: int):
        self.world_model, self.horizon = world_model, horizon
        latents, chunks = [], []
        for episode in demonstrations:
            frames, states = world_model.frames(episode)
            latents.append(world_model.encode(frames, states)[:-1])
            chunks.append(windows(episode.actions, horizon))
        if not latents:
            raise ValueError("deviation needs at least one demonstration")
        self._latents = torch.cat(latents)  # f32[M, D]
        self._chunks = np.concatenate(chunks)  # f32[M, H, A]

    def demonstrated(self, latents: torch.Tensor) -> np.ndarray:
        """The demonstrated chunks f32[M, H, A] at the states nearest to latents f32[M, D]."""
        nearest = torch.cdist(latents, self._latents, p=1).argmin(1)
        return self._chunks[nearest.cpu().numpy()]

    @torch.inference_mode()
    def score(self, episode: Episode) -> np.ndarray:
        """Potential of observation t: how much the chunk that followed it looked demonstrated.

        The last observation, which nothing followed, repeats the one before.
        """
        frames, states = self.world_model.frames(episode)
        wanted = self.demonstrated(self.world_model.encode(frames, states)[:-1])
        gap = np.abs(windows(episode.actions, self.horizon) - wanted).mean((1, 2))
        closeness = np.exp(-gap / SCALE).astype(np.float32)
        return np.concatenate([closeness, closeness[-1:]])

    @torch.inference_mode()
    def rank(self, observation: Observation, chunks: np.ndarray) -> np.ndarray:
        """exp(-mean|chunk - demonstrated| / SCALE), f32[N]."""
        model = self.world_model
        images = {name: image[None] for name, image in observation.images.items()}
        frames = torch.from_numpy(shrink(images, model.encoder.side)).to(model.device)
        state = torch.from_numpy(observation.state[None]).to(model.device)
        wanted = self.demonstrated(model.encode(frames, model.normalize_state(state)))
        steps = min(self.horizon, chunks.shape[1])
        gap = np.abs(chunks[:, :steps] - wanted[:, :steps]).mean((1, 2))
        return np.exp(-gap / SCALE).astype(np.float32)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.world_model.fingerprint().encode())
        digest.update(self._chunks.tobytes())
        return digest.hexdigest()[:16]


def windows(actions: np.ndarray, horizon: int) -> np.ndarray:
    """All chunks f32[T, H, A] of actions f32[T, A]; the last action is repeated beyond the end."""
    index = np.arange(len(actions))[:, None] + np.arange(horizon)
    return actions[np.minimum(index, len(actions) - 1)]
