"""The action expert: a transformer over (state, noisy actions) that attends, layer by layer, to the
backbone's keys and values and to its own tokens, in both directions (pi0, arXiv 2410.24164;
NORA-1.5, 2511.14659).

Its layers, key-value heads and head size are the backbone's, so that keys can stand side by side;
its width, its query heads and its feed-forward size are its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.policy.backbone import Prefix


@dataclass(frozen=True)
class ExpertConfig:
    """Size of the action expert. A 0 is replaced by what the comment says."""

    width: int = 128
    heads: int = 0  # of queries, a multiple of the backbone's key-value heads; 0: width / head size
    mlp: int = 0  # hidden width of the gated feed-forward layers; 0: 8/3 of the width
    time: Literal["additive", "adaptive"] = "additive"  # mixed into the actions (pi0), or scaling
    # and gating every layer (pi0.5, DiT)
    position: Literal["rotary", "learned"] = "rotary"  # of an action in its chunk: rotated queries
    # and keys (pi0, NORA-1.5), which any horizon fits, or an embedding of its own
    state_dim: int = 0  # states are padded to this, so that weights fit other robots; 0: its own
    action_dim: int = 0  # likewise actions


def time_embedding(time: Tensor, dim: int) -> Tensor:
    """Sine-cosine code f32[..., dim] of tau in [0, 1], periods 4e-3 to 4 spaced evenly in log."""
    periods = torch.logspace(math.log10(4e-3), math.log10(4.0), dim // 2, device=time.device)
    angle = 2 * math.pi * time[..., None] / periods
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def rotary(positions: int, dim: int, base: float = 1e4) -> tuple[Tensor, Tensor]:
    """Cosines and sines f32[positions, dim / 2] (RoPE, arXiv 2104.09864)."""
    frequency = base ** (-torch.arange(0, dim, 2) / dim)
    angle = torch.arange(positions)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + dim / 2) of x [..., positions, dim] by its position's angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Memory:
    """Keys and values of all layers with room for the expert's own tokens behind the prefix's.

    A sampler asks for the velocity many times under one prefix. The prefix is written here once;
    each call overwrites the tail alone, in place, so it is not for gradients.
    """

    def __init__(self, prefix: Prefix, tokens: int, dtype: torch.dtype):
        self.keys = [self._room(k, tokens, dtype) for k in prefix.keys]
        self.values = [self._room(v, tokens, dtype) for v in prefix.values]
        self.mask = attention_mask(prefix, tokens)

    @staticmethod
    def _room(x: Tensor, tokens: int, dtype: torch.dtype) -> Tensor:
        room = x.new_empty((*x.shape[:2], x.shape[2] + tokens, x.shape[3]), dtype=dtype)
        room[:, :, : x.shape[2]] = x
        return room


def attention_mask(prefix: Prefix, tokens: int) -> Tensor | None:
    """bool[B, 1, 1, P + tokens], False at the prefix's padding; None where nothing is padded, which
    lets attention take its fast path."""
    if prefix.mask is None:
        return None
    own = prefix.mask.new_ones(len(prefix.mask), tokens)
    return torch.cat([prefix.mask, own], dim=1)[:, None, None]


class Look(NamedTuple):
    """How the layers look at keys: the same for all of them in one pass."""

    turn: tuple[Tensor, Tensor] | None  # rotation of queries and own keys, see `rotary`
    mask: Tensor | None  # see `attention_mask`
    inside: bool  # own keys go to the end of a Memory; or else behind the prefix's, in new tensors


class ExpertBlock(nn.Module):
    """A pre-norm layer with grouped-query attention and a gated feed-forward (SwiGLU)."""

    def __init__(
        self, width: int, heads: int, kv_heads: int, head_dim: int, mlp: int, adaptive: bool
    ):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.norm1 = nn.RMSNorm(width, elementwise_affine=not adaptive)
        self.norm2 = nn.RMSNorm(width, elementwise_affine=not adaptive)
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * mlp, bias=False)
        self.down = nn.Linear(mlp, width, bias=False)
        self.modulate = nn.Linear(width, 6 * width) if adaptive else None
        if self.modulate is not None:  # every layer begins as the identity (DiT, arXiv 2212.09748)
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor], look: Look, condition: Tensor | None
    ) -> Tensor:
        """x f[B, N, width]. `past` are the keys and values of this layer: the prefix's alone, or a
        Memory's, whose tail is overwritten. `condition` f[B, N, width] is the time's code of
        adaptive normalisation."""
        if self.modulate is None:
            x = x + self._attend(self.norm1(x), past, look)
            return x + self._feed(self.norm2(x))
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulate(condition).chunk(6, dim=-1)
        seen = self.norm1(x) * (1 + scale1) + shift1
        x = x + gate1 * self._attend(seen, past, look)
        return x + gate2 * self._feed(self.norm2(x) * (1 + scale2) + shift2)

    def _feed(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)

    def _attend(self, x: Tensor, past: tuple[Tensor, Tensor], look: Look) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, -1, self.head_dim).transpose(1, 2)
        qk, v = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=1)
        qk = qk if look.turn is None else rotate(qk, *look.turn)
        q, k = qk.split((self.heads, self.kv_heads), dim=1)
        keys, values = past
        if look.inside:
            keys[:, :, -tokens:], values[:, :, -tokens:] = k, v
        else:
            keys, values = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
        # the query heads of a group share their keys, and all tokens may see all keys, so the
        # heads of a group can stand in a row as further queries: nothing is repeated or copied
        grouped = q.reshape(batch, self.kv_heads, -1, self.head_dim)
        attended = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=look.mask)
        attended = attended.reshape(batch, -1, tokens, self.head_dim)
        return self.out(attended.transpose(1, 2).reshape(batch, tokens, -1))


class ActionExpert(nn.Module):
    """Velocity field over normalised action chunks.

    Raises ValueError, naming the field, for a size that does not fit the backbone or the robot.
    """

    _no_split_modules = ["ExpertBlock"]  # what sharding over devices may not cut through

    def __init__(
        self,
        config: ExpertConfig,
        state_dim: int,
        action_dim: int,
        horizon: int,
        layers: int,
        kv_heads: int,
        head_dim: int,
    ):
        super().__init__()
        width, adaptive = config.width, config.time == "adaptive"
        self.state_dim = _padded(config.state_dim, state_dim, "state_dim")
        self.action_dim = _padded(config.action_dim, action_dim, "action_dim")
        heads = config.heads or max(1, width // (head_dim * kv_heads)) * kv_heads
        if heads % kv_heads:
            raise ValueError(f"expert.heads={heads}: expected a multiple of {kv_heads}, the "
                             "backbone's key-value heads")  # fmt: skip
        mlp = config.mlp or max(8, round(width / 3) * 8)
        self.state_in = nn.Linear(self.state_dim, width)
        self.action_in = nn.Linear(self.action_dim, width)
        self.time_in = nn.Sequential(
            nn.Linear(width if adaptive else 2 * width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.adaptive = adaptive
        self.blocks = nn.ModuleList(
            ExpertBlock(width, heads, kv_heads, head_dim, mlp, adaptive) for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width)
        self.action_out = nn.Linear(width, self.action_dim)
        self.tokens, self.position = 1 + horizon, None
        if config.position == "learned":
            self.position = nn.Parameter(0.02 * torch.randn(self.tokens, width))
        else:
            cos, sin = rotary(self.tokens, head_dim)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the layers. What goes in and comes out is float32 whatever they are in."""
        return self.blocks[0].out.weight.dtype

    def memory(self, prefix: Prefix) -> Memory:
        """Room to ask for many velocities under one prefix, without gradients."""
        return Memory(prefix, self.tokens, self.dtype)

    def forward(self, past: Prefix | Memory, state: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """state f32[B, S] and x f32[B, H, A] normalised, time f32[B] or f32[B, H] -> f32[B, H, A].

        States and actions of fewer dims than the expert's are padded with zeros, and what it says
        about padded dims is cut off.
        """
        return self.action_out(self.features(past, state, x, time))[..., : x.shape[-1]]

    def features(self, past: Prefix | Memory, state: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """f32[B, H, width], of which the velocity is a linear function."""
        tokens, condition = self._tokens(_widen(state, self.state_dim), x, time)
        if self.position is None:
            turn = self.cos.to(self.dtype), self.sin.to(self.dtype)
        else:
            tokens, turn = tokens + self.position, None
        tokens = tokens.to(self.dtype)
        if isinstance(past, Memory):
            look = Look(turn, past.mask, True)
        else:
            look = Look(turn, attention_mask(past, tokens.shape[1]), False)
        for block, keys, values in zip(self.blocks, past.keys, past.values, strict=True):
            layer = keys.to(self.dtype), values.to(self.dtype)
            tokens = block(tokens, layer, look, condition)
        return self.norm(tokens[:, 1:].float())

    def _tokens(self, state: Tensor, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens f32[B, 1 + H, width], and what conditions the layers on time, if that is how."""
        actions = self.action_in(_widen(x, self.action_dim))
        if time.ndim == 1:
            time = time[:, None].expand(actions.shape[:2])
        code = time_embedding(time, actions.shape[-1])
        condition = None
        if self.adaptive:  # the state is never noisy: its time is 0
            clean = time_embedding(torch.zeros_like(time[:, :1]), actions.shape[-1])
            condition = F.silu(self.time_in(torch.cat([clean, code], dim=1))).to(self.dtype)
        else:
            actions = self.time_in(torch.cat([actions, code], dim=-1))
        return torch.cat([self.state_in(state)[:, None], actions], dim=1), condition


def _padded(size: int, own: int, name: str) -> int:
    if size and size < own:
        raise ValueError(f"expert.{name}={size}: this robot has {own}; expected at least that")
    return size or own


def _widen(x: Tensor, dims: int) -> Tensor:
    return x if x.shape[-1] == dims else F.pad(x, (0, dims - x.shape[-1]))
