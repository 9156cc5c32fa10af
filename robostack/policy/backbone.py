"""Vision-language backbones: images and an instruction become per-layer keys and values.

`Prefix` is the seam. Whatever yields one (the small transformer below, or a Hugging Face model's
key-value cache) can carry the action expert, which asks a backbone only for its shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.vision import ImageStem, WordHasher


@dataclass
class Prefix:
    """What the action expert attends to, computed once per observation."""

    keys: list[Tensor]  # one a layer, f32[B, heads, P, head_dim]
    values: list[Tensor]  # likewise
    mask: Tensor  # bool[B, P], False at padding
    summary: Tensor  # f32[B, width], for value heads and the like

    def repeat(self, times: int) -> Prefix:
        """Each observation `times` times in a row: several samples for one encoding."""

        def each(x: Tensor) -> Tensor:
            return x.repeat_interleave(times, dim=0)

        return Prefix(
            [each(k) for k in self.keys],
            [each(v) for v in self.values],
            each(self.mask),
            each(self.summary),
        )


class Backbone(Protocol):
    layers: int
    heads: int
    head_dim: int
    width: int

    def __call__(self, images: dict[str, Tensor], tasks: list[str]) -> Prefix:
        """images {camera: uint8[B, H, W, 3]} and B instructions."""


class PrefixBlock(nn.Module):
    """A pre-norm transformer layer that also hands out its keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.norm2(x)), k, v


class SmallBackbone(nn.Module):
    """A vision-language transformer small enough to train from scratch on a CPU."""

    def __init__(self, cameras: list[str], width: int = 128, layers: int = 3, heads: int = 4):
        super().__init__()
        if width % heads or width % 8:
            raise ValueError(f"width {width}: expected a multiple of 8 and of heads={heads}")
        self.layers, self.heads, self.head_dim, self.width = layers, heads, width // heads, width
        self.cameras = list(cameras)
        self.words = WordHasher()
        self.stem = ImageStem(width)
        self.camera_embedding = nn.Parameter(0.02 * torch.randn(len(cameras), width))
        self.word_embedding = nn.Embedding(self.words.size, width)
        self.word_position = nn.Parameter(0.02 * torch.randn(self.words.length, width))
        self.blocks = nn.ModuleList(PrefixBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: dict[str, Tensor], tasks: list[str]) -> Prefix:
        batch, device = len(tasks), self.camera_embedding.device
        ids = self.words(tasks).to(device)
        parts = [self.word_embedding(ids) + self.word_position[: ids.shape[1]]]
        masks = [ids > 0]
        for i, name in enumerate(self.cameras):
            parts.append(self.stem(images[name]) + self.camera_embedding[i])
            masks.append(torch.ones(batch, parts[-1].shape[1], dtype=torch.bool, device=device))
        x, mask = torch.cat(parts, 1), torch.cat(masks, 1)
        keys, values = [], []
        for block in self.blocks:
            x, k, v = block(x, mask)
            keys.append(k)
            values.append(v)
        weight = mask[..., None].to(x.dtype)
        summary = (self.norm(x) * weight).sum(1) / weight.sum(1)
        return Prefix(keys, values, mask, summary)
