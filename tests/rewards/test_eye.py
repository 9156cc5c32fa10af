"""Eyes: our own, and the real classes of V-JEPA 2, DINOv2 and DINOv3 with small random weights."""

import copy

import numpy as np
import pytest
import torch
from fakes import SQUARE_SPEC, square_episode

from robostack.rewards.eye import EyeConfig, Instruction, SmallEye, make_eye
from robostack.rewards.learned import RewardData
from robostack.rewards.load import LEARNED, load_reward
from robostack.rewards.saved import RewardError
from robostack.rewards.success import SuccessDetector

EYE = EyeConfig(side=32, width=48)


def vision_model(kind):
    import transformers as t

    small = dict(hidden_size=16, num_attention_heads=2, num_hidden_layers=1)
    torch.manual_seed(0)
    if kind == "vjepa2":
        predictor = dict(pred_hidden_size=16, pred_num_attention_heads=2, pred_num_hidden_layers=1)
        return t.VJEPA2Model(
            t.VJEPA2Config(patch_size=16, crop_size=32, frames_per_clip=2, **small, **predictor)
        )
    if kind == "dinov2":
        return t.Dinov2Model(t.Dinov2Config(image_size=28, patch_size=14, **small))
    return t.DINOv3ViTModel(
        t.DINOv3ViTConfig(image_size=32, patch_size=16, intermediate_size=32, **small)
    )


@pytest.fixture(scope="module", params=["vjepa2", "dinov2", "dinov3_vit"])
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    vision_model(request.param).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", LEARNED)
def test_a_pretrained_eye_trains_its_head_alone_and_is_saved_without_its_model(
    source, name, tmp_path
):
    config = EyeConfig(kind="pretrained", source=source, width=24)
    torch.manual_seed(0)
    reward = LEARNED[name](SQUARE_SPEC, config)
    data = RewardData([square_episode(s, success=s != 1) for s in range(3)], reward.eye)
    assert data.seen.dtype == np.float16 and data.seen.shape[1:] == (4, 16)
    reward.fit(data)
    loss, _ = reward.loss(data, np.random.default_rng(0))
    loss.backward()
    assert all(p.grad is None for p in reward.eye._frozen[0].parameters())
    assert any(p.grad is not None and p.grad.any() for p in reward.eye.parameters())
    reward.calibrate(data)
    reward.save(tmp_path)
    loaded = load_reward(tmp_path)
    episode = square_episode(5)
    assert np.allclose(loaded.score(episode), reward.score(episode), atol=1e-6)
    saved = [key.split(".") for key in reward.arrays() if "eye." in key]
    assert {part for _, part, *_ in saved} == {"norm", "film", "head"}


def test_a_frozen_model_is_in_memory_once(source):
    config = EyeConfig(kind="pretrained", source=source, width=24)
    model = LEARNED["world_model"](SQUARE_SPEC, config)
    copies = [model.eye, model.slow_eye, copy.deepcopy(model).slow_eye]
    assert len({id(eye._frozen[0]) for eye in copies}) == 1
    heads = {id(parameter) for eye in copies for parameter in eye.parameters()}
    assert len(heads) == 3 * len(list(model.eye.parameters()))


def test_features_tell_places_apart(source):
    eye = make_eye(EyeConfig(kind="pretrained", source=source, width=24), 1, 1)
    left, right = (np.zeros((1, 32, 32, 3), np.uint8) for _ in range(2))
    left[:, :, :8], right[:, :, -8:] = 255, 255
    seen = [eye.look({"top": image}).astype(np.float32) for image in (left, right, left)]
    assert np.array_equal(seen[0], seen[2]) and np.abs(seen[0] - seen[1]).max() > 1e-3


def test_other_weights_under_a_trained_head_are_refused(tmp_path):
    vision_model("dinov2").save_pretrained(tmp_path / "model")
    config = EyeConfig(kind="pretrained", source=str(tmp_path / "model"), width=24)
    SuccessDetector(SQUARE_SPEC, config).save(tmp_path / "reward")
    other = vision_model("dinov2")
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    other.save_pretrained(tmp_path / "model")
    with pytest.raises(RewardError, match="holds other weights"):
        load_reward(tmp_path / "reward")


def test_a_model_of_another_family_is_refused(tmp_path):
    import transformers as t

    config = t.ViTConfig(hidden_size=16, num_attention_heads=2, num_hidden_layers=1)
    t.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(RewardError, match="is a vit; expected one of vjepa2, dinov2"):
        make_eye(EyeConfig(kind="pretrained", source=str(tmp_path)), 1, 1)


def test_a_source_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(RewardError, match="no such folder, and no name on the hub"):
        make_eye(EyeConfig(kind="pretrained", source=str(tmp_path / "nothing")), 1, 1)


@pytest.mark.parametrize(
    "wrong", [dict(kind="pretrained"), dict(source="x"), dict(side=30), dict(width=2)]
)
def test_impossible_eyes_are_refused(wrong):
    with pytest.raises(ValueError, match="eye: "):
        EyeConfig(**wrong)


def test_augmented_pictures_keep_their_shape_and_are_a_function_of_the_draws():
    eye = SmallEye(EYE, 2, 1)
    seen = torch.randint(0, 255, (3, 6, 32, 32), dtype=torch.uint8)
    first, again = (eye.augment(seen, np.random.default_rng(4)) for _ in range(2))
    assert first.shape == seen.shape and first.dtype == torch.uint8
    assert torch.equal(first, again) and not torch.equal(first, seen)


def test_the_order_of_the_words_matters():
    torch.manual_seed(0)
    words = Instruction(16)
    with torch.no_grad():
        one, other, same = words(
            [
                "Put the red cube on the green cube",
                "put the green cube on the red cube",
                "put the red cube on the green cube.",
            ]
        )
    assert torch.equal(one, same) and not torch.allclose(one, other, atol=1e-3)
