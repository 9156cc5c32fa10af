"""How far pairs agree with what the simulator knows, by their margin.

Of tries that both come as far, either may be called better: what is preferred there is noise. Where
margins are of two kinds this shows, and how much to `keep` with it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from robostack.types import Episode, Preference

PARTS = 4  # of the pairs, from the smallest margins to the largest
SAME = 0.02  # difference of the truth, which is from 0 to 1, up to which two tries came as far


def by_margin(pairs: Iterable[Preference], episodes: dict[str, Episode]) -> list[dict]:
    """For each part of the pairs its smallest and largest `margin`, how many `pairs`, and in how
    many of them the chosen clip ended `ahead` of the rejected one or `behind` it by the simulator's
    truth. Nothing where that is not known, of ties, and of chunks that nobody executed."""
    rows = []
    for pair in pairs:
        clips = pair.chosen, pair.rejected
        truths = [episodes[clip.episode].truth for clip in clips]
        if pair.tie or any(clip.chunk for clip in clips) or any(t is None for t in truths):
            continue
        better, worse = (float(truth[clip.stop]) for truth, clip in zip(truths, clips))
        rows.append((pair.margin, better - worse))
    if len(rows) < PARTS:
        return []
    rows = np.array(sorted(rows))
    return [
        {
            "margin": [float(part[0, 0]), float(part[-1, 0])],
            "pairs": len(part),
            "ahead": int((part[:, 1] > SAME).sum()),
            "behind": int((part[:, 1] < -SAME).sum()),
        }
        for part in np.array_split(rows, PARTS)
    ]
