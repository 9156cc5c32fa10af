"""What can be compared at one state: tries that began there, or chunks proposed for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from robostack.prefer.compare import OUTCOME, Candidate, PreferConfig
from robostack.protocols import ChunkReward
from robostack.rewards.deviation import windows
from robostack.types import Clip, Episode, Observation, RobotSpec

DEMONSTRATED = "demonstrated"  # term: how near a chunk is to the demonstrated one
Propose = Callable[[Observation, int], np.ndarray]  # so many chunks f32[N, H, A] of a policy


def gains(episode: Episode, potentials: dict[str, np.ndarray]) -> dict[str, float]:
    """Gain of each potential over the episode, and its outcome."""
    found = {name: float(phi[-1] - phi[0]) for name, phi in potentials.items()}
    found[OUTCOME] = float(bool(episode.success))
    return found


def of_tries(
    episodes: dict[str, Episode],
    scores: dict[str, dict[str, np.ndarray]],
    rankers: dict[str, ChunkReward],
    config: PreferConfig,
) -> dict[str, list[Candidate]]:
    """Tries by the state that they share, judged in two ways.

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
        chunks = np.stack([windows(e.actions, config.horizon)[0] for e in tries])
        ranks = {n: r.rank(tries[0].observation(0), chunks) for n, r in rankers.items()}
        found[group] = [
            Candidate(
                Clip(i, 0, config.end(len(e))),
                gains(e, {name: table[i] for name, table in scores.items()})
                | {f"{name}.rank": float(rank[k]) for name, rank in ranks.items()},
                e.success,
                in_ranges(e.actions[: config.end(len(e))], e.spec),
            )
            for k, (i, e) in enumerate(zip(ids, tries))
        ]
    return found


def of_demonstrations(
    episodes: Iterable[tuple[str, Episode]],
    propose: Propose,
    rankers: dict[str, ChunkReward],
    config: PreferConfig,
    states: int,
    candidates: int,
    seed: int,
) -> dict[str, list[Candidate]]:
    """At `states` states of each demonstration, the demonstrated chunk and `candidates` - 1 of a
    policy (NORA-1.5, arXiv 2511.14659, which leaves the demonstrated one out).

    Terms: `<reward>.rank` of each ChunkReward, and `demonstrated`, minus the mean distance to the
    demonstrated chunk in ranges of the actions.
    """
    found = {}
    rng = np.random.default_rng(seed)
    for episode_id, episode in episodes:
        chosen = rng.choice(len(episode), min(states, len(episode)), replace=False)
        for t in sorted(map(int, chosen)):
            seen = episode.observation(t)
            own = windows(episode.actions, config.horizon)[t]
            others = propose(seen, candidates - 1)[:, : config.horizon]
            chunks = np.concatenate([own[None], others]).astype(np.float32)
            ranks = {f"{n}.rank": np.asarray(r.rank(seen, chunks)) for n, r in rankers.items()}
            scaled = np.stack([in_ranges(c, episode.spec) for c in chunks])
            ranks[DEMONSTRATED] = -np.abs(scaled - scaled[0]).mean((1, 2))
            end = min(len(episode), t + config.horizon)
            found[f"episode {episode_id} step {t}"] = [
                Candidate(
                    Clip(episode_id, t, end, None if k == 0 else _rows(chunk)),
                    {name: float(rank[k]) for name, rank in ranks.items()},
                    None,
                    scaled[k],
                )
                for k, chunk in enumerate(chunks)
            ]
    return found


def _rows(chunk: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(x), 6) for x in action) for action in chunk)


def in_ranges(chunk: np.ndarray, spec: RobotSpec) -> np.ndarray:
    """Actions f32[H, A] in units of what each of their dimensions may range over."""
    low, high = np.array(spec.action_low), np.array(spec.action_high)
    return ((chunk - low) / (high - low)).astype(np.float32)
