"""Learned rewards, taught for a few seconds on squares that move to the right."""

import numpy as np
import pytest
import torch
from fakes import square_episode

from robostack.rewards.eye import EyeConfig
from robostack.rewards.learned import RewardData
from robostack.rewards.progress import ProgressConfig, ProgressEstimator
from robostack.rewards.success import SuccessConfig, SuccessDetector
from robostack.rewards.world_model import WorldModel, WorldModelConfig

EYE = EyeConfig(side=32, width=48)


def squares(jerky=False):
    """24 episodes, every fourth a failure; held-out ones have seeds from 100 on."""
    return [square_episode(s, success=s % 4 != 3, jerky=jerky) for s in range(24)]


def teach(kind, config, steps, lr=2e-3, jerky=False):
    torch.manual_seed(0)
    reward = kind(square_episode(0).spec, EYE, config).train()
    data = RewardData(squares(jerky), reward.eye)
    reward.fit(data)
    optimizer = torch.optim.Adam([p for p in reward.parameters() if p.requires_grad], lr)
    for step in range(steps):
        loss, _ = reward.loss(data, np.random.default_rng([0, step]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    reward.eval()
    reward.calibrate(data)
    return reward


@pytest.fixture(scope="session")
def progress():
    return teach(ProgressEstimator, ProgressConfig(episodes=8, frames=4), steps=150)


@pytest.fixture(scope="session")
def success():
    return teach(SuccessDetector, SuccessConfig(batch=32), steps=80)


@pytest.fixture(scope="session")
def world_model():
    config = WorldModelConfig(batch=8, kept=256, members=2)
    return teach(WorldModel, config, steps=150, lr=3e-3, jerky=True)
