"""Training of rewards: what an interruption must not change."""

import pytest
from fakes import square_episode

from robostack.learn import reward

EPISODES = [square_episode(s, success=s != 1) for s in range(4)]


def train(run, kind):
    config = reward.RewardConfig(kind=kind, steps=4, warmup=1, average=0.5, save_every=2)
    return reward.train(config, EPISODES, run)


@pytest.mark.parametrize("kind", list(reward.KINDS))
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
    assert reward.KINDS[kind](whole.spec).load(run.path / "reward").fingerprint() == (
        whole.fingerprint()
    )


def test_a_run_cut_between_its_last_update_and_its_end_can_be_finished(
    new_run, weights, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    kind = "success"
    with monkeypatch.context() as patch:
        patch.setattr(reward.KINDS[kind], "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(new_run("cut"), kind)
    assert weights(train(new_run("cut"), kind)) == weights(train(new_run("whole"), kind))
