"""Points over time, the gripper that goes with them, and polylines between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from robostack.rewards.saved import RewardError

Points = dict[str, np.ndarray]  # name -> f32[T+1, 3] [m], world frame, z up

# fingers are steady that part by at most STEADY [m] within WINDOW observations, and close by at
# most as much within one
STEADY, WINDOW = 0.002, 5


class KeypointError(RewardError):
    """Keypoints, a constraint or a program of them that cannot be used."""


@dataclass(frozen=True)
class Tracks:
    """What constraints look at: points over time, and the gripper's opening and the direction in
    which its fingers open, where they are known.

    Raises KeypointError for points that are not finite.
    """

    points: Points
    hz: float  # observations a second
    opening: np.ndarray | None = None  # f32[T+1] [m] between the fingers
    across: np.ndarray | None = None  # f32[T+1, 3] unit vector from one finger to the other

    def __post_init__(self) -> None:
        for name, track in self.points.items():
            if track.ndim != 2 or track.shape[1] != 3 or len(track) != len(self):
                raise KeypointError(
                    f"keypoint {name!r}: expected shape [{len(self)}, 3], got {list(track.shape)}"
                )
            if not np.isfinite(track).all():
                step = int(np.argwhere(~np.isfinite(track))[0, 0])
                raise KeypointError(f"keypoint {name!r} is not finite at step {step}")

    def __len__(self) -> int:
        return len(next(iter(self.points.values()), ()))

    def __getitem__(self, name: str) -> np.ndarray:
        """Positions f64[T+1, 3]. Raises KeypointError for a point that does not exist."""
        if name not in self.points:
            raise KeypointError(f"there is no keypoint {name!r}; there are: {listed(self.points)}")
        return self.points[name].astype(np.float64)

    def moved(self, name: str) -> np.ndarray:
        """Displacement f64[T+1, 3] since the observation before; 0 at the first."""
        track = self[name]
        return np.diff(track, axis=0, prepend=track[:1])

    def grip(self, shut: float, wide: float) -> np.ndarray | None:
        """Signed f64[T+1] [m]: <= 0 where the fingers are steady between `shut` [m], around
        nothing, and `wide` [m], too wide to hold. None where the opening is unknown."""
        if self.opening is None:
            return None
        opening = self.opening.astype(np.float64)
        before = np.concatenate([np.full(WINDOW - 1, np.inf), opening])
        narrowest = np.lib.stride_tricks.sliding_window_view(before, WINDOW).min(1)
        parted, closed = opening - narrowest, -np.diff(opening, prepend=opening[0])
        moved = np.maximum(parted, closed) - STEADY
        return np.max([opening - wide, shut - opening, moved], axis=0)


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


@dataclass(frozen=True)
class Waypoint:
    """A place that goes along with a point, `up` [m] above it."""

    point: str
    up: float = 0.0

    def at(self, tracks: Tracks) -> np.ndarray:
        return tracks[self.point] + [0.0, 0.0, self.up]


def project(point: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a point f64[3] lies along each segment of a polyline f64[n + 1, 3], and how far off.

    Returns the arc length f64[n] [m] that is left from the nearest place of each segment to the
    polyline's end, and the distance f64[n] [m] to that place.
    """
    legs = np.diff(corners, axis=0)
    lengths = np.linalg.norm(legs, axis=1)
    offset = point - corners[:-1]
    share = np.clip((offset * legs).sum(1) / np.maximum(lengths**2, 1e-12), 0, 1)
    left = np.cumsum(lengths[::-1])[::-1] - share * lengths
    return left, np.linalg.norm(offset - share[:, None] * legs, axis=1)


def further(point: np.ndarray, corners: np.ndarray, distance: float) -> np.ndarray:
    """The place f64[3] on a polyline f64[n + 1, 3] that lies `distance` [m] after the one nearest
    to a point f64[3], and at its end at the latest: what pure pursuit steers for."""
    lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    left, off = project(point, corners)
    total = lengths.sum()
    at = total - left[off.argmin()] + distance
    along = np.concatenate([[0], np.cumsum(lengths)])
    return np.array([np.interp(at, along, axis) for axis in corners.T])
