"""Keypoints from pictures: points followed in several calibrated views, put together in 3-D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from robostack.rewards.keypoints.camera import Camera
from robostack.rewards.keypoints.follow import TrackConfig
from robostack.rewards.keypoints.look import Look
from robostack.rewards.keypoints.tracking import GRIPPER, Tracking
from robostack.rewards.keypoints.tracks import KeypointError, Points
from robostack.rewards.sight import drawn
from robostack.types import Episode

Starts = Mapping[str, Mapping[str, tuple[float, float]]]  # point -> camera -> (u, v) [px]


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

    def __call__(self, episode: Episode) -> tuple[Points, np.ndarray]:
        """Points {name: f32[T+1, 3]} [m] and the confidence f32[T+1] of the least certain one.

        A gap has confidence 0. Up to `fill` steps are bridged by a straight line; in a longer one,
        and before it is first seen, a point stands still.
        """
        names = episode.spec.state_names
        frames = {camera: self._frames(camera, episode) for camera in self.views(names)}
        tracking = Tracking(self, names)
        for t, state in enumerate(episode.states):
            tracking.see({camera: shown[t] for camera, shown in frames.items()}, state)
        return tracking.points()

    def followed(self, state_names: Sequence[str]) -> list[str]:
        """The points that are looked for in pictures; forward kinematics beat any tracker."""
        known = {*self.fixed, *({"gripper"} if set(GRIPPER) <= set(state_names) else ())}
        return [name for name in self.starts if name not in known]

    def views(self, state_names: Sequence[str]) -> list[str]:
        """The cameras that are looked at."""
        return sorted({view for name in self.followed(state_names) for view in self.starts[name]})

    def looks_of(self, name: str, pictures: Mapping[str, np.ndarray]) -> dict[str, Look]:
        """How a point looks in each of its views: in the reference, else in these pictures."""
        return self._looks(name, pictures) if self.looks is None else self.looks[name]

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
        """Frames of a camera, which must be a picture and, if the robot moves, not always one:
        only where they are drawn, and the robot out of its sight."""
        require_shown(camera, self.cameras[camera], {n: f[0] for n, f in episode.images.items()})
        frames = episode.images[camera]
        same = not drawn(episode.spec) and (frames == frames[0]).all()
        if same and np.ptp(episode.states, axis=0).max() > 1e-3:
            raise KeypointError(
                f"camera {camera!r} is frozen: all {len(frames)} frames are the same while the "
                "state changes"
            )
        return frames


def require_size(camera: str, known: Camera, shape: tuple[int, ...]) -> None:
    """Raises KeypointError for a picture [height, width, ...] of another size than calibrated."""
    if tuple(shape[:2]) != (known.height, known.width):
        raise KeypointError(
            f"camera {camera!r} is calibrated for {known.height} x {known.width} pixels (rows, "
            f"columns), got a picture of {shape[0]} x {shape[1]}"
        )


def require_shown(camera: str, known: Camera, images: Mapping[str, np.ndarray]) -> None:
    """Raises KeypointError where the first pictures uint8[H, W, 3] of a try lack a camera's, or
    where that is of another size than calibrated, or of one colour."""
    if camera not in images:
        raise KeypointError(f"the episode has no camera {camera!r}; it has: {', '.join(images)}")
    require_size(camera, known, images[camera].shape)
    if images[camera].std() < 1:
        raise KeypointError(f"camera {camera!r} shows nothing: its first frame is constant")
