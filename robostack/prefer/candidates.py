"""What can be compared at one state: tries that began there, or chunks proposed for it."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from robostack.prefer.compare import Candidate, PreferConfig
from robostack.prefer.terms import OUTCOME, RANK
from robostack.protocols import ChunkReward
from robostack.rewards.deviation import windows
from robostack.types import Clip, Episode, Observation, RobotSpec

DEMONSTRATED = "demonstrated"  # term: how near a chunk is to the demonstrated one
Propose = Callable[[Observation, int], np.ndarray]  # so many chunks f32[N, H, A] of a policy


def gains(episode: Episode, potentials: dict[str, np.ndarray]) -> dict[str, float]:
    """Gain of each potential over the episode, and its outcome: nan where nobody knows it."""
    found = {name: float(phi[-1] - phi[0]) for name, phi in potentials.items()}
    found[OUTCOME] = np.nan if episode.success is None else float(episode.success)
    return found


def of_tries(
    episodes: Iterable[tuple[str, Episode]],
    scores: dict[str, dict[str, np.ndarray]],
    rankers: dict[str, ChunkReward],
    config: PreferConfig,
) -> dict[str, list[Candidate]]:
    """Tries by the state that they share, judged in two ways.

    After the fact, by the gain of each potential: `scores` {reward: {episode id: f32[T+1]}}. And
    before it, as term `<reward>.rank`, by what a ChunkReward thinks of the first `horizon` actions
    at the shared start: an imagined outcome, or the distance to a demonstrated chunk.

    Of the episodes, which may be more than memory holds, only actions and shared starts are kept.
    Where merged stores call several states by one name, each is a group of its own.
    """
    found: dict[str, list[Candidate]] = defaultdict(list)
    starts: dict[str, Observation] = {}
    chunks: dict[str, list[np.ndarray]] = defaultdict(list)
    for i, episode in episodes:
        if not episode.group:
            continue
        state = _state(episode, starts)
        if state not in starts:
            starts[state] = copy.deepcopy(episode.observation(0))  # not a view of the rest
        chunks[state].append(windows(episode.actions, config.horizon)[0])
        end = config.end(len(episode))
        told = gains(episode, {name: table[i] for name, table in scores.items()})
        scaled = in_ranges(episode.actions[:end], episode.spec)
        found[state].append(Candidate(Clip(i, 0, end), told, episode.success, scaled))
    for group, tries in found.items():
        for name, ranker in rankers.items():
            said = ranker.rank(starts[group], np.stack(chunks[group]))
            for candidate, value in zip(tries, said):
                candidate.gains[name + RANK] = float(value)
    return dict(found)


def _state(episode: Episode, starts: dict[str, Observation]) -> str:
    """The name of the state that a try began at: its group's, and where that was another's before,
    with a number.

    Tries midway began at a kept state of a simulator, which is exact. Those that began with a reset
    may be of an arm that nobody can put back to the very same place.
    """
    name, count, own = episode.group, 1, episode.observation(0)
    while name in starts:
        first = starts[name]
        near = episode.whole or np.allclose(first.state, own.state, atol=1e-6)
        if near and first.task == own.task:
            break
        count += 1
        name = f"{episode.group} ({count})"
    return name


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
            ranks = {n + RANK: np.asarray(r.rank(seen, chunks)) for n, r in rankers.items()}
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
