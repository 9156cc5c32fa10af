"""Finding what an exam said of a reward, for those who are about to learn from it."""

from __future__ import annotations

import json
from pathlib import Path

from robostack.protocols import Reward

RESULT = "exam.json"  # in the folder of an exam, and in that of a reward


def find_results(reward: Reward, extra: list[Path]) -> tuple[dict | None, str]:
    """What the last exam found of this very reward, and why there is nothing, if there is not.

    Looked for in the reward's own folder and in `extra`, the folders of exams. Results of another
    fingerprint are stale and do not count.
    """
    home, stale = getattr(reward, "home", None), []
    places = [Path(home) / RESULT] if home is not None else []
    places += [Path(folder) / RESULT for folder in extra]
    for path in places:
        for found in _parts(path):
            if found.get("fingerprint") == reward.fingerprint():
                return found, ""
            if found.get("name", reward.name) == reward.name:
                stale.append(path)
    if stale:
        return None, f"{stale[0]} is stale: it is about another version of {reward.name}"
    return None, f"{reward.name} has not sat an exam; hold one with `robostack exam`"


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
    return [{**part, "name": name} for name, part in rewards.items() if isinstance(part, dict)]


def doubts(rewards: dict[str, Reward], extra: list[Path]) -> list[str]:
    """Why not to trust these rewards: no results, stale ones, or aims that were missed."""
    found = []
    for name, reward in rewards.items():
        result, why = find_results(reward, extra)
        if result is None:
            found.append(why)
            continue
        missed = [n for n, aim in result["aims"].items() if aim["met"] is False]
        if missed:
            values = [f"{n} {result['aims'][n]['value']:.2f}" for n in missed]
            found.append(f"{name} missed {len(missed)} aims of its exam: {', '.join(values)}")
    return found
