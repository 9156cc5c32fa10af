"""What a store holds, in numbers."""

from __future__ import annotations

from collections import Counter

import numpy as np

from robostack.data.arrays import read_array
from robostack.data.store import Store

LEVELS = {"min": 0.0, "q01": 0.01, "median": 0.5, "q99": 0.99, "max": 1.0}


def summary(store: Store) -> dict:
    """Counts, lengths, outcomes by instruction, and quantiles of every state and action; pictures
    are not read."""
    about = [store.attributes(i) for i in store.ids()]
    steps = np.array([a["steps"] for a in about])
    size = sum(p.stat().st_size for p in (store.path / "episodes").rglob("*") if p.is_file())
    return {
        "store": str(store.path),
        "robot": store.spec.robot,
        "episodes": len(about),
        "steps": int(steps.sum()),
        "hours": round(float(steps.sum() / store.spec.control_hz / 3600), 4),
        "bytes": size,
        "length": {k: float(np.quantile(steps, q)) for k, q in LEVELS.items()},
        "tasks": _tasks(about),
        "sources": dict(Counter(a["source"] for a in about)),
        "labels": dict(Counter(a["label"] for a in about if a.get("label"))),
        "cameras": {name: list(shape) for name, shape in store.spec.cameras.items()},
        "states": _quantiles(store, "states", store.spec.state_names),
        "actions": _quantiles(store, "actions", store.spec.action_names),
    }


def _tasks(about: list[dict]) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for each in about:
        row = found.setdefault(each["task"], {"episodes": 0, "successes": 0, "unknown": 0})
        row["episodes"] += 1
        row["successes"] += bool(each["success"])
        row["unknown"] += each["success"] is None
    return found


def _quantiles(store: Store, field: str, names: tuple[str, ...]) -> dict[str, dict]:
    rows = []
    for episode_id in store.ids():
        try:
            found = read_array(store.path / "episodes" / episode_id / field)
        except (ValueError, OSError):  # reading it whole says which file is damaged
            found = None
        rows.append(getattr(store.read(episode_id), field) if found is None else found)
    values = np.quantile(np.concatenate(rows), list(LEVELS.values()), axis=0)
    return {
        name: {level: round(float(v), 5) for level, v in zip(LEVELS, values[:, i])}
        for i, name in enumerate(names)
    }
