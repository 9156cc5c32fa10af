"""A try that is followed is worth what it is worth once it is over, however long it already is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import SQUARE_SPEC, square_episode

from robostack.protocols import Follower, Follows
from robostack.real.scoring import Growing
from robostack.rewards.combine import explained
from robostack.rewards.combined import Combined
from robostack.rewards.deviation import Deviation
from robostack.rewards.eye import EyeConfig
from robostack.rewards.follow import Whole, follower
from robostack.rewards.noisy import NoisyConfig, NoisyReward
from robostack.rewards.saved import RewardError

ALL = ("progress", "success", "world_model", "deviation", "noisy", "combined")


@pytest.fixture(params=ALL)
def reward(request):
    get = request.getfixturevalue
    if request.param == "deviation":
        demos = [square_episode(s, jerky=True) for s in range(3)]
        return Deviation(get("world_model"), demos, horizon=4)
    if request.param == "noisy":
        torch.manual_seed(0)
        return NoisyReward(SQUARE_SPEC, EyeConfig(side=32, width=48), NoisyConfig(4, 16)).eval()
    if request.param == "combined":
        members = {name: get(name) for name in ("progress", "world_model")}
        return Combined(members, {"progress": 1.0, "world_model": 2.0}, gate=0.5, pessimism=0.5)
    return get(request.param)


def first(episode, steps):
    """So many actions of an episode, as if it had ended there."""
    until = steps + 1
    return replace(
        episode,
        images={name: frames[:until] for name, frames in episode.images.items()},
        states=episode.states[:until],
        actions=episode.actions[:steps],
        stamps=episode.stamps[:until],
    )


def shown(judge, episode, start, stop):
    seen = [episode.observation(t) for t in range(start, stop)]
    return judge.see(seen, episode.actions[max(start - 1, 0) : stop - 1])


@pytest.mark.parametrize("at_once", [1, 3, 26])
def test_what_is_said_of_the_newest_is_what_would_be_said_of_the_whole_try(reward, at_once):
    episode = square_episode(100, steps=25, jerky=True)
    judge = follower(reward, episode.spec)
    assert isinstance(reward, Follows) and isinstance(judge, Follower)
    for start in range(0, 26, at_once):
        stop = min(start + at_once, 26)
        said = shown(judge, episode, start, stop)
        if stop < 2:
            continue
        whole = explained(reward, first(episode, stop - 1))
        assert said.potential.shape == said.confidence.shape == (1,)
        assert np.allclose(said.potential, whole.potential[-1:], atol=1e-4)
        assert np.allclose(said.confidence, whole.confidence[-1:], atol=1e-4)
        assert said.terms.keys() == whole.terms.keys()
        for name, term in whole.terms.items():
            assert np.allclose(said.terms[name], term[-1:], atol=1e-4), name


def test_a_live_verdict_is_the_score_of_the_try_so_far(reward):
    episode = square_episode(101, steps=12, jerky=True)
    growing, said = Growing(reward, episode.spec, 0.95, 100), {}
    for t in range(13):
        growing.see(episode.observation(t), episode.actions[t - 1] if t else None)
        if t % 3 == 1:  # verdicts come when there is time for them
            said[t] = growing.judge().progress
    scores = {t: float(reward.score(first(episode, t))[-1]) for t in said}
    assert said == pytest.approx(scores, abs=1e-4)


@pytest.fixture
def looked_at(monkeypatch):
    """How many observations encoders looked at so far, those of all rewards."""
    count = [0]

    def counted(module, args, out):
        if type(module).__name__ == "SmallEye":
            count[0] += len(args[0])

    hook = torch.nn.modules.module.register_module_forward_hook(counted)
    yield count
    hook.remove()


def test_the_three_hundredth_step_costs_what_the_thirtieth_does(reward, looked_at):
    episode = square_episode(102, steps=300, jerky=True)
    growing, costs = Growing(reward, episode.spec, 0.95, 1000), {}
    for t in range(301):
        before = looked_at[0]
        growing.see(episode.observation(t), episode.actions[t - 1] if t else None)
        if t in (1, 29, 30, 299, 300):
            growing.judge()
            costs[t] = looked_at[0] - before
    assert costs[300] == costs[30] <= 2
    assert not growing._new  # nor are pictures kept


class Whiteness:
    name = "whiteness"

    def score(self, episode):
        return (episode.images["top"].mean((1, 2, 3)) / 255).astype(np.float32)

    def fingerprint(self):
        return "whiteness"


def test_any_other_reward_is_shown_the_whole_try_again():
    episode, judge = square_episode(0), follower(Whiteness(), SQUARE_SPEC)
    assert isinstance(judge, Whole)
    with pytest.raises(ValueError, match="from its first action on"):
        shown(judge, episode, 0, 1)
    for t in range(1, 5):
        said = shown(judge, episode, t, t + 1)
        assert said.potential == Whiteness().score(episode)[t] and said.confidence == 1


def test_a_member_that_cannot_follow_is_shown_the_whole_try(progress):
    class Known(Whiteness):
        spec = SQUARE_SPEC

    both = Combined({"progress": progress, "whiteness": Known()}, {"progress": 1, "whiteness": 1})
    episode = square_episode(103)
    said = shown(both.follow(), episode, 0, 10)
    assert said.potential == pytest.approx(both.score(first(episode, 9))[-1], abs=1e-4)


def test_a_try_of_one_instruction_does_not_go_on_as_one_of_another(progress):
    judge, episode = progress.follow(), square_episode(0)
    shown(judge, episode, 0, 3)
    with pytest.raises(ValueError, match="went on as one of .'open the door'"):
        shown(judge, replace(episode, task="open the door"), 3, 4)


def test_a_camera_that_never_changes_is_noticed_while_the_arm_moves(progress):
    episode = square_episode(0)
    still = replace(episode, images={"top": np.repeat(episode.images["top"][:1], 17, 0)})
    judge = progress.follow()
    for t in range(5):  # it may only be slow
        shown(judge, still, t, t + 1)
    with pytest.raises(RewardError, match="'top' is frozen: all its 6 frames are the same"):
        shown(judge, still, 5, 6)
    alive = replace(episode, states=still.states)  # and it comes to life
    said = shown(judge, alive, 6, 17)
    images = {"top": np.concatenate([still.images["top"][:6], alive.images["top"][6:]])}
    assert said.potential == pytest.approx(
        progress.score(replace(alive, images=images))[-1], abs=1e-4
    )
