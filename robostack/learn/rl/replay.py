"""All episodes so far with what each of their actions earned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from robostack.data.chunks import ChunkData
from robostack.learn.rl.advantages import advantages, chunk_advantages
from robostack.learn.rl.config import RLConfig
from robostack.learn.rl.critic import SIDE, Critic, regress
from robostack.protocols import Scores
from robostack.rewards.shaping import discount, shaped_rewards
from robostack.rollout import over
from robostack.types import Episode, RobotSpec
from robostack.vision import shrink


class Replay:
    """Windows for the policy, and the same observations, shrunk, for the critic. Demonstrations
    come first."""

    def __init__(self, spec: RobotSpec, horizon: int, config: RLConfig):
        self.config = config
        self.gamma = discount(spec.control_hz, config.time_constant)
        self.data = ChunkData(spec, horizon)
        self.curious = 0.0  # what novelty is worth now, of all episodes: it ends with training
        self._frames: list[np.ndarray] = []
        self._earned: list[np.ndarray] = []
        self._novelty: list[np.ndarray | float] = []

    def __len__(self) -> int:
        return len(self._earned)

    @property
    def rewards(self) -> list[np.ndarray]:
        """f32[T] of each episode."""
        return [self._reward(i) for i in range(len(self))]

    def _reward(self, episode: int) -> np.ndarray:
        paid = self._earned[episode] + self.curious * self._novelty[episode]
        return paid.astype(np.float32)

    def add(self, episode: Episode, scores: Scores, novelty: np.ndarray | None = None) -> None:
        """`novelty` f32[T] is paid besides, as `curious` says."""
        self.data.add(episode)
        self._frames.append(shrink(episode.images, SIDE))
        self._novelty.append(0.0 if novelty is None or self.config.constant_reward else novelty)
        self._earned.append(self._pay(episode, scores))

    def judge_again(self, score: Callable[[Episode], Scores]) -> None:
        """By rewards that have learned more since."""
        self._earned = [self._pay(episode, score(episode)) for episode in self.data.episodes]

    def _pay(self, episode: Episode, scores: Scores) -> np.ndarray:
        config = self.config
        if config.constant_reward:
            return np.zeros(len(episode), np.float32)
        potential = config.shaping * scores.potential
        if config.naive:
            rewards = np.diff(potential).astype(np.float32)
            rewards[-1] += float(bool(episode.success))
            return rewards
        confidence = scores.confidence if config.gate else None
        return shaped_rewards(potential, episode.success, over(episode), self.gamma, confidence)

    def rows(self, episodes: Sequence[int]) -> np.ndarray:
        """Rows of all observations of some episodes but the last of each."""
        data = self.data
        return np.concatenate(
            [np.arange(data.row(i, 0), data.row(i, len(data.episodes[i]))) for i in episodes]
        )

    def targets(self, critic: Critic) -> tuple[np.ndarray, np.ndarray]:
        """Advantage and return-to-go of every row (0 at the last row of an episode)."""
        values = np.concatenate([self._values(critic, i) for i in range(len(self))])
        advantage = np.zeros(len(values), np.float32)
        for i, (episode, rewards) in enumerate(zip(self.data.episodes, self.rewards)):
            rows = slice(self.data.row(i, 0), self.data.row(i, len(episode)))
            own = values[rows.start : rows.stop + 1]
            advantage[rows] = advantages(rewards, own, over(episode), self.gamma, self.config.trace)
        return advantage, advantage + values

    def chunk_advantages(self, critic: Critic, episode: int, starts: np.ndarray) -> np.ndarray:
        """f32[C] of the chunks of an episode that began at observations `starts`."""
        return chunk_advantages(
            self._reward(episode),
            self._values(critic, episode),
            starts,
            over(self.data.episodes[episode]),
            self.gamma,
            self.config.trace,
        )

    def _values(self, critic: Critic, episode: int) -> np.ndarray:
        return critic.values(self._frames[episode], self.data.episodes[episode].states)

    def fit_critic(
        self,
        critic: Critic,
        optimizer: torch.optim.Optimizer,
        random: np.random.Generator,
        episodes: Sequence[int] | None = None,
    ) -> float:
        """Regress the critic on the returns of all, or of some, episodes; the last error."""
        if self.config.constant_reward:
            return 0.0
        rows = self.rows(range(len(self)) if episodes is None else episodes)
        _, returns = self.targets(critic)
        updates, batch = self.config.critic_updates, self.config.critic_batch
        seen = np.concatenate(self._frames)[rows], self.data.column("state")[rows], returns[rows]
        return regress(critic, optimizer, *seen, updates, batch, random)
