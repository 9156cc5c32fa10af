"""Where the episodes of a session are, so that none is ever lost.

    <out>/store/         kept: what `robostack train bc --data <out>` reads
    <out>/pending/       finished, and nobody has decided yet
    <out>/trash/         discarded; nothing is ever deleted
    <out>/session.json   the settings, from which a later session goes on
    <out>/writer.lock    held while somebody collects
    <out>/damaged/       what could not be read any more, if there is any

Each of the three is an episode store. A recording is written to `pending` the moment that it ends,
and every decision is one rename, so a `kill -9` at any moment costs the unfinished recording only.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from robostack.data.holding import Hold
from robostack.data.store import Store, StoreError
from robostack.types import Episode, RobotSpec

Shelf = Literal["store", "pending", "trash"]
Decided = Literal["store", "trash"]
SHELVES: tuple[Shelf, ...] = get_args(Shelf)


class Shelves:
    """The three stores of a session, held by one process. Raises StoreError where another one
    holds them, or where they are of another robot."""

    def __init__(self, out: Path, spec: RobotSpec):
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        self.aside: list[str] = []  # what was damaged and where it is now, in words
        self._hold = Hold(out)
        try:
            self.store, self.pending, self.trash = (
                Store.create(out / name, spec) for name in SHELVES
            )
            self._highest = max(self._seeds(), default=-1)
        except BaseException:
            self.close()
            raise

    def _seeds(self) -> Iterator[int]:
        """Of all episodes here; one that cannot tell it is set aside."""
        for shelf in SHELVES:
            store: Store = getattr(self, shelf)
            for each in store.ids():
                try:
                    seed = int(store.attributes(each)["seed"])
                except (StoreError, KeyError, TypeError, ValueError) as error:
                    self.set_aside(shelf, each, str(error))
                else:
                    yield seed

    def set_aside(self, shelf: Shelf, episode_id: str, why: str) -> None:
        """Move a damaged episode out of the way, as it is. Raises OSError where that is not
        possible."""
        folder = self.out / "damaged"
        folder.mkdir(exist_ok=True)
        place = folder / f"{shelf}-{episode_id}"
        for again in itertools.count(1):
            if not place.exists():
                break
            place = folder / f"{shelf}-{episode_id}-{again}"
        os.rename(getattr(self, shelf).path / "episodes" / episode_id, place)
        self.aside.append(f"{shelf}/{episode_id} is damaged and now in {place} ({why})")

    def close(self) -> None:
        self._hold.release()

    def put(self, episode: Episode) -> str:
        """A finished recording; returns its id among the pending. Raises StoreError if the disk is
        full, OSError if it is broken: nothing is written then, and it can be tried again."""
        number = self.pending.append(episode)
        self._highest = max(self._highest, episode.seed)
        return number

    def keep(self, pending: str, success: bool | None) -> str:
        """Decide for an episode, with what the operator says of it; returns its id in the store."""
        self._mark(pending, success)
        return self.store.take(self.pending, pending)

    def discard(self, pending: str) -> str:
        """Decide against it; returns its id in the trash."""
        return self.trash.take(self.pending, pending)

    def decided(self) -> list[tuple[Decided, str]]:
        """Shelf and id of everything that was decided, in that order: a folder that is moved has
        the time of that."""
        found = []
        for shelf in get_args(Decided):
            store: Store = getattr(self, shelf)
            for each in store.ids():
                moved = (store.path / "episodes" / each).stat().st_ctime_ns
                found.append((moved, each, shelf))
        return [(shelf, each) for _, each, shelf in sorted(found)]

    def reopen(self, shelf: Decided, episode_id: str) -> str:
        """Take a decision back; returns the episode's id among the pending."""
        return self.pending.take(getattr(self, shelf), episode_id)

    def _mark(self, pending: str, success: bool | None) -> None:
        path = self.pending.path / "episodes" / pending / "zarr.json"
        group = json.loads(path.read_text())
        if group["attributes"]["success"] == success:
            return
        group["attributes"]["success"] = success
        partial = self.pending.path / f".{uuid.uuid4().hex}"
        try:
            partial.write_text(json.dumps(group, indent=2))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def next_seed(self, first: int) -> int:
        """A start that no episode here had."""
        return max(first, self._highest + 1)

    def free(self) -> int:
        """Bytes of the disk that are left."""
        return shutil.disk_usage(self.out).free
