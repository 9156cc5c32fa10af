"""Action-conditioned latent world model: imagine what a chunk leads to, compare it with goals.

After V-JEPA 2-AC and NORA-1.5 (arXiv 2511.14659), small: the encoder is trained along. Targets come
from a slowly moving copy of it; variance and covariance terms (VICReg, 2105.04906) and an inverse
model (which action led from here to there?) keep it from collapsing to a constant.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.rewards.learned import LearnedReward, RewardData, RewardError
from robostack.types import Episode, Observation, RobotSpec
from robostack.vision import FrameEncoder, shrink

HORIZON = 8  # steps that are rolled out in training: a policy's chunk
GOALS = 64  # latents of successful ends that are kept
MOMENTUM = 0.98


class WorldModel(LearnedReward):
    name = "world_model"

    def __init__(self, spec: RobotSpec, width: int = 64):
        super().__init__(spec)
        self.encoder = FrameEncoder(len(spec.cameras), spec.state_dim, width)
        self.slow_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.dynamics = nn.Sequential(
            nn.Linear(width + spec.action_dim, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )
        self.inverse = nn.Sequential(
            nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, spec.action_dim)
        )
        self.register_buffer("goals", torch.zeros(GOALS, width))
        self.register_buffer("goal_count", torch.zeros((), dtype=torch.long))
        self.register_buffer("energy_range", torch.tensor([0.0, 1.0]))  # at goals, at starts

    def imagine(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Latents f32[B, H, D] after each of the actions f32[B, H, A]."""
        out = []
        for action in actions.unbind(1):
            latent = latent + self.dynamics(torch.cat([latent, action], dim=1))
            out.append(latent)
        return torch.stack(out, dim=1)

    def loss(
        self, data: RewardData, random: np.random.Generator, batch: int = 48
    ) -> tuple[Tensor, dict[str, float]]:
        self._follow()
        long = np.flatnonzero(data.length > HORIZON)
        if not len(long):
            raise RewardError(
                f"the world model learns from episodes of at least {HORIZON} actions; the longest "
                f"of these {len(data)} has {data.length.max() - 1}"
            )
        episode = random.choice(long, batch)
        first = data.first[episode] + random.integers(0, data.length[episode] - HORIZON)
        steps = first[:, None] + np.arange(HORIZON + 1)
        frames, states = data.gather(steps, self.device)
        states = self.normalize_state(states)
        actions = torch.from_numpy(data.actions[steps[:, :-1]]).to(self.device)
        with torch.no_grad():
            truth = self.slow_encoder(frames[:, 1:].flatten(0, 1), states[:, 1:].flatten(0, 1))
            truth = truth.reshape(batch, HORIZON, -1)
        now = self.encoder(frames[:, 0], states[:, 0])
        following = self.encoder(frames[:, 1], states[:, 1])
        rolled = (self.imagine(now, actions) - truth).abs().mean()
        undone = F.mse_loss(self.inverse(torch.cat([now, following], 1)), actions[:, 0])
        spread = _variance(now) + 0.05 * _covariance(now)
        still = (now.detach()[:, None] - truth).abs().mean()  # error of predicting no change
        loss = rolled + undone + spread
        return loss, {
            "rollout_error": float(rolled.detach()),
            "relative_error": float((rolled / still).detach()),
        }

    @torch.no_grad()
    def _follow(self) -> None:
        if not self.training:
            return
        for slow, fast in zip(self.slow_encoder.parameters(), self.encoder.parameters()):
            slow.lerp_(fast, 1 - MOMENTUM)

    @torch.no_grad()
    def encode(self, frames: Tensor, states: Tensor) -> Tensor:
        """frames uint8[M, ...] and normalised states -> f32[M, D], in the space of the goals."""
        return self.slow_encoder(frames, states)

    @torch.no_grad()
    def calibrate(self, data: RewardData) -> None:
        """Keep the ends of successes as goals, and the energies of being there and at the start."""
        self.eval()
        won = data.require_successes("the world model")[-GOALS:]
        ends = self._latents(data, data.first[won] + data.length[won] - 1)
        self.goals[: len(ends)] = ends
        self.goal_count.fill_(len(ends))
        starts = self.energy(self._latents(data, data.first))
        distance = (ends[:, None] - ends[None]).abs().mean(-1)
        distance.fill_diagonal_(torch.inf)  # a goal is not its own neighbour
        there = distance.amin(1).median() if len(ends) > 1 else torch.zeros(())
        self.energy_range.copy_(torch.stack([there, torch.maximum(starts.median(), there + 1e-3)]))

    def _latents(self, data: RewardData, rows: np.ndarray) -> Tensor:
        frames, states = data.gather(rows, self.device)
        return self.encode(frames, self.normalize_state(states))

    def energy(self, latents: Tensor) -> Tensor:
        """Mean absolute distance f32[M] to the nearest goal."""
        goals = self.goals[: int(self.goal_count)]
        return (latents[:, None] - goals[None]).abs().mean(-1).amin(1)

    def potential(self, latents: Tensor) -> Tensor:
        there, start = self.energy_range
        return ((start - self.energy(latents)) / (start - there)).clamp(0, 1)

    @torch.inference_mode()
    def score(self, episode: Episode) -> np.ndarray:
        return self.potential(self.encode(*self.frames(episode))).cpu().numpy()

    @torch.inference_mode()
    def rank(self, observation: Observation, chunks: np.ndarray) -> np.ndarray:
        """Minus the energy f32[N] of the imagined end of each chunk f32[N, H, A].

        Not the potential: far from the goal that is 0 for all, and nothing would be ranked.
        """
        images = {name: image[None] for name, image in observation.images.items()}
        frames = torch.from_numpy(shrink(images, self.encoder.side)).to(self.device)
        state = torch.from_numpy(observation.state[None]).to(self.device)
        latent = self.encode(frames, self.normalize_state(state)).expand(len(chunks), -1)
        ends = self.imagine(latent, torch.from_numpy(chunks).to(self.device))[:, -1]
        return -self.energy(ends).cpu().numpy()


def _variance(latents: Tensor) -> Tensor:
    return F.relu(1 - latents.std(0)).mean()


def _covariance(latents: Tensor) -> Tensor:
    centred = latents - latents.mean(0)
    covariance = centred.T @ centred / (len(latents) - 1)
    off = covariance - torch.diag(torch.diagonal(covariance))
    return off.square().sum() / latents.shape[1]
