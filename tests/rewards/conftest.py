"""Learned rewards, taught for a few seconds on squares that move to the right."""

import numpy as np
import pytest
import torch
from fakes import square_episode

from robostack.rewards.learned import RewardData
from robostack.rewards.progress import ProgressEstimator
from robostack.rewards.success import SuccessDetector
from robostack.rewards.world_model import WorldModel


def teach(kind, steps, batch, lr=2e-3, jerky=False):
    """24 episodes, every fourth a failure; held-out ones have seeds from 100 on."""
    data = RewardData([square_episode(s, success=s % 4 != 3, jerky=jerky) for s in range(24)])
    torch.manual_seed(0)
    reward = kind(data.spec).train()
    reward.fit(data)
    optimizer = torch.optim.Adam([p for p in reward.parameters() if p.requires_grad], lr)
    for step in range(steps):
        loss, _ = reward.loss(data, np.random.default_rng([0, step]), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    reward.eval()
    reward.calibrate(data)
    return reward


@pytest.fixture(scope="session")
def progress():
    return teach(ProgressEstimator, steps=100, batch=8)


@pytest.fixture(scope="session")
def success():
    return teach(SuccessDetector, steps=60, batch=32)


@pytest.fixture(scope="session")
def world_model():
    return teach(WorldModel, steps=150, batch=8, lr=3e-3, jerky=True)
