"""Rewards by name, and their scores as side-cars next to the episodes."""

from __future__ import annotations

from pathlib import Path

from robostack.data.store import StoreError, iter_episodes, open_store
from robostack.learn.run import progress
from robostack.protocols import Reward
from robostack.rewards.combine import judged
from robostack.rewards.deviation import Deviation
from robostack.rewards.keypoints import KeypointAffordance
from robostack.rewards.load import import_reward, load_reward
from robostack.rewards.saved import RewardError, Starts, noted


def load_rewards(names: list[str], demonstrations: list[Path], horizon: int = 8) -> dict:
    """Rewards by name from folders of saved ones, `keypoints`, `deviation` (from demonstrations,
    with a world model among the rest), and `file.py:Class` of one's own."""
    found: dict[str, Reward] = {}
    for name in names:
        if name == Deviation.name:
            continue
        if name == KeypointAffordance.name:
            reward = KeypointAffordance()
        else:
            own = ":" in name and not Path(name).exists()
            if not own and not Path(name).exists():
                raise RewardError(
                    f"--reward {name} holds no reward, there is no such folder; expected "
                    f"{KeypointAffordance.name}, {Deviation.name}, the folder of a reward or of "
                    "the run that trained it, or file.py:Class"
                )
            reward = import_reward(name) if own else load_reward(name)
        if reward.name in found:
            raise RewardError(f"--reward {name}: a second one with the name {reward.name!r}")
        found[reward.name] = reward
    if Deviation.name in names:
        if "world_model" not in found or not demonstrations:
            raise RewardError(
                "deviation needs --demos and a world model among the rewards; or save one with "
                "`robostack train reward kind=deviation`"
            )
        starts: Starts = {}
        demos = noted(iter_episodes(demonstrations), starts)
        found[Deviation.name] = Deviation(found["world_model"], demos, horizon)
        found[Deviation.name].learned_from = starts
    return found


def score(rewards: dict[str, Reward], data: Path) -> dict[str, int]:
    """Write a side-car of every reward next to the episodes; what is there of this very reward and
    of episodes as they are is kept. Raises RewardError for a score that is none; then nothing is
    written."""
    store = open_store(data)
    store.require_episodes()
    digests = {episode_id: store.digest(episode_id) for episode_id in store.ids()}
    stale = {}
    for name, judge in rewards.items():
        try:
            table = store.read_scores(name, judge.fingerprint())
        except StoreError:
            table = {}
        if set(table) != set(digests):
            stale[name] = table
    written = dict.fromkeys(stale, 0)
    if not stale:
        return written
    for episode_id in progress(digests, "score", len(digests)):
        lacking = [name for name, table in stale.items() if episode_id not in table]
        episode = store.read(episode_id) if lacking else None
        for name in lacking:
            try:
                stale[name][episode_id] = judged(rewards[name], episode)
            except RewardError as error:
                raise RewardError(f"{store.path}, episode {episode_id}: {error}") from None
            written[name] += 1
    for name, table in stale.items():
        store.write_scores(name, rewards[name].fingerprint(), table, digests)
    return written
