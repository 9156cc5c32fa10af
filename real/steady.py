"""Where an arm is, when no single sample is to be believed: what several in a row agree on."""

from __future__ import annotations

from collections import deque

import numpy as np

WHILE = 0.1  # [s] for which samples have to agree
LEAST = 3  # of them, of a slow sensor over a longer time
KEPT = 500  # messages


class Steady:
    """The last samples of every state; `tolerance` f64[S] is how far those of one place differ."""

    def __init__(self, tolerance: np.ndarray):
        self.tolerance = tolerance
        self._rows: deque[np.ndarray] = deque(maxlen=KEPT)
        self._heard: deque[float] = deque(maxlen=KEPT)

    def add(self, row: np.ndarray, heard: float) -> None:
        """A message f64[S], NaN where it says nothing."""
        self._rows.append(row)
        self._heard.append(heard)

    def at(self, heard: float) -> np.ndarray:
        """f64[S], the median of the last samples; NaN where there are too few or they differ."""
        found = np.full(len(self.tolerance), np.nan)
        if not self._rows:
            return found
        rows, times = np.array(self._rows), np.array(self._heard)
        for i, tolerance in enumerate(self.tolerance):
            known = np.isfinite(rows[:, i])
            values, since = rows[known, i], times[known]
            if len(values) < LEAST or heard - since[0] < WHILE:
                continue
            first = min(np.searchsorted(since, heard - WHILE), len(values) - LEAST)
            if np.ptp(values[first:]) <= tolerance:
                found[i] = np.median(values[first:])
        return found
