"""Success detector: is the task done in this frame, given what was asked for?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.rewards.learned import DISTRACTORS, LearnedReward, RewardData
from robostack.types import Episode, RobotSpec
from robostack.vision import FrameEncoder, WordHasher

LAST = 2  # observations at the end of a success that count as done


class SuccessDetector(LearnedReward):
    """Probability of success of each observation, trained on the outcome that episodes carry.

    Positives are the last frames of successes; negatives are everything else, with frames of
    failures and near misses as likely as early frames, and done frames under a wrong instruction.
    """

    name = "success"

    def __init__(self, spec: RobotSpec, width: int = 64):
        super().__init__(spec)
        self.encoder = FrameEncoder(len(spec.cameras), spec.state_dim, width)
        self.words = WordHasher()
        self.instruction = nn.EmbeddingBag(self.words.size, width, mode="mean", padding_idx=0)
        self.head = nn.Sequential(
            nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1)
        )

    def logits(self, frames: Tensor, states: Tensor, tasks: list[str]) -> Tensor:
        asked = self.instruction(self.words(tasks).to(self.device))
        return self.head(self.encoder(frames, states) * (1 + asked)).squeeze(-1)

    def loss(
        self, data: RewardData, random: np.random.Generator, batch: int = 64
    ) -> tuple[Tensor, dict[str, float]]:
        won = data.require_successes("the success detector")
        lost = np.flatnonzero(~data.success)
        half, quarter = batch // 2, batch // 4
        done = random.choice(won, half)
        back = np.minimum(random.integers(0, LAST, half), data.length[done] - 2)
        done_rows = data.first[done] + data.length[done] - 1 - back
        early = random.choice(won, quarter)
        early_rows = data.first[early] + random.integers(0, _undone(data.length[early]))
        failed = random.choice(lost if len(lost) else won, quarter)
        keep = data.length[failed] if len(lost) else _undone(data.length[failed])
        failed_rows = data.first[failed] + random.integers(0, keep)
        rows = np.concatenate([done_rows, early_rows, failed_rows])
        tasks = [data.episodes[e].task for e in np.concatenate([done, early, failed])]
        labels = np.repeat([1.0, 0.0], [half, batch - half])
        for i in range(0, half, 4):  # done, but not what was asked
            tasks[i] = str(random.choice([d for d in DISTRACTORS if d != tasks[i]]))
            labels[i] = 0.0
        frames, states = data.gather(rows, self.device)
        logits = self.logits(frames, self.normalize_state(states), tasks)
        labels = torch.from_numpy(labels).to(logits)
        loss = F.binary_cross_entropy_with_logits(logits, labels)
        return loss, {"accuracy": float(((logits > 0) == (labels > 0.5)).float().mean())}

    @torch.inference_mode()
    def score(self, episode: Episode) -> np.ndarray:
        frames, states = self.frames(episode)
        logits = self.logits(frames, states, [episode.task] * len(frames))
        return logits.sigmoid().cpu().numpy()


def _undone(length: np.ndarray) -> np.ndarray:
    """How many observations of a success are not yet done, given its observations i64[M]."""
    return np.maximum(length - LAST, 1)
