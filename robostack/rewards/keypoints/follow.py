"""A point followed through the frames of one view.

It goes with the optical flow around it (pyramidal Lucas and Kanade, with the forward-backward
check of Kalal et al. 2010), and in every frame its look must confirm the place. Where it does not,
the point counts as lost, and is searched for in a window that grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from robostack.rewards.keypoints.look import Look, detect


@dataclass(frozen=True)
class TrackConfig:
    """When a point is lost, and what is made of gaps."""

    radius: float = 0.05  # half the side of a point's patch, as a share of the picture's height
    keep: float = 0.35  # likeness below which a followed point is lost
    regain: float = 0.6  # likeness that a lost point, or one looked for, must have
    gate: float = 0.02  # mean reprojection error above which views disagree, share of the height
    fill: int = 5  # longest gap that is filled by a straight line [steps]

    def __post_init__(self) -> None:
        for name in ("radius", "keep", "regain", "gate"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: expected more than 0, below 1, got {getattr(self, name)}"
                )
        if self.fill < 0:
            raise ValueError(f"fill: expected 0 or more steps, got {self.fill}")

    def patch(self, height: int) -> int:
        """Half the side of a patch in pictures of this height [px]."""
        return max(3, round(self.radius * height))


def flow(before: np.ndarray, after: np.ndarray, pixels: np.ndarray, window: int) -> np.ndarray:
    """Where pixels f32[N, 2] of one grey image are in the next; NaN where the way back leads
    elsewhere, by more than half a pixel."""
    points = np.asarray(pixels, np.float32).reshape(-1, 1, 2)
    settings = dict(winSize=(window, window), maxLevel=2)
    there, seen, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, **settings)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **settings)
    good = (seen & returned).ravel() == 1
    good &= np.linalg.norm((back - points)[:, 0], axis=-1) < 0.5
    return np.where(good[:, None], there[:, 0], np.nan)


class Followed:
    """A point in one view. Without a start [px] the first frame is searched for it."""

    def __init__(self, look: Look, start: np.ndarray | None, config: TrackConfig):
        self.look, self.config = look, config
        self._last, self._lost = start, 0  # where it was seen, and how many steps ago
        self._doubt: float | None = None  # likeness of the first sight, from which all others come
        self._before: tuple[np.ndarray, np.ndarray] | None = None  # the last frame, and in grey

    def see(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """Its pixel f64[2] in the next frame uint8[H, W, 3], and its likeness in [0, 1]: NaN and 0
        where it is not seen."""
        look, before = self.look, self._before
        self._before = frame, cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        reach = 0.5 * look.radius * (1 + self._lost)
        near, least = self._last, self.config.regain
        if before is not None and near is not None and not self._lost:
            moved = _carried(*before, self._before[1], near, look.radius)
            near, least = (near if moved is None else moved), self.config.keep
        pixel, alike = look.find(frame, near, reach)
        if alike < least:
            self._lost += 1
            return np.full(2, np.nan), 0.0
        likeness, self._last, self._lost = alike * (self._doubt or 1), pixel, 0
        if self._doubt is None:  # from here on it has the size that it has now
            self._doubt, self.look = alike, look.as_at(frame, pixel)
        return pixel, likeness


def _carried(frame, before, after, pixel, radius) -> np.ndarray | None:
    """The point, moved as most corners around it have; None if there are none to tell."""
    u, v = np.round(pixel).astype(int)
    corners = detect(frame, 12, (u - radius, v - radius, u + radius + 1, v + radius + 1))
    if not len(corners):
        return None
    moves = flow(before, after, corners, 2 * radius + 1) - corners
    moves = moves[np.isfinite(moves).all(-1)]
    return pixel + np.median(moves, axis=0) if 2 * len(moves) >= len(corners) else None
