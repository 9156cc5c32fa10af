"""Deviation from demonstrations: nothing looks more demonstrated than a demonstration."""

import numpy as np
import pytest
import torch
from fakes import SQUARE_SPEC, square_episode

from robostack.protocols import ChunkReward, Reward
from robostack.rewards.deviation import SCALE, Deviation, windows
from robostack.rewards.eye import EyeConfig
from robostack.rewards.load import load_reward
from robostack.rewards.saved import RewardError
from robostack.rewards.world_model import WorldModel

EYE = EyeConfig(side=32, width=48)
DEMOS = [square_episode(s) for s in range(3)]


@pytest.fixture(scope="module")
def deviation():
    torch.manual_seed(0)
    return Deviation(WorldModel(SQUARE_SPEC, EYE).eval(), DEMOS, horizon=4)


@pytest.mark.parametrize(("demo", "t"), [(0, 0), (1, 7), (2, 12)])
def test_the_demonstrated_chunk_at_a_demonstrated_state_ranks_first(deviation, demo, t):
    rng = np.random.default_rng(t)
    true = DEMOS[demo].actions[t : t + 4]
    others = [true + rng.normal(0, 0.1, true.shape).astype(np.float32) for _ in range(5)]
    ranks = deviation.rank(DEMOS[demo].observation(t), np.stack([*others, true]))
    assert ranks.argmax() == 5 and ranks[5] == pytest.approx(1, abs=1e-6)


def test_a_chunk_off_by_scale_everywhere_ranks_at_one_over_e(deviation):
    off = DEMOS[0].actions[2:6] + np.float32(SCALE)
    assert deviation.rank(DEMOS[0].observation(2), off[None])[0] == pytest.approx(np.exp(-1))


def test_a_demonstration_scores_one_everywhere(deviation):
    score = deviation.score(DEMOS[1])
    assert score.shape == (17,) and score.dtype == np.float32
    assert np.allclose(score, 1, atol=1e-6)


def test_other_actions_in_the_same_pictures_score_lower_and_in_range(deviation):
    from dataclasses import replace

    other = replace(DEMOS[1], actions=-DEMOS[1].actions)
    score = deviation.score(other)
    assert (score >= 0).all() and (score < 0.9).all()


def test_windows_are_what_a_loop_cuts_out():
    actions = np.arange(10, dtype=np.float32).reshape(5, 2)
    for t, window in enumerate(windows(actions, 3)):
        assert np.array_equal(window, [actions[min(t + h, 4)] for h in range(3)])


def test_without_demonstrations_there_is_nothing_to_deviate_from(deviation):
    with pytest.raises(RewardError, match="demonstration"):
        Deviation(deviation.world_model, [], 4)


def test_the_fingerprint_knows_the_demonstrations_and_the_world_model(deviation):
    model = deviation.world_model
    fewer, other = Deviation(model, DEMOS[:2], 4), Deviation(WorldModel(SQUARE_SPEC, EYE), DEMOS, 4)
    prints = {d.fingerprint() for d in (deviation, fewer, other, Deviation(model, DEMOS, 3))}
    assert len(prints) == 4
    assert Deviation(model, DEMOS, 4).fingerprint() == deviation.fingerprint()


def test_it_is_a_reward_of_observations_and_of_chunks(deviation):
    assert isinstance(deviation, Reward) and isinstance(deviation, ChunkReward)


def test_a_loaded_one_brings_its_world_model_along(deviation, tmp_path):
    deviation.save(tmp_path)
    loaded = load_reward(tmp_path)
    assert loaded.fingerprint() == deviation.fingerprint()
    assert np.array_equal(loaded.score(DEMOS[1]), deviation.score(DEMOS[1]))


def test_demonstrations_of_the_same_instruction_are_preferred(deviation):
    from dataclasses import replace

    other = [replace(e, task="push it left", actions=-e.actions) for e in DEMOS]
    both = Deviation(deviation.world_model, [*DEMOS, *other], 4)
    assert np.allclose(both.score(DEMOS[0]), 1, atol=1e-6)
    assert np.allclose(both.score(other[0]), 1, atol=1e-6)
