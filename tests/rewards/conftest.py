"""Learned rewards, taught for a few seconds on squares that move to the right."""

from dataclasses import replace

import pytest
from fakes import square_tries
from taught import EYE, teach

from robostack.rewards.progress import ProgressConfig, ProgressEstimator
from robostack.rewards.success import SuccessConfig, SuccessDetector
from robostack.rewards.world_model import WorldModel, WorldModelConfig


@pytest.fixture(scope="session")
def progress():
    config = ProgressConfig(episodes=8, frames=3, wrong=0.4, failed=0.2)
    return teach(ProgressEstimator, config, steps=100, eye=replace(EYE, width=96))


@pytest.fixture(scope="session")
def success():
    return teach(SuccessDetector, SuccessConfig(batch=32), steps=80)


@pytest.fixture(scope="session")
def world_model():
    config = WorldModelConfig(batch=8, kept=256, members=2)
    tries = [e for seed in range(15) for e in square_tries(seed, up=False)]
    return teach(WorldModel, config, steps=125, lr=3e-3, jerky=True, more=tries)
