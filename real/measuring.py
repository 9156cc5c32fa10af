"""What an arm is measured to be doing, and when not to believe it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from robostack.real.samples import BACK

WHILE = 0.1  # [s] for which samples have to agree
LEAST = 3  # of them, of a slow sensor over a longer time
KEPT = 500  # messages


class Measured:
    """The last samples of every state `names`; ages are on the monotonic clock.

    `limit` [s] is how old one may be, `tolerance` f64[S] how far those of one place differ.
    """

    def __init__(self, names: Sequence[str], limit: float, tolerance: np.ndarray):
        self._limit, self._tolerance = limit, tolerance
        self.column = {name: i for i, name in enumerate(names)}
        self._values = np.full(len(names), np.nan)
        self._heard = np.full(len(names), -np.inf)  # when each was
        self._stamps = np.full(len(names), -np.inf)  # of each, where its driver gives any
        self._repeats = np.full(len(names), -np.inf)  # when one that is no news was heard
        self._rows: deque[np.ndarray] = deque(maxlen=KEPT)
        self._times: deque[float] = deque(maxlen=KEPT)

    def hear(self, values: Mapping[str, float], heard: float, stamp: float = 0.0) -> None:
        """See ArmController.measure."""
        row = np.full(len(self.column), np.nan)
        for name, value in values.items():
            i = self.column[name]
            if stamp > 0 and 0 <= self._stamps[i] - stamp < BACK:
                self._repeats[i] = heard
            elif np.isfinite(value):
                self._values[i] = row[i] = value
                self._heard[i], self._stamps[i] = heard, stamp or -np.inf
        self._rows.append(row)
        self._times.append(heard)

    def now(self, heard: float) -> np.ndarray:
        """f64[S], NaN where the last sample is too old."""
        return np.where(heard - self._heard <= self._limit, self._values, np.nan)

    def stale(self, heard: float, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not measured now."""
        return [name for name in names if heard - self._heard[self.column[name]] > self._limit]

    def repeated(self, heard: float, names: Sequence[str]) -> list[str]:
        """Those of `names` of which the driver tells old news."""
        return [name for name in names if heard - self._repeats[self.column[name]] <= self._limit]

    def agreed(self, heard: float) -> np.ndarray:
        """f64[S] that the last samples agree on, their median: no single one is to be believed.

        NaN where they differ, or are too few or too old.
        """
        found = np.full(len(self.column), np.nan)
        if not self._rows:
            return found
        rows, times = np.array(self._rows), np.array(self._times)
        for i, tolerance in enumerate(self._tolerance):
            known = np.isfinite(rows[:, i])
            values, since = rows[known, i], times[known]
            if len(values) < LEAST or heard - since[0] < WHILE:
                continue
            first = min(np.searchsorted(since, heard - WHILE), len(values) - LEAST)
            if np.ptp(values[first:]) <= tolerance:
                found[i] = np.median(values[first:])
        return np.where(np.isnan(self.now(heard)), np.nan, found)
