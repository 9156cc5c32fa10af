"""A policy folder brings back the same policy, or an error that says what does not fit."""

import json
import os
import signal
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from robostack.policy import checkpoint
from robostack.policy.checkpoint import CARD, WEIGHTS, CheckpointError
from robostack.policy.vla import VLA


@pytest.fixture
def folder(vla, tmp_path):
    vla.save(tmp_path / "policy")
    return tmp_path / "policy"


def edit_card(folder, change):
    card = json.loads((folder / CARD).read_text())
    change(card)
    (folder / CARD).write_text(json.dumps(card))


def test_a_loaded_policy_samples_bit_for_bit_what_the_saved_one_did(vla, batch, tmp_path):
    vla.normalize_action.fit(batch.chunk.reshape(-1, 3).numpy())
    vla.normalize_state.fit(batch.state.numpy())
    vla.save(tmp_path / "policy")
    loaded = VLA.load(tmp_path / "policy")
    noise = vla.noise(len(batch), torch.Generator().manual_seed(0))
    assert loaded.spec == vla.spec and loaded.config == vla.config and not loaded.training
    assert torch.equal(loaded.sample(batch, noise), vla.sample(batch, noise))


def test_saving_over_a_policy_replaces_it(vla, folder):
    with torch.no_grad():
        vla.expert.action_out.bias += 1
    vla.save(folder)
    assert torch.equal(VLA.load(folder).expert.action_out.bias, vla.expert.action_out.bias)


@pytest.mark.parametrize("lost", [CARD, WEIGHTS])
def test_a_lost_file_is_a_checkpoint_error(folder, lost):
    (folder / lost).unlink()
    with pytest.raises(CheckpointError, match="holds no policy"):
        VLA.load(folder)
    with pytest.raises(CheckpointError, match="holds no policy"):
        VLA.load(folder / "absent")


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_cut_off_weights_are_a_checkpoint_error(folder, keep):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CheckpointError, match="damaged"):
        VLA.load(folder)


def test_an_unknown_size_in_the_card_is_a_checkpoint_error(folder):
    edit_card(folder, lambda card: card["config"].update(depth=3))
    with pytest.raises(CheckpointError, match="depth"):
        VLA.load(folder)


@pytest.mark.parametrize("key", ["config", "spec"])
def test_a_card_that_lacks_a_part_is_a_checkpoint_error(folder, key):
    edit_card(folder, lambda card: card.pop(key))
    with pytest.raises(CheckpointError, match=key):
        VLA.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_card_is_a_checkpoint_error(folder, text):
    (folder / CARD).write_text(text)
    with pytest.raises(CheckpointError, match=CARD):
        VLA.load(folder)


@pytest.mark.parametrize(
    ("field", "value"), [("horizon", 0), ("small", {"heads": 3}), ("small", {"width": "wide"})]
)
def test_a_card_with_an_impossible_size_is_a_checkpoint_error(folder, field, value):
    edit_card(folder, lambda card: card["config"].update({field: value}))
    with pytest.raises(CheckpointError, match=field):
        VLA.load(folder)


def test_weights_of_another_size_are_a_checkpoint_error_that_names_them(folder):
    edit_card(folder, lambda card: card["config"].update(expert={"width": 32}))
    with pytest.raises(CheckpointError, match="expert"):
        VLA.load(folder)


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_missing_and_unknown_weights_are_a_checkpoint_error_that_names_them(folder, change):
    weights = load_file(folder / WEIGHTS)
    moved = weights.pop("expert.action_out.bias")
    if change == "unknown":
        weights |= {"expert.action_out.bias": moved, "value_head.bias": moved.clone()}
    save_file(weights, folder / WEIGHTS)
    name = "value_head.bias" if change == "unknown" else "expert.action_out.bias"
    with pytest.raises(CheckpointError, match=name):
        VLA.load(folder)


def test_a_folder_is_only_a_policy_once_its_card_is_written(vla, tmp_path, monkeypatch):
    vla.save(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("robostack.policy.checkpoint.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vla.save(tmp_path)
    with pytest.raises(CheckpointError):  # old card beside perhaps new weights would be a lie
        VLA.load(tmp_path)


def test_an_interrupt_while_weights_are_read_is_an_interrupt_and_no_damage(
    vla, tmp_path, monkeypatch
):
    vla.save(tmp_path)
    read = checkpoint.load_file

    def interrupted(path):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # the handler runs here, in the middle of it
        return read(path)

    monkeypatch.setattr(checkpoint, "load_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        VLA.load(tmp_path)
    monkeypatch.setattr(checkpoint, "load_file", read)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    VLA.load(tmp_path)
