"""Augmentation: what each strength may change, and what it must leave."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from robostack.augment import AugmentConfig, augment, warp
from robostack.data.chunks import Batch

OFF = AugmentConfig(shift=0)
STRENGTHS = {
    "shift": 3,
    "crop": 0.7,
    "rotate": 15.0,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
}


def pictures(count=4, value=None):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)
    image = torch.from_numpy(image if value is None else np.full_like(image, value))
    return Batch(
        {"a": image, "b": image.clone()},
        torch.zeros(count, 2),
        ["lift"] * count,
        torch.zeros(count, 3, 2),
        torch.ones(count, 3, dtype=torch.bool),
    )


def changed(batch, seed=0, **strengths):
    return augment(batch, replace(OFF, **strengths), np.random.default_rng(seed)).images


def test_without_strength_the_pictures_are_the_very_same():
    batch = pictures()
    assert all(changed(batch)[n] is batch.images[n] for n in "ab")


@pytest.mark.parametrize("name", list(STRENGTHS))
def test_each_changes_every_sample_and_camera_on_its_own_and_nothing_else(name):
    batch = pictures()
    batch.images = {n: i[:1].repeat(4, 1, 1, 1) for n, i in batch.images.items()}
    config = replace(OFF, **{name: STRENGTHS[name]})
    out = augment(batch, config, np.random.default_rng(1))
    assert out.state is batch.state and out.chunk is batch.chunk and out.tasks is batch.tasks
    for image in out.images.values():
        assert image.dtype == torch.uint8 and image.shape == (4, 12, 16, 3)
    kinds = {i.numpy().tobytes() for image in out.images.values() for i in image}
    assert len(kinds) >= 7  # of 8; two shifts may coincide


def test_the_generator_is_all_that_is_drawn_from():
    first, second, other = (changed(pictures(), s, **STRENGTHS)["a"] for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize("name", ["shift", "crop", "rotate"])
def test_moving_a_picture_of_one_colour_changes_nothing(name):
    assert torch.equal(changed(pictures(value=77), **{name: STRENGTHS[name]})["a"],
                       pictures(value=77).images["a"])  # fmt: skip


def test_a_shift_moves_by_whole_pixels_and_repeats_the_border():
    batch = pictures()
    rng = np.random.default_rng(0)
    dy, dx = rng.integers(-3, 4, (2, 4, 1))[:, :, 0]
    for i, image in enumerate(changed(batch, shift=3)["a"].numpy()):
        source = np.pad(batch.images["a"][i].numpy(), ((3, 3), (3, 3), (0, 0)), mode="edge")
        assert np.array_equal(image, source[3 + dy[i] : 15 + dy[i], 3 + dx[i] : 19 + dx[i]])


def test_a_warp_that_keeps_all_and_does_not_turn_is_the_identity():
    image = pictures().images["a"]
    assert torch.equal(warp(image, 1.0, 0.0, np.random.default_rng(0)), image)


def test_a_half_turn_is_a_half_turn():
    class Half:
        def uniform(self, low, high, size):
            return np.broadcast_to(high, size)  # the largest of everything

    image = pictures().images["a"]
    turned = warp(image, 1.0, 180.0, Half())
    assert (turned.int() - image.flip(1, 2).int()).abs().max() <= 1
    quarter = warp(image[:, :, :12], 1.0, 90.0, Half())
    wanted = torch.rot90(image[:, :, :12], 1, (1, 2))
    assert (quarter.int() - wanted.int()).abs().max() <= 1


def test_a_warp_of_a_ramp_is_the_ramp_at_the_turned_and_scaled_places():
    """Between pixels a ramp is a ramp, so the law is exact where nothing leaves the picture; the
    edges differ in length, which a turn in units of the edges would get wrong."""
    height, width, crop, degrees = 40, 60, 0.6, 10.0
    y, x = np.mgrid[:height, :width] - np.array([height - 1, width - 1]).reshape(2, 1, 1) / 2
    image = torch.from_numpy(np.stack([128 + 2 * x, 128 + 3 * y, 0 * x], -1).round()).byte()
    out = warp(image.repeat(8, 1, 1, 1), crop, degrees, np.random.default_rng(5)).numpy()
    rng = np.random.default_rng(5)
    share = rng.uniform(crop, 1, 8)
    middle = rng.uniform(-1, 1, (2, 8)) * (1 - share) * np.array([[width / 2], [height / 2]])
    angle = np.radians(rng.uniform(-degrees, degrees, 8))
    for i in range(8):
        along = middle[0, i] + share[i] * (np.cos(angle[i]) * x - np.sin(angle[i]) * y)
        down = middle[1, i] + share[i] * (np.sin(angle[i]) * x + np.cos(angle[i]) * y)
        inside = (abs(along) < (width - 1) / 2) & (abs(down) < (height - 1) / 2)
        assert inside.mean() > 0.7
        for channel, wanted in enumerate((128 + 2 * along, 128 + 3 * down)):
            assert abs(out[i, :, :, channel] - wanted)[inside].max() <= 1.1  # rounded twice


def test_brightness_scales_exactly():
    rng = np.random.default_rng(3)
    factors = 1 + rng.uniform(-0.4, 0.4, 4)
    out = changed(pictures(value=100), 3, brightness=0.4)["a"]
    assert out[:, 0, 0, 0].tolist() == np.rint(100 * factors).astype(int).tolist()


def test_what_would_be_brighter_than_white_is_white():
    factors = 1 + np.random.default_rng(3).uniform(-0.4, 0.4, 4)
    wanted = np.rint(240 * factors).astype(int)
    assert wanted.max() > 255 > wanted.min()
    out = changed(pictures(value=240), 3, brightness=0.4)["a"]
    assert out[:, 0, 0, 0].tolist() == np.minimum(wanted, 255).tolist()


def test_contrast_keeps_the_mean_grey_and_saturation_every_pixels():
    batch = pictures()
    batch.images = {n: (64 + i // 2) for n, i in batch.images.items()}  # nothing gets cut off

    def grey(images):
        return (images["a"].float() * torch.tensor([0.299, 0.587, 0.114])).sum(-1)

    before = grey(batch.images)
    contrast, saturation = (changed(batch, **{n: 0.4}) for n in ("contrast", "saturation"))
    assert (grey(contrast).mean((1, 2)) - before.mean((1, 2))).abs().max() < 0.5
    assert (grey(contrast) - before).abs().max() > 3
    assert (grey(saturation) - before).abs().max() < 1
    flat = pictures(value=90)
    assert torch.equal(changed(flat, saturation=0.4)["a"], flat.images["a"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shift", -1),
        ("shift", 1.5),
        ("crop", 0.0),
        ("crop", 1.5),
        ("rotate", 200.0),
        ("contrast", -0.1),
    ],
)
def test_impossible_strengths_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        AugmentConfig(**{name: value})
