"""What the hacking alarms look at in a run of online learning, iteration by iteration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from robostack import alarms
from robostack.data.chunks import Windows
from robostack.device import device
from robostack.learn.run import generator, rng
from robostack.policy import flow
from robostack.policy.vla import VLA
from robostack.protocols import Scores
from robostack.types import Episode

PROBES = 16  # demonstrated chunks at which velocities are compared


class Readings:
    """`start` is the policy before training, `demonstrations` where its velocity is probed, always
    with the same noise and times. The first episodes that it is given are the base."""

    def __init__(self, start: VLA, demonstrations: Windows, seed: int):
        rows = demonstrations.rows()
        pick = rng(seed, len(rows)).choice(rows, min(PROBES, len(rows)), replace=False)
        self._batch = demonstrations.batch(pick).to(device())
        draws = generator(seed, len(rows))
        self._noise = start.noise(len(pick), draws).to(device())
        self._time = flow.stratified_time(1, len(pick), draws)[0].to(device())
        self._reference = self._velocity(start)
        self._base: tuple[Sequence[Episode], Sequence[Scores]] | None = None

    @torch.no_grad()
    def _velocity(self, vla: VLA) -> np.ndarray:
        training = vla.training
        vla.eval()
        action = vla.normalize_action(self._batch.chunk)
        x = flow.interpolate(action, self._noise, self._time)
        velocity = vla.velocity(vla.encode(self._batch), self._batch.state, x, self._time)
        vla.train(training)
        return velocity.float().cpu().numpy()

    def base(self, episodes: Sequence[Episode], scores: Sequence[Scores]) -> None:
        """What later episodes are compared with."""
        self._base = episodes, scores

    def judge_again(self, score: Callable[[Episode], Scores]) -> None:
        """The base by rewards that have learned more since, as what it is compared with is."""
        if self._base is not None:
            episodes, _ = self._base
            self._base = episodes, [score(episode) for episode in episodes]

    def take(
        self, vla: VLA, episodes: Sequence[Episode], scores: Sequence[Scores]
    ) -> dict[str, float]:
        """Readings of a policy and what it did. `gap` needs a simulator that tells the truth,
        `divergence` two episodes and `spread` a reward with an ensemble; where they lack, so does
        the reading."""
        first, judged = self._base
        steps, tries = alarms.hallucinated(
            [s.potential for s in scores], [succeeded(e) for e in episodes]
        )
        found = {
            "unsureness": alarms.unsureness([s.confidence for s in scores]),
            "hallucinated": tries,
            "hallucinated_steps": steps,
            "velocity": alarms.velocity_ratio(self._velocity(vla), self._reference),
        }
        parted = [s.terms[alarms.SPREAD] for s in scores if alarms.SPREAD in s.terms]
        if parted:
            found[alarms.SPREAD] = alarms.spread(parted)
        if min(len(episodes), len(first)) > 1:
            found["divergence"] = alarms.divergence(
                [visited(e) for e in episodes], [visited(e) for e in first]
            )
        if all(e.truth is not None for e in [*episodes, *first]):
            found[alarms.GAP] = alarms.gap(
                *(np.array([_gain(s.potential) for s in scores]), _truths(episodes)),
                *(np.array([_gain(s.potential) for s in judged]), _truths(first)),
            )
        return found


def visited(episode: Episode) -> np.ndarray:
    """State and action f32[T, S + A] of every step."""
    return np.concatenate([episode.states[:-1], episode.actions], 1)


def succeeded(episode: Episode) -> np.ndarray:
    """bool[T+1]: whether the task was done at each observation, as far as the episode tells."""
    done = np.zeros(len(episode) + 1, bool) if episode.truth is None else episode.truth >= 1
    done[-1] |= bool(episode.success)
    return done


def _gain(track: np.ndarray) -> float:
    """Return of a potential, to which its shaped rewards add up but for the discount."""
    return float(track[-1] - track[0])


def _truths(episodes: Sequence[Episode]) -> np.ndarray:
    return np.array([_gain(e.truth) for e in episodes])
