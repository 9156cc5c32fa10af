"""A tracker at work on one try, observation by observation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from robostack.rewards.keypoints.camera import Camera, triangulate
from robostack.rewards.keypoints.follow import Followed, TrackConfig
from robostack.rewards.keypoints.tracks import KeypointError, Points

if TYPE_CHECKING:
    from robostack.rewards.keypoints.track import Tracker

GRIPPER = ("gripper_x", "gripper_y", "gripper_z")  # state names of forward kinematics [m]


class Chase:
    """A point in all of its views, put together in 3-D."""

    def __init__(self, cameras: Mapping[str, Camera], views: dict[str, Followed], config):
        self._cameras = [cameras[name] for name in views]
        self._views, self._config = views, config
        self._last: np.ndarray | None = None
        self.track: list[np.ndarray] = []  # f64[3] [m] each, NaN where no two views agree
        self.sure: list[float] = []
        self.seen = dict.fromkeys(views, 0)  # observations

    def see(self, images: Mapping[str, np.ndarray]) -> None:
        found = {name: view.see(images[name]) for name, view in self._views.items()}
        for name, (_, alike) in found.items():
            self.seen[name] += alike > 0
        pixels, likeness = (np.array(column) for column in zip(*found.values()))
        point, sure = self._meet(pixels, likeness)
        self._last = point if sure else self._last
        self.track.append(point)
        self.sure.append(sure)

    def _meet(self, pixels: np.ndarray, alike: np.ndarray) -> tuple[np.ndarray, float]:
        """The point f64[3] and its confidence: how alike it is in the views that agree, less the
        more they disagree. Of three views or more, one may be left out: that without which the
        point stays nearest to where it was last."""
        seen = np.flatnonzero(alike)
        found = self._agreed(pixels, seen)
        if found is None and len(seen) > 2:
            parts = [self._agreed(pixels, np.delete(seen, i)) for i in range(len(seen))]
            last = self._last
            found = min(
                (part for part in parts if part is not None),
                key=lambda part: part[1] if last is None else np.linalg.norm(part[0] - last),
                default=None,
            )
        if found is None:
            return np.full(3, np.nan), 0.0
        point, error, views = found
        return point, alike[views].sum() / len(seen) * (1 - error**2)

    def _agreed(self, pixels: np.ndarray, views: np.ndarray):
        """(point, error as a share of the gate, views), or None where they do not agree."""
        try:
            point, error = triangulate([self._cameras[i] for i in views], pixels[views])
        except KeypointError:  # fewer than two views, or rays that do not meet: not seen
            return None
        error /= self._config.gate * np.mean([self._cameras[i].height for i in views])
        return (point, error, views) if error < 1 else None


class Tracking:
    """All points of one try so far."""

    def __init__(self, tracker: Tracker, state_names: Sequence[str]):
        self.tracker, self._followed = tracker, tracker.followed(state_names)
        known = set(GRIPPER) <= set(state_names)
        self._gripper = [state_names.index(name) for name in GRIPPER] if known else []
        self._states: list[np.ndarray] = []
        self._chases: dict[str, Chase] = {}

    def see(self, images: Mapping[str, np.ndarray], state: np.ndarray) -> None:
        """The next observation, pictures uint8[H, W, 3] and f32[S]."""
        if not self._states:
            self._begin(images)
        for chase in self._chases.values():
            chase.see(images)
        self._states.append(state)

    def _begin(self, images: Mapping[str, np.ndarray]) -> None:
        tracker = self.tracker
        config: TrackConfig = tracker.config
        for name in self._followed:
            starts = tracker.starts[name]
            views = {
                camera: Followed(look, starts[camera] if tracker.looks is None else None, config)
                for camera, look in tracker.looks_of(name, images).items()
            }
            self._chases[name] = Chase(tracker.cameras, views, config)

    def points(self) -> tuple[Points, np.ndarray]:
        """See Tracker. Raises KeypointError for a point that was not seen yet."""
        steps, tracker = len(self._states), self.tracker
        points = {n: np.broadcast_to(p, (steps, 3)).copy() for n, p in tracker.fixed.items()}
        confidence = np.ones(steps, np.float32)
        if self._gripper:
            points["gripper"] = np.stack(self._states)[:, self._gripper]
        for name, chase in self._chases.items():
            if not any(chase.sure):
                seen = {camera: f"{count / steps:.0%}" for camera, count in chase.seen.items()}
                raise KeypointError(
                    f"point {name!r} was never seen by two views that agree; seen in {seen} of the "
                    "steps; is the calibration of these cameras?"
                )
            points[name] = _bridge(np.stack(chase.track), tracker.config.fill).astype(np.float32)
            confidence = np.minimum(confidence, np.float32(chase.sure))
        for name, other in tracker.rests.items():
            points[name] = np.broadcast_to(points[other][0], (steps, 3)).copy()
        return points, confidence


def _bridge(track: np.ndarray, longest: int) -> np.ndarray:
    """The track f64[T, 3] without NaN: gaps up to so many steps by a straight line, others by
    standing still where the point was last seen; before it is first seen, by standing there."""
    valid = np.isfinite(track).all(-1)
    steps = np.arange(len(track))
    filled = np.stack([np.interp(steps, steps[valid], axis[valid]) for axis in track.T], 1)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], valid, [True]]).astype(int)))
    for begin, end in edges.reshape(-1, 2):  # gaps [begin, end)
        if end - begin > longest and begin:
            filled[begin:end] = track[begin - 1]
    return filled
