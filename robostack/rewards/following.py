"""How learned rewards follow a try as it goes on: what they need of its past is kept as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from robostack.protocols import Scores
from robostack.rewards.follow import newest
from robostack.rewards.sight import Sight, require_words
from robostack.types import Observation

if TYPE_CHECKING:
    from robostack.rewards.learned import LearnedReward

R = TypeVar("R", bound="LearnedReward")


class LearnedFollower(Generic[R]):
    """Base. A subclass has `go_on`, by which its reward scores whole episodes as well: so a try
    that is followed is worth what it is worth once it is over."""

    def __init__(self, reward: R, task: str | None = None):
        self.reward, self.task = reward, task
        self._sight = Sight()

    def go_on(self, seen: Tensor, states: Tensor, actions: np.ndarray) -> Scores:
        """Of the next N observations, f32[N] each, given what is seen of them, their normalised
        states f32[N, S], and the actions f32[N, A] that led to them, none to the first one."""
        raise NotImplementedError

    @torch.inference_mode()
    def see(self, observations: Sequence[Observation], actions: np.ndarray) -> Scores:
        """Raises ValueError for another instruction than before, RewardError for none, and for
        cameras that are dead; what they show is kept all the same, should they come to life."""
        if self.task is None:
            self.task = observations[0].task
        others = {look.task for look in observations} - {self.task}
        if others:
            raise ValueError(f"a try of {self.task!r} went on as one of {sorted(others)}")
        require_words(self.task)
        said = newest(self.go_on(*self.reward.glance(*observations), actions))
        self._sight.see(observations)
        return said
