"""What a reward is asked about an episode: as it was, reversed, frozen, under other words, ...

No question shows the answer: outcome, label, group and the simulator's truth are taken away first.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from robostack.protocols import Reward
from robostack.rewards.combine import judged
from robostack.rewards.follow import follower
from robostack.types import Episode, Observation

PLAIN, STOPS, RANK, COST, LIVE, ASKED = "plain", "stops", "rank", "cost", "live", "asked "
CONTROLS = ("reversed", "shuffled", "frozen", "blank")  # of a success


class Refusal(Exception):
    """A reward that does not answer, or whose answer is none."""


def blind(episode: Episode) -> Episode:
    """What a reward may see."""
    return replace(
        episode,
        success=None,
        terminated=False,
        source="rollout",
        seed=0,
        group="",
        truth=None,
        label="",
    )


def reordered(episode: Episode, order: np.ndarray) -> Episode:
    """The observations `order` i[T+1] of an episode, one after the other, on the same clock.

    The action after an observation goes with it, as it was: in a reversed episode the actions do
    not lead where the pictures go, which a reward that reads actions may well notice.
    """
    padded = np.concatenate([episode.actions, episode.actions[-1:]])
    return replace(
        episode,
        states=episode.states[order],
        images={name: frames[order] for name, frames in episode.images.items()},
        keypoints={name: points[order] for name, points in episode.keypoints.items()},
        actions=padded[order][:-1],
    )


def control(episode: Episode, name: str, seed: int, key: str) -> Episode:
    """A control of a success; of these none makes progress, and a reversed one loses it.

    shuffled: the observations in an order drawn by `seed` and the episode's `key`
    frozen: the middle observation for the whole time
    blank: frozen, with black pictures and a state of zeros, as of cameras and drivers that failed
    """
    count = len(episode) + 1
    if name == "reversed":
        return reordered(episode, np.arange(count)[::-1])
    if name == "shuffled":
        rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
        return reordered(episode, rng.permutation(count))
    still = reordered(episode, np.full(count, count // 2))
    if name == "blank":
        return replace(
            still,
            states=np.zeros_like(still.states),
            images={name: np.zeros_like(frames) for name, frames in still.images.items()},
        )
    return still


def potential(reward: Reward, episode: Episode) -> np.ndarray:
    """f32[T+1] of `score`. Raises Refusal, with the reason, for whatever else it does."""
    try:
        return judged(reward, episode)
    except Exception as error:  # the reward may be anybody's
        raise Refusal(_words(error)) from None


def stops(reward: Reward, episode: Episode) -> np.ndarray:
    """bool[T+1] of `stops`. Raises Refusal."""
    if not callable(getattr(reward, "stops", None)):
        raise Refusal("the reward declares no success (it has no `stops`)")
    try:
        said = np.asarray(reward.stops(episode))
    except Exception as error:
        raise Refusal(_words(error)) from None
    if said.shape != (len(episode) + 1,) or said.dtype != bool:
        raise Refusal(f"stops: expected bool[{len(episode) + 1}], got {said.dtype}{said.shape}")
    return said


def ranking(reward: Reward, observation: Observation, chunks: np.ndarray) -> np.ndarray:
    """f64[N] of `rank` for chunks f32[N, H, A] from one state. Raises Refusal."""
    if not callable(getattr(reward, "rank", None)):
        raise Refusal("the reward judges no chunks before they are executed (it has no `rank`)")
    try:
        said = np.asarray(reward.rank(observation, chunks))
    except Exception as error:
        raise Refusal(_words(error)) from None
    if said.shape != (len(chunks),) or not np.isfinite(said).all():
        raise Refusal(f"rank: expected {len(chunks)} finite values, got {said}")
    return said.astype(np.float64)


def cost(reward: Reward, episode: Episode, repeats: int) -> np.ndarray:
    """Milliseconds an observation f64[repeats], after one run that does not count."""
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        potential(reward, episode)
        taken.append(1000 * (time.perf_counter() - started) / (len(episode) + 1))
    return np.array(taken[1:])


def live(reward: Reward, episode: Episode) -> np.ndarray:
    """Milliseconds f64[T - 1] that each new observation costs while the episode goes on, the first
    two apart, which also pay for the start. Raises Refusal."""
    seen = [episode.observation(t) for t in range(len(episode) + 1)]
    try:
        following, taken = follower(reward, episode.spec), []
        following.see(seen[:2], episode.actions[:1])
        for t in range(2, len(seen)):
            started = time.perf_counter()
            following.see(seen[t : t + 1], episode.actions[t - 1 : t])
            taken.append(1000 * (time.perf_counter() - started))
    except Exception as error:  # the reward may be anybody's
        raise Refusal(_words(error)) from None
    if not taken:
        raise Refusal(f"an episode of {len(episode)} steps is too short to be followed")
    return np.array(taken)


def questions(
    episode: Episode, key: str, wanted: set[str], others: list[str], seed: int
) -> Iterator[tuple[str, Episode]]:
    """Variants of one episode, already blind: those `wanted`, and the words of `others` if the
    variants of ASKED are."""
    seen = blind(episode)
    if PLAIN in wanted:
        yield PLAIN, seen
    for name in CONTROLS:
        if name in wanted:
            yield name, control(seen, name, seed, key)
    if ASKED in wanted:
        for words in others:
            if words != seen.task:
                yield ASKED + words, replace(seen, task=words)


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return f"{kind}: {text[:300]}" if text else kind
