"""What vision-language models differ in: how pictures and words become their inputs.

Each family turns pictures into the model's own pixel inputs, all cameras in one vision call, and
an instruction into token ids with room for every picture. A model of another kind needs one more
class here, see docs/backbones.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def fit_square(images: Tensor, side: int) -> Tensor:
    """uint8[B, H, W, 3] -> f32[B, 3, side, side] in [0, 1]: scaled to fit, padded with black.

    The one place where policies with a pretrained backbone resize, so that training, simulation and
    robot cannot differ in it. A picture that is of this size already is left alone.
    """
    x = images.permute(0, 3, 1, 2).float() / 255
    height, width = x.shape[2:]
    if (height, width) == (side, side):
        return x
    scale = side / max(height, width)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    x = F.interpolate(x, inner, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (side - inner[0]) // 2, (side - inner[1]) // 2
    return F.pad(x, (left, side - inner[1] - left, top, side - inner[0] - top))


class Family:
    """A kind of vision-language model.

    `config` is the model's own configuration, `side` the edge of the square pictures [px],
    `preprocessing` what preprocessor_config.json says.
    """

    mean = std = (0.5, 0.5, 0.5)
    lora = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def __init__(self, config: Any, side: int, preprocessing: dict[str, Any]):
        self.config, self.side = config, side
        self.mean = tuple(preprocessing.get("image_mean") or self.mean)
        self.std = tuple(preprocessing.get("image_std") or self.std)
        self.image_tokens = self.count()

    def count(self) -> int:
        """Tokens a picture. Raises ValueError for a size that the model cannot take."""
        raise NotImplementedError

    def pixels(self, images: Tensor) -> dict[str, Tensor]:
        """f32[B, C, 3, side, side] in [0, 1], C cameras -> arguments of the model."""
        raise NotImplementedError

    def text(self, image: str, cameras: int, task: str, bos: str) -> str:
        """The whole input in words; `image` is the model's image token."""
        raise NotImplementedError

    def positions(self, model: Any, ids: Tensor, mask: Tensor, cameras: int) -> Tensor:
        """Position ids [B, P], or [3, B, P] where pictures have positions in three dimensions."""
        return torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)

    def extras(self, ids: Tensor) -> dict[str, Tensor]:
        """Further arguments of the model that depend on the token ids alone."""
        return {}

    def normalize(self, images: Tensor) -> Tensor:
        shape = (1, 1, 3, 1, 1)
        mean, std = images.new_tensor(self.mean), images.new_tensor(self.std)
        return (images - mean.reshape(shape)) / std.reshape(shape)

    def _require_patches(self, multiple: int) -> None:
        if self.side % multiple:
            raise ValueError(
                f"pretrained.image_size={self.side}: expected a multiple of {multiple} for "
                f"{self.config.model_type}"
            )


class PaliGemma(Family):
    """SigLIP pictures, then Gemma; everything in the prefix sees everything (2407.07726)."""

    def count(self) -> int:
        vision = self.config.vision_config
        if self.side != vision.image_size:
            raise ValueError(
                f"pretrained.image_size={self.side}: this model's pictures have "
                f"{vision.image_size} pixels"
            )
        return (vision.image_size // vision.patch_size) ** 2

    def pixels(self, images: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": self.normalize(images).flatten(0, 1)}

    def text(self, image: str, cameras: int, task: str, bos: str) -> str:
        return f"{image * self.image_tokens * cameras}{bos}{task}\n"

    def positions(self, model: Any, ids: Tensor, mask: Tensor, cameras: int) -> Tensor:
        return super().positions(model, ids, mask, cameras) + 1  # the model counts from one

    def extras(self, ids: Tensor) -> dict[str, Tensor]:
        return {"token_type_ids": torch.zeros_like(ids)}


class SmolVLM(Family):
    """SmolVLM2 and Idefics3: SigLIP pictures, pixels shuffled together, then Llama (2504.05299).

    A picture is one tile, as in SmolVLA (2506.01844).
    """

    def count(self) -> int:
        vision = self.config.vision_config
        self._require_patches(vision.patch_size * self.config.scale_factor)
        return (self.side // vision.patch_size // self.config.scale_factor) ** 2

    def pixels(self, images: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": self.normalize(images).contiguous()}

    def text(self, image: str, cameras: int, task: str, bos: str) -> str:
        fake = "<fake_token_around_image>"
        tile = f"{fake}<global-img>{image * self.image_tokens}{fake}"
        return f"{bos}User:{tile * cameras}{task}<end_of_utterance>\nAssistant:"


class QwenVL(Family):
    """Qwen2.5-VL (2502.13923) and Qwen3-VL: pictures as merged patches with positions in time,
    height and width."""

    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)

    def count(self) -> int:
        vision = self.config.vision_config
        self._require_patches(vision.patch_size * vision.spatial_merge_size)
        return (self.side // vision.patch_size // vision.spatial_merge_size) ** 2

    def pixels(self, images: Tensor) -> dict[str, Tensor]:
        """Patches in the order in which 2 x 2 of them are merged; a still picture fills all the
        frames that a patch spans."""
        vision = self.config.vision_config
        patch, merge, frames = vision.patch_size, vision.spatial_merge_size, 2
        frames = getattr(vision, "temporal_patch_size", frames)
        x = self.normalize(images).flatten(0, 1)
        grid = self.side // patch
        blocks = grid // merge
        x = x.reshape(-1, 3, blocks, merge, patch, blocks, merge, patch)
        x = x.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
        x = x.expand(*x.shape[:6], frames, patch, patch)
        return {
            "pixel_values": x.reshape(-1, 3 * frames * patch * patch),
            "image_grid_thw": self._grid(len(images) * images.shape[1]).to(images.device),
        }

    def _grid(self, count: int) -> Tensor:
        side = self.side // self.config.vision_config.patch_size
        return torch.tensor([[1, side, side]] * count)

    def text(self, image: str, cameras: int, task: str, bos: str) -> str:
        tile = f"<|vision_start|>{image * self.image_tokens}<|vision_end|>"
        return f"<|im_start|>user\n{tile * cameras}{task}<|im_end|>\n<|im_start|>assistant\n"

    def positions(self, model: Any, ids: Tensor, mask: Tensor, cameras: int) -> Tensor:
        kinds = self.extras(ids)["mm_token_type_ids"]
        grid = self._grid(len(ids) * cameras)
        return model.get_rope_index(ids, kinds, image_grid_thw=grid, attention_mask=mask)[0]

    def extras(self, ids: Tensor) -> dict[str, Tensor]:
        return {"mm_token_type_ids": (ids == self.config.image_token_id).int()}


class Qwen3VL(QwenVL):
    mean = std = (0.5, 0.5, 0.5)


FAMILIES: dict[str, type[Family]] = {  # model_type of config.json -> its family
    "paligemma": PaliGemma,
    "smolvlm": SmolVLM,
    "idefics3": SmolVLM,
    "qwen2_5_vl": QwenVL,
    "qwen2_vl": QwenVL,
    "qwen3_vl": Qwen3VL,
}


def read_preprocessing(name: str, revision: str | None) -> dict[str, Any]:
    """preprocessor_config.json of a model in a folder or on the hub; {} where there is none."""
    from transformers.utils import cached_file

    file = cached_file(
        name,
        "preprocessor_config.json",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
    )
    return json.loads(Path(file).read_text()) if file else {}
