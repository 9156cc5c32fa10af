"""The small encoders' fixed parts: hashing, positions, shrinking."""

import zlib

import numpy as np
import torch

from robostack.vision import ImageStem, Places, WordHasher, grid_position, places, shrink


def test_equal_words_get_equal_ids_whatever_their_case_and_neighbours():
    ids = WordHasher()(["lift the red cube", "Cube RED"])
    assert ids[0, 2] == ids[1, 1] and ids[0, 3] == ids[1, 0]
    assert ids[1, 2:].tolist() == [0, 0] and (ids[0] > 0).all()


def test_ids_are_the_same_in_every_process():
    # Python's own hash of a string is salted anew in each; a checksum is not
    assert WordHasher()(["lift"]).item() == 1 + zlib.crc32(b"lift") % 511


def test_ids_stay_in_the_table_and_long_instructions_are_cut():
    words = [f"word{i}" for i in range(2000)]
    ids = WordHasher(size=64, length=2000)([" ".join(words)])
    assert ids.min() >= 1 and ids.max() <= 63
    assert WordHasher(length=5)([" ".join(words)]).shape == (1, 5)


def test_an_empty_instruction_is_all_padding():
    assert WordHasher()([""]).tolist() == [[0]]


def test_every_place_of_a_grid_has_its_own_position():
    code = grid_position(6, 6, 32, torch.device("cpu"))
    assert code.shape == (36, 32)
    apart = torch.cdist(code, code) + 9 * torch.eye(36)
    assert apart.min() > 0.1


def test_one_token_comes_from_sixteen_pixels_each_way():
    images = torch.zeros(2, 64, 32, 3, dtype=torch.uint8)
    assert ImageStem(16)(images).shape == (2, 8, 16)
    words = torch.zeros(2, 1, 16)
    assert ImageStem(16, points=4)(images, words).shape == (2, 8 + 2, 16)
    assert ImageStem(16, points=1)(images, words).shape == (2, 8 + 2, 16)


def test_the_place_of_a_bright_spot_is_where_it_is_and_of_two_alike_between_them():
    maps = torch.full((1, 3, 5, 9), -100.0)
    maps[0, 0, 4, 2] = 0  # lowest row, a quarter from the left
    maps[0, 1, 2, 0] = maps[0, 1, 2, 8] = 0
    maps[0, 2] = 0  # a map that prefers nothing looks at the middle
    rows, columns = places(maps)[0].split(3)
    assert torch.allclose(rows, torch.tensor([1.0, 0, 0]), atol=1e-6)
    assert torch.allclose(columns, torch.tensor([-0.5, 0, 0]), atol=1e-6)


def test_places_move_with_what_they_follow_and_tell_less_than_a_cell():
    spot = torch.zeros(1, 1, 16, 16)
    spot[..., 5:8, 6:9] = 20
    here = places(spot)
    aside = places(spot.roll((2, 3), (2, 3)))
    assert torch.allclose(aside - here, torch.tensor([[2.0, 3.0]]) * 2 / 15, atol=1e-5)
    spot[..., 5:8, 9] = 20 - torch.log(torch.tensor(2.0))  # half as bright: 3/7 * 1 column on
    assert torch.allclose(places(spot)[0, 1] - here[0, 1], torch.tensor(2 / 7 * 2 / 15), atol=1e-5)


def test_a_quarter_of_the_maps_follow_the_words_and_their_order_and_no_padding():
    torch.manual_seed(0)
    heat = Places(channels=8, points=8, width=16)
    found = []
    heat.read.register_forward_hook(lambda module, given, out: found.append(given[0]))
    torch.nn.init.uniform_(heat.heed)
    seen, (lift, red) = torch.rand(1, 8, 6, 6), torch.randn(2, 16)
    nothing = torch.zeros(16)
    for words in ((lift, red), (red, lift), (lift, red, nothing)):
        heat(seen, torch.stack(words)[None])
    one, other, padded = (each.reshape(2, 8) for each in found)  # rows and columns of every map
    assert torch.equal(one[:, :6], other[:, :6])
    assert (one[:, 6:] != other[:, 6:]).any(0).all()
    assert torch.equal(one, padded)


def test_maps_learn_to_find_the_colour_that_is_named():
    torch.manual_seed(0)
    width, side = 16, 8
    heat = Places(channels=3, points=8, width=width)
    words = torch.nn.Embedding(4, width)  # one a colour
    colours = torch.eye(3).repeat(2, 1)[:4] * 2 - 1
    colours[3] = 1
    out = torch.nn.Linear(2 * width, 2)
    learner = torch.optim.Adam([*heat.parameters(), *words.parameters(), *out.parameters()], 1e-2)

    def draw(count: int):
        """Pictures of two spots of different colours, which of them is named, and both places."""
        picture = torch.zeros(count, 3, side, side)
        colour = torch.rand(count, 4).topk(2).indices
        spot = torch.rand(count, side * side).topk(2).indices
        for k in range(2):
            picture.flatten(2)[torch.arange(count), :, spot[:, k]] = colours[colour[:, k]]
        where = torch.stack([spot // side, spot % side], 2) / (side - 1) * 2 - 1
        return picture, colour[:, :1], where

    def guess(picture, named):
        return out(heat(picture, words(named)).flatten(1))

    for _ in range(300):
        picture, named, where = draw(32)
        loss = (guess(picture, named) - where[:, 0]).square().mean()
        learner.zero_grad()
        loss.backward()
        learner.step()
    picture, named, where = draw(200)
    with torch.no_grad():
        away = (guess(picture, named)[:, None] - where).norm(dim=2)
        swapped = (guess(picture, named[torch.randperm(200)])[:, None] - where).norm(dim=2)
    assert (away[:, 0] < away[:, 1]).float().mean() > 0.95  # nearer to what is named
    assert (swapped[:, 0] < swapped[:, 1]).float().mean() < 0.8  # and it is the word that tells


def test_shrinking_averages_areas_and_stacks_cameras_by_name():
    rng = np.random.default_rng(0)
    images = {c: rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8) for c in ("b", "a")}
    small = shrink(images, 4)
    assert small.shape == (2, 6, 4, 4) and small.dtype == np.uint8
    for k, name in enumerate(("a", "b")):
        block = images[name][1, 2:4, 4:6].astype(float).mean((0, 1))
        assert np.abs(small[1, 3 * k : 3 * k + 3, 1, 2] - block).max() <= 0.5


def test_shrinking_to_the_same_size_only_moves_the_channels():
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(shrink({"a": image}, 8), image.transpose(0, 3, 1, 2))
