"""Scaling is undone exactly by its inverse and does no harm to dimensions that hardly move."""

import numpy as np
import pytest
import torch

from robostack.data.normalize import Normalizer


def fitted(rows):
    normalizer = Normalizer(rows.shape[1])
    normalizer.fit(np.asarray(rows, np.float32))
    return normalizer


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2000, 3)) * [1, 1e-2, 50] + [0, 3, -100]


def test_inverse_undoes_forward_within_and_beyond_the_range(rows):
    normalizer = fitted(rows)
    x = torch.from_numpy(rows * 3).float()
    assert torch.allclose(normalizer.inverse(normalizer(x)), x, rtol=1e-5, atol=1e-4)
    assert torch.allclose(normalizer(normalizer.inverse(x)), x, rtol=1e-4, atol=1e-3)


def test_the_one_and_ninetynine_percent_quantiles_become_minus_one_and_one(rows):
    scaled = fitted(rows)(torch.from_numpy(rows).float()).numpy()
    assert np.allclose(np.quantile(scaled, [0.01, 0.99], axis=0), [[-1] * 3, [1] * 3], atol=1e-3)


def test_one_wild_value_does_not_squash_the_rest(rows):
    wild = rows.copy()
    wild[0] = 1e6
    x = torch.from_numpy(rows[1:]).float()
    assert torch.allclose(fitted(wild)(x), fitted(rows)(x), atol=0.1)


def test_a_constant_dimension_is_centred_and_its_noise_is_not_blown_up():
    rng = np.random.default_rng(0)
    rows = np.stack([np.full(500, 7.0), 0.3 + 1e-5 * rng.normal(size=500)], 1)
    scaled = fitted(rows)(torch.from_numpy(rows).float())
    assert scaled.abs().max() < 1e-3


def test_a_gripper_of_plus_or_minus_one_maps_to_itself():
    gripper = np.where(np.arange(300) % 3 == 0, 1.0, -1.0)[:, None]
    normalizer = fitted(gripper)
    x = torch.from_numpy(gripper).float()
    assert torch.equal(normalizer(x), x) and torch.equal(normalizer.inverse(x), x)


def test_before_fitting_it_is_the_identity():
    x = torch.randn(5, 3)
    assert torch.allclose(Normalizer(3)(x), x, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_statistics_of_broken_data_are_refused(rows, bad):
    rows[17, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        fitted(rows)


def test_statistics_travel_with_the_state_dict(rows):
    other = Normalizer(3)
    other.load_state_dict(fitted(rows).state_dict())
    x = torch.randn(5, 3)
    assert torch.equal(other(x), fitted(rows)(x))
