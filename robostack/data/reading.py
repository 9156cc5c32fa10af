"""Training data of stores of any size: pictures in memory where they fit, else read from the files
when their turn comes, by processes that read ahead. Which of these it is changes no bit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from robostack.data.arrays import read_array
from robostack.data.chunks import Batch, ChunkData, Windows
from robostack.data.frames import Frames
from robostack.data.store import Store, StoreError, find_stores, iter_episodes, open_store
from robostack.types import RobotSpec

SHARE = 0.5  # of the memory that is free, for pictures


@dataclass(frozen=True)
class Reading:
    """How training data are read. It changes the time that takes, and nothing else."""

    pictures: Literal["auto", "memory", "disk"] = "auto"  # auto: in memory where they fit
    processes: int = 0  # that read ahead, where pictures are on disk; 0: training waits for them
    ahead: int = 2  # batches that each of them may be ahead

    def __post_init__(self) -> None:
        if self.processes < 0 or self.ahead < 1:
            raise ValueError(
                f"reading: expected processes of 0 or more and ahead of 1 or more, got "
                f"{self.processes} and {self.ahead}"
            )


class StoredChunks(Windows):
    """Windows over the episodes of stores, whose pictures stay on disk: memory holds states and
    actions, and 24 bytes a picture."""

    def __init__(self, spec: RobotSpec, horizon: int, paths: Iterable[str | Path] = ()):
        super().__init__(spec, horizon)
        self._cameras = {name: Frames((*size, 3)) for name, size in spec.cameras.items()}
        for path in paths:
            for each in find_stores(path):
                store = open_store(each)
                store.require_episodes()
                spec.require_same(store.spec, "the training data", f"the store {store.path}")
                for episode_id in store.ids():
                    self._add(store, episode_id)

    def _add(self, store: Store, episode_id: str) -> None:
        folder = store.path / "episodes" / episode_id
        fields = {}
        for name in ("states", "actions"):
            try:
                fields[name] = read_array(folder / name)
            except (ValueError, OSError) as error:
                raise StoreError(f"{folder}: field {name!r} is damaged ({error})") from None
        if any(array is None for array in fields.values()):  # zarr reads every other layout
            whole = store.read(episode_id)
            fields = {"states": whole.states, "actions": whole.actions}
        for name, frames in self._cameras.items():
            count = frames.add(folder / f"images.{name}")
            if count != len(fields["states"]):
                raise StoreError(
                    f"{folder}: {count} pictures of {name}, expected {len(fields['states'])}"
                )
        task = store.attributes(episode_id)["task"]
        self._append({"state": fields["states"]}, fields["actions"], task)

    def pictures(self, camera: str, rows: np.ndarray) -> np.ndarray:
        return self._cameras[camera].read(rows)


def read_windows(
    paths: list[str | Path], spec: RobotSpec, horizon: int, reading: Reading = Reading()
) -> Windows:
    """Windows over all episodes of stores; a line on stderr says where their pictures stay on disk.
    Raises StoreError where a store is missing, empty or damaged."""
    size, free = pictures_size(paths), free_memory()
    disk = reading.pictures == "disk" or (reading.pictures == "auto" and size > SHARE * free)
    if not disk:
        return ChunkData(spec, horizon, iter_episodes(paths))
    print(
        f"{size / 1e9:.1f} GB of pictures are read from disk ({free / 1e9:.1f} GB of memory free)",
        file=sys.stderr,
    )
    return StoredChunks(spec, horizon, paths)


def pictures_size(paths: list[str | Path]) -> int:
    """Bytes that all pictures of stores take in memory."""
    total = 0
    for path in paths:
        for each in find_stores(path):
            store = open_store(each)
            frame = sum(3 * height * width for height, width in store.spec.cameras.values())
            total += frame * sum(store.attributes(i)["steps"] + 1 for i in store.ids())
    return total


def free_memory() -> int:
    """Bytes that this process could still take, by what the machine says, or its control group."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(r.split()[1]) * 1024 for r in lines if r.startswith("MemAvailable"))
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text().strip()
        if most != "max":
            free = min(free, int(most) - int((group / "memory.current").read_text()))
    except (OSError, StopIteration, ValueError):  # another system, or another kind of group
        pass
    return max(free, 0)


class _Batches(Dataset):
    """Batches by their rows, for PyTorch's loader."""

    def __init__(self, data: Windows):
        self._data = data

    def __getitem__(self, rows: np.ndarray) -> Batch:
        return self._data.batch(rows)


def batches(
    data: Windows, picks: Iterable[np.ndarray], reading: Reading = Reading()
) -> Iterator[Batch]:
    """The batches of rows `picks`, i64[B] each, in their order. Where pictures are on disk,
    `reading.processes` read ahead; pictures in memory are there at once."""
    if not reading.processes or not isinstance(data, StoredChunks):
        yield from map(data.batch, picks)
        return
    loader = DataLoader(
        _Batches(data),
        sampler=picks,
        batch_size=None,  # a sample is a batch already
        num_workers=reading.processes,
        prefetch_factor=reading.ahead,
        multiprocessing_context="spawn",  # threads and CUDA do not survive a fork
        pin_memory=torch.cuda.is_available(),
    )
    yield from loader
