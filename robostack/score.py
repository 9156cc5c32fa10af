"""Rewards by name, and their scores as side-cars next to the episodes."""

from __future__ import annotations

from pathlib import Path

from robostack.data.store import StoreError, open_store, read_episodes
from robostack.learn.run import progress
from robostack.protocols import Reward
from robostack.rewards.deviation import Deviation
from robostack.rewards.keypoints import KeypointAffordance
from robostack.rewards.learned import RewardError
from robostack.rewards.load import load_reward


def load_rewards(names: list[str], demonstrations: list[Path], horizon: int = 8) -> dict:
    """Rewards by name from `keypoints`, `deviation` and folders of learned ones.

    Deviation needs demonstrations to deviate from and a world model to find them with.
    """
    found: dict[str, Reward] = {}
    for name in names:
        if name == KeypointAffordance.name:
            found[name] = KeypointAffordance()
        elif name != Deviation.name:
            loaded = load_reward(name)
            found[loaded.name] = loaded
    if Deviation.name in names:
        if "world_model" not in found or not demonstrations:
            raise RewardError("deviation needs --demos and a world model among the rewards")
        found[Deviation.name] = Deviation(
            found["world_model"], read_episodes(demonstrations), horizon
        )
    return found


def score(rewards: dict[str, Reward], data: Path) -> dict[str, int]:
    """Write a side-car of every reward next to the episodes; up-to-date ones are kept."""
    store = open_store(data)
    store.require_episodes()
    stale = {}
    for name, judge in rewards.items():
        try:
            table = store.read_scores(name, judge.fingerprint())
        except StoreError:
            table = {}
        if set(table) != set(store.ids()):
            stale[name] = table
    written = dict.fromkeys(stale, 0)
    if not stale:
        return written
    for episode_id, episode in progress(store.episodes(), "score", len(store)):
        for name, table in stale.items():
            if episode_id not in table:
                table[episode_id] = rewards[name].score(episode)
                written[name] += 1
    for name, table in stale.items():
        store.write_scores(name, rewards[name].fingerprint(), table)
    return written
