"""Statistics of a feature as LeRobot states them, exact over any number of episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robostack.data.interchange.layout import QUANTILES


@dataclass(frozen=True)
class Statistics:
    """Of rows of numbers, which are kept, or of pictures, of which a histogram is enough."""

    count: int  # rows or pictures
    rows: np.ndarray | None = None  # f64[N, D]
    histogram: np.ndarray | None = None  # i64[3, 256] of a colour's values

    @classmethod
    def of_rows(cls, rows: np.ndarray) -> Statistics:
        return cls(len(rows), rows=rows.astype(np.float64))

    @classmethod
    def of_pictures(cls, frames: np.ndarray) -> Statistics:
        colours = [np.bincount(frames[..., c].ravel(), minlength=256) for c in range(3)]
        return cls(len(frames), histogram=np.stack(colours))

    def to_dict(self) -> dict[str, list]:
        """min, max, mean, std and quantiles as lists [D], or [3][1][1] of colours from 0 to 1."""
        if self.rows is not None:
            found = {
                "min": self.rows.min(0),
                "max": self.rows.max(0),
                "mean": self.rows.mean(0),
                "std": self.rows.std(0),
            }
            levels = zip(QUANTILES, np.quantile(self.rows, QUANTILES, axis=0))
            found |= {f"q{round(100 * q):02d}": level for q, level in levels}
        else:
            found = {key: value[:, None, None] for key, value in self._colours().items()}
        return {key: value.tolist() for key, value in found.items()} | {"count": [self.count]}

    def _colours(self) -> dict[str, np.ndarray]:
        value, share = np.arange(256) / 255, self.histogram / self.histogram.sum(1, keepdims=True)
        mean = share @ value
        there, cumulated = share > 0, share.cumsum(1)
        found = {
            "min": value[there.argmax(1)],
            "max": value[255 - there[:, ::-1].argmax(1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(share @ value**2 - mean**2, 0)),
        }
        return found | {
            f"q{round(100 * q):02d}": value[(cumulated >= q).argmax(1)] for q in QUANTILES
        }


def merged(parts: list[Statistics]) -> Statistics:
    """Those of all parts together."""
    count = sum(part.count for part in parts)
    if parts[0].rows is not None:
        return Statistics(count, rows=np.concatenate([part.rows for part in parts]))
    return Statistics(count, histogram=np.sum([part.histogram for part in parts], axis=0))
