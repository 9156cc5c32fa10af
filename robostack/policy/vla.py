"""The vision-language-action policy: `flow_loss` and `sample` are all that learners know of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack import config as configs
from robostack.data.chunks import Batch
from robostack.data.normalize import Normalizer
from robostack.policy import checkpoint, flow
from robostack.policy.backbone import Backbone, Prefix, SmallBackbone, SmallConfig
from robostack.policy.checkpoint import Card, CheckpointError
from robostack.policy.expert import ActionExpert, ExpertConfig
from robostack.policy.pretrained import PretrainedBackbone, PretrainedConfig
from robostack.types import RobotSpec

if TYPE_CHECKING:
    from robostack.policy.fast import FastTokenizer

SMALL = "small"
TOLD = 1_000  # instructions, at most, that a saved policy tells
Guide = Callable[[flow.Velocity], flow.Velocity]  # bends a velocity field, in normalised units


@dataclass(frozen=True)
class VLAConfig:
    """Size of the policy."""

    horizon: int = 8  # actions a chunk
    backbone: str = SMALL  # or a pretrained vision-language model: a folder, or a name on the hub
    small: SmallConfig = field(default_factory=SmallConfig)  # backbone=small
    pretrained: PretrainedConfig = field(default_factory=PretrainedConfig)  # any other backbone
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    insulate: bool = False  # the backbone learns from action tokens alone, not from the expert

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.expert.width < 2 or self.expert.width % 2:
            raise ValueError(
                f"expected a horizon of 1 or more and an even expert.width, got {self.horizon} "
                f"and {self.expert.width}"
            )


class VLA(nn.Module):
    """Images, instruction and state to a chunk of actions by flow matching.

    Both doors speak raw units: normalisation happens inside, with statistics that are saved with
    the weights. How it is taught (cloning, preferences, reinforcement) is none of its business.

    `saved` is a policy folder from which a pretrained backbone's description (and weights, where
    all of it was trained) are taken instead of from its own source.
    """

    def __init__(self, config: VLAConfig, spec: RobotSpec, saved: Path | None = None):
        super().__init__()
        self.config, self.spec = config, spec
        # that it learned from; None where nobody knows
        self.instructions: frozenset[str] | None = frozenset()
        cameras = sorted(spec.cameras)
        self.backbone: Backbone = (
            SmallBackbone(cameras, config.small)
            if config.backbone == SMALL
            else PretrainedBackbone(config.backbone, cameras, config.pretrained, saved)
        )
        self.expert = ActionExpert(
            config.expert,
            spec.state_dim,
            spec.action_dim,
            config.horizon,
            self.backbone.layers,
            self.backbone.kv_heads,
            self.backbone.head_dim,
        )
        self.normalize_state = Normalizer(spec.state_dim)
        self.normalize_action = Normalizer(spec.action_dim)
        self.tokenizer: FastTokenizer | None = None
        self.token_in: nn.Embedding | None = None
        self.token_out: nn.Linear | None = None

    def attach_tokens(self, tokenizer: FastTokenizer) -> None:
        """Let the backbone learn action tokens, too: `forward` then takes them.

        Tokens have an embedding and an output layer of their own; the vocabulary of the language
        stays as it is. Two ids behind the tokenizer's own begin and end a sequence.
        """
        width, device = self.backbone.width, self.normalize_action.low.device
        self.tokenizer = tokenizer
        self.token_in = nn.Embedding(tokenizer.size + 2, width).to(device)
        nn.init.normal_(self.token_in.weight, std=0.02)
        self.token_out = nn.Linear(width, tokenizer.size + 2).to(device)
        if self.config.backbone != SMALL:
            self.backbone.train_all_layers()

    def learns(self, instructions: frozenset[str]) -> None:
        """Note what it is taught; of a policy whose earlier ones nobody knows nothing is told."""
        if self.instructions is not None:
            self.instructions |= instructions

    def gradient_checkpointing(self) -> None:
        """Recompute the backbone's activations in the backward pass instead of keeping them."""
        self.backbone.gradient_checkpointing()

    def halve(self) -> None:
        """For inference: the expert's layers and a pretrained backbone in bfloat16. The ends, where
        actions go in and come out, stay in float32."""
        self.expert.blocks.to(torch.bfloat16)
        if self.config.backbone != SMALL:
            self.backbone.model.to(torch.bfloat16)

    def compile_expert(self) -> None:
        """Let torch.compile fuse the expert's step: slow at first, then a quarter to a third
        faster on a CPU (tests/bench/policy_latency.py). It pays where one policy acts for long.

        A second length of instruction is compiled once more, for all lengths; no third one is.
        """
        self.expert.compile()

    def encode(self, batch: Batch) -> Prefix:
        """The part of the work that depends on what is seen, not on actions, noise or time."""
        return self.backbone(batch.images, batch.tasks)

    def velocity(self, prefix: Prefix, state: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """Of normalised noisy chunks x f32[B, H, A] at tau f32[B] or f32[B, H]; `state` f32[B, S]
        is raw."""
        return self.expert(prefix, self.normalize_state(state), x, time)

    def features(self, prefix: Prefix, state: Tensor) -> Tensor:
        """What the expert makes of an observation before any action, f32[B, 2 * width]: its first
        token's and its tokens' mean features at pure noise of 0. `state` f32[B, S] is raw."""
        x = state.new_zeros(len(state), self.config.horizon, self.spec.action_dim)
        tokens = self.expert.features(
            prefix, self.normalize_state(state), x, state.new_ones(len(state))
        )
        return torch.cat([tokens[:, 0], tokens.mean(1)], 1)

    def flow_loss(
        self, batch: Batch, noise: Tensor, time: Tensor, prefix: Prefix | None = None
    ) -> Tensor:
        """Velocity error f32[B] of each sample: `flow.error` at x_tau.

        `noise` f32[B, H, A] and `time` f32[B] or f32[B, H] are the caller's, because comparisons
        (between policies, or between chunks) must share them. `prefix` re-uses an `encode` of this
        batch.
        """
        prefix = self.encode(batch) if prefix is None else prefix
        action = self.normalize_action(batch.chunk)
        velocity = self.velocity(prefix, batch.state, flow.interpolate(action, noise, time), time)
        return flow.error(velocity, action, noise, batch.valid)

    def token_loss(self, prefix: Prefix, tokens: list[list[int]]) -> Tensor:
        """Cross-entropy f32[B] of each sample's action tokens, the mean over its tokens.

        They stand behind the prefix; the expert sees the prefix alone, so that what is to be
        predicted never leaks into it (NORA-1.5, pi0.5).
        """
        if self.tokenizer is None:
            raise ValueError("token_loss: no tokenizer is attached, see VLA.attach_tokens")
        begin, end = self.tokenizer.size, self.tokenizer.size + 1
        length = max(map(len, tokens)) + 1
        rows = [[begin, *row, end] + [-1] * (length - 1 - len(row)) for row in tokens]
        ids = torch.tensor(rows, device=prefix.end.device)
        given, wanted = ids[:, :-1].clamp(min=0), ids[:, 1:]
        seen = self.backbone.extend(prefix, self.token_in(given).to(prefix.keys[0].dtype))
        logits = self.token_out(seen.float())
        losses = F.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=-1, reduction="none")
        return losses.sum(1) / (wanted >= 0).sum(1)

    def forward(
        self,
        batch: Batch,
        noise: Tensor,
        time: Tensor,
        draws: int = 1,
        tokens: list[list[int]] | None = None,
        valid: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Flow loss f32[B], averaged over `draws` noises and times that share one encoding; with
        `tokens`, a pair of it and `token_loss`.

        `noise` f32[B * draws, H, A], `time` f32[B * draws] or f32[B * draws, H] and `valid`
        bool[B * draws, H] (in place of the batch's): the draws of a sample in a row. One call, so
        that what wraps a module for several devices (DDP, FSDP) sees the whole pass.
        """
        prefix = self.encode(batch)
        seen = (prefix.detach() if self.config.insulate else prefix).repeat(draws)
        drawn = batch.repeat(draws)
        if valid is not None:
            drawn.valid = valid
        loss = self.flow_loss(drawn, noise, time, seen).reshape(len(batch), draws).mean(1)
        return loss if tokens is None else (loss, self.token_loss(prefix, tokens))

    def sample(
        self,
        batch: Batch,
        noise: Tensor,
        steps: int = 5,
        level: float = 0.0,
        generator: torch.Generator | None = None,
        prefix: Prefix | None = None,
        guide: Guide | None = None,
        method: flow.Method = "euler",
        at: int | None = None,
        trace: list[flow.Transition] | None = None,
    ) -> Tensor:
        """Raw chunks f32[B, H, A] from noise f32[B, H, A].

        `level` > 0 samples the SDE, with `at` and `trace` as in `flow.integrate_sde`. `guide`
        bends the velocity field; one that differentiates it says so by `needs_grad = True`.
        """
        prefix = self.encode(batch) if prefix is None else prefix
        state = self.normalize_state(batch.state)
        differentiable = torch.is_grad_enabled() or getattr(guide, "needs_grad", False)
        past = prefix if differentiable else self.expert.memory(prefix)

        def velocity(x: Tensor, time: Tensor) -> Tensor:
            return self.expert(past, state, x, time)

        field = velocity if guide is None else guide(velocity)
        if level > 0:
            x = flow.integrate_sde(field, noise, steps, level, generator, at, trace)
        else:
            x = flow.integrate(field, noise, steps, method)
        return self.normalize_action.inverse(x)

    def log_prob(
        self, batch: Batch, transition: flow.Transition, prefix: Prefix | None = None
    ) -> Tensor:
        """`flow.log_prob` f32[B] of a transition that `sample` left in its trace, with gradient."""
        prefix = self.encode(batch) if prefix is None else prefix
        return flow.log_prob(lambda x, t: self.velocity(prefix, batch.state, x, t), transition)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """N(0, 1) of the shape that `flow_loss` and `sample` want, on this policy's device."""
        shape = (count, self.config.horizon, self.spec.action_dim)
        return torch.randn(shape, generator=generator).to(self.normalize_action.low)

    def for_robot(self, spec: RobotSpec) -> VLA:
        """The same weights for another robot, whose normalisation is still to be fitted.

        Raises ValueError where the expert has no room for it: `expert.state_dim` and
        `expert.action_dim` must have been chosen large enough when it was first trained.
        """
        room = {"state_dim": self.expert.state_dim, "action_dim": self.expert.action_dim}
        for name, have in room.items():
            if getattr(spec, name) > have:
                raise ValueError(
                    f"the policy has {name}={have}, {spec.robot} needs {getattr(spec, name)}; "
                    f"train it from the start with policy.expert.{name} of at least that"
                )
        if len(spec.cameras) != len(self.spec.cameras):
            raise ValueError(
                f"the policy has {len(self.spec.cameras)} cameras, {spec.robot} has "
                f"{len(spec.cameras)}: {', '.join(sorted(spec.cameras))}"
            )
        self.spec = spec
        self.backbone.cameras = sorted(spec.cameras)
        device = self.normalize_action.low.device
        self.normalize_state = Normalizer(spec.state_dim).to(device)
        self.normalize_action = Normalizer(spec.action_dim).to(device)
        return self

    def save(self, folder: str | Path) -> None:
        """Weights and a card (size, robot spec); the card is written last.

        Of a pretrained backbone only what was trained is kept, beside its description; the rest
        comes from where it came from.
        """
        folder = Path(folder)
        checkpoint.begin(folder)
        given = self._given()
        tensors = {k: v for k, v in self.state_dict().items() if k not in given}
        if self.config.backbone != SMALL:
            self.backbone.save_description(folder)
        if self.tokenizer is not None:
            self.tokenizer.save(folder)
        card = {"config": configs.to_dict(self.config), "spec": json.loads(self.spec.to_json())}
        if self.instructions is not None and len(self.instructions) <= TOLD:
            card["instructions"] = sorted(self.instructions)
        checkpoint.finish(folder, tensors, card)

    def _given(self) -> set[str]:
        """Names of the weights that are not this policy's to keep."""
        if self.config.backbone == SMALL:
            return set()
        return {f"backbone.{name}" for name in self.backbone.given()}

    @staticmethod
    def read_card(folder: str | Path) -> Card:
        """What a saved policy is, for which robot and which instructions, without loading it."""
        return checkpoint.read_card(Path(folder), VLAConfig)

    @classmethod
    def load(cls, folder: str | Path, edited: bool = False) -> VLA:
        """Never executes code. Raises CheckpointError saying what does not fit, or that the policy
        acts through edits (`robostack.policy.edits`), which only `edited` callers take along."""
        folder = Path(folder)
        if not edited and (folder / checkpoint.EDITS).is_dir():
            raise CheckpointError(
                f"{folder} acts through the edits beside it (train rl, algorithm=rlpd), which "
                "would be left out here; clone its rollouts (collect, train bc) and take that"
            )
        card = cls.read_card(folder)
        try:
            policy = cls(card.config, card.spec, folder)
        except ValueError as error:  # no possible size
            raise CheckpointError(f"{folder / checkpoint.CARD}: {error}") from None
        if (folder / checkpoint.TOKENS).is_file():
            from robostack.policy.fast import FastTokenizer

            policy.attach_tokens(FastTokenizer.load(folder))
        checkpoint.load_weights(policy, folder, policy._given())
        policy.instructions = card.instructions
        return policy.eval()

    save_pretrained = save  # the name that users of Hugging Face look for

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> VLA:
        """A policy from a folder or from the Hugging Face hub."""
        return cls.load(checkpoint.locate(name, revision))

    def push_to_hub(self, name: str, private: bool = True, token: str | None = None) -> str:
        """Upload to the Hugging Face hub as `name` (owner/name); returns the address."""
        return checkpoint.upload(self.save, name, private, token)


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
