"""The configs named after papers have the papers' sizes. Counted on the meta device: no weights."""

from pathlib import Path

import pytest
import torch
import transformers
from fakes import SPEC

from robostack.config import read
from robostack.learn.bc import BCConfig
from robostack.policy.expert import ActionExpert
from robostack.policy.vla import parameter_count

CONFIGS = Path(__file__).parents[2] / "configs"
PALIGEMMA = transformers.PaliGemmaConfig(
    vision_config=dict(
        model_type="siglip_vision_model",
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        patch_size=14,
        image_size=224,
        vision_use_head=False,
        projection_dim=2048,
    ),
    text_config=dict(
        model_type="gemma",
        hidden_size=2048,
        intermediate_size=16384,
        num_hidden_layers=18,
        num_attention_heads=8,
        num_key_value_heads=1,
        head_dim=256,
        vocab_size=257216,
    ),
    projection_dim=2048,
)
QWEN = transformers.Qwen2_5_VLConfig(
    text_config=dict(
        hidden_size=2048,
        intermediate_size=11008,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=2,
        vocab_size=151936,
    ),
    vision_config=dict(
        depth=32,
        hidden_size=1280,
        intermediate_size=3420,
        num_heads=16,
        patch_size=14,
        out_hidden_size=2048,
        window_size=112,
        fullatt_block_indexes=[7, 15, 23, 31],
    ),
)


def sizes(name, backbone):
    """Parameters of backbone and expert, in millions."""
    config = read(BCConfig, CONFIGS / f"{name}.yaml").policy
    text = backbone.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(backbone)
        expert = ActionExpert(
            config.expert,
            SPEC.state_dim,
            SPEC.action_dim,
            config.horizon,
            text.num_hidden_layers,
            text.num_key_value_heads,
            head,
        )
    return parameter_count(model) / 1e6, parameter_count(expert) / 1e6


def test_pi0_is_paligemma_and_an_expert_of_300_million_together_3_3_billion():
    """2410.24164, appendix B: 300 M for the expert, 3.3 B in all (PaliGemma's 3 B are 2.92)."""
    backbone, expert = sizes("pi0", PALIGEMMA)
    assert backbone == pytest.approx(2923, rel=0.005)
    assert expert == pytest.approx(311, rel=0.02)  # gemma_300m of the released code has 311 M
    assert backbone + expert == pytest.approx(3300, rel=0.03)


def test_nora_is_qwen_and_an_expert_of_its_published_widths():
    """2511.14659: width 768, 6 heads of 128, 36 layers, feed-forward 2048. These give 227 M, as
    others have counted; the paper's own figure of 0.4 B does not follow from its widths."""
    backbone, expert = sizes("nora-1.5", QWEN)
    assert backbone == pytest.approx(3755, rel=0.005)
    assert expert == pytest.approx(227, rel=0.02)
