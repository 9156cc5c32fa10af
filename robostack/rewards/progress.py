"""Progress estimator: how far has this video come towards what was asked?

A causal recurrent network over frames, after ReWiND (arXiv 2505.10911) and Robometer (2603.02115):
trained on the order of time in successes, on rewound clips, so that undoing is seen as a loss, on
wrong instructions, which are no progress at all, and on failures, which never count as complete.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.rewards.learned import DISTRACTORS, LearnedReward, RewardData
from robostack.types import Episode, RobotSpec
from robostack.vision import FrameEncoder, WordHasher

BINS = 21
CLIP = 12  # frames of a training clip
CEILING = 0.8  # a failure may come this far


def two_hot(value: Tensor) -> Tensor:
    """value f32[...] in [0, 1] as a distribution f32[..., BINS] whose mean is the value (C51)."""
    place = value.clamp(0, 1) * (BINS - 1)
    low = place.floor().clamp(max=BINS - 2)
    share = (place - low)[..., None]
    index = low.long()[..., None]
    out = torch.zeros(*value.shape, BINS, device=value.device)
    out.scatter_(-1, index, 1 - share)
    return out.scatter_(-1, index + 1, share)


class ProgressEstimator(LearnedReward):
    name = "progress"

    def __init__(self, spec: RobotSpec, width: int = 64):
        super().__init__(spec)
        self.encoder = FrameEncoder(len(spec.cameras), spec.state_dim, width)
        self.words = WordHasher()
        self.instruction = nn.EmbeddingBag(self.words.size, width, mode="mean", padding_idx=0)
        self.memory = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, BINS)
        self.register_buffer("bins", torch.linspace(0, 1, BINS))

    def logits(self, frames: Tensor, states: Tensor, tasks: list[str]) -> Tensor:
        """Clips f32[B, L, ...] and B instructions -> f32[B, L, BINS]."""
        count, length = frames.shape[:2]
        seen = self.encoder(frames.flatten(0, 1), states.flatten(0, 1)).reshape(count, length, -1)
        asked = self.instruction(self.words(tasks).to(self.device))[:, None]
        return self.head(self.memory(F.gelu(seen * (1 + asked)))[0])

    def loss(
        self, data: RewardData, random: np.random.Generator, batch: int = 12
    ) -> tuple[Tensor, dict[str, float]]:
        won = data.require_successes("the progress estimator")
        lost = np.flatnonzero(~data.success)
        rows, goals, tasks, failed = [], [], [], []
        for _ in range(batch):
            kind = random.choice(4, p=[0.4, 0.25, 0.2, 0.15])  # forward, rewound, mismatch, failure
            episode = int(random.choice(lost if kind == 3 and len(lost) else won))
            steps = _clip(data.length[episode], random, rewound=kind == 1)
            rows.append(data.first[episode] + steps)
            task = data.episodes[episode].task
            wrong = [d for d in DISTRACTORS if d != task]
            tasks.append(str(random.choice(wrong)) if kind == 2 else task)
            progress = steps / (data.length[episode] - 1)
            goals.append(np.zeros(CLIP) if kind == 2 else progress)
            failed.append(kind == 3 and not data.success[episode])
        frames, states = data.gather(np.stack(rows), self.device)
        logits = self.logits(frames, self.normalize_state(states), tasks)
        goal = torch.from_numpy(np.stack(goals)).float().to(self.device)
        entropy = -(two_hot(goal) * logits.log_softmax(-1)).sum(-1).mean(1)
        value = (logits.softmax(-1) * self.bins).sum(-1)
        excess = 4 * F.relu(value - CEILING).mean(1)
        fail = torch.tensor(failed, device=self.device)
        loss = torch.where(fail, excess, entropy).mean()
        error = (value - goal).abs().mean(1)[~fail].mean()
        return loss, {"error": float(error)}

    @torch.inference_mode()
    def score(self, episode: Episode) -> np.ndarray:
        frames, states = self.frames(episode)
        logits = self.logits(frames[None], states[None], [episode.task])[0]
        return (logits.softmax(-1) * self.bins).sum(-1).clamp(0, 1).cpu().numpy()


def _clip(length: int, random: np.random.Generator, rewound: bool) -> np.ndarray:
    """Steps i64[CLIP] of a clip: forward between two random ends, or forward and then back."""
    first, last = np.sort(random.choice(length, 2, replace=False))
    if not rewound:
        # mostly every step or two, as in use, sometimes with larger jumps
        return np.linspace(first, min(last, first + CLIP * random.integers(1, 5)), CLIP).astype(int)
    turn = random.integers(CLIP // 3, CLIP - 2)
    there = np.linspace(first, last, turn + 1)
    back = np.linspace(last, max(first, last - (last - first) * random.random()), CLIP - turn)
    return np.concatenate([there, back[1:]])[:CLIP].astype(int)
