"""The learned rewards by name, and loading one from its folder."""

from __future__ import annotations

from pathlib import Path

from robostack.rewards.learned import CARD, LearnedReward, RewardError, read_card
from robostack.rewards.progress import ProgressEstimator
from robostack.rewards.success import SuccessDetector
from robostack.rewards.world_model import WorldModel
from robostack.types import RobotSpec

KINDS: dict[str, type[LearnedReward]] = {
    kind.name: kind for kind in (WorldModel, ProgressEstimator, SuccessDetector)
}


def load_reward(path: str | Path) -> LearnedReward:
    """A learned reward from its folder or from the run that trained it."""
    path = Path(path)
    folder = path / "reward" if (path / "reward" / CARD).is_file() else path
    card = read_card(folder)
    if card["name"] not in KINDS:
        raise RewardError(f"{folder}: unknown kind {card['name']!r}; {', '.join(KINDS)}")
    return KINDS[card["name"]](RobotSpec.from_json(card["spec"])).load(folder)
