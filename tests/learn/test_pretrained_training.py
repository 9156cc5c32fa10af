"""Pretrained backbones in training: frozen, by low-rank updates, in full, on action tokens."""

import json
from dataclasses import replace

import pytest
import torch
import vlms
from fakes import LIFT, SPEC, STACK, make_episode
from safetensors.torch import load_file

from robostack.augment import AugmentConfig
from robostack.learn import bc
from robostack.learn.spread import Compute
from robostack.policy.expert import ExpertConfig
from robostack.policy.pretrained import PretrainedConfig
from robostack.policy.vla import VLA, VLAConfig

EPISODES = [make_episode(seed, steps=8, task=(LIFT, STACK)[seed % 2]) for seed in range(3)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return vlms.save("qwen2_5_vl", tmp_path_factory.mktemp("vlm") / "qwen")


@pytest.fixture
def config(folder):
    def make(train, **changes):
        pretrained = PretrainedConfig(train=train, rank=4, image_size=vlms.SIDE)
        policy = VLAConfig(4, str(folder), pretrained=pretrained, expert=ExpertConfig(width=32))
        base = bc.BCConfig(policy, steps=4, batch=4, draws=2, warmup=1, lr=1e-3, save_every=2)
        return replace(base, **changes)

    return make


def train(config, run):
    return bc.train(config, SPEC, EPISODES, run)


@pytest.mark.parametrize("kind, tokens", [("frozen", 0.0), ("lora", 0.1), ("full", 0.1)])
def test_resumed_training_ends_at_the_very_weights_and_keeps_only_what_it_trains(
    kind, tokens, config, new_run, stop_before, weights
):
    chosen = config(kind, tokens=tokens)
    whole = train(chosen, new_run("whole"))
    go_on = stop_before(4)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, new_run("cut"))
    cut = new_run("cut").path
    kept = load_file(cut / "resume.2.safetensors")
    base = {k for k in kept if k.startswith("model.backbone.") and "lora_" not in k}
    assert bool(base) == (kind == "full")
    go_on()
    resumed = train(chosen, new_run("cut"))
    assert weights(resumed) == weights(whole)
    assert weights(VLA.load(cut / "policy")) == weights(whole)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_activations_computed_again_teach_the_same(kind, config, new_run):
    policies = [
        train(config(kind, compute=Compute(checkpointing=c)), new_run(f"{c}")) for c in (0, 1)
    ]
    a, b = (p.state_dict() for p in policies)
    assert all(torch.allclose(a[k], b[k], atol=1e-5) for k in a)


@pytest.mark.slow
def test_tokens_teach_the_backbone_what_the_flow_alone_does_not(config, new_run):
    """Their loss falls, and is told beside the flow's."""
    run = new_run("a")
    long = config(
        "lora", tokens=1.0, steps=40, lr=1e-2, log_every=1, augment=AugmentConfig(shift=0)
    )
    trained = train(long, run)
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["tokens"] < 0.7 * rows[0]["tokens"]
    assert all(r["loss"] == pytest.approx(r["flow"] + r["tokens"], rel=1e-5) for r in rows)
    assert trained.tokenizer is not None


def test_a_small_backbone_has_nothing_to_compute_again(new_run):
    with pytest.raises(ValueError, match="checkpointing"):
        train(bc.BCConfig(compute=Compute(checkpointing=True)), new_run("a"))
