"""Pretrained vision-language models as backbones, through transformers.

Any model whose decoder hands its keys and values to a cache can be one: a `Tap` in the cache's
place keeps them. Nothing is computed that nobody asks for: no layer's output behind the last keys,
no padding beyond the batch's longest instruction, no camera that the robot lacks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robostack.policy.backbone import Prefix, causal_mask
from robostack.policy.checkpoint import CheckpointError, explain
from robostack.policy.families import FAMILIES, fit_square, read_preprocessing

DESCRIPTION, BASE = "backbone", "base.json"


@dataclass(frozen=True)
class PretrainedConfig:
    """How a pretrained backbone is loaded and trained."""

    revision: str = ""  # of a model on the hub
    train: Literal["frozen", "lora", "full"] = "lora"
    rank: int = 16  # of the low-rank updates, train=lora (arXiv 2106.09685)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of its weights
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    layers: int = 0  # the decoder's first so many; 0: all
    image_size: int = 224  # pictures are fitted into a square of it [px]


class _Taken(Exception):
    """The last layer's keys are there: what the model would still compute, nobody asks for."""


def _tap(layers: int, stop: bool) -> Any:
    """A cache that keeps each layer's keys and values as they are, once, with their gradient.

    A layer that is run again for the backward pass finds its own keys and values, not twice as
    many. At the last layer it ends the forward pass if `stop`.
    """
    from transformers import DynamicCache

    class Tap(DynamicCache):
        def __init__(self) -> None:
            super().__init__()
            self.taken: dict[int, tuple[Tensor, Tensor]] = {}

        def update(self, key_states, value_states, layer_idx, *args, **kwargs):
            self.taken.setdefault(layer_idx, (key_states, value_states))
            if stop and layer_idx == layers - 1:
                raise _Taken
            return key_states, value_states

    return Tap()


def _behind(prefix: Prefix) -> Any:
    """A cache that answers with the prefix's keys and values before those that it is given."""
    from transformers import DynamicCache

    class Behind(DynamicCache):
        def update(self, key_states, value_states, layer_idx, *args, **kwargs):
            keys, values = prefix.keys[layer_idx], prefix.values[layer_idx]
            return torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)

    return Behind()


class PretrainedBackbone(nn.Module):
    """A vision-language model of transformers. Raises CheckpointError where it cannot be had, and
    ValueError for settings that do not fit it.

    `saved` is a policy folder with this backbone's description; where all of it was trained, its
    weights are there too and `name` is not asked.
    """

    def __init__(
        self,
        name: str,
        cameras: list[str],
        config: PretrainedConfig,
        saved: Path | None = None,
    ):
        super().__init__()
        self.name, self.cameras, self.settings = name, list(cameras), config
        described = None if saved is None else saved / DESCRIPTION
        self.model, self.tokenizer, preprocessing = _load(name, config, described)
        family = FAMILIES[self.model.config.model_type]
        self.family = family(self.model.config, config.image_size, preprocessing)
        self.decoder = [self.model.get_decoder()]  # in a list: it is registered already
        text = self.model.config.get_text_config()
        self.layers, self.width = _keep_layers(self.decoder[0], config.layers), text.hidden_size
        self.kv_heads = text.num_key_value_heads
        self.head_dim = getattr(text, "head_dim", None) or self.width // text.num_attention_heads
        self.image_token = _require_tokens(self.tokenizer, self.model.config, name)
        self._layouts: dict[tuple[str, ...], tuple] = {}
        self._checkpointing = False
        self.requires_grad_(config.train == "full")
        if config.train == "lora":
            _add_lora(self.decoder[0], config.rank, self.family.lora)
        self._freeze_unused()
        if described is not None and config.train != "full":
            self._require_base(described)

    def forward(self, images: dict[str, Tensor], tasks: list[str]) -> Prefix:
        side = self.settings.image_size
        pictures = torch.stack([fit_square(images[name], side) for name in self.cameras], 1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.settings.train != "frozen"):
            ids, mask, positions, end = self._layout(tasks, pictures.device)
            pixels = {
                name: x.to(self.model.dtype) if x.is_floating_point() else x
                for name, x in self.family.pixels(pictures).items()
            }
            recompute = self._checkpointing and torch.is_grad_enabled()
            tap = _tap(self.layers, stop=not recompute)  # a replayed layer must not stop
            with contextlib.suppress(_Taken):
                self.model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=tap,
                    use_cache=True,
                    **pixels,
                    **self.family.extras(ids),
                )
        keys, values = zip(*(tap.taken[i] for i in range(self.layers)))
        return Prefix(list(keys), list(values), None if mask is None else mask.bool(), end)

    def _layout(self, tasks: list[str], device: torch.device) -> tuple:
        """Token ids i64[B, P], mask (None where none is padded), positions and end: they depend on
        the instructions alone, and a robot has the same one for a long time."""
        key = (*tasks, str(device))
        if key not in self._layouts:
            bos = self.tokenizer.bos_token or ""
            rows = [self._ids(self.family.text(self.image_token, len(self.cameras), t, bos))
                    for t in tasks]  # fmt: skip
            longest = max(map(len, rows))
            mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])
            ids = torch.tensor([r + [0] * (longest - len(r)) for r in rows])
            positions = self.family.positions(self.model, ids, mask, len(self.cameras))
            furthest = positions.amax(0) if positions.ndim == 3 else positions
            end = (furthest * mask).amax(1) + 1
            if len(self._layouts) > 64:
                self._layouts.clear()
            ready = None if bool(mask.all()) else mask.to(device)
            self._layouts[key] = ids.to(device), ready, positions.to(device), end.to(device)
        return self._layouts[key]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def extend(self, prefix: Prefix, embeddings: Tensor) -> Tensor:
        """Raises ValueError with flash attention, which knows no mask of this shape."""
        if self.settings.attention == "flash_attention_2":
            raise ValueError("action tokens need pretrained.attention=sdpa or eager")
        tokens = embeddings.shape[1]
        allowed = causal_mask(prefix, tokens)
        mask = torch.zeros(allowed.shape, dtype=embeddings.dtype, device=embeddings.device)
        mask = mask.masked_fill(~allowed, torch.finfo(embeddings.dtype).min)
        positions = prefix.end[:, None] + torch.arange(tokens, device=embeddings.device)
        return self.decoder[0](
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=_behind(prefix),
            use_cache=True,
        ).last_hidden_state

    def gradient_checkpointing(self) -> None:
        if self.settings.train == "frozen":
            raise ValueError("checkpointing: a frozen backbone keeps no activations anyway")
        self._checkpointing = True
        self.model.activation_checkpointing_enable({"use_reentrant": False})
        for layer in self.decoder[0].layers:  # a Tap may be written twice, see there
            layer._can_checkpoint_with_cache = True

    def train(self, mode: bool = True) -> PretrainedBackbone:
        super().train(mode)
        if self.settings.train == "frozen":
            self.model.eval()
        return self

    def _freeze_unused(self) -> None:
        """What lies behind the last layer's keys is never asked for, so nothing would train it, and
        several processes would wait for its gradient."""
        used = ("input_layernorm", "k_proj", "v_proj", "k_norm")
        for name, parameter in self.decoder[0].layers[-1].named_parameters():
            if not any(part in name for part in used):
                parameter.requires_grad_(False)
        self.decoder[0].norm.requires_grad_(False)

    def train_all_layers(self) -> None:
        """From now on `extend` is used in training, so the last layer's output is, too."""
        for name, parameter in self.decoder[0].named_parameters():
            if self.settings.train == "full" or "lora_" in name:
                parameter.requires_grad_(True)

    def given(self) -> set[str]:
        """Names in the state dict that are the base model's own, as it was loaded."""
        if self.settings.train == "full":
            return set()
        return {name for name in self.state_dict() if "lora_" not in name}

    def save_description(self, folder: Path) -> None:
        """Configuration, tokenizer and a fingerprint of the weights that are not saved."""
        target = folder / DESCRIPTION
        self.model.config.save_pretrained(target)
        self.tokenizer.save_pretrained(target)
        means = {"image_mean": list(self.family.mean), "image_std": list(self.family.std)}
        (target / "preprocessor_config.json").write_text(json.dumps(means))
        about = {"name": self.name, "fingerprint": self.fingerprint()}
        (target / BASE).write_text(json.dumps(about))

    def fingerprint(self) -> str:
        """Of the base model's weights: a hash of a few numbers of each."""
        state, digest = self.state_dict(), hashlib.sha256()
        for name in sorted(self.given()):
            flat = state[name].flatten()
            few = flat[:: max(1, len(flat) // 8)][:9].double().cpu()
            digest.update(name.encode() + few.numpy().tobytes())
        return digest.hexdigest()[:16]

    def _require_base(self, described: Path) -> None:
        wanted = json.loads((described / BASE).read_text())["fingerprint"]
        if wanted != self.fingerprint():
            raise CheckpointError(
                f"{self.name} is not the model that this policy was trained on (its weights have "
                f"fingerprint {self.fingerprint()}, expected {wanted})"
            )


def _load(
    name: str, config: PretrainedConfig, described: Path | None
) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Model, tokenizer and preprocessing; never by executing what was downloaded."""
    try:
        import transformers
    except ImportError:
        raise CheckpointError(
            f"backbone={name} needs transformers: pip install -c constraints.txt 'robostack[vlm]'"
        ) from None
    whole = described is not None and config.train == "full"
    revision = config.revision or None
    source = str(described or name)
    try:
        settings = transformers.AutoConfig.from_pretrained(source, revision=revision)
    except Exception as error:
        raise CheckpointError(f"{source}: {explain(error)}") from None
    if settings.model_type not in FAMILIES:
        raise ValueError(
            f"backbone={name} is a {settings.model_type}; known families: "
            f"{', '.join(sorted(FAMILIES))} (docs/backbones.md tells how to add one)"
        )
    options = {"dtype": getattr(torch, config.dtype), "attn_implementation": config.attention}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, revision=revision)
        preprocessing = read_preprocessing(source, revision)
        if whole:
            return transformers.AutoModel.from_config(settings, **options), tokenizer, preprocessing
        model, report = transformers.AutoModel.from_pretrained(
            name, revision=revision, use_safetensors=True, output_loading_info=True, **options
        )
    except Exception as error:
        raise CheckpointError(f"{name}: {explain(error)}") from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(f"{name} lacks weights: {', '.join(missing[:5])}")
    return model, tokenizer, preprocessing


def _keep_layers(decoder: nn.Module, count: int) -> int:
    have = len(decoder.layers)
    if not 0 <= count <= have:
        raise ValueError(f"pretrained.layers={count}: expected 0 (all) to {have}")
    decoder.layers = decoder.layers[: count or have]
    decoder.config.num_hidden_layers = len(decoder.layers)
    return len(decoder.layers)


def _require_tokens(tokenizer: Any, config: Any, name: str) -> str:
    """The image token, which tokenizer and model must agree on."""
    number = config.image_token_id
    token = tokenizer.convert_ids_to_tokens(number) if number < len(tokenizer) else None
    if token is None or tokenizer(token, add_special_tokens=False)["input_ids"] != [number]:
        raise CheckpointError(
            f"{name}: its tokenizer does not know the model's image token {number} (it has "
            f"{len(tokenizer)} tokens); the folder holds the tokenizer of another model"
        )
    return token


def _add_lora(decoder: nn.Module, rank: int, targets: tuple[str, ...]) -> None:
    """Low-rank updates beside the decoder's linear layers, in float32 whatever those are in."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise CheckpointError(
            "pretrained.train=lora needs peft: pip install -c constraints.txt 'robostack[vlm]'"
        ) from None
    settings = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets))
    inject_adapter_in_model(settings, decoder)
    for name, parameter in decoder.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        else:
            parameter.requires_grad_(False)
