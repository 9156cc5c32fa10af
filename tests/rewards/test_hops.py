"""The algebra of hops: inverses, bounds, and what agreeing anchors make of an estimate."""

import numpy as np
import pytest
import torch

from robostack.rewards.hops import Fusion, fuse, hop, land, triangle, two_hot

GRID = torch.linspace(0, 1, 21)
FIRST, SECOND = (x.reshape(-1) for x in torch.meshgrid(GRID, GRID, indexing="ij"))


def test_landing_undoes_the_hop_between_any_two_potentials():
    assert torch.allclose(land(FIRST, hop(FIRST, SECOND)), SECOND, atol=1e-5)


def test_a_hop_is_the_share_of_what_was_left_or_of_what_was_had():
    found = hop(torch.tensor([0.2, 0.8, 0.5, 1.0, 0.0]), torch.tensor([0.6, 0.4, 0.5, 1.0, 1.0]))
    assert torch.allclose(found, torch.tensor([0.5, -0.5, 0.0, 0.0, 1.0]), atol=1e-6)


def test_no_sequence_of_hops_leaves_zero_to_one():
    random = torch.Generator().manual_seed(0)
    potential = torch.rand(500, generator=random)
    for _ in range(50):
        potential = land(potential, 2 * torch.rand(500, generator=random) - 1)
        assert (potential >= 0).all() and (potential <= 1).all()


def test_going_there_and_back_again_is_nowhere():
    assert torch.allclose(land(SECOND, hop(SECOND, FIRST)), FIRST, atol=1e-5)


def test_true_hops_have_no_triangle_residual_and_others_have():
    potential = torch.rand(3, 5, generator=torch.Generator().manual_seed(1))
    true = hop(potential[:, :, None].expand(-1, -1, 5), potential[:, None].expand(-1, 5, -1))
    assert float(triangle(potential, true)) < 1e-5
    assert float(triangle(potential, (true + 0.2).clamp(-1, 1))) > 0.01


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0)])
def test_the_mean_of_a_two_hot_distribution_is_its_value_limited_to_the_range(low, high):
    value = torch.linspace(low - 0.5, high + 0.5, 33)
    spread = two_hot(value, low, high, 21)
    assert torch.allclose(spread @ torch.linspace(low, high, 21), value.clamp(low, high), atol=1e-6)
    assert torch.allclose(spread.sum(-1), torch.ones(33)) and ((spread > 0).sum(-1) <= 2).all()


def test_agreeing_anchors_are_followed_with_full_confidence():
    truth = np.linspace(0, 0.9, 40)
    steps = np.zeros(40)
    steps[1:] = (truth[1:] - np.roll(truth, 1)[1:]) / (1 - np.roll(truth, 1)[1:])
    fused, trust, incremental = fuse(truth, truth, steps, stride=1)
    assert np.allclose(trust, 1)
    assert np.allclose(incremental, truth, atol=1e-5)
    assert np.abs(fused - truth).max() < 0.03


def test_contradicting_anchors_freeze_the_potential():
    forward, backward = np.linspace(0, 1, 30), np.zeros(30)
    fused, trust, _ = fuse(forward, backward, np.zeros(30), stride=1)
    assert trust[-1] < 0.05 and fused[-1] < fuse(forward, forward, np.zeros(30), 1)[0][-1] / 2


def test_what_comes_later_changes_nothing_that_was():
    random = np.random.default_rng(0)
    forward, backward, steps = random.random((3, 20))
    whole = fuse(forward, backward, steps, 4)
    cut = fuse(forward[:11], backward[:11], steps[:11], 4)
    assert all(np.array_equal(a[:11], b) for a, b in zip(whole, cut))


@pytest.mark.parametrize("stride", [1, 4, 30])
def test_a_fusion_that_goes_on_says_what_it_says_of_the_whole(stride):
    whole = np.random.default_rng(1).random((3, 20))
    whole[2] = 2 * whole[2] - 1
    fusion, found = Fusion(stride), []
    for first, last in ((0, 1), (1, 2), (2, 9), (9, 20)):
        found.append(fusion.go_on(*whole[:, first:last]))
    for told, pieces in zip(fuse(*whole, stride), zip(*found)):
        assert np.array_equal(told, np.concatenate(pieces))


def test_the_incremental_estimate_goes_on_from_a_stride_before():
    """By its definition, one observation at a time."""
    forward, backward, steps = np.random.default_rng(2).random((3, 15))
    steps = 2 * steps - 1
    mean, found = (forward + backward) / 2, []
    for t in range(15):
        before = found[max(t - 4, 0)] if t else mean[0]
        room = 1 - before if steps[t] >= 0 else before
        found.append(before + room * steps[t] if t else mean[0])
    assert np.allclose(fuse(forward, backward, steps, 4)[2], np.clip(found, 0, 1), atol=1e-6)
