"""Executing the best of several chunks: the judge that is named is the one that decides."""

from dataclasses import replace

import numpy as np
import pytest

from robostack.policy.expert import ExpertConfig
from robostack.policy.implicit import ImplicitReward
from robostack.policy.vla import VLA, VLAConfig
from robostack.rewards.keypoints import KeypointAffordance
from robostack.rewards.load import KINDS
from robostack.rewards.saved import SavedReward
from robostack.sim.arena import Trial, play
from robostack.sim.env import EnvConfig, make_env
from robostack.sim.worker import RunnerConfig, Unplayable, Worker
from robostack.types import SpecMismatch

BLIND = EnvConfig(task="Lift", cameras={}, horizon=16)


class Low(SavedReward):
    """Prefers chunks that go down."""

    name = "low"

    def __init__(self, spec):
        self.spec = spec

    def score(self, episode):
        return np.zeros(len(episode) + 1, np.float32)

    def rank(self, observation, chunks):
        return -chunks[:, :, 2].mean(1)

    def settings(self):
        return {}

    def arrays(self):
        return {"nothing": np.zeros(1)}

    @classmethod
    def restore(cls, spec, settings, arrays, parts):
        return cls(spec)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(KINDS, "low", Low)


@pytest.fixture(scope="module")
def env():
    env = make_env(BLIND)
    yield env
    env.close()


@pytest.fixture(scope="module")
def policies(env, tmp_path_factory):
    """Folders of two policies, each inside a run."""
    home = tmp_path_factory.mktemp("policies")
    for name in ("one", "two"):
        config = VLAConfig(expert=ExpertConfig(width=32))
        VLA(config, env.spec).save(home / name / "policy")
    return home


def runner(worker, env, policies, **changes):
    return worker.policy(str(policies / "one" / "policy"), RunnerConfig(**changes), env)


def test_a_reward_that_ranks_chooses_the_chunk(env, policies, tmp_path):
    Low(env.spec).save(tmp_path / "low")
    seen = env.reset(0).observation
    worker, heights = Worker(BLIND, env), []
    for changes in ({}, {"best_of": 16, "judge": str(tmp_path / "low")}):
        policy = runner(worker, env, policies, **changes)
        policy.reset(0)
        heights.append(np.mean([policy.act(seen)[:, 2].mean() for _ in range(8)]))
    assert heights[1] < heights[0] - 0.1


def test_a_policy_as_judge_is_asked_what_it_learned_beyond_its_reference(env, policies):
    worker = Worker(BLIND, env)
    two = str(policies / "two")
    acting = runner(worker, env, policies, best_of=4, judge=two)
    judge = acting.score.__self__
    assert isinstance(judge, ImplicitReward)
    assert judge.better is worker.loaded[str(policies / "two" / "policy")]
    assert judge.reference is acting.vla
    named = runner(worker, env, policies, best_of=4, judge=str(policies / "one"), reference=two)
    assert named.score.__self__.reference is judge.better
    assert len(worker.loaded) == 2  # each is loaded once


def test_an_episode_is_played_with_a_judge(env, policies, tmp_path):
    Low(env.spec).save(tmp_path / "low")
    config = RunnerConfig(best_of=2, judge=str(tmp_path / "low"))
    trial = Trial(str(policies / "one" / "policy"), BLIND, config, 0.0, 0, film=False)
    assert play(Worker(BLIND, env), trial).steps == 16


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"best_of": 4}, "best_of=4 with judge=''"),
        ({"judge": "runs/world"}, "best_of=1 with judge='runs/world'"),
        ({"best_of": 0}, "best_of=0"),
        ({"reference": "runs/bc"}, "a reference is for a judge"),
        ({"guide": "runs/guide", "guidance": -1.0}, "guidance=-1.0 with guide='runs/guide'"),
        ({"guide": "runs/guide", "guidance": float("nan")}, "guidance=nan"),
        ({"guidance": 7.0}, "guidance=7.0 with guide=''"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        RunnerConfig(**wrong)


def test_a_judge_that_cannot_rank_or_is_not_there_is_refused(env, policies, tmp_path):
    KeypointAffordance(env.spec).save(tmp_path / "keypoints")
    for judge, told in (("keypoints", "keypoints cannot rank chunks"), ("absent", "absent")):
        config = RunnerConfig(best_of=2, judge=str(tmp_path / judge))
        trial = Trial(str(policies / "one" / "policy"), BLIND, config, 0.0, 0, film=False)
        with pytest.raises(Unplayable, match=told):
            play(Worker(BLIND, env), trial)


@pytest.mark.parametrize("which", ["judge", "reference"])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"control_hz": 7.0}, "the {} .* do not fit together:\n *control_hz"),
        ({"horizon": 4}, "the {} .* has chunks of 4 actions, the acting policy of 8"),
    ],
)
def test_a_judge_and_a_reference_must_be_of_this_robot_and_of_chunks_as_long(
    env, policies, tmp_path, which, changes, told
):
    spec = replace(env.spec, **{k: v for k, v in changes.items() if k != "horizon"})
    config = VLAConfig(horizon=changes.get("horizon", 8), expert=ExpertConfig(width=32))
    VLA(config, spec).save(tmp_path / "other")
    named = {"judge": str(policies / "two"), "reference": str(policies / "two")}
    config = RunnerConfig(best_of=2, **named | {which: str(tmp_path / "other")})
    trial = Trial(str(policies / "one" / "policy"), BLIND, config, 0.0, 0, film=False)
    with pytest.raises(Unplayable, match=told.format(which)):
        play(Worker(BLIND, env), trial)


def test_two_policies_of_another_robot_do_not_judge_this_one(env, policies, tmp_path):
    for name in ("a", "b"):
        spec = replace(env.spec, control_hz=7.0)
        VLA(VLAConfig(expert=ExpertConfig(width=32)), spec).save(tmp_path / name)
    config = RunnerConfig(best_of=2, judge=str(tmp_path / "a"), reference=str(tmp_path / "b"))
    with pytest.raises(SpecMismatch, match="the judge .*the environment.*\n.*control_hz"):
        Worker(BLIND, env).policy(str(policies / "one" / "policy"), config, env)
