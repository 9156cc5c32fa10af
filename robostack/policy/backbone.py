"""Vision-language backbones: images and an instruction become per-layer keys and values.

`Prefix` is the seam. Whatever yields one (the small transformer below, or a pretrained model in
`pretrained.py`) can carry the action expert, which asks a backbone only for its shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.vision import ImageStem, WordHasher


@dataclass(frozen=True)
class Prefix:
    """What the action expert attends to, computed once per observation."""

    keys: list[Tensor]  # one a layer, f[B, kv heads, P, head dim]
    values: list[Tensor]  # likewise
    mask: Tensor | None  # bool[B, P], False at padding; None where no sample is padded
    end: Tensor  # i64[B], position of the first token behind each sample's own

    def repeat(self, times: int) -> Prefix:
        """Each observation `times` times in a row: several samples for one encoding."""
        if times == 1:
            return self

        def each(x: Tensor) -> Tensor:
            return x.repeat_interleave(times, dim=0)

        return Prefix(
            [each(k) for k in self.keys],
            [each(v) for v in self.values],
            None if self.mask is None else each(self.mask),
            each(self.end),
        )

    def detach(self) -> Prefix:
        """The same numbers, through which no gradient reaches the backbone."""
        return Prefix(
            [k.detach() for k in self.keys],
            [v.detach() for v in self.values],
            self.mask,
            self.end,
        )


class Backbone(Protocol):
    """What a vision-language model must offer to carry the expert. It is an nn.Module."""

    layers: int
    kv_heads: int
    head_dim: int
    width: int

    def __call__(self, images: dict[str, Tensor], tasks: list[str]) -> Prefix:
        """images {camera: uint8[B, H, W, 3]} and B instructions."""

    def extend(self, prefix: Prefix, embeddings: Tensor) -> Tensor:
        """Run tokens behind a prefix, each seeing it and those before: f[B, N, width] to likewise,
        the last layer's normalised output. This is how the backbone learns action tokens."""

    def gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass from now on instead of keeping them."""


def causal_mask(prefix: Prefix, tokens: int) -> Tensor:
    """bool[B, 1, tokens, P + tokens]: a token sees its prefix, itself and those before."""
    batch, seen = len(prefix.end), prefix.keys[0].shape[2]
    own = torch.ones(tokens, tokens, dtype=torch.bool, device=prefix.end.device).tril()
    if prefix.mask is None:
        past = own.new_ones(batch, 1, seen)
    else:
        past = prefix.mask[:, None]
    past = past.expand(batch, tokens, seen)
    return torch.cat([past, own.expand(batch, tokens, tokens)], dim=2)[:, None]


@dataclass(frozen=True)
class SmallConfig:
    """Size of the backbone that is trained from scratch."""

    width: int = 128
    layers: int = 3
    heads: int = 4
    points: int = 32  # heat maps a picture whose mean places are tokens, too; 0: patches alone


class PrefixBlock(nn.Module):
    """A pre-norm transformer layer whose keys and values can be had without the rest of it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values f32[B, heads, N, head dim] of the tokens x f32[B, N, width]."""
        k, v = self.key_value(self.norm1(x)).chunk(2, dim=-1)
        return self._heads(k), self._heads(v)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens after attending to `keys` and feeding forward."""
        q = self._heads(self.query(self.norm1(x)))
        attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class SmallBackbone(nn.Module):
    """A vision-language transformer small enough to train from scratch on a CPU."""

    def __init__(self, cameras: list[str], config: SmallConfig):
        super().__init__()
        width, heads = config.width, config.heads
        if min(width, heads, config.layers) < 1 or width % heads or width % 8 or config.points < 0:
            raise ValueError(
                f"small: expected a width that is a multiple of 8 and of heads, sizes of 1 or more "
                f"and points of 0 or more, got width={width}, heads={heads}, "
                f"layers={config.layers}, points={config.points}"
            )
        self.layers, self.width = config.layers, width
        self.kv_heads, self.head_dim = heads, width // heads
        self.cameras = list(cameras)
        self.words = WordHasher()
        self.stem = ImageStem(width, config.points)
        self.camera_embedding = nn.Parameter(0.02 * torch.randn(len(cameras), width))
        self.word_embedding = nn.Embedding(self.words.size, width)
        self.word_position = nn.Parameter(0.02 * torch.randn(self.words.length, width))
        self.blocks = nn.ModuleList(PrefixBlock(width, heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: dict[str, Tensor], tasks: list[str]) -> Prefix:
        ids = self.words(tasks)
        padded = bool((ids == 0).any())
        ids = ids.to(self.camera_embedding.device)
        words = self.word_embedding(ids)
        parts = [words + self.word_position[: ids.shape[1]]]
        words = words * (ids > 0)[..., None]
        for i, name in enumerate(self.cameras):
            parts.append(self.stem(images[name], words) + self.camera_embedding[i])
        x = torch.cat(parts, 1)
        mask = None
        if padded:
            mask = F.pad(ids > 0, (0, x.shape[1] - ids.shape[1]), value=True)
        attention = None if mask is None else mask[:, None, None]
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            k, v = block.keys(x)
            keys.append(k)
            values.append(v)
            if i < self.layers - 1:  # nobody asks for what the last layer would make of the prefix
                x = block(x, k, v, attention)
        end = torch.full((len(tasks),), x.shape[1], device=x.device)
        return Prefix(keys, values, mask, end)

    def extend(self, prefix: Prefix, embeddings: Tensor) -> Tensor:
        x, mask = embeddings, causal_mask(prefix, embeddings.shape[1])
        for block, keys, values in zip(self.blocks, prefix.keys, prefix.values, strict=True):
            k, v = block.keys(x)
            x = block(x, torch.cat([keys, k], 2), torch.cat([values, v], 2), mask)
        return self.norm(x)

    def gradient_checkpointing(self) -> None:
        raise ValueError(
            "checkpointing: the small backbone has no use for it; it is for pretrained ones"
        )
