"""Action tokens, insulation, stochastic steps, other robots, pretrained checkpoints."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import vlms
from fakes import SPEC, make_episode, tiny_size

from robostack.policy.backbone import SmallConfig
from robostack.policy.checkpoint import CARD, CheckpointError, explain
from robostack.policy.chunking import ChunkRunner
from robostack.policy.expert import ExpertConfig
from robostack.policy.fast import FastTokenizer
from robostack.policy.pretrained import PretrainedConfig
from robostack.policy.rtc import Guided, soft_mask
from robostack.policy.vla import VLA, VLAConfig

TIME = torch.linspace(0.1, 1, 6)


@pytest.fixture
def noise(vla, batch):
    return vla.noise(len(batch), torch.Generator().manual_seed(3))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return vlms.save("qwen2_5_vl", tmp_path_factory.mktemp("vlm") / "model")


def large(folder, train="lora", **settings):
    torch.manual_seed(1)
    pretrained = PretrainedConfig(train=train, image_size=64, rank=2)
    config = VLAConfig(
        4, str(folder), pretrained=pretrained, expert=ExpertConfig(width=16), **settings
    )
    return VLA(config, SPEC).eval()


def attach(vla, batch):
    torch.manual_seed(2)
    vla.attach_tokens(FastTokenizer.fit(vla.normalize_action(batch.chunk).numpy(), vocab=64))
    return vla.tokenizer.encode(vla.normalize_action(batch.chunk).numpy())


@pytest.mark.parametrize("kind", ["small", "pretrained"])
def test_action_tokens_cannot_leak_into_the_flow(vla, batch, noise, folder, kind):
    vla = vla if kind == "small" else large(folder)
    alone = vla(batch, noise, TIME)
    tokens = attach(vla, batch)
    together, _ = vla(batch, noise, TIME, tokens=tokens)
    shuffled, _ = vla(batch, noise, TIME, tokens=tokens[::-1])
    assert torch.equal(together, alone) and torch.equal(shuffled, alone)


@pytest.mark.parametrize("kind", ["small", "pretrained"])
def test_a_tokens_loss_depends_on_earlier_tokens_and_never_on_later_ones(vla, batch, folder, kind):
    vla = vla if kind == "small" else large(folder)
    attach(vla, batch)
    prefix = vla.encode(batch)
    rows = [[5, 6, 7, 8]] * 6

    def logits(row):
        embeddings = vla.token_in(torch.tensor([row] * 6))
        return vla.token_out(vla.backbone.extend(prefix, embeddings))

    before, after = logits(rows[0]), logits([5, 6, 9, 8])
    assert torch.allclose(before[:, :2], after[:, :2], atol=1e-6)
    assert not torch.allclose(before[:, 3], after[:, 3], atol=1e-5)


def test_a_short_sequence_beside_a_long_one_has_the_loss_it_has_alone(vla, batch):
    attach(vla, batch)
    prefix = vla.encode(batch)
    mixed = [[1, 2], [3, 4, 5, 6, 7]] * 3
    together = vla.token_loss(prefix, mixed)
    short = vla.token_loss(prefix, [[1, 2]] * 6)
    assert torch.allclose(together[::2], short[::2], atol=1e-5)
    assert together.shape == (6,)


def test_tokens_can_be_learnt(vla, batch):
    tokens = attach(vla, batch)
    optimizer = torch.optim.Adam(vla.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = vla.token_loss(vla.encode(batch), tokens).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("kind", ["small", "pretrained"])
@pytest.mark.parametrize("insulate", [False, True])
def test_insulation_keeps_the_experts_gradient_out_of_the_backbone(
    batch, noise, folder, kind, insulate
):
    if kind == "small":
        torch.manual_seed(0)
        vla = VLA(replace(tiny_size(), insulate=insulate), SPEC)
    else:
        vla = large(folder, "full", insulate=insulate)
    tokens = attach(vla, batch)

    def reached(loss):
        vla.zero_grad()
        loss.mean().backward()
        return any(p.grad is not None and p.grad.any() for p in vla.backbone.parameters())

    assert reached(vla(batch, noise, TIME)) != insulate
    assert reached(vla(batch, noise, TIME, tokens=tokens)[1])
    assert any(p.grad is not None for p in vla.token_in.parameters())


def test_a_policy_remembers_its_tokenizer(vla, batch, tmp_path):
    tokens = attach(vla, batch)
    vla.save(tmp_path)
    loaded = VLA.load(tmp_path)
    assert loaded.tokenizer.encode(vla.normalize_action(batch.chunk).numpy()) == tokens
    wanted = vla.token_loss(vla.encode(batch), tokens)
    assert torch.equal(loaded.token_loss(loaded.encode(batch), tokens), wanted)


def test_the_importance_ratio_of_fresh_data_is_exactly_one(vla, batch, noise):
    trace = []
    with torch.no_grad():
        vla.sample(batch, noise, 5, level=0.7, generator=torch.Generator(), trace=trace)
    assert len(trace) == 4
    for transition in trace:
        fresh = vla.log_prob(batch, transition)
        assert torch.equal(fresh, transition.log_prob) and fresh.requires_grad
    with torch.no_grad():
        vla.expert.action_out.bias += 0.1
    assert not torch.equal(vla.log_prob(batch, trace[0]), trace[0].log_prob)


def test_candidates_of_one_encoding_are_those_of_many(vla, batch):
    one = replace(
        batch,
        images={n: i[:1] for n, i in batch.images.items()},
        state=batch.state[:1],
        tasks=batch.tasks[:1],
        chunk=batch.chunk[:1],
        valid=batch.valid[:1],
    )
    noise = vla.noise(3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        several = vla.sample(one.repeat(3), noise, prefix=vla.encode(one).repeat(3))
        for i in range(3):
            assert torch.allclose(vla.sample(one, noise[i : i + 1])[0], several[i], atol=1e-5)


@pytest.mark.parametrize("train", ["frozen", "lora", "full"])
def test_a_policy_with_a_pretrained_backbone_comes_back_as_it_was(
    folder, batch, noise, tmp_path, train
):
    vla = large(folder, train)
    with torch.no_grad():
        for parameter in vla.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    vla.save_pretrained(tmp_path / "policy")
    loaded = VLA.from_pretrained(tmp_path / "policy")
    assert torch.equal(loaded.sample(batch, noise), vla.sample(batch, noise))
    size = (tmp_path / "policy" / "weights.safetensors").stat().st_size
    whole = sum(p.numel() for p in vla.parameters()) * 4
    own = sum(p.numel() for p in vla.parameters() if p.requires_grad) * 4
    assert size > own and (size > whole) == (train == "full")


def test_a_fully_trained_backbone_needs_nothing_but_the_policys_folder(
    folder, batch, noise, tmp_path
):
    moved = vlms.save("qwen2_5_vl", tmp_path / "model")
    vla = large(moved, "full")
    vla.save(tmp_path / "policy")
    for file in moved.iterdir():
        file.unlink()
    moved.rmdir()
    assert torch.equal(VLA.load(tmp_path / "policy").sample(batch, noise), vla.sample(batch, noise))


def test_another_base_model_under_the_same_name_is_noticed(batch, tmp_path):
    base = vlms.save("qwen2_5_vl", tmp_path / "model")
    large(base).save(tmp_path / "policy")
    vlms.save("qwen2_5_vl", base, seed=1)
    with pytest.raises(CheckpointError, match="is not the model that this policy was trained on"):
        VLA.load(tmp_path / "policy")


def test_weights_serve_another_robot_that_they_have_room_for(batch, tmp_path):
    torch.manual_seed(0)
    size = replace(tiny_size(), expert=ExpertConfig(width=16, state_dim=5, action_dim=4))
    vla = VLA(size, SPEC).eval()
    other = replace(
        SPEC,
        robot="other",
        action_names=("a", "b", "c", "d"),
        action_low=(-2.0,) * 4,
        action_high=(2.0,) * 4,
        state_names=("s", "t"),
        cameras={"eye": (16, 16)},
    )
    weights = {n: p.clone() for n, p in vla.named_parameters()}
    moved = vla.for_robot(other)
    assert all(torch.equal(p, weights[n]) for n, p in moved.named_parameters())
    moved.save(tmp_path)
    assert VLA.load(tmp_path).spec == other
    with pytest.raises(ValueError, match="action_dim=4, wide needs 9"):
        names = tuple("abcdefghi")
        moved.for_robot(
            replace(
                other,
                robot="wide",
                action_names=names,
                action_low=(0.0,) * 9,
                action_high=(1.0,) * 9,
            )
        )


def change(folder, **changes):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | changes))


def test_a_later_minor_format_is_read_without_what_is_unknown(vla, batch, noise, tmp_path, capsys):
    vla.save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    card["config"]["small"]["depth"] = 3
    card["config"]["colour"] = "red"
    change(tmp_path, config=card["config"])
    with pytest.raises(CheckpointError, match="unknown key"):  # of this very format it is a mistake
        VLA.load(tmp_path)
    change(tmp_path, format=[3, 9])
    assert torch.equal(VLA.load(tmp_path).sample(batch, noise), vla.sample(batch, noise))
    assert "ignored: small.depth, colour" in capsys.readouterr().err


def test_a_policy_of_before_heat_maps_is_read_as_one_without(vla, batch, noise, tmp_path):
    small = replace(vla.config.small, points=0)
    plain = VLA(replace(vla.config, small=small), vla.spec).eval()
    plain.save(tmp_path)
    config = json.loads((tmp_path / CARD).read_text())["config"]
    del config["small"]["points"]
    change(tmp_path, format=[2, 0], config=config)
    card = json.loads((tmp_path / CARD).read_text())
    del card["instructions"]
    (tmp_path / CARD).write_text(json.dumps(card))
    loaded = VLA.load(tmp_path)
    assert loaded.config == plain.config
    loaded.learns(frozenset({"lift"}))  # it may have learned others before
    assert loaded.instructions is None
    assert torch.equal(loaded.sample(batch, noise), plain.sample(batch, noise))


@pytest.mark.parametrize(("major", "advice"), [(1, "train the policy again"), (4, "update")])
def test_another_major_format_is_refused_with_what_to_do(vla, tmp_path, major, advice):
    vla.save(tmp_path)
    change(tmp_path, format=[major, 0])
    with pytest.raises(CheckpointError, match=f"format {major}.0.*{advice}"):
        VLA.load(tmp_path)


def test_a_name_that_is_neither_a_folder_nor_on_the_hub_is_explained(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        VLA.from_pretrained(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="hub"):
        VLA.from_pretrained("nobody/nothing")


def test_the_smallest_sizes_are_what_the_defaults_say():
    assert VLAConfig().small == SmallConfig() and VLAConfig().backbone == "small"


def test_what_is_pushed_to_the_hub_is_a_policy_that_can_be_loaded(
    vla, batch, noise, tmp_path, monkeypatch
):
    class Hub:  # the part of the outside world that is not here
        def __init__(self, token):
            assert token == "t"

        def create_repo(self, name, private, exist_ok):
            assert private and exist_ok
            return f"https://hub/{name}"

        def upload_folder(self, repo_id, folder_path):
            shutil.copytree(folder_path, tmp_path / repo_id)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert vla.push_to_hub("lab/lift", token="t") == "https://hub/lab/lift"
    there = VLA.from_pretrained(tmp_path / "lab" / "lift")
    assert torch.equal(there.sample(batch, noise), vla.sample(batch, noise))
    assert 'VLA.from_pretrained("lab/lift")' in (tmp_path / "lab/lift/README.md").read_text()


def test_what_the_hub_refuses_is_said_in_one_line(vla):
    class GatedRepoError(Exception):
        pass

    assert "accept its terms" in explain(GatedRepoError("401 ..."))
    wrapped = OSError("cannot load")
    wrapped.__cause__ = GatedRepoError("403 ...")
    assert "accept its terms" in explain(wrapped)
    assert explain(OSError("disk\nfull")) == "disk"


def test_half_precision_stays_near_full_precision_for_any_backbone(vla, batch, noise, folder):
    for policy in (vla, large(folder)):
        full = policy.sample(batch, noise)
        policy.halve()
        with torch.no_grad():
            half = policy.sample(batch, noise)
        assert half.dtype == torch.float32 and 0 < (half - full).abs().max() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("guided", [False, True])
def test_a_compiled_expert_samples_what_the_eager_one_does(vla, batch, noise, guided):
    guide = Guided(torch.zeros(4, 3), soft_mask(4, 1, 3), 5.0, "true") if guided else None
    with torch.no_grad():
        eager = vla.sample(batch, noise, guide=guide)
        vla.compile_expert()
        compiled = vla.sample(batch, noise, guide=guide)
    assert torch.allclose(compiled, eager, atol=1e-3)


@pytest.mark.slow
def test_no_third_length_of_instruction_is_compiled_for(vla):
    seen = make_episode(3).observation(1)
    runner = ChunkRunner(vla, 4)
    wanted = [runner.plan(replace(seen, task="go " * words)) for words in (1, 2, 3, 5, 8)]
    torch._dynamo.reset()  # other tests compile the same function
    torch._dynamo.utils.counters.clear()
    vla.compile_expert()
    runner.reset(0)
    found, graphs = [], []
    for words in (1, 2, 3, 5, 8):
        found.append(runner.plan(replace(seen, task="go " * words)))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] < graphs[1] == graphs[-1]
    assert all(np.allclose(a, b, atol=1e-3) for a, b in zip(found, wanted))
