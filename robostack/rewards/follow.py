"""Judging a try while it goes on: what a reward says of its newest observation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robostack.protocols import Follower, Follows, Reward, Scores
from robostack.rewards.combine import explained
from robostack.types import Episode, Observation, RobotSpec


def follower(reward: Reward, spec: RobotSpec) -> Follower:
    """The reward's own, or one that shows it the whole try again and again."""
    return reward.follow() if isinstance(reward, Follows) else Whole(reward, spec)


def newest(scores: Scores) -> Scores:
    """Those of the last observation, arrays f32[1]."""
    return Scores(
        scores.potential[-1:],
        scores.confidence[-1:],
        {name: term[-1:] for name, term in scores.terms.items()},
    )


class Whole:
    """Follows a try by scoring all of it, as often as it is asked."""

    def __init__(self, reward: Reward, spec: RobotSpec):
        self.reward, self.spec = reward, spec
        self._seen: list[Observation] = []
        self._actions: list[np.ndarray] = []

    def see(self, observations: Sequence[Observation], actions: np.ndarray) -> Scores:
        """Raises ValueError before the first action: there is no episode yet."""
        self._seen += observations
        self._actions += list(actions)
        if not self._actions:
            raise ValueError(f"{self.reward.name} judges a try from its first action on")
        return newest(explained(self.reward, self._episode()))

    def _episode(self) -> Episode:
        seen = self._seen
        return Episode(
            states=np.stack([look.state for look in seen]),
            images={name: np.stack([x.images[name] for x in seen]) for name in self.spec.cameras},
            stamps=np.array([look.stamp for look in seen]),
            actions=np.stack(self._actions),
            task=seen[-1].task,
            success=None,
            terminated=False,
            source="rollout",
            seed=0,
            spec=self.spec,
        )
