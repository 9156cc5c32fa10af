"""Preference sets on disk: references to episodes, and how to tell that these have changed.

A file of JSON lines: the header, then one preference a line. Frames are never copied.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from robostack.data.store import open_store
from robostack.types import Clip, Episode, Preference

FORMAT = 3
BLIND = 2  # the format before, whose digests are not of pictures; it is read as it is


class PreferenceError(ValueError):
    """A preference set that cannot be used; the message says which part of it, and why."""


@dataclass(frozen=True)
class PreferenceSet:
    """Preferences, their data card, the store that they refer to, and its episodes' digests, in one
    of the formats that are read."""

    pairs: list[Preference]
    card: dict
    store: str
    digests: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def episodes(self, data: str | Path | None = None) -> dict[str, Episode]:
        """The episodes that the pairs refer to, by id. Raises PreferenceError naming the pair
        whose episode is missing, or is not the one that was compared."""
        store = open_store(self.store if data is None else data)
        there, found = set(store.ids()), {}
        for pair in self.pairs:
            for clip in (pair.chosen, pair.rejected):
                if clip.episode in found:
                    continue
                if clip.episode not in there:
                    raise PreferenceError(
                        f"the pair of {pair.group} needs episode {clip.episode}, which "
                        f"{store.path} does not have"
                    )
                episode = store.read(clip.episode)
                known = self.digests.get(clip.episode)
                if known != digest(episode, pictures=self.format != BLIND):
                    raise PreferenceError(
                        f"the pair of {pair.group} was made from another episode {clip.episode} "
                        f"than {store.path} holds now; make the preferences again"
                    )
                found[clip.episode] = episode
        return found


def digest(episode: Episode, pictures: bool = True) -> str:
    """Tells an episode from any other: what was done and seen, where it began, what came of it."""
    found = hashlib.sha256(f"{episode.task}|{episode.seed}|{episode.success}".encode())
    arrays = [episode.actions, episode.states]
    if pictures:
        arrays += [frames for _, frames in sorted(episode.images.items())]
    for array in arrays:
        found.update(str(array.shape).encode() + array.tobytes())
    return found.hexdigest()[:16]


def fingerprint(path: str | Path) -> str:
    """Of a saved set: changes with any of its pairs."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def save(path: str | Path, found: PreferenceSet) -> None:
    """Whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"format": found.format, "card": found.card, "store": found.store}
    head["episodes"] = found.digests
    lines = [json.dumps(head), *(json.dumps(asdict(p)) for p in found.pairs)]
    partial = path.with_name(f".{path.name}")
    partial.write_text("\n".join(lines) + "\n")
    partial.replace(path)


def load(path: str | Path) -> PreferenceSet:
    """Raises FileNotFoundError, or PreferenceError naming the line that is wrong."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; make it with `robostack prefer`")
    lines = path.read_text().splitlines()
    try:
        head = json.loads(lines[0])
        card, store, known = head["card"], head["store"], head.get("format")
    except (ValueError, KeyError, TypeError, IndexError) as error:  # no line, no JSON, no card
        raise PreferenceError(f"{path} is not a preference set ({error})") from None
    if known not in (BLIND, FORMAT):
        raise PreferenceError(
            f"{path} is of format {known}, expected {FORMAT}; make it again with `robostack prefer`"
        )
    digests = head.get("episodes")
    if not isinstance(digests, dict):
        raise PreferenceError(
            f"{path}: expected its header to hold the episodes' digests as `episodes`, got "
            f"{digests}; make it again with `robostack prefer`"
        )
    pairs = []
    for number, line in enumerate(lines[1:], 2):
        try:
            pairs.append(_preference(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise PreferenceError(f"{path}, line {number}: {error}") from None
    return PreferenceSet(pairs, card, store, digests, known)


def _preference(row: dict) -> Preference:
    sides = {name: _clip(row.pop(name)) for name in ("chosen", "rejected")}
    return Preference(**sides, **row)


def _clip(row: dict) -> Clip:
    chunk = row.pop("chunk")
    return Clip(**row, chunk=None if chunk is None else tuple(map(tuple, chunk)))
