"""Training of rewards: what an interruption must not change, and the kinds that need no steps."""

import numpy as np
import pytest
from fakes import SQUARE_SPEC, square_episode

from robostack.learn import reward
from robostack.rewards.eye import EyeConfig
from robostack.rewards.load import LEARNED, load_reward
from robostack.rewards.progress import ProgressConfig, ProgressEstimator
from robostack.rewards.saved import RewardError
from robostack.rewards.world_model import WorldModel, WorldModelConfig

EPISODES = [square_episode(s, success=s != 1) for s in range(4)]
EYE = EyeConfig(side=16, width=16)


def config(kind, **changes):
    few = dict(steps=4, warmup=1, average=0.5, save_every=2, eye=EYE)
    sizes = dict(
        world_model=WorldModelConfig(batch=4, members=2, kept=64),
        progress=ProgressConfig(episodes=3, frames=3),
    )
    return reward.RewardConfig(kind=kind, **(few | sizes | changes))


def train(run, kind, **changes):
    return reward.train(config(kind), EPISODES, run, **changes)


@pytest.mark.parametrize("kind", list(LEARNED))
def test_resumed_training_ends_at_the_very_weights_of_uninterrupted_training(
    kind, new_run, stop_before, weights
):
    whole = train(new_run("whole"), kind)
    go_on = stop_before(4)
    with pytest.raises(KeyboardInterrupt):
        train(new_run("cut"), kind)
    go_on()
    run = new_run("cut")
    assert weights(train(run, kind)) == weights(whole)
    assert load_reward(run.path).fingerprint() == whole.fingerprint()


def test_a_run_cut_between_its_last_update_and_its_end_can_be_finished(
    new_run, weights, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    kind = "success"
    with monkeypatch.context() as patch:
        patch.setattr(LEARNED[kind], "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(new_run("cut"), kind)
    assert weights(train(new_run("cut"), kind)) == weights(train(new_run("whole"), kind))


def test_adapting_keeps_the_units_of_the_weights_and_learns_the_new_goal(new_run):
    first = train(new_run("first"), "progress")
    low = first.normalize_state.low.clone()
    demo = square_episode(50)
    demo = demo.__class__(**{**vars(demo), "task": "push the square away"})
    adapted = reward.train(config("progress"), [demo], new_run("next"), start=first)
    assert np.array_equal(adapted.normalize_state.low, low)
    assert adapted.tasks == ("push the square away",)


def test_without_episodes_there_is_one_clear_error(new_run):
    with pytest.raises(RewardError, match="no episodes"):
        reward.train(config("success"), [], new_run("none"))


def test_deviation_is_saved_with_the_world_model_that_it_needs(new_run):
    model = WorldModel(SQUARE_SPEC, EYE)
    run = new_run("deviation")
    demos = [e.__class__(**{**vars(e), "source": "demo"}) for e in EPISODES]
    made = reward.make(config("deviation"), demos, [model], run)
    assert load_reward(run.path).fingerprint() == made.fingerprint()


def test_deviation_without_a_world_model_says_so(new_run):
    with pytest.raises(RewardError, match="needs one --reward, a world model"):
        reward.make(config("deviation"), EPISODES, [], new_run("deviation"))


def test_a_combination_needs_members_of_different_names(new_run):
    with pytest.raises(RewardError, match="needs the --reward of every member"):
        reward.make(config("combined"), EPISODES, [], new_run("a"))
    two = [ProgressEstimator(SQUARE_SPEC, EYE) for _ in range(2)]
    with pytest.raises(RewardError, match="two members of one name, of progress, progress"):
        reward.make(config("combined"), EPISODES, two, new_run("b"))
