"""What the benchmarks of learning tell of an arm against where it began."""

from __future__ import annotations

import numpy as np

from robostack.evaluate import paired_bootstrap, wilson


def gain(before: np.ndarray, after: np.ndarray) -> dict:
    """Of outcomes i64[seeds, episodes], paired over both."""
    difference, low, high = paired_bootstrap(before.ravel(), after.ravel())
    return {
        "success_rate": round(float(after.mean()), 4),
        "ci95": [round(x, 4) for x in wilson(int(after.sum()), after.size)],
        "gain": round(difference, 4),
        "gain_ci95": [round(low, 4), round(high, 4)],
        "by_seed": after.mean(1).round(4).tolist(),
    }
