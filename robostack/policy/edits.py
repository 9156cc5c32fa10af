"""A frozen policy whose chunks small networks choose among, and nudge, as reward taught them.

Several chunks are proposed for one observation; an actor nudges each of them as a whole, and of
all, nudged or not, the one is executed that an ensemble of critics expects most of (EXPO, arXiv
2507.07986; the chunk as one action: Q-chunking, 2507.07969). The networks look at what the policy's
own expert makes of the observation, so that they are small enough to learn from a hundred rollouts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robostack import config as configs
from robostack.policy.checkpoint import CheckpointError
from robostack.policy.chunking import ChunkRunner, observation_batch
from robostack.policy.vla import VLA
from robostack.types import Observation, RobotSpec

CARD, WEIGHTS = "edits.json", "edits.safetensors"


@dataclass(frozen=True)
class EditConfig:
    """How far the networks may go, and their size."""

    execute: int = 8  # actions of a chunk, all of which are executed
    proposals: int = 4  # chunks of the policy that are chosen from, each also nudged
    reach: float = 0.05  # of a nudge, in half ranges of the actions; the fingers are left alone
    critics: int = 8
    width: int = 256


class Ensemble(nn.Module):
    """Perceptrons of two layers with normalisation, side by side: f32[B, I] -> f32[E, B]."""

    def __init__(self, members: int, inputs: int, width: int):
        super().__init__()
        sizes = [(inputs, width), (width, width), (width, 1)]
        self.weights = nn.ParameterList(
            torch.randn(members, i, o) / i**0.5 * (o != 1) for i, o in sizes
        )  # no opinion before the first update: the last layer begins at 0
        self.biases = nn.ParameterList(torch.zeros(members, 1, o) for _, o in sizes)
        self.gains = nn.ParameterList(torch.ones(members, 1, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(len(self.weights[0]), *x.shape)
        for k, gain in enumerate(self.gains):
            x = torch.baddbmm(self.biases[k], x, self.weights[k])
            x = F.gelu(F.layer_norm(x, x.shape[-1:]) * gain)
        return torch.baddbmm(self.biases[-1], x, self.weights[-1]).squeeze(-1)


class Edits(nn.Module):
    """`judge` and `nudge`. Features and states are normalised inside, by statistics of the data
    that it began with; chunks are raw."""

    def __init__(self, config: EditConfig, spec: RobotSpec, features: int):
        super().__init__()
        self.config, self.spec = config, spec
        moving = [not name.endswith("gripper") for name in spec.action_names]
        low, high = (torch.tensor(x) for x in (spec.action_low, spec.action_high))
        self.register_buffer("middle", (low + high) / 2)
        self.register_buffer("half_range", (high - low) / 2)
        self.register_buffer("moving", torch.tensor(moving))
        seen = features + spec.state_dim
        self.register_buffer("mean", torch.zeros(seen))
        self.register_buffer("deviation", torch.ones(seen))
        inputs = seen + config.execute * spec.action_dim
        self.critics = Ensemble(config.critics, inputs, config.width)
        self.actor = nn.Sequential(
            nn.Linear(inputs, config.width),
            nn.LayerNorm(config.width),
            nn.GELU(),
            nn.Linear(config.width, config.width),
            nn.LayerNorm(config.width),
            nn.GELU(),
            nn.Linear(config.width, int(sum(moving))),
        )
        nn.init.zeros_(self.actor[-1].weight)  # no nudge before the first update
        nn.init.zeros_(self.actor[-1].bias)

    def fit(self, seen: Tensor) -> None:
        """Normalise by rows f32[N, F + S] of features and states."""
        self.mean.copy_(seen.mean(0))
        self.deviation.copy_(seen.std(0).clamp_min(1e-3))

    def _inputs(self, seen: Tensor, chunk: Tensor) -> Tensor:
        what = ((chunk - self.middle) / self.half_range).flatten(1)
        return torch.cat([(seen - self.mean) / self.deviation, what], 1)

    def judge(self, seen: Tensor, chunk: Tensor) -> Tensor:
        """Return f32[E, B] that each critic expects after chunks f32[B, execute, A]."""
        return self.critics(self._inputs(seen, chunk))

    def nudge(self, seen: Tensor, chunk: Tensor) -> Tensor:
        """Chunks f32[B, execute, A], each moved as a whole, within the bounds."""
        turn = torch.tanh(self.actor(self._inputs(seen, chunk)))
        offset = chunk.new_zeros(len(chunk), len(self.half_range))
        offset[:, self.moving] = self.config.reach * turn
        moved = chunk + (offset * self.half_range)[:, None]
        low, high = self.middle - self.half_range, self.middle + self.half_range
        return torch.minimum(torch.maximum(moved, low), high)

    def best(self, seen: Tensor, proposals: Tensor) -> Tensor:
        """Of proposals f32[B, P, execute, A], as they are and nudged, the ones f32[B, execute, A]
        that the critics expect most of. The first proposal where all are equal."""
        batch, count = proposals.shape[:2]
        many = seen.repeat_interleave(count, 0)
        plain = proposals.flatten(0, 1)
        nudged = self.nudge(many, plain)
        value = [self.judge(many, x).mean(0).reshape(batch, count) for x in (plain, nudged)]
        chosen = torch.cat(value, 1).argmax(1)
        both = torch.cat([proposals, nudged.reshape(proposals.shape)], 1)
        return both[torch.arange(batch, device=chosen.device), chosen]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / WEIGHTS)
        features = len(self.mean) - self.spec.state_dim
        card = {"config": configs.to_dict(self.config), "features": features}
        (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, spec: RobotSpec) -> Edits:
        """Raises CheckpointError for a folder that holds none, or of another robot."""
        try:
            card = json.loads((folder / CARD).read_text())
            edits = cls(configs.build(EditConfig, card["config"]), spec, card["features"])
            edits.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{folder} holds no edits for this robot: {error}") from None
        return edits.eval()


def look(vla: VLA, batch, prefix) -> Tensor:
    """What the networks are given of observations: f32[B, F + S]."""
    return torch.cat([vla.features(prefix, batch.state), batch.state], 1)


class EditedRunner:
    """A policy that samples chunks, and executes the one that its edits think best."""

    def __init__(self, vla: VLA, edits: Edits, steps: int, level: float):
        self._runner = ChunkRunner(vla, edits.config.execute, steps, level)
        self.edits = edits.to(vla.normalize_action.low.device)

    def reset(self, seed: int) -> None:
        self._runner.reset(seed)

    @torch.no_grad()
    def act(self, observation: Observation) -> np.ndarray:
        vla, config = self._runner.vla, self.edits.config
        proposals = self._runner.propose(observation, config.proposals)[:, : config.execute]
        shape = vla.config.horizon, vla.spec.action_dim
        batch = observation_batch(observation, shape).to(self.edits.half_range.device)
        seen = look(vla, batch, vla.encode(batch))
        chunk = self.edits.best(seen, torch.from_numpy(proposals).to(seen)[None])
        return vla.spec.clip(chunk[0].cpu().numpy())
