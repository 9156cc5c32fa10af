"""The vision-language-action policy: `flow_loss` and `sample` are all that learners know of it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robostack import config as configs
from robostack.data.chunks import Batch
from robostack.data.normalize import Normalizer
from robostack.policy import flow
from robostack.policy.backbone import Prefix, SmallBackbone
from robostack.policy.expert import ActionExpert
from robostack.types import RobotSpec

WEIGHTS, CARD = "weights.safetensors", "policy.json"


class CheckpointError(RuntimeError):
    """A policy folder that is missing, incomplete or of another shape."""


@dataclass(frozen=True)
class VLAConfig:
    """Size of the policy."""

    horizon: int = 8  # actions a chunk
    width: int = 128  # of the backbone
    layers: int = 3
    heads: int = 4
    expert_width: int = 128

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name}: expected 1 or more")


class VLA(nn.Module):
    """Images, instruction and state to a chunk of actions by flow matching.

    Both doors speak raw units: normalisation happens inside, with statistics that are saved with
    the weights. How it is taught (cloning, preferences, reinforcement) is none of its business.
    """

    def __init__(self, config: VLAConfig, spec: RobotSpec):
        super().__init__()
        self.config, self.spec = config, spec
        self.backbone = SmallBackbone(
            sorted(spec.cameras), config.width, config.layers, config.heads
        )
        self.expert = ActionExpert(
            spec.state_dim,
            spec.action_dim,
            config.horizon,
            config.expert_width,
            self.backbone.layers,
            self.backbone.heads,
            self.backbone.head_dim,
        )
        self.normalize_state = Normalizer(spec.state_dim)
        self.normalize_action = Normalizer(spec.action_dim)

    def encode(self, batch: Batch) -> Prefix:
        """The part of the work that depends on what is seen, not on actions, noise or time."""
        return self.backbone(batch.images, batch.tasks)

    def velocity(self, prefix: Prefix, state: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """Of normalised noisy chunks x f32[B, H, A] at tau f32[B]; `state` f32[B, S] is raw."""
        return self.expert(prefix, self.normalize_state(state), x, time)

    def flow_loss(
        self, batch: Batch, noise: Tensor, time: Tensor, prefix: Prefix | None = None
    ) -> Tensor:
        """Velocity error f32[B] of each sample: `flow.error` at x_tau.

        `noise` f32[B, H, A] and `time` f32[B] are the caller's, because comparisons (between
        policies, or between chunks) must share them. `prefix` re-uses an `encode` of this batch.
        """
        prefix = self.encode(batch) if prefix is None else prefix
        action = self.normalize_action(batch.chunk)
        velocity = self.velocity(prefix, batch.state, flow.interpolate(action, noise, time), time)
        return flow.error(velocity, action, noise, batch.valid)

    def forward(self, batch: Batch, noise: Tensor, time: Tensor, draws: int = 1) -> Tensor:
        """Flow loss f32[B], averaged over `draws` noises and times that share one encoding.

        `noise` f32[B * draws, H, A] and `time` f32[B * draws]: the draws of a sample in a row. One
        call, so that what wraps a module for several devices (DDP, FSDP) sees the whole pass.
        """
        prefix = self.encode(batch).repeat(draws)
        loss = self.flow_loss(batch.repeat(draws), noise, time, prefix)
        return loss.reshape(len(batch), draws).mean(1)

    def sample(
        self,
        batch: Batch,
        noise: Tensor,
        steps: int = 5,
        level: float = 0.0,
        generator: torch.Generator | None = None,
        prefix: Prefix | None = None,
    ) -> Tensor:
        """Raw chunks f32[B, H, A] from noise f32[B, H, A]; `level` > 0 samples the SDE."""
        prefix = self.encode(batch) if prefix is None else prefix

        def velocity(x: Tensor, time: Tensor) -> Tensor:
            return self.velocity(prefix, batch.state, x, time)

        if level > 0:
            x = flow.integrate_sde(velocity, noise, steps, level, generator)
        else:
            x = flow.integrate(velocity, noise, steps)
        return self.normalize_action.inverse(x)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """N(0, 1) of the shape that `flow_loss` and `sample` want, on this policy's device."""
        shape = (count, self.config.horizon, self.spec.action_dim)
        return torch.randn(shape, generator=generator).to(self.normalize_action.low)

    def save(self, folder: str | Path) -> None:
        """Weights and a card (size, robot spec); the card is written last."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CARD).unlink(missing_ok=True)
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / WEIGHTS)
        card = {"config": configs.to_dict(self.config), "spec": json.loads(self.spec.to_json())}
        partial = folder / f".{CARD}"
        partial.write_text(json.dumps(card, indent=1))
        partial.replace(folder / CARD)

    @staticmethod
    def read_spec(folder: str | Path) -> RobotSpec:
        """The robot that a saved policy is for, without loading it."""
        return _read_card(Path(folder))[1]

    @classmethod
    def load(cls, folder: str | Path) -> VLA:
        """Never executes code. Raises CheckpointError saying what does not fit."""
        folder = Path(folder)
        config, spec = _read_card(folder)
        try:
            policy = cls(config, spec)
        except ValueError as error:  # no possible size
            raise CheckpointError(f"{folder / CARD}: {error}") from None
        try:
            weights = load_file(folder / WEIGHTS)
        except Exception as error:
            raise CheckpointError(f"{folder / WEIGHTS} is damaged: {error}") from None
        own = policy.state_dict()
        wrong = sorted(set(own) ^ set(weights)) or sorted(
            name for name in own if own[name].shape != weights[name].shape
        )
        if wrong:
            raise CheckpointError(
                f"{folder / WEIGHTS} does not fit its card; missing, unknown or misshaped: "
                f"{', '.join(wrong[:5])}"
            )
        policy.load_state_dict(weights)
        return policy.eval()


def _read_card(folder: Path) -> tuple[VLAConfig, RobotSpec]:
    if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        raise CheckpointError(
            f"{folder} holds no policy (expected {CARD} and {WEIGHTS}); "
            "make one with `robostack train bc`"
        )
    try:
        card = json.loads((folder / CARD).read_text())
        config = configs.build(VLAConfig, card["config"])
        return config, RobotSpec.from_json(json.dumps(card["spec"]))
    except (KeyError, TypeError, ValueError) as error:  # no JSON, or no such fields
        raise CheckpointError(f"{folder / CARD}: {error}") from None


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
