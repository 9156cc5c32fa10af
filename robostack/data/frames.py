"""Single pictures of a store, straight from its files: the index of every file is read once, and of
a file only the bytes of the pictures that are asked for."""

from __future__ import annotations

import os
import resource
from collections import OrderedDict
from pathlib import Path

import numpy as np

from robostack.data.arrays import Damaged, decode_frame, read_index
from robostack.data.store import StoreError

SHARE = 4  # of the files that a process may have open, one in so many


class Frames:
    """One camera over many episodes; picture r is that of row r, counted through all of them.

    Files are read with pread and not mapped: a file that has been cut gives an error, not a bus
    error, and there are more of them than may be open at a time.
    """

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape  # of a picture
        self._paths: list[str] = []
        self._tables: list[np.ndarray] = []
        self._table = np.zeros((0, 3), np.int64)  # file, offset, length of each row
        self._open: OrderedDict[int, int] = OrderedDict()  # file -> descriptor, latest last
        self._most = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // SHARE)

    def add(self, folder: Path) -> int:
        """Append the pictures of one array; returns how many they are. Raises StoreError."""
        try:
            found = read_index(folder)
        except (Damaged, OSError, ValueError, KeyError) as error:
            raise StoreError(f"{folder}: damaged or missing ({error})") from None
        if found is None or found[2] != self.shape:
            raise StoreError(
                f"{folder}: pictures {'of another layout' if found is None else found[2]}, "
                f"expected {self.shape} a frame; train with reading.pictures=memory"
            )
        path, index, _ = found
        number = np.full((len(index), 1), len(self._paths))
        self._tables.append(np.concatenate([number, index.astype(np.int64)], 1))
        self._paths.append(str(path))
        return len(index)

    def __len__(self) -> int:
        return len(self._settled())

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Pictures u8[B, *shape] of `rows` i64[B]. Raises StoreError naming a damaged file."""
        out = np.empty((len(rows), *self.shape), np.uint8)
        for picture, (file, offset, length) in zip(out, self._settled()[rows].tolist()):
            try:
                decode_frame(os.pread(self._descriptor(file), length, offset), picture)
            except (Damaged, OSError) as error:
                raise StoreError(f"{self._paths[file]} is damaged or missing ({error})") from None
        return out

    def _settled(self) -> np.ndarray:
        if self._tables:
            self._table = np.concatenate([self._table, *self._tables])
            self._tables = []
        return self._table

    def _descriptor(self, file: int) -> int:
        found = self._open.get(file)
        if found is None:
            while len(self._open) >= self._most:
                os.close(self._open.popitem(last=False)[1])
            found = self._open[file] = os.open(self._paths[file], os.O_RDONLY)
        else:
            self._open.move_to_end(file)
        return found

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def __getstate__(self) -> dict:  # descriptors mean nothing in another process
        self._settled()
        return self.__dict__ | {"_open": OrderedDict()}

    def __del__(self) -> None:
        self.close()
