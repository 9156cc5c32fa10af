"""Teaching learned rewards for a few seconds on squares that move to the right."""

from dataclasses import replace

import numpy as np
import torch
from fakes import square_episode

from robostack.augment import AugmentConfig
from robostack.rewards.eye import EyeConfig
from robostack.rewards.learned import RewardData

LARGE = EyeConfig(side=32, width=48)
EYE = EyeConfig(side=16, width=48, augment=AugmentConfig(shift=1))


def squares(jerky=False):
    """24 episodes, every fourth a failure; held-out ones have seeds from 100 on. They share no
    start."""
    found = [square_episode(s, success=s % 4 != 3, jerky=jerky) for s in range(24)]
    return [replace(episode, group="") for episode in found]


def teach(kind, config, steps, lr=2e-3, jerky=False, more=(), episodes=None, eye=EYE):
    """On squares and `more`, or on other `episodes`."""
    torch.manual_seed(0)
    episodes = episodes or [*squares(jerky), *more]
    reward = kind(episodes[0].spec, eye, config).train()
    data = RewardData(episodes, reward.eye)
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
