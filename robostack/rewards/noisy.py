"""A reward of chunks that can still read them through the flow's noise, learned from preferences.

Flow-NRG of VideoAlign (arXiv 2501.13918): a value r(x_tau, tau) of noisy chunks, trained on pairs
at the noise levels that a sampler passes through, has a gradient that means something there, and
can steer the sampler (robostack.policy.guidance). At tau = 0 it ranks chunks like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.data.normalize import Normalizer
from robostack.policy.guidance import RewardGuide
from robostack.protocols import Scores
from robostack.rewards.deviation import windows
from robostack.rewards.eye import EyeConfig, Instruction
from robostack.rewards.following import LearnedFollower
from robostack.rewards.learned import LearnedReward
from robostack.types import Episode, Observation, RobotSpec

TIES = 5.0  # how many times as good the better one must look for a tie to be unlikely


@dataclass(frozen=True)
class NoisyConfig:
    """Size of the value."""

    horizon: int = 8  # actions of a chunk; the policy's
    hidden: int = 256

    def __post_init__(self) -> None:
        if min(self.horizon, self.hidden) < 1:
            raise ValueError(f"expected horizon and hidden of 1 or more, got {self}")


def tied(margin: Tensor, label: Tensor) -> Tensor:
    """Loss f32[B] of r_chosen - r_rejected under Bradley-Terry with ties (Rao and Kupper 1967,
    VideoAlign's eq. 2). A label is the chance that chosen is the better one; one of exactly one
    half says that neither is."""
    edge = float(np.log(TIES))
    better, worse = F.softplus(edge - margin), F.softplus(edge + margin)
    even = better + worse - float(np.log(TIES**2 - 1))
    return torch.where(label == 0.5, even, label * better + (1 - label) * worse)


class NoisyReward(LearnedReward):
    name = "noisy"
    Config = NoisyConfig

    def __init__(
        self, spec: RobotSpec, eye: EyeConfig | None = None, config: NoisyConfig | None = None
    ):
        super().__init__(spec, eye, config)
        width, hidden = self.eye.config.width, self.config.hidden
        self.normalize_action = Normalizer(spec.action_dim)  # the policy's, not one of its own
        self.instruction = Instruction(width)
        self.see = nn.Linear(width, hidden)
        self.act = nn.Linear(self.config.horizon * spec.action_dim + 3, hidden)
        self.head = nn.Sequential(
            nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1)
        )

    def looked(self, images: dict[str, np.ndarray], state: Tensor, tasks: list[str]) -> Tensor:
        """f32[B, hidden] of observations, images u8[B, H, W, 3] and raw states f32[B, S]: what can
        be computed once for all noise levels."""
        seen = torch.from_numpy(self.eye.look(images)).to(self.device)
        return self.see(self.eye(seen, self.normalize_state(state), self.instruction(tasks)))

    def value(self, looked: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """r f32[B] of noisy chunks f32[B, H, A], normalised, at tau f32[B]."""
        clock = torch.stack([time, (torch.pi * time).cos(), (torch.pi * time).sin()], -1)
        acted = self.act(torch.cat([x.flatten(1), clock], -1))
        return self.head(looked * (1 + acted.tanh()) + acted).squeeze(-1)

    def steer(self, horizon: int, weight: float) -> Callable[[Observation], RewardGuide]:
        """What guides a sampler of chunks of `horizon` actions at an observation. Raises ValueError
        for chunks of another length."""
        if horizon != self.config.horizon:
            raise ValueError(
                f"the reward {self.name} reads chunks of {self.config.horizon} actions, the policy "
                f"has chunks of {horizon}"
            )

        def guide(observation: Observation) -> RewardGuide:
            with torch.no_grad():
                looked = self.looked_at(observation)
            return RewardGuide(
                lambda x, time: self.value(looked.expand(len(x), -1), x, time), weight
            )

        return guide

    # use -------------------------------------------------------------------------------------
    @torch.no_grad()
    def rank(self, observation: Observation, chunks: np.ndarray) -> np.ndarray:
        """r f32[N] of clean chunks; its scale is a log-odds."""
        looked = self.looked_at(observation)
        x = self.normalize_action(torch.from_numpy(np.asarray(chunks, np.float32)).to(self.device))
        x = self.cut(x)
        return self.value(looked.expand(len(x), -1), x, x.new_zeros(len(x))).cpu().numpy()

    def looked_at(self, observation: Observation) -> Tensor:
        self.require_cameras(observation)
        images = {name: image[None] for name, image in observation.images.items()}
        state = torch.from_numpy(observation.state[None]).to(self.device)
        return self.looked(images, state, [observation.task])

    def require_cameras(self, observation: Observation) -> None:
        if set(observation.images) != set(self.spec.cameras):
            raise ValueError(
                f"the reward {self.name} looks at {sorted(self.spec.cameras)}, the observation has "
                f"{sorted(observation.images)}"
            )

    def cut(self, chunks: Tensor) -> Tensor:
        """Chunks f32[N, H', A] of this reward's own length; the last action is repeated."""
        horizon = self.config.horizon
        short = chunks[:, -1:].expand(-1, max(horizon - chunks.shape[1], 0), -1)
        return torch.cat([chunks[:, :horizon], short], 1)

    @torch.no_grad()
    def score(self, episode: Episode) -> np.ndarray:
        """sigmoid(r) of the chunk that followed each observation; the last repeats the one before.

        It judges what was done, not how far it has come.
        """
        seen, states = self.look(episode)
        chunks = windows(episode.actions, self.config.horizon)
        likely = self._likely(seen[:-1], states[:-1], chunks, episode.task)
        return np.append(likely, likely[-1]).astype(np.float32)

    def _likely(self, seen: Tensor, states: Tensor, chunks: np.ndarray, task: str) -> np.ndarray:
        """sigmoid(r) f32[N] of chunks f32[N, H, A] that followed N observations."""
        asked = self.instruction([task]).expand(len(seen), -1)
        looked = self.see(self.eye(seen, states, asked))
        x = self.normalize_action(torch.from_numpy(chunks).to(self.device))
        return torch.sigmoid(self.value(looked, x, x.new_zeros(len(x)))).cpu().numpy()

    def follow(self) -> Following:
        return Following(self)


class Following(LearnedFollower[NoisyReward]):
    """Keeps the newest observation: it is judged by the action that comes next."""

    def __init__(self, reward: NoisyReward, task: str | None = None):
        super().__init__(reward, task)
        self._latest: list[Tensor] = []

    def go_on(self, seen: Tensor, states: Tensor, actions: np.ndarray) -> Scores:
        """Of the last of these observations alone, which repeats the one before it; before the
        first action it is neither good nor bad."""
        line = [torch.cat(both) for both in zip(self._latest, (seen, states))] or [seen, states]
        self._latest, sure = [x[-1:] for x in line], np.ones(1, np.float32)
        if not len(actions):
            return Scores(sure / 2, sure)
        chunk = windows(actions[-1:], self.reward.config.horizon)
        return Scores(self.reward._likely(*(x[-2:-1] for x in line), chunk, self.task), sure)
