"""A reward that reads noisy chunks learns what is preferred, at every noise, and steers by it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import SPEC, make_episode, tiny_vla

from robostack.learn import guide
from robostack.learn.pairs import PairError
from robostack.learn.run import Run
from robostack.policy.chunking import ChunkRunner
from robostack.protocols import ChunkReward
from robostack.rewards.eye import EyeConfig
from robostack.rewards.load import load_reward
from robostack.rewards.noisy import TIES, NoisyConfig, NoisyReward, tied
from robostack.testing import check_reward
from robostack.types import Clip, Preference

EYE = EyeConfig(side=16, width=16)
CONFIG = guide.GuideConfig(
    steps=150, batch=16, windows=1, draws=2, lr=3e-3, eye=EYE, noisy=NoisyConfig(hidden=32)
)
TRIES = {f"{i}": make_episode(i, steps=4) for i in range(240)}


def rightmost(a, b):
    """Whichever moves more to the right is preferred."""
    better, worse = sorted((a, b), key=lambda i: -TRIES[i].actions[:, 0].mean())
    return Preference(Clip(better, 0, 4), Clip(worse, 0, 4), 1.0, {}, f"{a} or {b}")


PAIRS = [rightmost(f"{i}", f"{i + 1}") for i in range(0, 240, 2)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("guide") / "run", "test", {})


@pytest.fixture(scope="module")
def policy():
    return tiny_vla()


@pytest.fixture(scope="module")
def noisy(run, policy):
    return guide.train(CONFIG, policy, PAIRS, TRIES, run)


def test_unseen_chunks_are_ranked_as_was_preferred(noisy):
    assert isinstance(noisy, ChunkReward)
    chunks = np.random.default_rng(7).uniform(-1, 1, (64, 4, 3)).astype(np.float32)
    ranks = noisy.rank(make_episode(99).observation(0), chunks)
    assert np.corrcoef(ranks, chunks[:, :, 0].mean(1))[0, 1] > 0.8


def test_noise_makes_it_less_sure_and_not_wrong(noisy):
    chunks = torch.rand(256, 4, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    looked = noisy.looked_at(make_episode(99).observation(0)).expand(256, -1)
    noise = torch.randn(256, 4, 3, generator=torch.Generator().manual_seed(1))
    agree = []
    with torch.no_grad():
        for tau in (0.1, 0.9):
            r = noisy.value(looked, (1 - tau) * chunks + tau * noise, torch.full((256,), tau))
            agree.append(float(torch.corrcoef(torch.stack([r, chunks[..., 0].mean(1)]))[0, 1]))
    assert agree[0] > 0.7 and agree[0] > agree[1] > -0.2


def test_steering_by_it_moves_chunks_to_what_was_preferred(noisy, policy):
    seen, mean = make_episode(98).observation(0), []
    for weight in (0.0, 0.03, 0.3):
        runner = ChunkRunner(policy, execute=4, steps=10, steer=noisy.steer(4, weight))
        runner.reset(0)
        mean.append(np.mean([runner.plan(seen)[:, 0].mean() for _ in range(32)]))
    assert mean[0] < mean[1] < mean[2]


def test_it_is_saved_and_loaded_like_any_reward(noisy, run):
    again = load_reward(run.path)
    assert again.fingerprint() == noisy.fingerprint()
    seen, chunks = make_episode(3).observation(0), np.zeros((2, 4, 3), np.float32)
    assert np.array_equal(again.rank(seen, chunks), noisy.rank(seen, chunks))
    check_reward(again, make_episode(5))


def test_it_speaks_the_units_of_the_policy_that_it_was_made_for(noisy, policy):
    for name, value in policy.normalize_action.state_dict().items():
        assert torch.equal(noisy.normalize_action.state_dict()[name].cpu(), value.cpu())


def test_chunks_of_another_length_are_refused(noisy):
    with pytest.raises(ValueError, match="chunks of 4 actions, the policy has chunks of 8"):
        noisy.steer(8, 1.0)


def test_resumed_training_ends_where_uninterrupted_training_does(tmp_path, monkeypatch):
    from robostack.learn.learner import Learner

    config = replace(CONFIG, steps=6, save_every=3)
    whole = guide.train(config, tiny_vla(), PAIRS, TRIES, Run(tmp_path / "a", "test", {}))
    step, left = Learner.step, iter(range(4))

    def cut(self, losses):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return step(self, losses)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", cut)
        with pytest.raises(KeyboardInterrupt):
            guide.train(config, tiny_vla(), PAIRS, TRIES, Run(tmp_path / "b", "test", {}))
    again = guide.train(config, tiny_vla(), PAIRS, TRIES, Run(tmp_path / "b", "test", {}))
    assert again.fingerprint() == whole.fingerprint()


def test_pairs_that_cannot_be_learned_from_are_named(tmp_path):
    missing = [Preference(Clip("0", 0, 4), Clip("999", 0, 4), 1.0, {}, "state 7")]
    with pytest.raises(PairError, match="state 7 needs episode 999"):
        guide.train(CONFIG, tiny_vla(), missing, TRIES, Run(tmp_path / "a", "test", {}))


def test_ties_alone_teach_nothing_and_are_refused(tmp_path):
    ties = [replace(p, margin=0.0, tie=True) for p in PAIRS]
    with pytest.raises(PairError, match="ties"):
        guide.train(CONFIG, tiny_vla(), ties, TRIES, Run(tmp_path / "a", "test", {}))


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"warmup": -1}, {"average": 2.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(CONFIG, **wrong)


# Bradley-Terry with ties ------------------------------------------------------------------------
@pytest.mark.parametrize("margin", [-3.0, 0.0, 2.0])
def test_better_worse_and_tie_are_all_that_can_be(margin):
    """exp(-loss) are probabilities that sum to one (Rao and Kupper)."""
    m, one = torch.tensor([margin]), torch.ones(1)
    worse = torch.exp(-tied(-m, one))
    chances = [torch.exp(-tied(m, one)), worse, torch.exp(-tied(m, one / 2))]
    assert float(sum(chances)) == pytest.approx(1.0, abs=1e-5)


def test_a_tie_is_likeliest_where_both_are_worth_the_same_and_then_two_thirds():
    at = {m: float(tied(torch.tensor([m]), torch.tensor([0.5]))) for m in (-1.0, 0.0, 1.0)}
    assert at[0.0] < at[1.0] == pytest.approx(at[-1.0])
    assert math.exp(-at[0.0]) == pytest.approx((TIES - 1) / (TIES + 1), abs=1e-5)


def test_a_label_that_may_be_wrong_asks_for_no_endless_margin_and_is_no_tie():
    margin, label = torch.tensor([0.0, 3.0, 30.0]), torch.full((3,), 0.95)
    loss = tied(margin, label)
    by_hand = 0.95 * tied(margin, torch.ones(3)) + 0.05 * tied(-margin, torch.ones(3))
    assert torch.allclose(loss, by_hand, atol=1e-6) and loss[1] < loss[0] and loss[1] < loss[2]


def test_a_reward_without_cameras_to_look_through_is_refused(noisy):
    seen = replace(make_episode(0).observation(0), images={})
    with pytest.raises(ValueError, match="looks at"):
        noisy.rank(seen, np.zeros((1, 4, 3), np.float32))
    assert NoisyReward.name == "noisy" and SPEC.cameras
