"""An array that rows are appended to, at no time held twice."""

from __future__ import annotations

import numpy as np

FACTOR = 1.25  # by which it grows


class Growing:
    """Rows of one kind, one below the other. `np.concatenate` of as many parts would for a moment
    need twice the memory, and free memory in pieces that the system does not get back."""

    def __init__(self):
        self._held: np.ndarray | None = None
        self._count = 0

    def append(self, rows: np.ndarray) -> None:
        """Rows [N, ...] of the shape and type of the first ones."""
        end = self._count + len(rows)
        if self._held is None:
            self._held = np.empty(rows.shape, rows.dtype)
        if rows.shape[1:] != self._held.shape[1:] or rows.dtype != self._held.dtype:
            raise ValueError(
                f"expected rows {self._held.dtype}{list(self._held.shape[1:])}, got "
                f"{rows.dtype}{list(rows.shape[1:])}"
            )
        if end > len(self._held):
            self._resize(max(end, int(FACTOR * len(self._held))))
        self._held[self._count : end] = rows
        self._count = end

    def whole(self) -> np.ndarray:
        """All rows; nothing can be appended any more."""
        if self._held is None:
            raise ValueError("no rows were appended")
        self._resize(self._count)
        found, self._held = self._held, None
        return found

    def _resize(self, count: int) -> None:
        # in place, which moves pages and no bytes; nobody else has seen the array yet
        self._held.resize((count, *self._held.shape[1:]), refcheck=False)
