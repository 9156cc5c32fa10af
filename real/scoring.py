"""A trained reward looks on while a try goes on, without ROS."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from robostack.protocols import Reward, Stops
from robostack.types import Episode, Observation, RobotSpec


@dataclass(frozen=True)
class Verdict:
    """What a reward says of a try so far."""

    steps: int  # actions of the try that were judged
    progress: float  # the potential of the last observation, in [0, 1]
    success: bool  # whether the task looks done now
    termination: bool  # whether it was done at any time: the try may end


class Growing:
    """One try as it grows, and what a reward says of it.

    A reward that watches (`Stops`) is shown every observation once, in order, and says by itself
    when a try is done. Of any other one, that is when its potential reaches `threshold`. `see` may
    be called by one thread while `judge` is at work in another.
    """

    def __init__(self, reward: Reward, spec: RobotSpec, threshold: float, longest: int):
        self.reward, self.spec, self.threshold, self.longest = reward, spec, threshold, longest
        self._lock, self._tries = threading.Lock(), 0
        self.begin()

    def begin(self) -> None:
        """Another try."""
        watcher = self.reward.watch() if isinstance(self.reward, Stops) else None
        with self._lock:
            self._tries += 1
            self._seen: list[Observation] = []
            self._actions: list[np.ndarray] = []
            self._shown, self._done, self._watcher = 0, False, watcher

    def __len__(self) -> int:
        """Actions so far."""
        return len(self._actions)

    @property
    def begun(self) -> bool:
        """Whether anything of the try was seen."""
        return bool(self._seen)

    @property
    def full(self) -> bool:
        return len(self._actions) >= self.longest

    def see(self, observation: Observation, action: np.ndarray | None) -> None:
        """The next observation, and the action f32[A] since the last one; None of the first."""
        with self._lock:
            if bool(self._seen) != (action is not None):
                raise ValueError("expected an action with every observation but the first")
            if self._seen:
                self._actions.append(np.asarray(action, np.float32))
            self._seen.append(observation)

    def judge(self) -> Verdict | None:
        """None before the first action. It takes as long as the reward does."""
        with self._lock:
            seen, actions = list(self._seen), list(self._actions)
            watcher, this = self._watcher, self._tries
        if not actions:
            return None
        progress = float(self.reward.score(self._episode(seen, actions))[-1])
        success = progress >= self.threshold
        if watcher is not None:
            said = [watcher.see(observation) for observation in seen[self._shown :]]
            success = bool(said and said[-1])
            done = any(said)
        else:
            done = success
        with self._lock:
            if this == self._tries:  # none has begun meanwhile
                self._shown, self._done = len(seen), self._done or done
            return Verdict(len(actions), progress, success, self._done)

    def _episode(self, seen: list[Observation], actions: list[np.ndarray]) -> Episode:
        return Episode(
            states=np.stack([look.state for look in seen]),
            images={name: np.stack([x.images[name] for x in seen]) for name in self.spec.cameras},
            stamps=np.array([look.stamp for look in seen]),
            actions=np.stack(actions),
            task=seen[-1].task,
            success=None,
            terminated=False,
            source="rollout",
            seed=0,
            spec=self.spec,
        )
