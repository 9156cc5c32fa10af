"""A trained reward looks on while a try goes on, without ROS."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from robostack.protocols import Reward, Stops
from robostack.rewards.follow import follower
from robostack.types import Observation, RobotSpec


@dataclass(frozen=True)
class Verdict:
    """What a reward says of a try so far."""

    steps: int  # actions of the try that were judged
    progress: float  # the potential of the last observation, in [0, 1]
    success: bool  # whether the task looks done now
    termination: bool  # whether it was done at any time: the try may end


class Growing:
    """One try as it grows, and what a reward says of it.

    A reward that can go on from where it was (`Follows`) is shown every observation once; its
    verdicts cost the same however long the try already is. Any other one is shown the whole try
    each time. One that watches (`Stops`) says by itself when a try is done; of any other one, that
    is when its potential reaches `threshold`. `see` may be called by one thread while `judge` is at
    work in another.
    """

    def __init__(self, reward: Reward, spec: RobotSpec, threshold: float, longest: int):
        self.reward, self.spec, self.threshold, self.longest = reward, spec, threshold, longest
        self._lock, self._tries = threading.Lock(), 0
        self.begin()

    def begin(self) -> None:
        """Another try."""
        watcher = self.reward.watch() if isinstance(self.reward, Stops) else None
        following = follower(self.reward, self.spec)
        with self._lock:
            self._tries += 1
            self._new: list[Observation] = []  # not yet shown to the reward
            self._actions: list[np.ndarray] = []  # that led to those
            self._steps, self._begun, self._done = 0, False, False
            self._watcher, self._following = watcher, following
            self._said: Verdict | None = None

    def __len__(self) -> int:
        """Actions so far."""
        return self._steps

    @property
    def begun(self) -> bool:
        """Whether anything of the try was seen."""
        return self._begun

    @property
    def full(self) -> bool:
        return self._steps >= self.longest

    def see(self, observation: Observation, action: np.ndarray | None) -> None:
        """The next observation, and the action f32[A] since the last one; None of the first."""
        with self._lock:
            if self._begun != (action is not None):
                raise ValueError("expected an action with every observation but the first")
            if self._begun:
                self._actions.append(np.asarray(action, np.float32))
                self._steps += 1
            self._new.append(observation)
            self._begun = True

    def judge(self) -> Verdict | None:
        """None before the first action. It takes as long as the reward does."""
        with self._lock:
            if not self._steps or not self._new:
                return self._said
            new, actions, steps, this = self._new, self._actions, self._steps, self._tries
            watcher, following = self._watcher, self._following
            self._new, self._actions = [], []
        said = [watcher.see(observation) for observation in new] if watcher else []
        self._note(this, any(said))
        none = np.empty((0, self.spec.action_dim), np.float32)
        scores = following.see(new, np.stack(actions) if actions else none)
        progress = float(scores.potential[-1])
        success = said[-1] if watcher else progress >= self.threshold
        done = self._note(this, success)
        verdict = Verdict(steps, progress, success, done)
        with self._lock:
            if this == self._tries:
                self._said = verdict
        return verdict

    def _note(self, this: int, done: bool) -> bool:
        """Whether the try has ever been done, unless another one has begun meanwhile."""
        with self._lock:
            if this != self._tries:
                return done
            self._done = self._done or done
            return self._done
