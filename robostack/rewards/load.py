"""The rewards by name, and loading one from its folder or from a module of one's own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from safetensors.numpy import load_file

from robostack.policy.checkpoint import uninterrupted
from robostack.protocols import Reward
from robostack.rewards.combined import Combined
from robostack.rewards.deviation import Deviation
from robostack.rewards.keypoints import KeypointAffordance
from robostack.rewards.learned import LearnedReward
from robostack.rewards.noisy import NoisyReward
from robostack.rewards.progress import ProgressEstimator
from robostack.rewards.saved import WEIGHTS, RewardError, SavedReward, read_card, reward_folder
from robostack.rewards.success import SuccessDetector
from robostack.rewards.world_model import WorldModel

LEARNED: dict[str, type[LearnedReward]] = {
    kind.name: kind for kind in (WorldModel, ProgressEstimator, SuccessDetector)
}
KINDS: dict[str, type[SavedReward]] = {
    **LEARNED,
    **{kind.name: kind for kind in (KeypointAffordance, Deviation, Combined, NoisyReward)},
}


def load_reward(path: str | Path) -> SavedReward:
    """A reward from its folder or from the run that trained it. Raises RewardError where there is
    none, or one that does not fit its own description."""
    folder, card = reward_folder(path), read_card(path)
    kind = KINDS.get(card["name"])
    if kind is None:
        raise RewardError(f"{folder}: unknown kind {card['name']!r}; known: {', '.join(KINDS)}")
    parts = {name: load_reward(folder / name) for name in card.get("parts", [])}
    try:
        file = folder / WEIGHTS
        with uninterrupted():
            arrays = load_file(file) if file.is_file() else {}
        reward = kind.restore(card["spec"], card["settings"], arrays, parts)
    except RewardError:
        raise
    except Exception as error:  # whatever a damaged file makes of it
        raise RewardError(f"{folder} holds no {kind.name} reward that fits: {error}") from None
    reward.home = folder
    if "learned_from" in card:
        reward.learned_from = card["learned_from"]
    return reward


def import_reward(name: str) -> Reward:
    """A reward of one's own, `file.py:Class` or `package.module:Class`, made without arguments.

    This runs the code that it names, as `python file.py` would.
    """
    where, _, attribute = name.rpartition(":")
    try:
        if where.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(where).stem, where)
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # dataclasses and the like look themselves up
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
        reward = getattr(module, attribute)()
    except FileNotFoundError:
        raise RewardError(f"--reward {name}: {where} does not exist") from None
    except Exception as error:  # whatever somebody's module raises
        raise RewardError(f"--reward {name}: {type(error).__name__}: {error}") from error
    if not isinstance(reward, Reward):
        lacks = [x for x in ("name", "score", "fingerprint") if not hasattr(reward, x)]
        raise RewardError(f"--reward {name}: a reward has {', '.join(lacks)}, this one has not")
    return reward
