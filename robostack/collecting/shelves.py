"""Where the episodes of a session are, so that none is ever lost.

    <out>/store/         kept: what `robostack train bc --data <out>` reads
    <out>/pending/       finished, and nobody has decided yet
    <out>/trash/         discarded; nothing is ever deleted
    <out>/session.json   the settings, from which a later session goes on
    <out>/session.lock   held while somebody collects

Each of the three is an episode store. A recording is written to `pending` the moment that it ends,
and every decision is one rename, so a `kill -9` at any moment costs the unfinished recording only.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from robostack.data.store import Store, StoreError
from robostack.types import Episode, RobotSpec

Shelf = Literal["store", "pending", "trash"]


class Shelves:
    """The three stores of a session, held by one process. Raises StoreError where another one
    holds them, or where they are of another robot."""

    def __init__(self, out: Path, spec: RobotSpec):
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(out / "session.lock")
        try:
            self.store, self.pending, self.trash = (
                Store.create(out / name, spec) for name in ("store", "pending", "trash")
            )
            self._highest = max(self._seeds(), default=-1)
        except BaseException:
            self.close()
            raise

    def _seeds(self) -> Iterator[int]:
        for store in (self.store, self.pending, self.trash):
            yield from (store.attributes(each)["seed"] for each in store.ids())

    def close(self) -> None:
        os.close(self._lock)  # which unlocks; so does the end of the process, however it comes

    def put(self, episode: Episode) -> str:
        """A finished recording; returns its id among the pending. Raises StoreError if the disk is
        full: nothing is written then, and it can be tried again."""
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

    def reopen(self, shelf: Literal["store", "trash"], episode_id: str) -> str:
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


def _locked(path: Path) -> int:
    """An open file that nobody else can lock. The system lets go when the process ends."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        who = os.read(file, 20).decode(errors="replace").strip()
        os.close(file)
        raise StoreError(
            f"{path.parent} is being collected into by another process ({who or 'unknown'}); "
            "stop that one, or give another --out"
        ) from None
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    return file
