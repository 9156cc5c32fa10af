"""Finding what an exam said of a reward, for those who are about to learn from it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from robostack.exam.claims import lacks
from robostack.protocols import Reward
from robostack.rewards.saved import RewardError

RESULT = "exam.json"  # in the folder of an exam, and in that of a reward


@dataclass(frozen=True)
class Trust:
    """What is asked of rewards before anybody learns from them, by whatever verb."""

    exams: tuple[Path, ...] = ()  # folders of exams, beside the rewards' own folders
    strict: bool = False  # refuse those that there are doubts about
    told: set[str] = field(default_factory=set)  # warnings so far; each is given once

    def require(self, rewards: dict[str, Reward]) -> None:
        """A word of warning about each that has not sat a complete exam, or missed its aims. Raises
        RewardError instead, if strict."""
        said = doubts(rewards, list(self.exams))
        if said and self.strict:
            raise RewardError("--strict: " + "; ".join(said))
        for line in said:
            if line not in self.told:
                print(f"warning: {line}", file=sys.stderr)
            self.told.add(line)


def find_results(reward: Reward, extra: list[Path]) -> tuple[list[dict], str]:
    """What exams found of this very reward, and why there is nothing, if there is not.

    Looked for in the reward's own folder and in `extra`, the folders of exams. Results of another
    fingerprint are stale and do not count.
    """
    home, stale, results = getattr(reward, "home", None), [], []
    places = [Path(home) / RESULT] if home is not None else []
    places += [Path(folder) / RESULT for folder in extra]
    held = [(path, found) for path in places for found in _parts(path)]
    own = reward.fingerprint() if held else ""
    for path, found in held:
        if found.get("fingerprint") == own:
            results.append(found)
        elif found.get("name", reward.name) == reward.name:
            stale.append(path)
    if results:
        return results, ""
    if stale:
        return [], f"{stale[0]} is stale: it is about another version of {reward.name}"
    return [], f"{reward.name} has not sat an exam; hold one with `robostack exam`"


def _parts(path: Path) -> list[dict]:
    """The results of rewards in a file, either of one or of a whole exam."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return []
    if not isinstance(raw, dict):
        return []
    rewards = raw.get("rewards")
    if not isinstance(rewards, dict):
        return [raw]
    shared = {key: value for key, value in raw.items() if key != "rewards"}
    return [
        {**shared, **part, "name": name} for name, part in rewards.items() if isinstance(part, dict)
    ]


def doubts(rewards: dict[str, Reward], extra: list[Path]) -> list[str]:
    """Why not to trust these rewards, a line each: no results, stale ones, or what even the best of
    their exams lacks."""
    found = []
    for name, reward in rewards.items():
        results, why = find_results(reward, extra)
        if not results:
            found.append(why)
        elif wrong := min((lacks(reward, result) for result in results), key=len):
            found.append(f"{name}: {'; '.join(wrong)}")
    return found
