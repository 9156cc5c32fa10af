"""Keypoints from pictures: points followed in several calibrated views, put together in 3-D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from robostack.rewards.keypoints.camera import Camera, triangulate
from robostack.rewards.keypoints.follow import TrackConfig, follow
from robostack.rewards.keypoints.look import Look
from robostack.rewards.keypoints.tracks import KeypointError
from robostack.types import Episode

Starts = Mapping[str, Mapping[str, tuple[float, float]]]  # point -> camera -> (u, v) [px]
GRIPPER = ("gripper_x", "gripper_y", "gripper_z")  # state names of forward kinematics [m]


class Tracker:
    """Points of an episode from its pictures: a `source` of the keypoint affordance.

    `starts` says where each point is in two or more views, in the first frame of the episode, or
    in the pictures `reference` {camera: uint8[H, W, 3]}: then every episode is searched for what
    the point looks like there. `fixed` are points f64[3] [m] that never move, and `rests` points
    that stay where another one was first seen: {"support": "object"} is what the object stood on.
    The point "gripper" comes from the state where that has gripper_x, gripper_y, gripper_z.

    Raises KeypointError for cameras that nobody calibrated and for points outside of a picture.
    """

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        starts: Starts,
        reference: Mapping[str, np.ndarray] | None = None,
        fixed: Mapping[str, np.ndarray] | None = None,
        rests: Mapping[str, str] | None = None,
        config: TrackConfig | None = None,
    ):
        self.cameras, self.config = dict(cameras), config or TrackConfig()
        self.fixed = {n: np.asarray(p, np.float32) for n, p in (fixed or {}).items()}
        self.starts = {
            name: {camera: self._start(name, camera, pixel) for camera, pixel in views.items()}
            for name, views in starts.items()
        }
        for name, views in self.starts.items():
            if len(views) < 2:
                raise KeypointError(
                    f"point {name!r}: expected its pixel in two or more views, got "
                    f"{', '.join(views) or 'none'}; known cameras: {', '.join(self.cameras)}"
                )
        self.rests = dict(rests or {})
        for name, other in self.rests.items():
            if other not in self.starts:
                raise KeypointError(
                    f"point {name!r} rests where {other!r} begins, which is not followed; those "
                    f"that are: {', '.join(self.starts)}"
                )
        self.looks = None
        if reference is not None:
            self.looks = {name: self._looks(name, reference) for name in self.starts}

    def __call__(self, episode: Episode) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Points {name: f32[T+1, 3]} [m] and the confidence f32[T+1] of the least certain one.

        A gap has confidence 0. Up to `fill` steps are bridged by a straight line; in a longer one,
        and before it is first seen, a point stands still.
        """
        steps = len(episode) + 1
        points = {n: np.broadcast_to(p, (steps, 3)).copy() for n, p in self.fixed.items()}
        confidence = np.ones(steps, np.float32)
        by_state = gripper_from_state(episode)
        if by_state is not None:
            points["gripper"] = by_state
        for name in self.starts:
            if name in points:
                continue
            track, sure = self._track(name, episode)
            points[name] = _bridge(track, self.config.fill).astype(np.float32)
            confidence = np.minimum(confidence, sure.astype(np.float32))
        for name, other in self.rests.items():
            points[name] = np.broadcast_to(points[other][0], (steps, 3)).copy()
        return points, confidence

    def settings(self) -> dict[str, Any]:
        """Plain data of all but the looks, see `restore`."""
        return {
            "cameras": {name: camera.plain() for name, camera in self.cameras.items()},
            "starts": {
                name: {camera: pixel.tolist() for camera, pixel in views.items()}
                for name, views in self.starts.items()
            },
            "fixed": {name: point.tolist() for name, point in self.fixed.items()},
            "rests": self.rests,
            "config": asdict(self.config),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The looks of the points in the reference pictures, uint8; none without reference."""
        return {
            f"look.{name}.{camera}": look.crop
            for name, looks in (self.looks or {}).items()
            for camera, look in looks.items()
        }

    @classmethod
    def restore(cls, settings: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Tracker:
        """The inverse of `settings` and `arrays`."""
        settings = dict(settings)
        cameras = {name: Camera.from_plain(raw) for name, raw in settings.pop("cameras").items()}
        config = TrackConfig(**settings.pop("config"))
        tracker = cls(cameras, config=config, **settings)
        if arrays:
            tracker.looks = {
                name: {camera: tracker._look(name, camera, arrays) for camera in views}
                for name, views in tracker.starts.items()
            }
        return tracker

    def _look(self, name: str, camera: str, arrays: Mapping[str, np.ndarray]) -> Look:
        crop, pixel = arrays[f"look.{name}.{camera}"], self.starts[name][camera]
        side = 4 * self.config.patch(self.cameras[camera].height) + 1
        if crop.shape != (side, side, 3) or crop.dtype != np.uint8:
            raise KeypointError(
                f"the look of {name!r} in {camera!r}: expected uint8[{side}, {side}, 3], got "
                f"{crop.dtype}{list(crop.shape)}"
            )
        return Look(crop, pixel - np.round(pixel))

    def views(self, name: str, episode: Episode) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Camera -> (pixels f64[T+1, 2], likeness f64[T+1]) of a point, view by view."""
        found, first = {}, {}
        for camera in self.starts[name]:
            first[camera] = self._frames(camera, episode)[0]
        looks = self._looks(name, first) if self.looks is None else self.looks[name]
        for camera, look in looks.items():
            start = self.starts[name][camera] if self.looks is None else None
            found[camera] = follow(episode.images[camera], look, start, self.config)
        return found

    def _track(self, name: str, episode: Episode) -> tuple[np.ndarray, np.ndarray]:
        """Points f64[T+1, 3], NaN where fewer than two views agree, and confidence f64[T+1]."""
        found = self.views(name, episode)
        cameras = [self.cameras[camera] for camera in found]
        pixels = np.stack([pixels for pixels, _ in found.values()], 1)
        likeness = np.stack([alike for _, alike in found.values()], 1)
        track, sure = np.full((len(pixels), 3), np.nan), np.zeros(len(pixels))
        last = None
        for t, (these, alike) in enumerate(zip(pixels, likeness)):
            track[t], sure[t] = self._meet(cameras, these, alike, last)
            last = track[t] if sure[t] else last
        if not sure.any():
            seen = {c: f"{np.mean(alike > 0):.0%}" for c, (_, alike) in found.items()}
            raise KeypointError(
                f"point {name!r} was never seen by two views that agree; seen in {seen} of the "
                "steps; is the calibration of these cameras?"
            )
        return track, sure

    def _meet(self, cameras: list[Camera], pixels: np.ndarray, alike: np.ndarray, last):
        """The point f64[3] of a step and its confidence: how alike it is in the views that agree,
        less the more they disagree. Of three views or more, one may be left out: that without
        which the point stays nearest to where it was last."""
        seen = np.flatnonzero(alike)
        found = self._agreed(cameras, pixels, seen)
        if found is None and len(seen) > 2:
            parts = [self._agreed(cameras, pixels, np.delete(seen, i)) for i in range(len(seen))]
            found = min(
                (part for part in parts if part is not None),
                key=lambda part: part[1] if last is None else np.linalg.norm(part[0] - last),
                default=None,
            )
        if found is None:
            return np.full(3, np.nan), 0.0
        point, error, views = found
        return point, alike[views].sum() / len(seen) * (1 - error**2)

    def _agreed(self, cameras: list[Camera], pixels: np.ndarray, views: np.ndarray):
        """(point, error as a share of the gate, views), or None where they do not agree."""
        try:
            point, error = triangulate([cameras[i] for i in views], pixels[views])
        except KeypointError:  # fewer than two views, or rays that do not meet: not seen
            return None
        error /= self.config.gate * np.mean([cameras[i].height for i in views])
        return (point, error, views) if error < 1 else None

    def _start(self, name: str, camera: str, pixel: tuple[float, float]) -> np.ndarray:
        if camera not in self.cameras:
            raise KeypointError(
                f"point {name!r}: no calibration of camera {camera!r}; known cameras: "
                f"{', '.join(self.cameras)}"
            )
        pixel, known = np.asarray(pixel, np.float64), self.cameras[camera]
        if pixel.shape != (2,) or not known.sees(pixel):
            raise KeypointError(
                f"point {name!r}: {pixel.tolist()} is outside of the picture of {camera!r}, "
                f"{known.width} x {known.height} pixels (u, v)"
            )
        return pixel

    def _looks(self, name: str, pictures: Mapping[str, np.ndarray]) -> dict[str, Look]:
        looks = {}
        for camera, pixel in self.starts[name].items():
            if camera not in pictures:
                raise KeypointError(f"no reference picture of {camera!r}, got {sorted(pictures)}")
            require_size(camera, self.cameras[camera], pictures[camera].shape)
            radius = self.config.patch(self.cameras[camera].height)
            try:
                looks[camera] = Look.of(pictures[camera], pixel, radius)
            except KeypointError as error:
                raise KeypointError(f"point {name!r} in {camera!r}: {error}") from None
        return looks

    def _frames(self, camera: str, episode: Episode) -> np.ndarray:
        """Frames of a camera, which must be a picture and, if the robot moves, not always one."""
        if camera not in episode.images:
            raise KeypointError(
                f"the episode has no camera {camera!r}; it has: {', '.join(episode.images)}"
            )
        frames = episode.images[camera]
        require_size(camera, self.cameras[camera], frames.shape[1:])
        if frames[0].std() < 1:
            raise KeypointError(f"camera {camera!r} shows nothing: its first frame is constant")
        if (frames == frames[0]).all() and np.ptp(episode.states, axis=0).max() > 1e-3:
            raise KeypointError(
                f"camera {camera!r} is frozen: all {len(frames)} frames are the same while the "
                "state changes"
            )
        return frames


def gripper_from_state(episode: Episode) -> np.ndarray | None:
    """f32[T+1, 3] [m] where the state holds forward kinematics, which beats any tracker."""
    names = episode.spec.state_names
    if not set(GRIPPER) <= set(names):
        return None
    return episode.states[:, [names.index(name) for name in GRIPPER]]


def require_size(camera: str, known: Camera, shape: tuple[int, ...]) -> None:
    """Raises KeypointError for a picture [height, width, ...] of another size than calibrated."""
    if tuple(shape[:2]) != (known.height, known.width):
        raise KeypointError(
            f"camera {camera!r} is calibrated for {known.height} x {known.width} pixels (rows, "
            f"columns), got a picture of {shape[0]} x {shape[1]}"
        )


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
