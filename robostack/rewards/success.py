"""Success detector: is what was asked for done in this frame? And: may the arm stop?

The instant reflector of World-Env (arXiv 2509.24948) at this size: a probability for every frame,
calibrated on episodes that it was not trained on, and a decision to stop once m of the last n
frames are beyond a threshold at which a stated share of the stops is right.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.protocols import Scores
from robostack.rewards.calibrate import platt
from robostack.rewards.eye import EyeConfig, Instruction
from robostack.rewards.following import LearnedFollower
from robostack.rewards.learned import LearnedReward, RewardData
from robostack.rewards.lessons import BLURRED, HELD_OUT, LATE, LEAST_HELD_OUT, label_done
from robostack.types import Episode, Observation, RobotSpec


@dataclass(frozen=True)
class SuccessConfig:
    """Training, and when to stop."""

    batch: int = 64  # frames of a training step
    precision: float = 0.95  # share of the stops that must be right
    votes: int = 2  # of the last `window` frames, so many must be beyond it
    window: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.votes <= self.window or self.batch < 8 or not 0 < self.precision <= 1:
            raise ValueError(
                "success: expected 1 <= votes <= window, a batch of 8 or more and a precision "
                f"above 0 up to 1, got {self}"
            )


class SuccessDetector(LearnedReward):
    """Positives are the done frames of successes: where it is known when they were done all from
    there on, else the last. Negatives are everything else: early frames, those shortly before
    success, frames of failures and near misses, and done ones under a wrong instruction."""

    name = "success"
    Config = SuccessConfig

    def __init__(
        self, spec: RobotSpec, eye: EyeConfig | None = None, config: SuccessConfig | None = None
    ):
        super().__init__(spec, eye, config)
        width = self.eye.config.width
        self.instruction = Instruction(width)
        self.head = nn.Sequential(
            nn.GELU(), nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 1)
        )
        self.register_buffer("platt", torch.tensor([1.0, 0.0]))  # slope and offset of the logits
        self.register_buffer("threshold", torch.tensor(0.5))

    def logits(self, seen: Tensor, states: Tensor, tasks: list[str]) -> Tensor:
        asked = self.instruction(tasks)
        vectors = self.eye(seen, states, asked)
        return self.head(torch.cat([vectors, asked], -1)).squeeze(-1)

    # training --------------------------------------------------------------------------------
    def fit(self, data: RewardData) -> None:
        super().fit(data)
        won, lost = data.require_successes("the success detector"), np.flatnonzero(~data.success)
        kept = won[::HELD_OUT], lost[::HELD_OUT]
        enough = min(map(len, kept)) >= LEAST_HELD_OUT
        self.held_out = np.concatenate(kept) if enough else np.arange(len(data))
        self.won = np.setdiff1d(won, self.held_out) if enough else won
        self.lost = np.setdiff1d(lost, self.held_out) if enough else lost

    def loss(
        self, data: RewardData, random: np.random.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        half, quarter = self.config.batch // 2, self.config.batch // 4
        done = random.choice(self.won, half)
        early = random.choice(self.won, quarter)
        early_rows = random.integers(0, _undone(data.arrived[early]))
        late = random.random(quarter) < 0.5
        early_rows[late] = np.maximum(
            _undone(data.arrived[early[late]]) - 1 - early_rows[late] % LATE, 0
        )
        failed = random.choice(self.lost if len(self.lost) else self.won, quarter)
        keep = np.where(data.success[failed], _undone(data.arrived[failed]), data.length[failed])
        rows = np.concatenate(
            [
                [self._done_row(data, episode, random) for episode in done],
                data.first[early] + early_rows,
                data.first[failed] + random.integers(0, keep),
            ]
        )
        tasks = [data.tracks[e].task for e in np.concatenate([done, early, failed])]
        label = np.repeat([1.0, 0.0], [half, len(rows) - half])
        for i in range(0, half, 4):  # done, but not what was asked
            tasks[i], label[i] = data.other_task(tasks[i], random), 0.0
        logits = self.logits(*self.seen(data, rows, random), tasks)
        label = torch.from_numpy(label).to(logits)
        loss = F.binary_cross_entropy_with_logits(logits, label)
        return loss, {"accuracy": float(((logits > 0) == (label > 0.5)).float().mean())}

    def _done_row(self, data: RewardData, episode: int, random: np.random.Generator) -> int:
        """A done row of a success: the first one half of the time, where done begins."""
        first, rows = data.first[episode], data.rows(episode)
        if random.random() < 0.5:
            return first + data.arrived[episode]
        return rows.start + random.choice(np.flatnonzero(data.done[rows]))

    def calibrate(self, data: RewardData) -> None:
        """On episodes held out: slope and offset of the logits (Platt), over frames, and the
        threshold, over stops."""
        self.eval()
        logits, truth = [], torch.from_numpy(label_done(data)).to(self.device)
        with torch.no_grad():
            for i in self.held_out:
                own = data.rows(i)
                seen, states = self.seen(data, np.arange(own.start, own.stop))
                logits.append(self.logits(seen, states, [data.tracks[i].task] * len(states)))
        done = torch.cat([truth[data.rows(i)] for i in self.held_out])
        known = done.isfinite()
        self.platt.copy_(platt(torch.cat(logits)[known], done[known]))
        lines = [torch.sigmoid(self.platt[0] * x + self.platt[1]).cpu().numpy() for x in logits]
        since = np.where(data.success, data.arrived - BLURRED, data.length)[self.held_out]
        self.threshold.fill_(self._threshold(lines, since))

    def _threshold(self, lines: list[np.ndarray], since: np.ndarray) -> float:
        """The least threshold, at least a half, at which at least `precision` of the stops are
        right; just above the largest probability where there is none. `lines` are probabilities
        f32[T+1] of episodes, in which stopping is right from observations `since` on."""
        votes = [vote(line, self.config.votes, self.config.window) for line in lines]
        highest = np.array([v.max() for v in votes])
        for level in np.unique(highest[highest >= 0.5]):
            stopped = np.flatnonzero(highest >= level)
            right = [(votes[i] >= level).argmax() >= since[i] for i in stopped]
            if np.mean(right) >= self.config.precision:
                return float(level)
        return max(float(highest.max()), 0.5) + 1e-6

    # use -------------------------------------------------------------------------------------
    def score(self, episode: Episode) -> np.ndarray:
        return self.explain(episode).potential

    @torch.inference_mode()
    def explain(self, episode: Episode) -> Scores:
        """Probability of success; sure where it is near 0 or 1."""
        seen, states = self.look(episode)
        return Following(self, episode.task).go_on(seen, states, episode.actions)

    def follow(self) -> Following:
        return Following(self)

    def _probability(self, seen: Tensor, states: Tensor, tasks: list[str]) -> Tensor:
        return torch.sigmoid(self.platt[0] * self.logits(seen, states, tasks) + self.platt[1])

    def stops(self, episode: Episode) -> np.ndarray:
        """Whether, at each observation, the arm may stop: bool[T+1]."""
        votes = vote(self.score(episode), self.config.votes, self.config.window)
        return votes >= float(self.threshold)

    def watch(self) -> Watcher:
        return Watcher(self)


class Following(LearnedFollower[SuccessDetector]):
    """Needs nothing of the past: each observation is judged alone."""

    def go_on(self, seen: Tensor, states: Tensor, actions: np.ndarray) -> Scores:
        tasks = [self.task] * len(states)
        found = self.reward._probability(seen, states, tasks).cpu().numpy()
        return Scores(found, np.abs(2 * found - 1))


class Watcher:
    """Looks at one episode as it happens."""

    def __init__(self, detector: SuccessDetector):
        self.detector = detector
        self._recent: deque[bool] = deque(maxlen=detector.config.window)

    @torch.inference_mode()
    def see(self, observation: Observation) -> bool:
        """Whether to stop now, after this observation, which must follow the last one."""
        detector = self.detector
        seen = detector._probability(*detector.glance(observation), [observation.task])
        self._recent.append(bool(seen.item() >= float(detector.threshold)))
        return sum(self._recent) >= detector.config.votes


def _undone(arrived: np.ndarray) -> np.ndarray:
    """How many observations of a success are surely not done, given its first done i64[M]."""
    return np.maximum(arrived - BLURRED, 1)


def vote(probability: np.ndarray, votes: int, window: int) -> np.ndarray:
    """The highest level f32[T+1] that `votes` of the last `window` probabilities reach."""
    padded = np.concatenate([np.zeros(window - 1, probability.dtype), probability])
    recent = np.lib.stride_tricks.sliding_window_view(padded, window)
    return np.sort(recent, axis=1)[:, window - votes]
