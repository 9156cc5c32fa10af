"""Deviation from demonstrated actions: the R_act of NORA-1.5 (arXiv 2511.14659).

Its term compares a chunk with the demonstrated one at the same state. Away from the demonstrations
there is no such chunk, so the demonstrated states nearest in a world model's latents stand in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from robostack.protocols import Scores
from robostack.rewards.lessons import nearest
from robostack.rewards.saved import RewardError, SavedReward
from robostack.rewards.sight import Sight
from robostack.rewards.world_model import WorldModel
from robostack.types import Episode, Observation, RobotSpec

SCALE = 0.5  # mean absolute action difference at which the potential has fallen to 1/e
ALIKE = 8  # demonstrations with a like instruction that are looked at


@dataclass(frozen=True)
class DeviationConfig:
    """What is compared."""

    horizon: int = 8  # actions of a chunk

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"deviation.horizon: expected 1 or more, got {self.horizon}")


class Deviation(SavedReward):
    name = "deviation"

    def __init__(self, world_model: WorldModel, demonstrations: Iterable[Episode], horizon: int):
        self.world_model, self.horizon = world_model, horizon
        self.spec, self.tasks = world_model.spec, ()
        latents, chunks, tasks = [], [], []
        for episode in demonstrations:
            latents.append(world_model.encode(episode)[:-1])
            chunks.append(windows(episode.actions, horizon))
            self.tasks += (episode.task,)
            tasks += [len(self.tasks) - 1] * len(episode)
        if not latents:
            raise RewardError("deviation needs at least one demonstration")
        self._latents = torch.cat(latents)  # f32[M, D]
        self._chunks = np.concatenate(chunks)  # f32[M, H, A]
        self._episode = np.array(tasks)

    def demonstrated(self, latents: torch.Tensor, task: str) -> np.ndarray:
        """The demonstrated chunks f32[M, H, A] at the states nearest to latents f32[M, D]."""
        alike = self._alike(task)
        index = torch.cdist(latents, self._latents[alike], p=1).argmin(1).cpu().numpy()
        return self._chunks[alike[index]]

    def _alike(self, task: str) -> np.ndarray:
        """Rows of demonstrations of this instruction, or of those most like it."""
        same = [i for i, other in enumerate(self.tasks) if other == task]
        chosen = same if len(same) else nearest(task, self.tasks, ALIKE)
        return np.flatnonzero(np.isin(self._episode, chosen))

    @torch.inference_mode()
    def score(self, episode: Episode) -> np.ndarray:
        """Potential of observation t: how much the chunk that followed it looked demonstrated.

        The last observation, which nothing followed, repeats the one before.
        """
        wanted = self.demonstrated(self.world_model.encode(episode)[:-1], episode.task)
        gap = np.abs(windows(episode.actions, self.horizon) - wanted).mean((1, 2))
        closeness = np.exp(-gap / SCALE).astype(np.float32)
        return np.concatenate([closeness, closeness[-1:]])

    @torch.inference_mode()
    def rank(self, observation: Observation, chunks: np.ndarray) -> np.ndarray:
        """exp(-mean|chunk - demonstrated| / SCALE), f32[N]."""
        model = self.world_model
        latent = model.slow_eye(*model.glance(observation))
        wanted = self.demonstrated(latent, observation.task)
        steps = min(self.horizon, chunks.shape[1])
        gap = np.abs(chunks[:, :steps] - wanted[:, :steps]).mean((1, 2))
        return np.exp(-gap / SCALE).astype(np.float32)

    def follow(self) -> Following:
        return Following(self)

    # saving ----------------------------------------------------------------------------------
    def parts(self) -> dict[str, SavedReward]:
        return {WorldModel.name: self.world_model}

    def settings(self) -> dict:
        return {"horizon": self.horizon, "tasks": list(self.tasks)}

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "latents": self._latents.cpu().numpy(),
            "chunks": self._chunks,
            "episode": self._episode,
        }

    @classmethod
    def restore(
        cls, spec: RobotSpec, settings: dict, arrays: dict, parts: dict[str, SavedReward]
    ) -> Deviation:
        found = cls.__new__(cls)
        found.spec, found.world_model = spec, parts[WorldModel.name]
        found.horizon, found.tasks = settings["horizon"], tuple(settings["tasks"])
        found._latents = torch.from_numpy(arrays["latents"]).to(found.world_model.device)
        found._chunks, found._episode = arrays["chunks"], arrays["episode"]
        return found


class Following:
    """Keeps the latent of the newest observation: it is judged by the action that comes next."""

    def __init__(self, reward: Deviation):
        self.reward, self._latest, self._sight = reward, [], Sight()

    @torch.inference_mode()
    def see(self, observations: Sequence[Observation], actions: np.ndarray) -> Scores:
        """Before the first action nothing has deviated. Raises RewardError for dead cameras."""
        model, sure = self.reward.world_model, np.ones(1, np.float32)
        line = torch.cat([*self._latest, model.slow_eye(*model.glance(*observations))])
        self._latest = [line[-1:]]
        self._sight.see(observations)
        if not len(actions):
            return Scores(sure, sure)
        wanted = self.reward.demonstrated(line[-2:-1], observations[-1].task)
        gap = np.abs(windows(actions[-1:], self.reward.horizon) - wanted).mean((1, 2))
        return Scores(np.exp(-gap / SCALE).astype(np.float32), sure)


def windows(actions: np.ndarray, horizon: int) -> np.ndarray:
    """All chunks f32[T, H, A] of actions f32[T, A]; the last action is repeated beyond the end."""
    index = np.arange(len(actions))[:, None] + np.arange(horizon)
    return actions[np.minimum(index, len(actions) - 1)]
