"""What every learned reward shares: its data, its statistics, and being saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from robostack import config as configs
from robostack.data.growing import Growing
from robostack.data.normalize import Normalizer
from robostack.rewards.eye import EyeConfig, make_eye
from robostack.rewards.saved import RewardError, SavedReward
from robostack.rewards.sight import Sight, drawn, require_words
from robostack.types import Episode, Observation, RobotSpec

ELSEWHERE = (  # instructions of other tasks, where the data have too few to be mismatched
    "open the door",
    "stack the red cube on the green cube",
    "lift the red cube",
    "push the green cube to the left",
    "put the can into the bin",
    "wipe the table",
)


@dataclass(frozen=True)
class Track:
    """What is kept of an episode beside its columns."""

    task: str
    success: bool
    whole: bool  # whether it began at the beginning, and not at some state half-way
    group: str  # tries that began in the very same state share a non-empty one
    length: int  # observations
    arrived: int  # the first observation at which a success is done
    outcome: float  # how far it came: 1 for a success, else by the simulator's truth; NaN: unknown


class RewardData:
    """Episodes as rewards see them: what an eye keeps of the frames, states and actions, all in
    one column each. The pictures themselves are let go, so that data may be larger than memory
    would hold."""

    def __init__(self, episodes: Iterable[Episode], eye: nn.Module):
        self.tracks: list[Track] = []
        seen, states, actions, done = Growing(), [], [], []
        for episode in episodes:
            require_pictures(episode)
            if self.tracks:
                self.spec.require_same(episode.spec, "the first episode", "a later one")
            self.spec = episode.spec
            done.append(when_done(episode))
            self.tracks.append(
                Track(
                    episode.task,
                    bool(episode.success),
                    episode.whole,
                    episode.group,
                    len(episode) + 1,
                    int(done[-1].argmax()),
                    came_to(episode),
                )
            )
            seen.append(eye.look(episode.images))
            states.append(episode.states)
            actions.append(np.concatenate([episode.actions, 0 * episode.actions[:1]]))
        if not self.tracks:
            raise RewardError("no episodes to learn from")
        self.length = np.array([track.length for track in self.tracks])
        self.first = np.concatenate([[0], np.cumsum(self.length)])[:-1]  # row of observation 0
        self.seen, self.states = seen.whole(), np.concatenate(states)
        self.actions, self.done = np.concatenate(actions), np.concatenate(done)
        self.arrived = np.array([track.arrived for track in self.tracks])
        self.success = np.array([track.success for track in self.tracks])
        self.whole = np.array([track.whole for track in self.tracks])
        self.outcome = np.array([track.outcome for track in self.tracks])
        self.tasks = sorted({track.task for track in self.tracks})

    def __len__(self) -> int:
        return len(self.tracks)

    def require_successes(self, who: str) -> np.ndarray:
        """Indices of successful episodes; raises RewardError where there are none."""
        if not self.success.any():
            raise RewardError(f"{who} learns from successes; none of the {len(self)} is one")
        return np.flatnonzero(self.success)

    def groups(self) -> list[list[int]]:
        """Episodes that began in the very same state, where there are several."""
        found: dict[tuple[str, str], list[int]] = {}
        for i, track in enumerate(self.tracks):
            if track.group:
                found.setdefault((track.task, track.group), []).append(i)
        return [group for group in found.values() if len(group) > 1]

    def rows(self, episode: int) -> slice:
        return slice(self.first[episode], self.first[episode] + self.length[episode])

    def gather(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """What was seen and states f32[..., S] of observations `rows`."""
        return (
            torch.from_numpy(self.seen[rows]).to(device),
            torch.from_numpy(self.states[rows]).to(device),
        )

    def other_task(self, task: str, random: np.random.Generator) -> str:
        """An instruction that was not given: mostly another of the data, which asks for something
        else in the same scenes, or one of elsewhere."""
        others = [other for other in self.tasks if other != task]
        mostly = 0.8 if len(others) >= 3 else 0.5  # few would be learned by heart
        if not others or random.random() >= mostly:
            others += [other for other in ELSEWHERE if other != task]
        return others[random.integers(len(others))]


def when_done(episode: Episode) -> np.ndarray:
    """bool[T+1]: which observations of a success are done. The simulator's truth knows; where it is
    not known, only the last one is sure to be. None of what ended otherwise."""
    done = np.zeros(len(episode) + 1, bool)
    if episode.success:
        done[-1] = True
        if episode.truth is not None:
            done |= episode.truth >= 1
    return done


def came_to(episode: Episode) -> float:
    """Where an episode ended, in [0, 1]; NaN where nobody knows."""
    if episode.success:
        return 1.0
    if episode.truth is not None:
        return float(episode.truth[-1])
    return float("nan") if episode.success is None else 0.0


def require_pictures(episode: Episode) -> None:
    """Raise RewardError for an episode without pictures, with pictures of a dead camera, or without
    an instruction."""
    if not episode.images:
        raise RewardError("the episode has no pictures, and learned rewards look at pictures")
    require_words(episode.task)
    Sight(drawn(episode.spec)).take(episode.images, episode.states)


class LearnedReward(nn.Module, SavedReward):
    """Base of the rewards with weights. A subclass has a `Config`, a dataclass, and

    fit(data)            statistics, once before training
    loss(data, random)   one training step's loss and metrics
    calibrate(data)      what can only be known after training
    """

    Config: type
    midway: ClassVar[bool] = True  # whether episodes that began on the way teach it anything
    tasks: tuple[str, ...] = ()  # instructions of what it keeps of the training data

    def __init__(self, spec: RobotSpec, eye: EyeConfig | None = None, config: Any = None):
        super().__init__()
        if not spec.cameras:
            raise RewardError(f"the reward {self.name} looks at pictures; the spec has no camera")
        self.spec, self.config = spec, config or self.Config()
        self.eye = make_eye(eye or EyeConfig(), len(spec.cameras), spec.state_dim)
        self.normalize_state = Normalizer(spec.state_dim)

    @property
    def device(self) -> torch.device:
        return self.normalize_state.low.device

    def fit(self, data: RewardData) -> None:
        self.normalize_state.fit(data.states)

    def loss(
        self, data: RewardData, random: np.random.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        raise NotImplementedError

    def calibrate(self, data: RewardData) -> None:
        pass

    def look(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """What is seen of a whole episode, and its normalised states. Raises RewardError or
        SpecMismatch for an episode that the reward was not made for."""
        require_pictures(episode)
        self.spec.require_same(episode.spec, f"the reward {self.name}", "the episode")
        seen = torch.from_numpy(self.eye.look(episode.images)).to(self.device)
        return seen, self.normalize_state(torch.from_numpy(episode.states).to(self.device))

    def glance(self, *observations: Observation) -> tuple[Tensor, Tensor]:
        """The same of single observations."""
        first = observations[0]
        images = {name: np.stack([o.images[name] for o in observations]) for name in first.images}
        states = torch.from_numpy(np.stack([o.state for o in observations])).to(self.device)
        seen = torch.from_numpy(self.eye.look(images)).to(self.device)
        return seen, self.normalize_state(states)

    def seen(
        self, data: RewardData, rows: np.ndarray, random: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows of the data in training, augmented where `random` is given."""
        seen, states = data.gather(rows, self.device)
        if random is not None:
            seen = self.eye.augment(seen, random)
        return seen, self.normalize_state(states)

    # saving ----------------------------------------------------------------------------------
    def settings(self) -> dict[str, Any]:
        found = {
            "eye": dataclasses.asdict(self.eye.config),
            "config": dataclasses.asdict(self.config),
            "tasks": list(self.tasks),
        }
        return found | ({"digest": self.eye.digest()} if hasattr(self.eye, "digest") else {})

    def arrays(self) -> dict[str, np.ndarray]:
        return {key: value.detach().cpu().numpy() for key, value in self.state_dict().items()}

    @classmethod
    def restore(
        cls,
        spec: RobotSpec,
        settings: dict[str, Any],
        arrays: dict[str, np.ndarray],
        parts: dict[str, SavedReward],
    ) -> LearnedReward:
        eye = configs.build(EyeConfig, settings["eye"])
        reward = cls(spec, eye, configs.build(cls.Config, settings["config"]))
        found = reward.settings().get("digest")
        if found != settings.get("digest"):
            raise RewardError(
                f"{eye.source} holds other weights ({found}) than the reward {cls.name} was "
                f"trained with ({settings.get('digest')})"
            )
        reward.tasks = tuple(settings["tasks"])
        reward.resize(arrays)
        reward.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()})
        return reward.eval()

    def resize(self, arrays: dict[str, np.ndarray]) -> None:
        """Give buffers whose size depends on the training data the size that is loaded."""
        for name, buffer in list(self.named_buffers()):
            if name in arrays and buffer.shape != arrays[name].shape:
                owner, _, own = name.rpartition(".")
                empty = torch.from_numpy(np.empty_like(arrays[name]))
                setattr(self.get_submodule(owner), own, empty.to(buffer.device))
