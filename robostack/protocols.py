"""What an environment, a policy and a reward must do. `robostack.testing` holds their exams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from robostack.types import Episode, Observation, RobotSpec, Step


@runtime_checkable
class Env(Protocol):
    """One arm and its scene, simulated or real."""

    spec: RobotSpec

    def reset(self, seed: int) -> Step:
        """Begin a try. The same seed gives the same start; neither flag of the Step is set."""

    def step(self, action: np.ndarray) -> Step:
        """Execute f32[A] for one control period. Raises ValueError if not finite or misshaped."""

    def close(self) -> None: ...


@runtime_checkable
class Snapshots(Protocol):
    """What simulators add: the full state, so that several tries start from one instant."""

    def snapshot(self) -> Any: ...

    def restore(self, snapshot: Any) -> Step:
        """Return to the snapshot; what follows is what would have followed then, bit for bit."""


@runtime_checkable
class Renders(Protocol):
    """What simulators add: a picture takes as long as the physics, and need not be made where
    nobody looks."""

    def step_unseen(self, action: np.ndarray) -> Step:
        """What `step` does and returns, but for the pictures, of which the observation has none."""


class Leader(Env, Protocol):
    """An environment that acts upon another one, and can take over from there."""

    def begin(self, step: Step) -> Step:
        """Go on from what the other environment has just told."""


@runtime_checkable
class Policy(Protocol):
    def reset(self, seed: int) -> None:
        """Forget the last try; `seed` fixes whatever the policy draws in the next one."""

    def act(self, observation: Observation) -> np.ndarray:
        """Actions f32[n, A] to be executed in a row from this observation on, n >= 1."""


@runtime_checkable
class Reward(Protocol):
    name: str

    def score(self, episode: Episode) -> np.ndarray:
        """Potential f32[T+1] in [0, 1] of every observation of the episode."""

    def fingerprint(self) -> str:
        """Changes whenever the scores would: side-cars written under another one are stale."""


@dataclass(frozen=True)
class Scores:
    """All that a reward can say of an episode; every array has one value an observation."""

    potential: np.ndarray  # f32[T+1] in [0, 1], what `score` returns
    confidence: np.ndarray  # f32[T+1] in [0, 1]; where it is low, combinations let go
    terms: dict[str, np.ndarray] = field(default_factory=dict)  # what it is made of, f32[T+1] each


@runtime_checkable
class Explains(Protocol):
    """A reward that says how sure it is and what its potential is made of."""

    def explain(self, episode: Episode) -> Scores: ...


@runtime_checkable
class Watcher(Protocol):
    """Looks on while one try goes on, and says when it is done."""

    def see(self, observation: Observation) -> bool:
        """Whether to stop here. It is told every observation once, in order, the first included;
        what it remembers of them, to want m of n in agreement for instance, is its own business."""


@runtime_checkable
class Stops(Protocol):
    """A reward that can end a try: "done" as an output that a runner obeys (World-Env, arXiv
    2509.24948), not a privilege of the simulator."""

    def watch(self) -> Watcher:
        """A new one for each try."""


@runtime_checkable
class Follower(Protocol):
    """Judges one try as it grows, at a cost that does not grow with it."""

    def see(self, observations: Sequence[Observation], actions: np.ndarray) -> Scores:
        """What the reward says of the last of these observations, arrays f32[1]: what it would say
        of the last one of the whole try so far.

        It is told every observation once, in order, several at a time if need be, with the actions
        f32[N, A] that led to them; to the first one of a try none did.
        """


@runtime_checkable
class Follows(Protocol):
    """A reward that need not see a try from its beginning again to judge what comes next."""

    def follow(self) -> Follower:
        """A new one for each try."""


@runtime_checkable
class ChunkReward(Protocol):
    """A reward that can judge actions before they are executed."""

    name: str

    def rank(self, observation: Observation, chunks: np.ndarray) -> np.ndarray:
        """Goodness f32[N] of chunks f32[N, H, A]; higher is better, comparable within one call."""
