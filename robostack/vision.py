"""Small networks that turn pixels and words into vectors, for policies and rewards alike."""

from __future__ import annotations

import zlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WordHasher:
    """Words to token ids without a vocabulary file: a stable hash into `size` buckets; 0 pads."""

    def __init__(self, size: int = 512, length: int = 12):
        self.size, self.length = size, length

    def __call__(self, tasks: list[str]) -> Tensor:
        """i64[B, W], padded to the longest of these instructions, at most `length` words."""
        rows = []
        for task in tasks:
            words = task.lower().split()[: self.length]
            rows.append([1 + zlib.crc32(word.encode()) % (self.size - 1) for word in words])
        longest = max(1, *map(len, rows)) if rows else 1
        return torch.tensor([ids + [0] * (longest - len(ids)) for ids in rows])


def grid_position(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """2-D sine-cosine position code f32[height * width, dim]; any image size, nothing to learn."""
    quarter = dim // 4
    frequency = 1.0 / 100 ** (torch.arange(quarter, device=device) / quarter)
    y, x = torch.meshgrid(
        torch.linspace(0, 8, height, device=device),
        torch.linspace(0, 8, width, device=device),
        indexing="ij",
    )
    angles = [axis.reshape(-1, 1) * frequency for axis in (y, x)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)


class ImageStem(nn.Module):
    """uint8 images to tokens through four strided convolutions: one token a patch of 16 px and,
    with `points`, some that say where things are and where what is asked for is (see `Places`)."""

    def __init__(self, width: int, points: int = 0):
        super().__init__()
        channels = [3, 32, 64, 96, width]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(zip(channels, channels[1:])):
            size = 5 if i == 0 else 3
            layers += [
                nn.Conv2d(before, after, size, stride=2, padding=size // 2),
                nn.GroupNorm(8, after),
                nn.GELU(),
            ]
        self.layers = nn.Sequential(*layers[:-1])
        self.places = Places(channels[2], points, width) if points else None

    def forward(self, images: Tensor, words: Tensor | None = None) -> Tensor:
        """uint8[B, H, W, 3] -> f32[B, H/16 * W/16, width], and `Places.tokens` more of places,
        for which it takes the instruction's words f32[B, W, width], 0 where there is none."""
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1  # the only place that swaps the layout
        x = x.contiguous(memory_format=torch.channels_last)
        fine = self.layers[:6](x)  # a quarter of the size
        coarse = self.layers[6:](fine)
        position = grid_position(coarse.shape[2], coarse.shape[3], coarse.shape[1], x.device)
        patches = coarse.flatten(2).transpose(1, 2) + position
        if self.places is None:
            return patches
        return torch.cat([patches, self.places(fine, words)], dim=1)


class Places(nn.Module):
    """Where things are in a picture, in tokens: the mean places of learned heat maps (spatial
    softmax, Finn et al., 1509.06113), which tell a place more finely than patches do.

    A quarter of the maps look for what is asked for: the words make their kernels (dynamic filters,
    1605.09673), each word its share, by how much a map heeds the place at which it stands.
    """

    tokens = 2
    features = 32

    def __init__(self, channels: int, points: int, width: int):
        super().__init__()
        self.asked = max(1, points // 4)
        self.seen = nn.Sequential(
            nn.Conv2d(channels, self.features, 3, padding=1),
            nn.GroupNorm(8, self.features),
            nn.GELU(),
        )
        # kernels have no bias, which a softmax would not feel
        kernels = torch.empty(points - self.asked, self.features).uniform_(-1, 1)
        self.kernels = nn.Parameter(kernels / self.features**0.5)
        self.by_word = nn.Linear(width, self.asked * self.features, bias=False)
        self.heed = nn.Parameter(torch.ones(WordHasher().length, self.asked, 1))
        self.read = nn.Linear(2 * points, self.tokens * width)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """x f32[B, C, H, W] and words f32[B, W, width] -> f32[B, tokens, width]."""
        seen = self.seen(x)
        asked = self.by_word(words).unflatten(2, (self.asked, self.features))
        asked = (asked * self.heed[: words.shape[1]]).sum(1)
        kernels = torch.cat([self.kernels.expand(len(x), -1, -1), asked], dim=1)
        maps = (kernels @ seen.flatten(2)).unflatten(2, seen.shape[2:])
        return self.read(places(maps)).unflatten(1, (self.tokens, -1))


def places(maps: Tensor) -> Tensor:
    """Mean places of `maps` f32[B, K, H, W] as logits: f32[B, 2 K], K rows, then K columns, each
    from -1 at the first to 1 at the last."""
    heat = maps.flatten(2).softmax(2).unflatten(2, maps.shape[2:])
    rows, columns = (torch.linspace(-1, 1, n, device=maps.device) for n in maps.shape[2:])
    return torch.cat([heat.sum(3) @ rows, heat.sum(2) @ columns], dim=1)


def shrink(images: dict[str, np.ndarray], side: int) -> np.ndarray:
    """All cameras as the channels of one small picture: {camera: uint8[M, H, W, 3]} ->
    uint8[M, 3 * cameras, side, side], averaged over areas, cameras in the order of their names.

    Rewards look at far more frames than policies; at a quarter of the size they cost a tenth.
    """
    small = []
    for name in sorted(images):
        frames = torch.from_numpy(images[name]).permute(0, 3, 1, 2).float()
        small.append(F.adaptive_avg_pool2d(frames, side).round().to(torch.uint8))
    return torch.cat(small, 1).numpy()
