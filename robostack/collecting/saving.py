"""The way of a recording to a disk where something is wrong with it, or with the disk."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from robostack.data.store import Store
from robostack.rollout import Recorder
from robostack.types import Episode

PLACES = (tempfile.gettempdir(), "/var/tmp", "~", ".")  # other disks, perhaps


def longest(record: Recorder) -> tuple[Episode, str]:
    """What was recorded as an episode. Of one that cannot be whole (a state that is no number, a
    picture of another size, no memory left) the longest beginning that can, and why, in words.
    Raises what its first step raises where there is none."""
    try:
        return record.episode(), ""
    except Exception as error:  # whatever it is, the steps before it are good
        why = error
    good, bad = 0, len(record.actions)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            _beginning(record, middle).episode()
            good = middle
        except Exception:
            bad = middle
    episode = _beginning(record, max(good, 1)).episode()
    what = str(why) or type(why).__name__
    return episode, f"only the first {good} of {len(record.actions)} steps could be kept ({what})"


def _beginning(record: Recorder, steps: int) -> Recorder:
    return replace(record, steps=record.steps[: steps + 1], actions=record.actions[:steps])


def elsewhere(episode: Episode) -> Path:
    """A new store with one episode, on whatever disk takes it. Raises OSError or StoreError where
    none does."""
    for place in PLACES[:-1]:
        try:
            return _alone(episode, place)
        except Exception:  # whatever a disk makes of it: the next one may be better
            continue
    return _alone(episode, PLACES[-1])


def _alone(episode: Episode, place: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="robostack-", dir=Path(place).expanduser()))
    try:
        Store.create(folder / "store", episode.spec).append(episode)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder.absolute()
