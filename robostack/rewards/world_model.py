"""Action-conditioned latent world model: imagine where a chunk leads, compare that with goals.

After V-JEPA 2-AC (arXiv 2506.09985) and NORA-1.5 (2511.14659). A small ensemble of predictors is
taught with teacher forcing and by rolling out whole chunks, on failures and near misses as much as
on successes: a model that never saw a missed grasp imagines that all of them hold. Its own encoder
is trained along (targets come from a slowly moving copy; VICReg, 2105.04906, and an inverse model
keep it from collapsing); that of a pretrained eye is frozen but for its head.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.protocols import Scores
from robostack.rewards.bank import Bank, Goals
from robostack.rewards.eye import EyeConfig, Instruction
from robostack.rewards.learned import LearnedReward, RewardData
from robostack.rewards.lessons import Lessons
from robostack.rewards.ranking import contests, fit_ranking, log_odds, split
from robostack.rewards.saved import RewardError
from robostack.rewards.world_model_following import Following, apart
from robostack.types import Episode, Observation, RobotSpec

MOMENTUM = 0.98  # of the slow encoder
CONTESTS = 8  # pairs of tries of a training step
ENERGIES = ("end", "sub-goal", "value", "nearest")
USUAL = 0.95  # share of what was learned from where the members part less than they usually do
WINDOWS = 256  # by which that is measured


@dataclass(frozen=True)
class WorldModelConfig:
    """The predictor, its training and its goals."""

    horizon: int = 8  # steps that are rolled out: a policy's chunk
    members: int = 3  # predictors
    batch: int = 24  # windows of a training step
    kept: int = 4096  # observations of successes that are kept as goals
    neighbours: int = 8  # of them that an observation is compared with
    pessimism: float = 0.5  # spreads of the ensemble that a chunk's rank loses

    def __post_init__(self) -> None:
        if min(self.horizon, self.members, self.batch, self.kept, self.neighbours) < 1:
            raise ValueError(f"world_model: expected counts of 1 or more, got {self}")
        if self.pessimism < 0:
            raise ValueError(f"world_model.pessimism: expected 0 or more, got {self.pessimism}")


class Predictor(nn.Module):
    """What one action changes in a latent."""

    def __init__(self, width: int, action_dim: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width + action_dim, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        return latent + self.layers(torch.cat([latent, action], dim=-1))

    def imagine(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Latents f32[B, H, D] after each of the actions f32[B, H, A]."""
        out = []
        for action in actions.unbind(1):
            latent = self(latent, action)
            out.append(latent)
        return torch.stack(out, dim=1)


class WorldModel(LearnedReward):
    name = "world_model"
    Config = WorldModelConfig

    def __init__(
        self,
        spec: RobotSpec,
        eye: EyeConfig | None = None,
        config: WorldModelConfig | None = None,
    ):
        super().__init__(spec, eye, config)
        width = self.eye.config.width
        self.slow_eye = copy.deepcopy(self.eye).requires_grad_(False)
        self.predictors = nn.ModuleList(
            Predictor(width, spec.action_dim) for _ in range(self.config.members)
        )
        self.inverse = nn.Sequential(
            nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, spec.action_dim)
        )
        self.instruction = Instruction(width)
        self.value = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 1))
        self.bank = Bank(width)
        self.register_buffer("ranking", torch.ones(len(ENERGIES)))  # weights, log-odds an energy
        self.register_buffer("usual", torch.tensor(torch.inf))  # spread of the members

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.bank.tasks

    @tasks.setter
    def tasks(self, tasks: tuple[str, ...]) -> None:
        self.bank.tasks = tasks

    @classmethod
    def restore(cls, spec, settings, arrays, parts) -> WorldModel:
        return super().restore(spec, settings, _of_before(arrays), parts)

    # training --------------------------------------------------------------------------------
    def fit(self, data: RewardData) -> None:
        super().fit(data)
        horizon = self.config.horizon
        self.long = np.flatnonzero(data.length > horizon)
        if not len(self.long):
            raise RewardError(
                f"the world model learns from episodes of at least {horizon} actions; the longest "
                f"of these {len(data)} has {data.length.max() - 1}"
            )
        self.lessons = Lessons(data, frames=4, wrong=0.2, failed=0.3)
        learned, self.kept_groups = split(data)
        self.contests = contests(data, learned)

    def loss(
        self, data: RewardData, random: np.random.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        self._follow()
        horizon, batch = self.config.horizon, self.config.batch
        episode = random.choice(self.long, batch)
        first = data.first[episode] + random.integers(0, data.length[episode] - horizon)
        steps = first[:, None] + np.arange(horizon + 1)
        seen, states = self._windows(data, steps, random)
        actions = torch.from_numpy(data.actions[steps[:, :-1]]).to(self.device)
        with torch.no_grad():
            truth = self.slow_eye(seen, states).reshape(batch, horizon + 1, -1)
        two = torch.from_numpy(np.arange(batch * (horizon + 1)).reshape(batch, -1)[:, :2])
        now, after = (self.eye(seen[rows], states[rows]) for rows in two.T)
        # in use a rollout begins at the slow eye's latent; the fast one's teaches the fast eye
        begin = torch.stack([now, truth[:, 0]])
        rolled, forced = self._prediction(begin, truth, actions, random)
        undone = F.mse_loss(self.inverse(torch.cat([now, after], 1)), actions[:, 0])
        spread = _variance(now) + 0.05 * _covariance(now)
        value = self._value_loss(data, random)
        choice = self._choice_loss(data, random) if self.contests else torch.zeros(())
        still = (truth[:, :1] - truth[:, 1:]).abs().mean()  # error of predicting no change
        return rolled + forced + undone + spread + value + choice, {
            "rollout_error": float(rolled.detach()),
            "relative_error": float((rolled / still).detach()),
            "value": float(value.detach()),
            "choice": float(choice.detach()),
        }

    def _windows(self, data: RewardData, rows: np.ndarray, random) -> tuple[Tensor, Tensor]:
        """What was seen in rows i64[B, L], B after B, and the states. All frames of a window are
        changed alike: no action shakes a camera."""
        seen, states = data.gather(rows, self.device)
        draws = int(random.integers(2**32))
        frames = [self.eye.augment(frame, np.random.default_rng(draws)) for frame in seen.unbind(1)]
        return torch.stack(frames, 1).flatten(0, 1), self.normalize_state(states.flatten(0, 1))

    def _prediction(self, begin: Tensor, truth: Tensor, actions: Tensor, random) -> tuple:
        """Mean L1 of whole rollouts from f32[2, B, D] and of single steps from the truth. Each
        member leaves out a fifth of the windows, so that they come to differ where data are few."""
        rolled = forced = 0
        for predictor in self.predictors:
            keep = torch.from_numpy(random.random(len(truth)) < 0.8).to(self.device)
            imagined = predictor.imagine(begin.flatten(0, 1), actions.repeat(2, 1, 1))
            gap = (imagined.unflatten(0, (2, -1)) - truth[:, 1:]).abs().mean((0, 2, 3))
            rolled = rolled + gap[keep].mean()
            step = predictor(truth[:, :-1], actions)
            forced = forced + (step - truth[:, 1:]).abs().mean((1, 2))[keep].mean()
        count = len(self.predictors)
        return rolled / count, forced / count

    def _value_loss(self, data: RewardData, random: np.random.Generator) -> Tensor:
        lesson = self.lessons.draw(8, random)
        count, frames = lesson.rows.shape
        seen, states = self.seen(data, lesson.rows.reshape(-1), random)
        tasks = [task for task in lesson.tasks for _ in range(frames)]
        value = self.worth(self.eye(seen, states), tasks).reshape(count, frames)
        known = torch.from_numpy(lesson.progress).to(self.device)
        wrong = (value - known.nan_to_num()).abs()[known.isfinite()].mean()
        most = torch.from_numpy(lesson.most).to(self.device)
        return wrong + F.relu(value - most).sum() / count

    def _choice_loss(self, data: RewardData, random: np.random.Generator) -> Tensor:
        """Bradley-Terry: of two tries from one state, the one that came further is worth more, by
        where it really led and by where every member imagines that it leads. What is nearest to
        what cannot tell a held thing from one just let go; what came of it can."""
        groups = [self.contests[i] for i in random.integers(len(self.contests), size=CONTESTS)]
        pair = np.stack([group[random.integers(len(group))] for group in groups])  # [C, 2]
        horizon, tries = self.config.horizon, pair.T.reshape(-1)  # the better ones come first
        steps = np.minimum(np.arange(horizon), data.length[tries, None] - 2)
        actions = torch.from_numpy(data.actions[data.first[tries, None] + steps]).to(self.device)
        ends = data.first[tries] + np.minimum(horizon, data.length[tries] - 1)
        with torch.no_grad():
            begin = self.slow_eye(*self.seen(data, data.first[tries], random))
        real = self.eye(*self.seen(data, ends, random))
        imagined = [member.imagine(begin, actions)[:, -1] for member in self.predictors]
        latents = torch.cat([real, *imagined])
        tasks = [data.tracks[i].task for i in tries] * (1 + len(imagined))
        better, worse = self._worth(latents, tasks).reshape(-1, 2, CONTESTS).unbind(1)
        return F.softplus(worse - better).mean()

    def worth(self, latents: Tensor, tasks: list[str]) -> Tensor:
        """Progress in [0, 1] that latents f32[M, D] seem to have made on M instructions."""
        return self._worth(latents, tasks).sigmoid()

    def _worth(self, latents: Tensor, tasks: list[str]) -> Tensor:
        return self.value(torch.cat([latents, self.instruction(tasks)], -1)).squeeze(-1)

    @torch.no_grad()
    def _follow(self) -> None:
        if self.training:
            for slow, fast in zip(self.slow_eye.parameters(), self.eye.parameters()):
                slow.lerp_(fast, 1 - MOMENTUM)

    @torch.no_grad()
    def calibrate(self, data: RewardData) -> None:
        """Keep observations of successes as goals; learn how much each energy says within a
        state."""
        self.eval()
        self.bank.fill(self.lessons, self._latents, self.config.horizon, self.config.kept)
        self.usual.copy_(self._usual_spread(data))
        with torch.enable_grad():
            self.ranking.copy_(fit_ranking(self, data, self.kept_groups, self.lessons.labelled))

    def _latents(self, rows: np.ndarray) -> Tensor:
        seen, states = self.seen(self.lessons.data, rows)
        return self.slow_eye(seen, states)

    def _usual_spread(self, data: RewardData) -> Tensor:
        """How far the members part over most of what they were taught, a whole chunk ahead."""
        random, horizon = np.random.default_rng(0), self.config.horizon
        episode = random.choice(self.long, WINDOWS)
        first = data.first[episode] + random.integers(0, data.length[episode] - horizon)
        actions = torch.from_numpy(data.actions[first[:, None] + np.arange(horizon)])
        latents = self.slow_eye(*self.seen(data, first))
        ends = self.imagine(latents, actions.to(self.device))[:, :, -1]
        return apart(ends).quantile(USUAL).clamp_min(1e-6)

    # use -------------------------------------------------------------------------------------
    @torch.inference_mode()
    def encode(self, episode: Episode) -> Tensor:
        """Latents f32[T+1, D]."""
        return self.slow_eye(*self.look(episode))

    @torch.no_grad()
    def imagine(self, latents: Tensor, actions: Tensor) -> Tensor:
        """What every member makes of f32[B, D] under chunks f32[B, H, A]: f32[E, B, H, D]."""
        return torch.stack([predictor.imagine(latents, actions) for predictor in self.predictors])

    def score(self, episode: Episode) -> np.ndarray:
        return self.explain(episode).potential

    @torch.inference_mode()
    def explain(self, episode: Episode) -> Scores:
        """Progress of the success frames that are nearest, as sure as they are near and as the
        members agree on how it came to this; as terms the value head, the closeness to a final
        goal, and the members' spread: 0 where they part no more than usual, towards 1 beyond."""
        seen, states = self.look(episode)
        return Following(self, episode.task).go_on(seen, states, episode.actions)

    def follow(self) -> Following:
        return Following(self)

    def energies(self, latents: Tensor, ends: Tensor, bank: Goals, task: str) -> Tensor:
        """Of imagined ends f32[N, D] of chunks that began at latents f32[N, D]: f32[N, 4], the
        lower the better, in the order of ENERGIES."""
        worth = self.worth(ends, [task] * len(ends))
        return torch.stack(
            [
                bank.to_end(ends) / bank.scale,
                bank.to_sub_goal(latents, ends) / bank.scale,
                4 * (1 - worth),
                bank.to_nearest(ends) / bank.scale,
            ],
            dim=1,
        )

    @torch.no_grad()
    def imagined_energies(
        self, latents: Tensor, chunks: np.ndarray, task: str, without: int | None = None
    ) -> Tensor:
        """Energies f32[E, N, 4] by each member of chunks f32[N, H, A] from latents f32[N, D].
        Episode `without` gives no goals."""
        actions = torch.from_numpy(np.ascontiguousarray(chunks)).to(self.device)
        ends = self.imagine(latents, actions)[:, :, -1]
        bank = self.bank.of(task, self.config.neighbours, without)
        return torch.stack([self.energies(latents, end, bank, task) for end in ends])

    @torch.inference_mode()
    def rank(self, observation: Observation, chunks: np.ndarray) -> np.ndarray:
        """Log-odds f32[N] of chunks f32[N, H, A]: the difference of two is that of the one being
        better. Every member imagines the whole chunk; their spread counts against it."""
        latent = self.slow_eye(*self.glance(observation)).expand(len(chunks), -1)
        energies = self.imagined_energies(latent, chunks, observation.task)
        return log_odds(energies, self.ranking, self.config.pessimism).cpu().numpy()


def _of_before(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of a model from before it knew the energies of today and the usual spread: what it did
    not know weighs nothing."""
    short = np.zeros(len(ENERGIES) - len(arrays["ranking"]), np.float32)
    ranking = np.concatenate([arrays["ranking"], short])
    return {"usual": np.array(np.inf, np.float32)} | arrays | {"ranking": ranking}


def _variance(latents: Tensor) -> Tensor:
    return F.relu(1 - latents.std(0)).mean()


def _covariance(latents: Tensor) -> Tensor:
    centred = latents - latents.mean(0)
    covariance = centred.T @ centred / (len(latents) - 1)
    off = covariance - torch.diag(torch.diagonal(covariance))
    return off.square().sum() / latents.shape[1]
