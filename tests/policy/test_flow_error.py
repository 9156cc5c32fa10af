"""The loss per sample and the law of the times at which it is taken."""

import pytest
import torch

from robostack.policy import flow

GENERATOR = torch.Generator()


@pytest.fixture
def sample():
    torch.manual_seed(0)
    return torch.randn(3, 4, 2), torch.randn(3, 4, 2)


def test_the_error_of_the_target_is_zero_and_of_being_off_by_two_is_four(sample):
    action, noise = sample
    u = flow.target(action, noise)
    assert torch.equal(flow.error(u, action, noise), torch.zeros(3))
    assert torch.allclose(flow.error(u + 2, action, noise), torch.full((3,), 4.0))


def test_the_error_is_a_mean_so_it_does_not_grow_with_the_chunk(sample):
    action, noise = (torch.cat([x, x], 1) for x in sample)
    velocity = torch.randn(3, 4, 2)
    once = flow.error(velocity, *sample)
    twice = flow.error(torch.cat([velocity, velocity], 1), action, noise)
    assert torch.allclose(once, twice)


def test_invalid_steps_do_not_count_whatever_they_hold(sample):
    action, noise = sample
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    velocity = torch.randn(3, 4, 2)
    wild = torch.where(valid[..., None], velocity, torch.tensor(1e3))
    assert torch.equal(
        flow.error(wild, action, noise, valid), flow.error(velocity, action, noise, valid)
    )
    short = flow.error(velocity[1:2, :2], action[1:2, :2], noise[1:2, :2])
    assert torch.allclose(flow.error(velocity, action, noise, valid)[1], short[0])


def test_all_steps_valid_is_the_same_as_no_mask(sample):
    velocity, valid = torch.randn(3, 4, 2), torch.ones(3, 4, dtype=torch.bool)
    assert torch.allclose(flow.error(velocity, *sample, valid), flow.error(velocity, *sample))


def test_invalid_steps_get_no_gradient(sample):
    velocity = torch.randn(3, 4, 2, requires_grad=True)
    valid = torch.tensor([[1, 1, 0, 0]] * 3, dtype=torch.bool)
    flow.error(velocity, *sample, valid).sum().backward()
    assert (velocity.grad[:, 2:] == 0).all() and (velocity.grad[:, :2] != 0).all()


def test_each_column_of_stratified_times_has_one_draw_in_every_stratum():
    time = flow.stratified_time(8, 50, GENERATOR.manual_seed(0))
    quantile = ((time - 0.001) / 0.999) ** 1.5  # the distribution function, inverted
    assert time.shape == (8, 50)
    assert torch.equal((quantile * 8).floor(), torch.arange(8.0)[:, None].expand(8, 50))


@pytest.mark.parametrize("law", ["plain", "stratified"])
def test_times_follow_the_shifted_beta_law(law):
    GENERATOR.manual_seed(0)
    if law == "plain":
        time = flow.stratified_time(1, 100_000, GENERATOR)[0]
    else:
        time = flow.stratified_time(4, 25_000, GENERATOR).flatten()
    assert time.min() >= 0.001 and time.max() <= 1
    assert float(time.mean()) == pytest.approx(0.999 * 0.6 + 0.001, abs=0.003)
    for b in (0.2, 0.5, 0.8):  # P(b < q) = q^1.5
        share = (time < 0.999 * b + 0.001).float().mean()
        assert float(share) == pytest.approx(b**1.5, abs=0.006)


def test_stratified_times_make_a_mean_far_less_noisy():
    GENERATOR.manual_seed(0)
    plain = flow.stratified_time(1, 8 * 2000, GENERATOR).reshape(8, 2000).mean(0).std()
    assert flow.stratified_time(8, 2000, GENERATOR).mean(0).std() < plain / 4
