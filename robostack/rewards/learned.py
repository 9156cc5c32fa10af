"""What every learned reward shares: its data, its statistics, saving, loading, fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robostack.data.normalize import Normalizer
from robostack.types import Episode, RobotSpec
from robostack.vision import shrink

SIDE = 32  # rewards look at pictures of this size [px]
DISTRACTORS = (  # instructions of other tasks, as mismatched negatives
    "open the door",
    "stack the red cube on the green cube",
    "lift the red cube",
    "push the green cube to the left",
    "put the can into the bin",
    "wipe the table",
)
WEIGHTS, CARD = "weights.safetensors", "reward.json"


class RewardError(RuntimeError):
    """A reward that cannot be trained on this data, or a folder that holds none."""


class RewardData:
    """Episodes as rewards see them: shrunk frames and states in one column each."""

    def __init__(self, episodes: Iterable[Episode]):
        self.episodes = list(episodes)
        if not self.episodes:
            raise RewardError("no episodes to learn from")
        self.spec = self.episodes[0].spec
        lengths = [len(e) + 1 for e in self.episodes]
        self.first = np.concatenate([[0], np.cumsum(lengths)])[:-1]  # row of observation 0
        self.length = np.array(lengths)  # observations an episode
        self.frames = np.concatenate([shrink(e.images, SIDE) for e in self.episodes])
        self.states = np.concatenate([e.states for e in self.episodes])
        self.actions = np.concatenate([_padded(e.actions) for e in self.episodes])
        self.success = np.array([bool(e.success) for e in self.episodes])

    def require_successes(self, who: str) -> np.ndarray:
        """Indices of successful episodes; raises RewardError where there are none."""
        if not self.success.any():
            raise RewardError(f"{who} learns from successes; none of the {len(self)} is one")
        return np.flatnonzero(self.success)

    def __len__(self) -> int:
        return len(self.episodes)

    def gather(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Frames uint8[..., C, side, side] and states f32[..., S] of observations `rows`."""
        return (
            torch.from_numpy(self.frames[rows]).to(device),
            torch.from_numpy(self.states[rows]).to(device),
        )


def _padded(actions: np.ndarray) -> np.ndarray:
    return np.concatenate([actions, np.zeros_like(actions[:1])])


def read_card(folder: str | Path) -> dict:
    """{"name", "spec"} of a saved reward. Raises RewardError where there is none."""
    path = Path(folder) / CARD
    try:
        card = json.loads(path.read_text())
        return {"name": card["name"], "spec": json.dumps(card["spec"])}
    except (OSError, KeyError, json.JSONDecodeError):
        raise RewardError(
            f"{folder} holds no reward (no readable {CARD}); make one with `robostack train reward`"
        ) from None


class LearnedReward(nn.Module):
    """Base of rewards with weights. A subclass adds

    fit(data)                  statistics, once before training
    loss(data, random, draws)  one training step's loss and metrics
    calibrate(data)            what can only be known after training
    """

    name = ""

    def __init__(self, spec: RobotSpec):
        super().__init__()
        self.spec = spec
        self.normalize_state = Normalizer(spec.state_dim)

    @property
    def device(self) -> torch.device:
        return self.normalize_state.low.device

    def fit(self, data: RewardData) -> None:
        self.normalize_state.fit(data.states)

    def loss(
        self, data: RewardData, random: np.random.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        raise NotImplementedError

    def calibrate(self, data: RewardData) -> None:
        pass

    def frames(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Shrunk frames and normalised states of a whole episode."""
        self.spec.require_same(episode.spec, f"the reward {self.name}", "the episode")
        frames = torch.from_numpy(shrink(episode.images, SIDE)).to(self.device)
        return frames, self.normalize_state(torch.from_numpy(episode.states).to(self.device))

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.name.encode())
        for key, value in sorted(self.state_dict().items()):
            digest.update(key.encode() + value.detach().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / WEIGHTS)
        card = {"name": self.name, "spec": json.loads(self.spec.to_json())}
        (folder / CARD).write_text(json.dumps(card, indent=1))

    def load(self, folder: str | Path) -> LearnedReward:
        """Fill this reward from a folder; raises RewardError if it does not fit."""
        try:
            weights = load_file(Path(folder) / WEIGHTS)
            self.load_state_dict(weights)
        except Exception as error:
            raise RewardError(f"{folder} holds no {self.name} reward that fits: {error}") from None
        return self.eval()
