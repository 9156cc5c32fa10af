"""What every learned reward promises, before and after training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import SQUARE_SPEC, make_episode, square_episode

from robostack.learn.reward import KINDS
from robostack.protocols import Reward
from robostack.rewards.learned import CARD, WEIGHTS, RewardData, RewardError, read_card
from robostack.types import SpecMismatch

ALL = pytest.mark.parametrize("name", list(KINDS))


@pytest.fixture
def reward(name, request):
    return request.getfixturevalue(name)


def short(success=True):
    """A try that needed a single action, as tries from late states do."""
    return make_episode(
        0,
        steps=1,
        spec=SQUARE_SPEC,
        states=np.zeros((2, 1), np.float32),
        images={"top": np.zeros((2, 32, 32, 3), np.uint8)},
        success=success,
    )


@ALL
@pytest.mark.parametrize("seed", [0, 100])
def test_it_is_a_potential_of_every_observation(reward, seed):
    for success in (True, False):
        score = reward.score(square_episode(seed, steps=11, success=success))
        assert score.shape == (12,) and score.dtype == np.float32
        assert (score >= 0).all() and (score <= 1).all()
    assert isinstance(reward, Reward)


@ALL
def test_a_loaded_reward_scores_bit_for_bit_what_the_saved_one_did(reward, name, tmp_path):
    reward.save(tmp_path)
    loaded = KINDS[name](SQUARE_SPEC).load(tmp_path)
    episode = square_episode(100)
    assert np.array_equal(loaded.score(episode), reward.score(episode))
    assert loaded.fingerprint() == reward.fingerprint()
    assert read_card(tmp_path) == {"name": name, "spec": SQUARE_SPEC.to_json()}


@ALL
def test_the_fingerprint_changes_with_any_weight_and_statistic(reward, name, tmp_path):
    reward.save(tmp_path)
    other = KINDS[name](SQUARE_SPEC).load(tmp_path)
    seen = {other.fingerprint()}
    with torch.no_grad():
        for tensor in list(other.state_dict().values())[:: max(1, len(other.state_dict()) // 4)]:
            tensor.flatten()[0] += 1
            seen.add(other.fingerprint())
    assert len(seen) >= 5


@ALL
def test_judging_twice_gives_the_same(reward):
    episode = square_episode(101)
    assert np.array_equal(reward.score(episode), reward.score(episode))


@ALL
def test_an_episode_of_another_robot_is_refused(reward):
    other = replace(square_episode(0), spec=replace(SQUARE_SPEC, control_hz=20.0))
    with pytest.raises(SpecMismatch, match="control_hz"):
        reward.score(other)


@ALL
def test_without_a_success_there_is_nothing_to_learn(name):
    data = RewardData([square_episode(s, success=False) for s in range(2)])
    reward = KINDS[name](data.spec)
    with pytest.raises(RewardError, match="successes; none of the 2"):
        reward.loss(data, np.random.default_rng(0))
        reward.calibrate(data)


@ALL
def test_very_short_tries_are_learned_from_or_refused_with_a_reason(name):
    for episodes in ([short(), square_episode(0)], [short()]):
        try:
            loss, _ = KINDS[name](SQUARE_SPEC).loss(RewardData(episodes), np.random.default_rng(0))
        except RewardError:
            continue
        assert torch.isfinite(loss)


def test_no_episodes_are_refused():
    with pytest.raises(RewardError, match="no episodes"):
        RewardData([])


@ALL
@pytest.mark.parametrize("lost", [CARD, WEIGHTS])
def test_a_folder_that_lacks_a_file_holds_no_reward(reward, name, tmp_path, lost):
    reward.save(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(RewardError, match="holds no"):
        read_card(tmp_path)
        KINDS[name](SQUARE_SPEC).load(tmp_path)


@ALL
def test_weights_of_another_robot_are_refused(reward, name, tmp_path):
    reward.save(tmp_path)
    two = replace(SQUARE_SPEC, cameras={"top": (32, 32), "wrist": (32, 32)})
    with pytest.raises(RewardError, match="holds no"):
        KINDS[name](two).load(tmp_path)


def test_the_columns_of_the_data_are_the_episodes_one_after_the_other():
    episodes = [square_episode(s, steps=8 + s, success=s != 1) for s in range(3)]
    data = RewardData(episodes)
    assert data.first.tolist() == [0, 9, 19] and data.length.tolist() == [9, 10, 11]
    assert data.success.tolist() == [True, False, True]
    for first, episode in zip(data.first, episodes):
        rows = slice(first, first + len(episode) + 1)
        assert np.array_equal(data.states[rows], episode.states)
        assert np.array_equal(data.actions[rows][:-1], episode.actions)
