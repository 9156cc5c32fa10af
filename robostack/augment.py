"""Image augmentation for policies: what may change in a picture without changing what to do."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robostack.data.chunks import Batch

GREY = (0.299, 0.587, 0.114)  # luma of red, green and blue (ITU-R BT.601)


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths; each sample and each camera is changed on its own."""

    shift: int = 2  # moved by up to so much in x and y [px]
    crop: float = 1.0  # at least this share of each edge is kept, then scaled up again
    rotate: float = 0.0  # turned by up to so much [degrees]
    brightness: float = 0.0  # scaled by 1 +- this
    contrast: float = 0.0  # distance from the mean grey scaled by 1 +- this
    saturation: float = 0.0  # distance from each pixel's grey scaled by 1 +- this

    def __post_init__(self) -> None:
        if not isinstance(self.shift, int) or self.shift < 0:
            raise ValueError(f"augment.shift: expected whole pixels, 0 or more, got {self.shift}")
        if not 0 < self.crop <= 1 or not 0 <= self.rotate <= 180:
            raise ValueError(
                f"augment: expected crop above 0 up to 1 and rotate from 0 to 180, got {self.crop} "
                f"and {self.rotate}"
            )
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name}: expected 0 to 1, got {getattr(self, name)}")


def augment(batch: Batch, config: AugmentConfig, random: np.random.Generator) -> Batch:
    """The batch with other pictures; states and actions stay. Draws come from `random` alone."""
    images = {}
    for name, image in batch.images.items():
        if config.shift:
            image = shift(image, config.shift, random)
        if config.crop < 1 or config.rotate:
            image = warp(image, config.crop, config.rotate, random)
        if config.brightness or config.contrast or config.saturation:
            image = colour(image, config, random)
        images[name] = image
    return dataclasses.replace(batch, images=images)


def shift(image: Tensor, pixels: int, random: np.random.Generator) -> Tensor:
    """Move each picture by up to `pixels`, repeating the border (DrQ, arXiv 2004.13649)."""
    count, height, width, _ = image.shape
    dy, dx = torch.from_numpy(random.integers(-pixels, pixels + 1, (2, count, 1)))
    y = (torch.arange(height) + dy).clamp(0, height - 1).to(image.device)
    x = (torch.arange(width) + dx).clamp(0, width - 1).to(image.device)
    rows = torch.arange(count, device=image.device)[:, None, None]
    return image[rows, y[:, :, None], x[:, None, :]]


def warp(image: Tensor, crop: float, degrees: float, random: np.random.Generator) -> Tensor:
    """Cut out a part of at least `crop` of each edge, turned, scaled to the whole: one warp."""
    count, height, width, _ = image.shape
    share = random.uniform(crop, 1, count)
    middle = random.uniform(-1, 1, (2, count)) * (1 - share)
    angle = np.radians(random.uniform(-degrees, degrees, count))
    cos, sin = share * np.cos(angle), share * np.sin(angle)
    ratio = height / width  # grids run from -1 to 1 along both edges, whatever their lengths
    rows = [cos, -sin * ratio, middle[0], sin / ratio, cos, middle[1]]
    matrix = torch.from_numpy(np.stack(rows, 1).reshape(count, 2, 3)).float()
    grid = F.affine_grid(matrix, [count, 3, height, width], align_corners=False)
    x = image.permute(0, 3, 1, 2).float()
    x = F.grid_sample(
        x, grid.to(image.device), "bilinear", padding_mode="border", align_corners=False
    )
    return x.round().to(torch.uint8).permute(0, 2, 3, 1)


def colour(image: Tensor, config: AugmentConfig, random: np.random.Generator) -> Tensor:
    """Brightness, then contrast, then saturation."""
    x = image.float()
    grey = x.new_tensor(GREY)

    def factors(strength: float) -> Tensor:
        drawn = 1 + random.uniform(-strength, strength, len(image))
        return torch.from_numpy(drawn).float().to(x.device).reshape(-1, 1, 1, 1)

    x = x * factors(config.brightness)
    mean = (x * grey).sum(-1, keepdim=True).mean((1, 2), keepdim=True)
    x = mean + (x - mean) * factors(config.contrast)
    own = (x * grey).sum(-1, keepdim=True)
    x = own + (x - own) * factors(config.saturation)
    return x.round().clamp(0, 255).to(torch.uint8)
