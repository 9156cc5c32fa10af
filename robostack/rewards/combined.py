"""Several saved rewards as one, itself saved: weights fitted to success, gates, and pessimism.

That factored scores are combined, with pessimism, follows IRL-VLA (arXiv 2508.06571); the weights
are what BARFI (2310.19007) would learn through a whole reinforcement learning run, learned from
recorded episodes instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robostack.protocols import ChunkReward, Scores
from robostack.rewards.combine import combine, explained, require_caution, require_weights
from robostack.rewards.follow import follower
from robostack.rewards.saved import RewardError, SavedReward
from robostack.types import Episode, Observation, RobotSpec


class Combined(SavedReward):
    """`combine` of members by name, copies of which lie in its folder.

    It ranks chunks if one of its members does; only then has it a `rank` at all.
    """

    name = "combined"

    def __init__(
        self,
        members: dict[str, SavedReward],
        weights: dict[str, float],
        gate: float = 0.0,
        pessimism: float = 0.0,
    ):
        require_weights(weights, set(members))
        require_caution(gate, pessimism)
        odd = [name for name in weights if not name.isidentifier()]
        if odd:
            raise ValueError(f"combined: {odd} cannot be folders; expected names such as progress")
        self.members = {name: members[name] for name in weights}
        self.weights = {name: float(weight) for name, weight in weights.items()}
        self.gate, self.pessimism = float(gate), float(pessimism)
        first, *others = self.members
        self.spec = self.members[first].spec
        for name in others:
            self.spec.require_same(self.members[name].spec, f"the member {first}", name)
        self._rankers = [
            name
            for name, member in self.members.items()
            if isinstance(member, ChunkReward) and weights[name] > 0
        ]
        if self._rankers:
            self.rank = self._rank

    def score(self, episode: Episode) -> np.ndarray:
        return self.explain(episode).potential

    def explain(self, episode: Episode) -> Scores:
        """The terms are the potentials of the members that have a weight."""
        used = {name: m for name, m in self.members.items() if self.weights[name] > 0}
        scores = {name: explained(member, episode) for name, member in used.items()}
        weights = {name: self.weights[name] for name in used}
        return combine(scores, weights, self.gate, self.pessimism)

    def follow(self) -> Following:
        return Following(self)

    def _rank(self, observation: Observation, chunks: np.ndarray) -> np.ndarray:
        """Goodness f32[N] of chunks f32[N, H, A]: weighted mean of the members' standard scores
        within these candidates, minus pessimism times their deviation between the members."""
        weights = np.array([self.weights[name] for name in self._rankers])
        share = (weights / weights.sum())[:, None]
        ranks = [self.members[name].rank(observation, chunks) for name in self._rankers]
        z = np.stack([standard(np.asarray(rank, np.float64)) for rank in ranks])
        mean = (share * z).sum(0)
        deviation = np.sqrt((share * (z - mean) ** 2).sum(0))
        return (mean - self.pessimism * deviation).astype(np.float32)

    def settings(self) -> dict[str, Any]:
        members = {
            name: {"name": member.name, "fingerprint": member.fingerprint()}
            for name, member in self.members.items()
        }
        return {
            "weights": self.weights,
            "gate": self.gate,
            "pessimism": self.pessimism,
            "members": members,
        }

    def parts(self) -> dict[str, SavedReward]:
        return self.members

    @classmethod
    def restore(
        cls,
        spec: RobotSpec,
        settings: dict[str, Any],
        arrays: dict[str, np.ndarray],
        parts: dict[str, SavedReward],
    ) -> Combined:
        """Raises RewardError, naming it, for a member that has changed since it was combined."""
        for name, about in settings["members"].items():
            found = parts[name].fingerprint()
            if found != about["fingerprint"]:
                raise RewardError(
                    f"the member {name} has changed since it was combined: expected "
                    f"{about['name']} {about['fingerprint']}, got {parts[name].name} {found}; "
                    "combine them again"
                )
        reward = cls(parts, settings["weights"], settings["gate"], settings["pessimism"])
        reward.spec.require_same(spec, "its members", "the combined reward")
        return reward


class Following:
    """Lets each member that has a weight follow the try in its own way."""

    def __init__(self, reward: Combined):
        self.reward = reward
        self._members = {
            name: follower(member, reward.spec)
            for name, member in reward.members.items()
            if reward.weights[name] > 0
        }

    def see(self, observations: Sequence[Observation], actions: np.ndarray) -> Scores:
        reward = self.reward
        said = {name: member.see(observations, actions) for name, member in self._members.items()}
        weights = {name: reward.weights[name] for name in said}
        return combine(said, weights, reward.gate, reward.pessimism)


def standard(scores: np.ndarray) -> np.ndarray:
    """Scores f64[N] with mean 0 and deviation 1; 0 where they do not differ beyond rounding."""
    centred = scores - scores.mean()
    deviation = centred.std()
    if deviation <= 1e-6 * max(1.0, float(np.abs(scores).max())):
        return np.zeros_like(scores)
    return centred / deviation
