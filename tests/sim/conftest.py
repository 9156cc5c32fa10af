"""Real robosuite environments, each built once: that takes seconds."""

import pytest

from robostack.sim.env import EnvConfig, make_env


@pytest.fixture(scope="session")
def lift():
    env = make_env(EnvConfig(cameras={"agentview": 64, "robot0_eye_in_hand": 16}))
    yield env
    env.close()


@pytest.fixture(scope="session")
def stack():
    env = make_env(EnvConfig(task="Stack", cameras={"agentview": 8}))
    yield env
    env.close()
