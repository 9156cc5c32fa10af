"""The action expert: a transformer over (state, noisy actions) that attends, layer by layer, to the
backbone's keys and values and to its own tokens, in both directions (pi0, NORA-1.5)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.policy.backbone import Prefix


def time_embedding(time: Tensor, dim: int) -> Tensor:
    """Sine-cosine code f32[B, dim] of tau in [0, 1], periods 4e-3 to 4 spaced evenly in log."""
    periods = torch.logspace(math.log10(4e-3), math.log10(4.0), dim // 2, device=time.device)
    angle = 2 * math.pi * time[:, None] / periods
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class ExpertBlock(nn.Module):
    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_dim)
        self.out = nn.Linear(heads * head_dim, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        k, v = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class ActionExpert(nn.Module):
    """Velocity field over normalised action chunks.

    Its number of layers, heads and head size are the backbone's, so that keys can be concatenated;
    its width is its own.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        horizon: int,
        width: int,
        layers: int,
        heads: int,
        head_dim: int,
    ):
        super().__init__()
        self.state_in = nn.Linear(state_dim, width)
        self.action_in = nn.Linear(action_dim, width)
        self.time_in = nn.Sequential(
            nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.position = nn.Parameter(0.02 * torch.randn(1 + horizon, width))
        self.blocks = nn.ModuleList(ExpertBlock(width, heads, head_dim) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.action_out = nn.Linear(width, action_dim)

    def forward(self, prefix: Prefix, state: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """state f32[B, S] and x f32[B, H, A] normalised, time f32[B] -> f32[B, H, A]."""
        actions = self.action_in(x)
        code = time_embedding(time, actions.shape[-1])[:, None].expand_as(actions)
        actions = self.time_in(torch.cat([actions, code], dim=-1))
        tokens = torch.cat([self.state_in(state)[:, None], actions], dim=1) + self.position
        own = torch.ones(*tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        mask = torch.cat([prefix.mask, own], dim=1)[:, None, None]  # bool[B, 1, 1, P + 1 + H]
        for block, keys, values in zip(self.blocks, prefix.keys, prefix.values, strict=True):
            tokens = block(tokens, keys, values, mask)
        return self.action_out(self.norm(tokens[:, 1:]))
