"""Pretrained backbones: small random models of the real classes, loaded from folders like any."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import vlms
from fakes import LIFT, STACK
from PIL import Image

from robostack.policy import families, pretrained
from robostack.policy.checkpoint import CheckpointError
from robostack.policy.families import fit_square
from robostack.policy.pretrained import PretrainedBackbone, PretrainedConfig

FAMILIES = list(vlms.IMAGE)
CAUSAL = [family for family in FAMILIES if family != "paligemma"]
PROCESSORS = {  # transformers' own image processors, the ones that need no torchvision
    "paligemma": ("SiglipImageProcessorPil", {"size": {"height": vlms.SIDE, "width": vlms.SIDE}}),
    "qwen2_5_vl": ("Qwen2VLImageProcessorPil", {"patch_size": 16, "do_resize": False}),
    "qwen3_vl": (
        "Qwen2VLImageProcessorPil",
        {"patch_size": 16, "do_resize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    ),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    return {f: vlms.save(f, tmp_path_factory.mktemp("vlm") / f) for f in FAMILIES}


def backbone(folder, cameras=("side", "wrist"), **settings):
    settings = {"image_size": vlms.SIDE, "train": "frozen"} | settings
    return PretrainedBackbone(str(folder), list(cameras), PretrainedConfig(**settings)).eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    shape = (2, vlms.SIDE, vlms.SIDE, 3)
    return {
        name: torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        for name in ("side", "wrist")
    }


def own_cache(b, images, i, task):
    """Keys and values of the model's own forward pass over one sample, which nothing pads."""
    pictures = torch.stack([fit_square(images[n][i : i + 1], vlms.SIDE) for n in b.cameras], 1)
    ids = torch.tensor([b._ids(b.family.text(b.image_token, 2, task, b.tokenizer.bos_token))])
    cache = transformers.DynamicCache()
    with torch.no_grad():
        b.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=cache,
            use_cache=True,
            **b.family.pixels(pictures),
            **b.family.extras(ids),
        )
    return [(layer.keys, layer.values) for layer in cache.layers]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_prefix_is_the_models_own_cache(folders, images, family, attention):
    b, tasks = backbone(folders[family], attention=attention), [LIFT, STACK]
    with torch.no_grad():
        prefix = b(images, tasks)
    assert prefix.mask is not None and not prefix.mask.all()  # the shorter one is padded
    for i, task in enumerate(tasks):
        own = own_cache(b, images, i, task)
        assert len(own) == len(prefix.keys) == b.layers == 3
        length = int(prefix.mask[i].sum())
        for (k, v), keys, values in zip(own, prefix.keys, prefix.values):
            assert k.shape[2] == length
            assert (keys[i, :, :length] - k[0]).abs().max() < 1e-5
            assert (values[i, :, :length] - v[0]).abs().max() < 1e-5


@pytest.mark.parametrize("family", list(PROCESSORS))
def test_pixels_are_those_of_the_models_own_processor(folders, images, family):
    name, options = PROCESSORS[family]
    processor, b = getattr(transformers, name)(**options), backbone(folders[family])
    pictures = [Image.fromarray(images[n][i].numpy()) for i in range(2) for n in b.cameras]
    theirs = processor(images=pictures, return_tensors="pt")
    ours = b.family.pixels(torch.stack([fit_square(images[n], vlms.SIDE) for n in b.cameras], 1))
    for key in ours:
        assert torch.allclose(ours[key].float(), theirs[key].float(), atol=1e-5), key


@pytest.mark.parametrize("family", FAMILIES)
def test_every_camera_and_the_instruction_are_seen(folders, images, family):
    b = backbone(folders[family])
    with torch.no_grad():
        before = b(images, [LIFT, LIFT])
        for name in images:
            changed = images | {name: 255 - images[name]}
            assert not torch.allclose(b(changed, [LIFT, LIFT]).keys[-1], before.keys[-1], atol=1e-4)
        other = "lift the green cube"
        assert not torch.allclose(b(images, [other] * 2).keys[-1], before.keys[-1], atol=1e-4)
    assert before.mask is None  # nothing is padded, so nothing is masked


@pytest.mark.parametrize("family", FAMILIES)
def test_all_cameras_go_through_one_vision_call(folders, images, family):
    b, calls = backbone(folders[family]), []
    tower = next(m for n, m in b.model.named_children() if "vis" in n)
    tower.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        b(images, [LIFT, STACK])
    assert len(calls) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_what_lies_behind_the_last_keys_is_never_computed(folders, images, family):
    b, ran = backbone(folders[family]), []
    for i, layer in enumerate(b.decoder[0].layers):
        layer.mlp.register_forward_hook(lambda *_, i=i: ran.append(i))
    with torch.no_grad():
        b(images, [LIFT, LIFT])
    assert ran == [0, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_behind_a_prefix_come_out_as_in_one_pass_over_everything(folders, images, family):
    """Also where the prefix of the shorter instruction is padded."""
    b, tasks = backbone(folders[family]), [LIFT, STACK]
    behind = torch.tensor([[5, 6, 7], [8, 9, 4]])
    embeddings = b.model.get_input_embeddings()(behind)
    with torch.no_grad():
        found = b.extend(b(images, tasks), embeddings)
        for i, task in enumerate(tasks):
            text = b.family.text(b.image_token, 2, task, b.tokenizer.bos_token)
            ids = torch.cat([torch.tensor([b._ids(text)]), behind[i : i + 1]], 1)
            extras = b.family.extras(ids)
            if family == "paligemma":  # the prefix sees itself whole, what follows looks back
                extras["token_type_ids"][:, -3:] = 1
            shown = [fit_square(images[n][i : i + 1], vlms.SIDE) for n in b.cameras]
            own = b.model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                **b.family.pixels(torch.stack(shown, 1)),
                **extras,
            )
            assert (own.last_hidden_state[0, -3:] - found[i]).abs().max() < 2e-5


@pytest.mark.parametrize("family", ["paligemma", "qwen3_vl"])
def test_recomputing_activations_changes_no_gradient(folders, images, family):
    found = []
    for recompute in (False, True):
        b = backbone(folders[family], train="full").train()
        if recompute:
            b.gradient_checkpointing()
        prefix = b(images, [LIFT, STACK])
        sum(
            k.square().sum() + v.square().sum() for k, v in zip(prefix.keys, prefix.values)
        ).backward()
        found.append({n: p.grad for n, p in b.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 20
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_trainable_gets_a_gradient_and_nothing_else_does(folders, images, family):
    for train in ("frozen", "lora", "full"):
        b = backbone(folders[family], train=train, rank=2).train()
        prefix = b(images, [LIFT, STACK])
        trainable = {n for n, p in b.named_parameters() if p.requires_grad}
        if train == "frozen":
            assert not trainable and not prefix.keys[-1].requires_grad
            continue
        assert all("lora_" in n for n in trainable) == (train == "lora")
        sum(k.sum() + v.square().sum() for k, v in zip(prefix.keys, prefix.values)).backward()
        assert {n for n, p in b.named_parameters() if p.grad is not None} == trainable


def test_a_fresh_low_rank_update_changes_nothing(folders, images):
    plain, lora = (backbone(folders["qwen2_5_vl"], train=t) for t in ("frozen", "lora"))
    assert torch.equal(plain(images, [LIFT] * 2).keys[-1], lora(images, [LIFT] * 2).keys[-1])


def test_the_first_layers_of_a_model_can_be_kept(folders, images):
    whole, part = backbone(folders["smolvlm"]), backbone(folders["smolvlm"], layers=2)
    ours, theirs = part(images, [LIFT, STACK]), whole(images, [LIFT, STACK])
    assert part.layers == len(ours.keys) == 2
    assert all(torch.equal(a, b) for a, b in zip(ours.keys, theirs.keys))
    with pytest.raises(ValueError, match=r"pretrained.layers=4: expected 0 \(all\) to 3"):
        backbone(folders["smolvlm"], layers=4)


def test_pictures_of_another_shape_are_scaled_to_fit_and_padded():
    wide = torch.full((1, 32, 128, 3), 255, dtype=torch.uint8)
    square = fit_square(wide, 64)
    assert square.shape == (1, 3, 64, 64)
    assert (square[:, :, 24:40] == 1).all() and square.sum() == 3 * 16 * 64
    same = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8))
    assert torch.equal((fit_square(same, 64) * 255).round().byte().permute(0, 2, 3, 1), same)


def test_missing_files_are_one_clear_error(folders, tmp_path):
    with pytest.raises(CheckpointError, match="no folder here|hub"):
        backbone("someone/absent")
    for lost, wanted in (("config.json", "config.json"), ("model.safetensors", "safetensors")):
        folder = tmp_path / lost
        shutil.copytree(folders["smolvlm"], folder)
        (folder / lost).unlink()
        with pytest.raises(CheckpointError, match=wanted):
            backbone(folder)


def test_weights_in_a_format_that_can_execute_code_are_not_loaded(folders, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(folders["smolvlm"], folder)
    model = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="safetensors"):
        backbone(folder)


def test_the_tokenizer_of_another_model_is_refused(folders, tmp_path):
    shutil.copytree(folders["qwen2_5_vl"], tmp_path / "mixed")
    config = json.loads((tmp_path / "mixed" / "config.json").read_text())
    config["image_token_id"] = 5
    (tmp_path / "mixed" / "config.json").write_text(json.dumps(config))
    b = transformers.AutoTokenizer.from_pretrained(tmp_path / "mixed")
    assert b.convert_ids_to_tokens(5) != "<|image_pad|>"
    config["image_token_id"] = 5000
    (tmp_path / "mixed" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="image token 5000"):
        backbone(tmp_path / "mixed")


def test_weights_that_are_absent_from_a_file_are_not_made_up(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folders["smolvlm"], tmp_path / "holes")
    weights = load_file(tmp_path / "holes" / "model.safetensors")
    lost = next(n for n in weights if "k_proj" in n)
    weights.pop(lost)
    save_file(weights, tmp_path / "holes" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks weights: .*k_proj"):
        backbone(tmp_path / "holes")


def test_a_model_of_an_unknown_kind_lists_the_known_ones(tmp_path):
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a bert; known families: .*paligemma.*qwen2_5_vl"):
        backbone(tmp_path)


@pytest.mark.parametrize(("family", "side"), [("paligemma", 32), ("qwen2_5_vl", 48)])
def test_an_image_size_that_does_not_fit_is_refused(folders, family, side):
    with pytest.raises(ValueError, match=f"pretrained.image_size={side}"):
        backbone(folders[family], image_size=side)


def test_the_family_that_the_documentation_adds_works(images, tmp_path, monkeypatch):
    """docs/backbones.md, its last example, on a real Llava."""
    page = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text()
    example = next(b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "Llava" in b)
    monkeypatch.setattr(families, "FAMILIES", dict(families.FAMILIES))
    monkeypatch.setattr(pretrained, "FAMILIES", families.FAMILIES)
    exec(compile(example, "docs/backbones.md", "exec"), {})
    tokens = vlms.tokenizer("smolvlm")
    config = transformers.LlavaConfig(
        text_config=dict(vlms.TEXT, model_type="llama", vocab_size=len(tokens)),
        vision_config=dict(
            vlms.SIGLIP, model_type="clip_vision_model", image_size=vlms.SIDE, patch_size=16
        ),
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
    )
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    tokens.save_pretrained(tmp_path)
    b = backbone(tmp_path)
    with torch.no_grad():
        prefix = b(images, [LIFT, STACK])
    for i, task in enumerate([LIFT, STACK]):
        for (k, _), keys in zip(own_cache(b, images, i, task), prefix.keys):
            assert (keys[i, :, : k.shape[2]] - k[0]).abs().max() < 1e-5
