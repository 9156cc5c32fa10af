"""Episodes on disk: append-only, each whole or absent, readable by plain zarr-python.

    <store>/zarr.json                 group attributes: format version, RobotSpec
    <store>/episodes/000012/          one zarr v3 group an episode, one array a field,
                                      one shard an array, one chunk a step for images
    <store>/scores/<reward>.npz       side-cars: judgements never change an episode, and know the
                                      digests of those that they are about

An episode is written under <store>/partial/ and renamed into place, which is atomic: after a crash
or a `kill -9` it is there entirely or not at all. Every chunk carries a checksum.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import zarr

from robostack.data.arrays import read_array, write_array
from robostack.types import Episode, RobotSpec

FORMAT = 1


class StoreError(RuntimeError):
    """A store that is missing, empty, damaged, full or of another robot."""


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"no space left while writing {path}; every finished episode is kept, "
                "the unfinished one is not. Free some space and start again to go on."
            ) from None
        raise


class Store:
    """A folder of episodes of one robot."""

    def __init__(self, path: str | Path):
        """Open an existing store. Raises StoreError where there is none."""
        self.path = Path(path)
        try:
            attributes = json.loads((self.path / "zarr.json").read_text())["attributes"]
        except (OSError, KeyError, json.JSONDecodeError):
            raise StoreError(
                f"{self.path} is not an episode store (no readable zarr.json); "
                "make one with `robostack collect`"
            ) from None
        if attributes.get("format") != FORMAT:
            raise StoreError(
                f"{self.path}: store format {attributes.get('format')}, expected {FORMAT}"
            )
        self.spec = RobotSpec.from_json(attributes["spec"])

    @classmethod
    def create(cls, path: str | Path, spec: RobotSpec) -> Store:
        """Open the store at `path`, making it if need be; an existing one must hold `spec`."""
        path = Path(path)
        if (path / "zarr.json").exists():
            store = cls(path)
            store.spec.require_same(spec, f"the store {path}", "this environment")
            return store
        if path.exists() and any(path.iterdir()):
            raise StoreError(f"{path} exists, is not empty and is not an episode store")
        with _disk(path):
            partial = path.parent / f".{path.name}.{uuid.uuid4().hex}"
            partial.mkdir(parents=True)
            group = zarr.create_group(
                partial, attributes={"format": FORMAT, "spec": spec.to_json()}
            )
            group.create_group("episodes")
            path.mkdir(exist_ok=True)
            for entry in ("episodes", "zarr.json"):  # zarr.json last: it makes the store a store
                (partial / entry).rename(path / entry)
            partial.rmdir()
        return cls(path)

    def ids(self) -> list[str]:
        """Ids of all episodes, oldest first."""
        return sorted(p.name for p in (self.path / "episodes").iterdir() if p.name.isdigit())

    def __len__(self) -> int:
        return len(self.ids())

    def require_episodes(self) -> None:
        if not len(self):
            raise StoreError(f"{self.path} holds no episode")

    def append(self, episode: Episode) -> str:
        """Write one episode; returns its id. Raises StoreError if the disk is full."""
        self.spec.require_same(episode.spec, f"the store {self.path}", "the episode")
        partial = self.path / "partial" / uuid.uuid4().hex
        with _disk(self.path):
            try:
                partial.mkdir(parents=True)
                _write(partial / "episode", episode)
                return self._commit(partial / "episode")
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def take(self, other: Store, episode_id: str) -> str:
        """Move an episode here from another store on the same disk, at once or not at all; returns
        its id here."""
        self.spec.require_same(other.spec, f"the store {self.path}", f"the store {other.path}")
        folder = other.path / "episodes" / episode_id
        if not folder.is_dir():
            raise StoreError(f"{other.path} has no episode {episode_id!r}; it has {len(other)}")
        return self._commit(folder)

    def _commit(self, folder: Path) -> str:
        number = int(self.ids()[-1]) + 1 if len(self) else 0
        while True:
            try:  # renaming onto a non-empty folder fails: another writer took this number
                os.rename(folder, self.path / "episodes" / f"{number:06d}")
                _settle(self.path / "episodes")
                return f"{number:06d}"
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                number += 1

    def read(self, episode_id: str) -> Episode:
        """One episode. Raises StoreError naming the field that cannot be read."""
        folder = self.path / "episodes" / episode_id
        if not folder.is_dir():
            raise StoreError(f"{self.path} has no episode {episode_id!r}; it has {len(self)}")
        attributes = self.attributes(episode_id)
        for derived in ("steps", "whole"):  # for listing only
            attributes.pop(derived, None)

        def array(name: str) -> np.ndarray:
            try:
                found = read_array(folder / name)
                return found if found is not None else _by_zarr(folder, name)
            except Exception as error:  # zarr raises whatever its codecs raise
                raise StoreError(
                    f"{folder}: field {name!r} is damaged or missing ({error}); "
                    f"move the folder away to go on without this episode"
                ) from None

        try:
            return Episode(
                states=array("states"),
                images={name: array(f"images.{name}") for name in self.spec.cameras},
                stamps=array("stamps"),
                actions=array("actions"),
                keypoints={n: array(f"keypoints.{n}") for n in attributes.pop("keypoints")},
                truth=array("truth") if attributes.pop("truth", False) else None,
                spec=self.spec,
                **attributes,
            )
        except (KeyError, TypeError, ValueError) as error:  # fields that do not fit together
            raise StoreError(
                f"{folder}: its fields are damaged or do not fit together ({error}); "
                f"move the folder away to go on without this episode"
            ) from None

    def attributes(self, episode_id: str) -> dict:
        """What is known of an episode without reading its arrays: seed, success, steps, ..."""
        path = self.path / "episodes" / episode_id / "zarr.json"
        try:
            return dict(json.loads(path.read_text())["attributes"])
        except (OSError, KeyError, TypeError, ValueError) as error:  # whatever damage looks like
            raise StoreError(f"{path} cannot be read: {error}") from None

    def episodes(self) -> Iterator[tuple[str, Episode]]:
        for episode_id in self.ids():
            yield episode_id, self.read(episode_id)

    def digest(self, episode_id: str) -> str:
        """Of all that is on disk of an episode, pictures and labels included: changes whenever the
        episode does. One to two milliseconds; nothing is decoded."""
        folder = str(self.path / "episodes" / episode_id)
        found = hashlib.sha256()
        for place, inner, names in os.walk(folder):
            inner.sort()
            for name in sorted(names):
                with open(f"{place}/{name}", "rb") as file:
                    content = file.read()
                found.update(f"{place[len(folder) :]}/{name} {len(content)} ".encode())
                found.update(content)
        return found.hexdigest()[:16]

    def write_scores(
        self,
        reward: str,
        fingerprint: str,
        scores: dict[str, np.ndarray],
        digests: dict[str, str] | None = None,
    ) -> None:
        """Side-car: potentials f32[T+1] of episodes by id, as judged by one reward. `digests` are
        of the episodes that it saw; without them, of those that are there now."""
        if digests is None:
            digests = {episode_id: self.digest(episode_id) for episode_id in scores}
        about = {"fingerprint": fingerprint, "digests": json.dumps({i: digests[i] for i in scores})}
        folder = self.path / "scores"
        with _disk(folder):
            folder.mkdir(exist_ok=True)
            partial = folder / f".{reward}.{uuid.uuid4().hex}"
            try:
                with partial.open("wb") as file:
                    np.savez(
                        file, **{name: np.array(text) for name, text in about.items()}, **scores
                    )
                partial.replace(folder / f"{reward}.npz")
            finally:
                partial.unlink(missing_ok=True)

    def read_scores(self, reward: str, fingerprint: str | None = None) -> dict[str, np.ndarray]:
        """A side-car. Raises StoreError if absent, or stale: written by another version of the
        reward than `fingerprint`. Where that is given, scores of episodes that have changed since
        they were judged, or of which nobody knows, are left out."""
        path = self.path / "scores" / f"{reward}.npz"
        if not path.is_file():
            have = sorted(p.stem for p in (self.path / "scores").glob("*.npz"))
            raise StoreError(
                f"{self.path} has no scores by {reward!r} (it has: {', '.join(have) or 'none'}); "
                "write them with `robostack score`"
            )
        try:
            with np.load(path, allow_pickle=False) as file:
                table = {key: file[key] for key in file.files}
            written = str(table.pop("fingerprint"))
            digests = json.loads(str(table.pop("digests", "{}")))  # older ones have none
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path} is damaged ({error}); score the store again") from None
        if fingerprint is not None and written != fingerprint:
            raise StoreError(
                f"{path} is stale: written by {reward} {written}, which is now {fingerprint}; "
                "score the store again"
            )
        if fingerprint is not None:
            kept = [i for i in table if i in digests and self.digest(i) == digests[i]]
            table = {episode_id: table[episode_id] for episode_id in kept}
        return table


def open_store(path: str | Path) -> Store:
    """A store, or the one inside a run folder."""
    path = Path(path)
    return Store(path / "store" if (path / "store" / "zarr.json").is_file() else path)


def find_stores(path: str | Path) -> list[Path]:
    """A store, the one inside a run folder, or all that a run of `robostack cases` lists."""
    path = Path(path)
    if not (path / "zarr.json").is_file() and not (path / "store" / "zarr.json").is_file():
        try:
            listed = json.loads((path / "summary.json").read_text())["stores"]
            return [path / entry["path"] for entry in listed]
        except (OSError, KeyError, TypeError, json.JSONDecodeError):
            pass  # no such run; opening it says what is missing
    return [path]


def iter_episodes(paths: Iterable[str | Path], midway: bool = True) -> Iterator[Episode]:
    """All episodes of several stores, one at a time; without `midway` only those that began with a
    reset. Raises StoreError where a store is empty."""
    for path in paths:
        for each in find_stores(path):
            store = open_store(each)
            store.require_episodes()
            for episode_id in store.ids():
                if midway or store.attributes(episode_id).get("whole", True):
                    yield store.read(episode_id)


def read_episodes(paths: Iterable[str | Path]) -> list[Episode]:
    return list(iter_episodes(paths))


def require_episodes(paths: Iterable[str | Path]) -> None:
    """Raise StoreError where a store is missing or empty, before a run folder is made."""
    for path in paths:
        for each in find_stores(path):
            open_store(each).require_episodes()


def _by_zarr(folder: Path, name: str) -> np.ndarray:
    sizes = [p.stat().st_size for p in (folder / name / "c").rglob("*") if p.is_file()]
    if not sizes or 0 in sizes:  # zarr would read zeros
        raise FileNotFoundError("its chunks are gone")
    return zarr.open_group(folder, mode="r")[name][...]


def _write(folder: Path, episode: Episode) -> None:
    attributes = {
        "task": episode.task,
        "success": episode.success,
        "terminated": episode.terminated,
        "source": episode.source,
        "seed": episode.seed,
        "group": episode.group,
        "steps": len(episode),
        "whole": bool(episode.whole),
        "keypoints": sorted(episode.keypoints),
        "truth": episode.truth is not None,
        "label": episode.label,
    }
    group = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    folder.mkdir()
    (folder / "zarr.json").write_text(json.dumps(group, indent=2))
    fields = {"states": episode.states, "stamps": episode.stamps, "actions": episode.actions}
    if episode.truth is not None:
        fields["truth"] = episode.truth
    fields |= {f"keypoints.{name}": points for name, points in episode.keypoints.items()}
    for name, array in fields.items():
        write_array(folder / name, array)
    for name, frames in episode.images.items():
        write_array(folder / f"images.{name}", frames, framewise=True)
    for path in folder.rglob("*"):  # the rename must not become durable before the bytes are
        if path.is_file():
            _settle(path)


def _settle(path: Path) -> None:
    """What a file or folder holds outlives a power cut from here on."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
