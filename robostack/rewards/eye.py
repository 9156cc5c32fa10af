"""The eyes of the learned rewards: what is kept of a picture, and the vector made of it.

`look` is done once for every frame of the training data and is never trained: a smaller picture,
or the features of a frozen vision model. `forward` is trained, and may depend on the instruction:
which of two objects matters cannot be told from the picture alone.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.augment import AugmentConfig, colour, shift, warp
from robostack.rewards.saved import RewardError
from robostack.vision import WordHasher, shrink

FAMILIES = ("vjepa2", "dinov2", "dinov2_with_registers", "dinov3_vit")  # transformers' model types
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which all of them use
GRID = 2  # a frozen model's patches are averaged over GRID x GRID fields
AT_ONCE = 32  # frames in one pass of a frozen model


@dataclass(frozen=True)
class EyeConfig:
    """Which encoder looks at the frames."""

    kind: Literal["small", "pretrained"] = "small"  # our own from scratch, or a frozen one
    source: str = ""  # of a pretrained one: a local folder, or a name on the Hugging Face hub
    side: int = 48  # [px] of the small one's pictures
    width: int = 96  # of the vector
    augment: AugmentConfig = AugmentConfig(shift=2, crop=0.9, brightness=0.3, contrast=0.3)

    def __post_init__(self) -> None:
        if (self.kind == "pretrained") != bool(self.source):
            raise ValueError(
                f"eye: kind={self.kind} with source={self.source!r}; expected a source for "
                "kind=pretrained and none for kind=small"
            )
        if self.side < 16 or self.side % 8 or self.width < 8:
            raise ValueError(
                f"eye: expected a side that is a multiple of 8 from 16 on and a width of 8 or "
                f"more, got {self.side} and {self.width}"
            )


class Instruction(nn.Module):
    """f32[B, width] of B instructions: the mean over words and runs of three words, so that
    "the red cube on the green cube" is not "the green cube on the red cube"."""

    def __init__(self, width: int, buckets: int = 2048):
        super().__init__()
        self.words = WordHasher(buckets, 40)
        self.table = nn.EmbeddingBag(buckets, width, mode="mean", padding_idx=0)

    def forward(self, tasks: list[str]) -> Tensor:
        ids = self.words([_with_runs(task) for task in tasks])
        return self.table(ids.to(self.table.weight.device))


def _with_runs(task: str) -> str:
    words = re.findall(r"\w+", task.lower())
    return " ".join([*words, *map("_".join, zip(words, words[1:], words[2:]))])


class SmallEye(nn.Module):
    """A few convolutions over shrunk frames, all cameras as channels, modulated by the
    instruction (FiLM, arXiv 1709.07871)."""

    def __init__(self, config: EyeConfig, cameras: int, state_dim: int):
        super().__init__()
        self.config = config
        self.first = nn.Sequential(
            nn.Conv2d(3 * cameras, 32, 5, stride=2, padding=2),
            nn.GroupNorm(8, 32),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
        )
        self.film = nn.Linear(config.width, 2 * 64)
        self.second = nn.Sequential(
            nn.GELU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.GELU(),
            nn.Flatten(),
        )
        self.head = _head(64 * (config.side // 8) ** 2 + state_dim, config.width)

    def look(self, images: dict[str, np.ndarray]) -> np.ndarray:
        """{camera: u8[M, H, W, 3]} -> u8[M, 3 * cameras, side, side]."""
        return shrink(images, self.config.side)

    def augment(self, seen: Tensor, random: np.random.Generator) -> Tensor:
        """The same scene as worse cameras would show it; each camera of each row on its own."""
        rows, channels, height, width = seen.shape
        image = seen.reshape(-1, 3, height, width).permute(0, 2, 3, 1)
        config = self.config.augment
        if config.shift:
            image = shift(image, config.shift, random)
        if config.crop < 1 or config.rotate:
            image = warp(image, config.crop, config.rotate, random)
        if config.brightness or config.contrast or config.saturation:
            image = colour(image, config, random)
        return image.permute(0, 3, 1, 2).reshape(rows, channels, height, width)

    def forward(self, seen: Tensor, state: Tensor, asked: Tensor | None = None) -> Tensor:
        """u8[M, C, side, side], normalised f32[M, S], embedded instructions f32[M, width] ->
        f32[M, width]."""
        x = self.first(seen.float() / 127.5 - 1)
        if asked is not None:
            scale, offset = self.film(asked)[..., None, None].chunk(2, dim=1)
            x = x * (1 + scale) + offset
        return self.head(torch.cat([self.second(x), state], dim=1))


class Frozen(list):
    """A model that is never trained; all copies of its owner share it."""

    def __deepcopy__(self, memo: dict) -> Frozen:
        return self


class PretrainedEye(nn.Module):
    """A frozen V-JEPA 2, DINOv2 or DINOv3, its patches averaged over a coarse grid, and a trained
    head. V-JEPA 2 is shown each frame twice, as its action-conditioned version does
    (arXiv 2506.09985). The frozen weights are no part of the reward that is saved; a digest is."""

    def __init__(self, config: EyeConfig, cameras: int, state_dim: int):
        super().__init__()
        self.config = config
        self._frozen = Frozen([_pretrained(config.source)])  # no submodule, not saved
        hidden = self._frozen[0].config.hidden_size
        fields = cameras * GRID * GRID * hidden
        self.norm = nn.LayerNorm(hidden)
        self.film = nn.Linear(config.width, 2 * hidden)
        self.head = _head(fields + state_dim, config.width)

    @torch.no_grad()
    def look(self, images: dict[str, np.ndarray]) -> np.ndarray:
        """{camera: u8[M, H, W, 3]} -> f16[M, cameras * GRID**2, hidden]."""
        views = [self._features(images[name]) for name in sorted(images)]
        return np.concatenate(views, axis=1)

    def _features(self, frames: np.ndarray) -> np.ndarray:
        model, out = self._frozen[0].to(self.norm.weight.device), []
        side = getattr(model.config, "crop_size", None) or model.config.image_size
        for first in range(0, len(frames), AT_ONCE):
            x = torch.from_numpy(frames[first : first + AT_ONCE]).to(self.norm.weight.device)
            x = x.permute(0, 3, 1, 2).float() / 255
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
            x = (x - x.new_tensor(MEAN)[:, None, None]) / x.new_tensor(STD)[:, None, None]
            out.append(_fields(_tokens(model, x), side // model.config.patch_size))
        return torch.cat(out).half().cpu().numpy()

    def augment(self, seen: Tensor, random: np.random.Generator) -> Tensor:
        return seen  # features cannot be shifted; these models are trained to bear it

    def forward(self, seen: Tensor, state: Tensor, asked: Tensor | None = None) -> Tensor:
        x = self.norm(seen.float())
        if asked is not None:
            scale, offset = self.film(asked)[:, None].chunk(2, dim=-1)
            x = x * (1 + scale) + offset
        return self.head(torch.cat([x.flatten(1), state], dim=1))

    def digest(self) -> str:
        """Of the frozen weights: a reward may not be put on top of others than it was trained
        with."""
        digest = hashlib.sha256()
        for name, value in sorted(self._frozen[0].state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def make_eye(config: EyeConfig, cameras: int, state_dim: int) -> SmallEye | PretrainedEye:
    return (SmallEye if config.kind == "small" else PretrainedEye)(config, cameras, state_dim)


def _head(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, 2 * width),
        nn.LayerNorm(2 * width),
        nn.GELU(),
        nn.Linear(2 * width, width),
    )


def _pretrained(source: str) -> nn.Module:
    from transformers import AutoConfig, AutoModel

    if not Path(source).exists() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise RewardError(
            f"eye.source={source}: no such folder, and no name on the hub (owner/name)"
        )
    try:
        kind = AutoConfig.from_pretrained(source).model_type
        if kind not in FAMILIES:
            raise RewardError(
                f"eye.source={source} is a {kind}; expected one of {', '.join(FAMILIES)}"
            )
        model = AutoModel.from_pretrained(source, torch_dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError) as error:  # no such folder, no such name, no network
        first = str(error).strip().split("\n")[0]
        raise RewardError(f"eye.source={source} cannot be loaded: {first}") from None
    return model.eval().requires_grad_(False)


def _tokens(model: nn.Module, x: Tensor) -> Tensor:
    """f32[M, P', hidden], special tokens in front."""
    if model.config.model_type == "vjepa2":
        twice = x[:, None].expand(-1, model.config.tubelet_size, -1, -1, -1)
        return model(pixel_values_videos=twice, skip_predictor=True).last_hidden_state
    return model(pixel_values=x).last_hidden_state


def _fields(tokens: Tensor, edge: int) -> Tensor:
    """Patches, which come last, averaged over fields: f32[M, GRID**2, hidden]."""
    patches = tokens[:, -edge * edge :].transpose(1, 2).unflatten(2, (edge, edge))
    return F.adaptive_avg_pool2d(patches, GRID).flatten(2).transpose(1, 2)
