"""Vision-language models of the real classes, small and random, in folders like the hub's."""

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

TEXT = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
)
SIGLIP = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
IMAGE = {  # family -> its image token
    "paligemma": "<image>",
    "smolvlm": "<image>",
    "idefics3": "<image>",
    "qwen2_5_vl": "<|image_pad|>",
    "qwen3_vl": "<|image_pad|>",
}
SIDE = 64
WORDS = ["lift", "the", "red", "cube", "stack", "on", "green", "\n", "User:", "\nAssistant:"]
WORDS += ["user", "assistant"]


def tokenizer(family: str) -> transformers.PreTrainedTokenizerFast:
    """Knows the words of the tests and the family's special tokens."""
    special = [
        "<pad>",
        "<bos>",
        "<unk>",
        IMAGE[family],
        "<fake_token_around_image>",
        "<global-img>",
    ]
    special += ["<end_of_utterance>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>"]
    special += ["<|im_end|>", "<|video_pad|>"]
    vocabulary = {word: i for i, word in enumerate([*special, *dict.fromkeys(WORDS)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<bos>", unk_token="<unk>"
    )
    fast.add_special_tokens({"additional_special_tokens": special[3:]})
    return fast


def config(family: str, tokens, text=None, vision=None, scale_factor: int = 2):
    """Of the smallest model of a family, or of one with other sizes."""
    ids = {"image_token_id": tokens.convert_tokens_to_ids(IMAGE[family])}
    text = {**TEXT, "vocab_size": len(tokens), **(text or {})}
    siglip = {**SIGLIP, "image_size": SIDE, "patch_size": 16, **(vision or {})}
    if family == "paligemma":
        siglip |= {"model_type": "siglip_vision_model", "vision_use_head": False}
        width = text["hidden_size"]
        return transformers.PaliGemmaConfig(
            text_config={"head_dim": 8, **text, "model_type": "gemma"},
            vision_config=siglip | {"projection_dim": width},
            projection_dim=width,
            **ids,
        )
    if family in ("smolvlm", "idefics3"):
        kind = transformers.SmolVLMConfig if family == "smolvlm" else transformers.Idefics3Config
        return kind(
            text_config={**text, "model_type": "llama", "pad_token_id": 0},
            vision_config=siglip,
            scale_factor=scale_factor,
            **ids,
        )
    return _qwen(family, ids, tokens, text)


def _qwen(family: str, ids: dict, tokens, text: dict):
    for kind in ("video_token", "vision_start_token", "vision_end_token"):
        name = {"video_token": "<|video_pad|>"}.get(kind, f"<|{kind.removesuffix('_token')}|>")
        ids[f"{kind}_id"] = tokens.convert_tokens_to_ids(name)
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    vision = dict(depth=2, hidden_size=32, intermediate_size=32, num_heads=2, patch_size=16)
    vision["out_hidden_size"] = text["hidden_size"]
    if family == "qwen2_5_vl":
        vision |= dict(window_size=64, fullatt_block_indexes=[1], tokens_per_second=2)
        return transformers.Qwen2_5_VLConfig(
            text_config=text | {"rope_parameters": rope}, vision_config=vision, **ids
        )
    vision |= dict(num_position_embeddings=16, deepstack_visual_indexes=[0])
    text |= {"head_dim": 8, "rope_parameters": rope | {"mrope_interleaved": True}}
    return transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **ids)


def save(family: str, folder: Path, seed: int = 0, **sizes) -> Path:
    """A model with its tokenizer, as `from_pretrained` reads it."""
    tokens = tokenizer(family)
    torch.manual_seed(seed)
    model = transformers.AutoModel.from_config(config(family, tokens, **sizes))
    if not sizes:
        with torch.no_grad():  # a fresh model's small weights would hide what a mistake changes
            for parameter in model.parameters():
                parameter.mul_(1.5).add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder
