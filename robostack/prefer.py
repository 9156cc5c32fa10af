"""Episodes and scores become preferences: which of several tries from one state was better?"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from robostack.protocols import ChunkReward
from robostack.rewards.deviation import windows
from robostack.types import Episode, Preference

OUTCOME = "outcome"  # the environment's own verdict, as a term like any other


@dataclass(frozen=True)
class PreferConfig:
    """How tries are compared."""

    weights: dict[str, float] = field(
        default_factory=lambda: {
            OUTCOME: 1.0,
            "keypoints": 1.0,
            "progress": 0.5,
            "world_model": 0.5,
            "world_model.rank": 0.25,
            "success": 0.25,
            "deviation.rank": 0.25,
        }
    )
    keep: float = 0.5  # share of comparisons, those of largest margin, that become preferences
    pairs: int = 2  # comparisons a group of tries, at most
    horizon: int = 8  # actions of a chunk
    shuffle: bool = False  # control: which of the two was better is decided by a coin


@dataclass(frozen=True)
class Candidate:
    """What a try is judged by: the change of each potential from its start to its end."""

    episode: str
    gains: dict[str, float]
    success: bool


def gains(episode: Episode, potentials: dict[str, np.ndarray]) -> dict[str, float]:
    """Gain of each potential over the episode, and its outcome."""
    found = {name: float(phi[-1] - phi[0]) for name, phi in potentials.items()}
    found[OUTCOME] = float(bool(episode.success))
    return found


def build(
    groups: dict[str, list[Candidate]], config: PreferConfig, seed: int
) -> tuple[list[Preference], dict]:
    """Preferences and their data card. Deterministic given `seed`.

    Every term is divided by its spread within groups, so that weights compare like with like. In
    each group the best is compared with the worst, the second best with the second worst, ...
    """
    groups = {name: tries for name, tries in groups.items() if len(tries) > 1}
    if not groups:
        raise ValueError("no two tries started from the same state; collect with --branch")
    used = [name for name, weight in config.weights.items() if weight > 0]
    spread = {}
    for name in used:
        try:
            centred = [
                c.gains[name] - np.mean([d.gains[name] for d in tries])
                for tries in groups.values()
                for c in tries
            ]
        except KeyError:
            have = sorted(next(iter(groups.values()))[0].gains)
            raise ValueError(f"no scores for term {name!r}; there are: {', '.join(have)}") from None
        spread[name] = float(np.std(centred))
    # a term that is the same for all tries has nothing to say, and dividing by its rounding would
    # make it say something
    used = [name for name in used if spread[name] > 1e-4]
    rng = np.random.default_rng(seed)
    found = []
    for group, tries in sorted(groups.items()):
        total = {
            c.episode: sum(config.weights[n] * c.gains[n] / spread[n] for n in used) for c in tries
        }
        ranked = sorted(tries, key=lambda c: (-total[c.episode], c.episode))
        for better, worse in list(zip(ranked, ranked[::-1]))[: min(config.pairs, len(tries) // 2)]:
            margin = total[better.episode] - total[worse.episode]
            if margin <= 1e-9:
                continue
            found.append((margin, better, worse, group))
    if not found:
        raise ValueError("all tries from the same state are equally good; nothing to prefer")
    found.sort(key=lambda item: (-item[0], item[3], item[1].episode))
    kept = found[: max(1, round(config.keep * len(found)))]
    preferences = []
    for margin, better, worse, group in kept:
        if config.shuffle and rng.random() < 0.5:
            better, worse = worse, better
        terms = {n: better.gains[n] - worse.gains[n] for n in used}
        preferences.append(
            Preference((better.episode, 0), (worse.episode, 0), float(margin), terms, group)
        )
    return preferences, _card(config, seed, groups, found, preferences, spread)


def _card(config, seed, groups, found, preferences, spread) -> dict:
    outcome = {c.episode: c.success for tries in groups.values() for c in tries}
    decided = [
        (outcome[p.chosen[0]], outcome[p.rejected[0]])
        for p in preferences
        if outcome[p.chosen[0]] != outcome[p.rejected[0]]
    ]
    margins = np.array([p.margin for p in preferences])
    agree = {
        name: float(np.mean([p.terms[name] > 0 for p in preferences]))
        for name in preferences[0].terms
    }
    return {
        "preferences": len(preferences),
        "comparisons": len(found),
        "groups": len(groups),
        "tries": sum(map(len, groups.values())),
        "margin_quantiles": np.quantile(margins, [0, 0.25, 0.5, 0.75, 1]).tolist(),
        "decided_by_success": len(decided),
        "chosen_succeeded": sum(a for a, _ in decided),
        "term_agrees": agree,
        "term_spread": spread,
        "config": asdict(config),
        "seed": seed,
    }


def group_candidates(
    episodes: dict[str, Episode],
    scores: dict[str, dict[str, np.ndarray]],
    rankers: dict[str, ChunkReward],
    horizon: int,
) -> dict[str, list[Candidate]]:
    """Candidates by group, judged in two ways.

    After the fact, by the gain of each potential: `scores` {reward: {episode id: f32[T+1]}}. And
    before it, as term `<reward>.rank`, by what a ChunkReward thinks of the first `horizon` actions
    at the shared start: an imagined outcome, or the distance to a demonstrated chunk.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for episode_id, episode in episodes.items():
        if episode.group:
            groups[episode.group].append(episode_id)
    found = {}
    for group, ids in groups.items():
        tries = [episodes[i] for i in ids]
        chunks = np.stack([windows(e.actions, horizon)[0] for e in tries])
        ranks = {n: r.rank(tries[0].observation(0), chunks) for n, r in rankers.items()}
        found[group] = [
            Candidate(
                i,
                gains(e, {name: table[i] for name, table in scores.items()})
                | {f"{name}.rank": float(rank[k]) for name, rank in ranks.items()},
                bool(e.success),
            )
            for k, (i, e) in enumerate(zip(ids, tries))
        ]
    return found


def save(path: str | Path, preferences: list[Preference], card: dict, store: str) -> None:
    """JSON lines: the card first, then one preference a line. References only, no frames."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"card": card, "store": store})]
    lines += [json.dumps(asdict(p)) for p in preferences]
    partial = path.with_name(f".{path.name}")
    partial.write_text("\n".join(lines) + "\n")
    partial.replace(path)


def load(path: str | Path) -> tuple[list[Preference], dict, str]:
    """Preferences, card and the store that they refer to."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; make it with `robostack prefer`")
    try:
        head, *rows = [json.loads(line) for line in path.read_text().splitlines()]
        card, store = head["card"], head["store"]
    except (ValueError, KeyError, TypeError) as error:  # no line, no JSON, no card
        raise ValueError(f"{path} is not a preference set ({error})") from None
    preferences = [
        Preference(
            (row["chosen"][0], row["chosen"][1]),
            (row["rejected"][0], row["rejected"][1]),
            row["margin"],
            row["terms"],
            row["group"],
        )
        for row in rows
    ]
    return preferences, card, store
