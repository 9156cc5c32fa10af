"""The exams pass what is right and fail what is wrong."""

import dataclasses

import numpy as np
import pytest
from fakes import tiny_size

from robostack.policy.chunking import ChunkRunner
from robostack.policy.vla import VLA
from robostack.rewards.keypoints import KeypointAffordance
from robostack.rollout import rollout
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env
from robostack.testing import check_env, check_policy, check_reward


@pytest.fixture(scope="module")
def env():
    env = make_env(EnvConfig(cameras={"agentview": 32}))
    yield env
    env.close()


class Wrapped:
    """An environment with one thing changed."""

    def __init__(self, env):
        self.env, self.spec = env, env.spec

    def __getattr__(self, name):
        return getattr(self.env, name)


def test_the_simulated_environment_passes(env):
    check_env(env)


def test_a_reset_that_ignores_its_seed_fails(env):
    class Restless(Wrapped):
        count = 0

        def reset(self, seed):
            self.count += 1
            return self.env.reset(self.count)

    with pytest.raises(AssertionError, match="two different starts"):
        check_env(Restless(env))


def test_an_environment_that_takes_any_action_fails(env):
    class Careless(Wrapped):
        def step(self, action):
            return self.env.step(np.resize(np.nan_to_num(action), 7))

    with pytest.raises(AssertionError, match="not refused"):
        check_env(Careless(env))


def test_a_snapshot_that_forgets_something_fails(env):
    class Forgetful(Wrapped):
        def restore(self, snapshot):
            state = snapshot[0].copy()
            state[1:10] += 1e-3
            return self.env.restore((state, *snapshot[1:]))

        def snapshot(self):
            return self.env.snapshot()

    with pytest.raises(AssertionError, match="restore"):
        check_env(Forgetful(env))


def test_an_unseen_step_that_is_another_one_fails(env):
    class Idle(Wrapped):
        def step_unseen(self, action):
            return self.env.step_unseen(np.zeros(7))

    with pytest.raises(AssertionError, match="step_unseen: it led elsewhere"):
        check_env(Idle(env))


def test_policies_pass_and_a_drifting_one_fails(env):
    check_policy(ScriptedExpert(env, noise=0.1), env)
    vla = VLA(tiny_size(8, layers=1, width=32), env.spec)
    check_policy(ChunkRunner(vla), env)

    class Drifting(ChunkRunner):
        def reset(self, seed):
            super().reset(np.random.randint(2**31))

    with pytest.raises(AssertionError, match="gave other actions"):
        check_policy(Drifting(vla), env)


def test_rewards_pass_and_one_out_of_range_fails(env):
    episode = rollout(env, ScriptedExpert(env), 0, source="demo")
    check_reward(KeypointAffordance(), episode)

    class Loud(KeypointAffordance):
        def score(self, episode):
            return 2 * super().score(episode)

    with pytest.raises(AssertionError, match=r"\[0, 1\]"):
        check_reward(Loud(), episode)


def test_an_episode_can_be_cut_short(env):
    episode = rollout(env, ScriptedExpert(env), 0, max_steps=3, source="demo")
    assert len(episode) == 3 and not episode.terminated
    assert dataclasses.replace(episode, group="a").group == "a"
