"""A reward as a folder: what it is in `reward.json`, its numbers in `weights.safetensors`.

    reward.json          {"format", "name", "spec", "settings", "parts", "learned_from"}
    weights.safetensors  arrays by name, absent where there are none
    <part>/              rewards that this one is made of, each such a folder
    exam.json            what the exam found, see robostack.exam; it knows the fingerprint

Nothing in it is code, and nothing that is loaded is executed.
"""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import save_file

from robostack.types import Episode, RobotSpec, SpecMismatch

FORMAT = 2
Starts = dict[str, list[int]]  # seeds of episodes by their instruction
WEIGHTS, CARD = "weights.safetensors", "reward.json"


class RewardError(RuntimeError):
    """A reward that cannot be trained on or applied to this data, or a folder that holds none."""


class SavedReward(abc.ABC):
    """Base of the rewards that live in a folder. A subclass has a `name`, `score`, and

    settings()                              plain data that the arrays do not hold
    arrays()                                its numbers
    parts()                                 rewards that it is made of
    restore(spec, settings, arrays, parts)  the inverse of the three
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1  # raised whenever the same numbers come to say something else
    spec: RobotSpec
    home: Path | None = None  # the folder that it was loaded from or saved to
    learned_from: Starts | None = None  # its own training's, without that of parts; None: unknown

    @abc.abstractmethod
    def score(self, episode: Episode) -> np.ndarray:
        """Potential f32[T+1] in [0, 1]."""

    def settings(self) -> dict[str, Any]:
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        return {}

    def parts(self) -> dict[str, SavedReward]:
        return {}

    @classmethod
    @abc.abstractmethod
    def restore(
        cls,
        spec: RobotSpec,
        settings: dict[str, Any],
        arrays: dict[str, np.ndarray],
        parts: dict[str, SavedReward],
    ) -> SavedReward:
        """Raises ValueError or KeyError where settings or arrays do not fit."""

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.name} {self.version}".encode())
        digest.update(json.dumps(self.settings(), sort_keys=True).encode())
        for key, value in sorted(self.arrays().items()):
            digest.update(f"{key}{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        for name, part in sorted(self.parts().items()):
            digest.update(f"{name}{part.fingerprint()}".encode())
        return digest.hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """Over what was there, which stays as it was until all of this is written."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {key: np.copy(value, order="C") for key, value in self.arrays().items()}
        written = [CARD]
        if arrays:
            save_file(arrays, folder / f".{WEIGHTS}")
            written = [WEIGHTS, CARD]
        for name, part in self.parts().items():
            home = part.home  # of the original, which keeps it
            part.save(folder / name)
            part.home = home
        card = {
            "format": FORMAT,
            "name": self.name,
            "spec": json.loads(self.spec.to_json()),
            "settings": self.settings(),
            "parts": sorted(self.parts()),
            "learned_from": self.learned_from,
        }
        (folder / f".{CARD}").write_text(json.dumps(card, indent=1) + "\n")
        for name in written:
            (folder / f".{name}").replace(folder / name)
        self.home = folder


def noted(episodes: Iterable[Episode], starts: Starts) -> Iterator[Episode]:
    """The episodes one by one; where each started is noted in `starts`."""
    for episode in episodes:
        seeds = starts.setdefault(episode.task, [])
        if episode.seed not in seeds[-1:] and episode.seed not in seeds:
            seeds.append(episode.seed)
        yield episode


def starts_of(reward: SavedReward) -> Starts | None:
    """All that a reward and its parts learned from; None where that is unknown of any of them."""
    everything = [reward.learned_from, *(starts_of(part) for part in reward.parts().values())]
    if any(starts is None for starts in everything):
        return None
    tasks = sorted({task for starts in everything for task in starts})
    return {t: sorted({seed for each in everything for seed in each.get(t, [])}) for t in tasks}


def reward_folder(path: str | Path) -> Path:
    """A reward's folder, or the one inside the run that trained it."""
    path = Path(path)
    return path / "reward" if (path / "reward" / CARD).is_file() else path


def read_card(path: str | Path) -> dict[str, Any]:
    """{"format", "name", "spec", "settings"} of a saved reward. Raises RewardError where there is
    none or it is of another version."""
    folder = reward_folder(path)
    try:
        card = json.loads((folder / CARD).read_text())
        card["spec"] = RobotSpec.from_json(json.dumps(card["spec"]))
        name, version = card["name"], card.get("format", 1)
    except (OSError, KeyError, TypeError, ValueError, SpecMismatch) as error:
        raise RewardError(
            f"{folder} holds no reward (no readable {CARD}: {error}); make one with "
            "`robostack train reward`"
        ) from None
    if version != FORMAT:
        raise RewardError(
            f"{folder}: the reward {name!r} is of format {version}, expected {FORMAT}; train it "
            "again"
        )
    return card
