"""Calibrated cameras: points to pixels, pixels to rays, several pixels to a point.

Conventions, here and nowhere else: lengths in metres in the world frame; a camera looks along its
own z, x to the right and y down, as in OpenCV (a MuJoCo camera has y and z the other way round);
pixels (u, v) count to the right and down, and whole numbers are the centres of pixels, so that a
picture of W x H reaches from (-0.5, -0.5) to (W - 0.5, H - 0.5).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from robostack.rewards.keypoints.tracks import KeypointError

CALIBRATION = "cameras.json"  # beside a store, where the cameras' places are known
MIN_ANGLE = np.deg2rad(0.5)  # between the rays of two views, for a point to have a depth
KEYS = "either {projection, height, width} or {intrinsics, rotation, position, height, width}"


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera, with OpenCV's lens distortion where it has one.

    Raises KeypointError for numbers that are no camera.
    """

    intrinsics: np.ndarray  # f64[3, 3] [px], upper triangular, last row 0 0 1
    rotation: np.ndarray  # f64[3, 3], its columns are the camera's axes in the world
    position: np.ndarray  # f64[3] [m], of the lens in the world
    height: int  # of its pictures [px]
    width: int
    distortion: tuple[float, ...] = ()  # OpenCV's k1 k2 p1 p2 k3, or nothing

    def __post_init__(self) -> None:
        for name, shape in (("intrinsics", (3, 3)), ("rotation", (3, 3)), ("position", (3,))):
            object.__setattr__(self, name, _numbers(f"camera.{name}", getattr(self, name), shape))
        for name in ("height", "width"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
                raise KeypointError(f"camera.{name}: expected 1 or more whole pixels, got {size!r}")
        k, r = self.intrinsics, self.rotation
        if np.abs(np.tril(k, -1)).max() > 1e-9 or abs(k[2, 2] - 1) > 1e-9 or k[0, 0] * k[1, 1] <= 0:
            raise KeypointError(f"camera.intrinsics: expected [[f s u] [0 f v] [0 0 1]], got {k}")
        if np.abs(r.T @ r - np.eye(3)).max() > 1e-4 or np.linalg.det(r) < 0:
            raise KeypointError(f"camera.rotation: expected a rotation matrix, got {r.tolist()}")
        if len(self.distortion) not in (0, 5):
            raise KeypointError(
                f"camera.distortion: expected k1 k2 p1 p2 k3 or nothing, got {self.distortion!r}"
            )
        lens = _numbers("camera.distortion", self.distortion, (len(self.distortion),))
        object.__setattr__(self, "distortion", tuple(lens.tolist()))

    @classmethod
    def from_projection(cls, matrix: np.ndarray, height: int, width: int) -> Camera:
        """The camera of a 3 x 4 projection from homogeneous world points to pixels, any scale."""
        matrix = _numbers("camera.projection", matrix, (3, 4))
        left = matrix[:, :3]
        if np.linalg.cond(left) > 1e12:
            raise KeypointError("camera.projection: expected three independent columns on its left")
        if np.linalg.det(left) < 0:  # a projection has no sign, and a rotation does
            matrix, left = -matrix, -left
        # RQ decomposition by QR of the reversed matrix: left = upper triangle times rotation
        q, r = np.linalg.qr(left[::-1].T)
        upper, turn = r.T[::-1, ::-1], q.T[::-1]
        signs = np.sign(np.diag(upper))
        upper, turn = upper * signs, turn * signs[:, None]
        upper = np.triu(upper / upper[2, 2])
        return cls(upper, turn.T, -np.linalg.solve(left, matrix[:, 3]), height, width)

    @property
    def projection(self) -> np.ndarray:
        """f64[3, 4], from homogeneous world points to pixels; the lens is not in it."""
        world_to_camera = self.rotation.T
        shift = -world_to_camera @ self.position
        return self.intrinsics @ np.column_stack([world_to_camera, shift])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels f64[..., 2] of world points f[..., 3]; NaN for points that are not in front."""
        local = (np.asarray(points, np.float64) - self.position) @ self.rotation
        with np.errstate(divide="ignore", invalid="ignore"):
            flat = np.where(local[..., 2:] > 0, local[..., :2] / local[..., 2:], np.nan)
        if self.distortion:
            flat = _bend(flat, self.distortion)
        return flat @ self.intrinsics[:2, :2].T + self.intrinsics[:2, 2]

    def straighten(self, pixels: np.ndarray) -> np.ndarray:
        """Where pixels f[..., 2] would be without the lens's distortion, f64[..., 2]."""
        pixels = np.asarray(pixels, np.float64)
        if not self.distortion:
            return pixels
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
        lens = np.array(self.distortion)
        rows = cv2.undistortPointsIter(
            pixels.reshape(-1, 1, 2), self.intrinsics, lens, None, self.intrinsics, stop
        )
        return rows.reshape(pixels.shape)

    def ray(self, pixels: np.ndarray) -> np.ndarray:
        """Unit directions f64[..., 3] in the world, from `position` through pixels f[..., 2]."""
        straight = self.straighten(pixels)
        homogeneous = np.concatenate([straight, np.ones_like(straight[..., :1])], -1)
        away = homogeneous @ np.linalg.inv(self.intrinsics).T @ self.rotation.T
        return away / np.linalg.norm(away, axis=-1, keepdims=True)

    def sees(self, pixels: np.ndarray) -> np.ndarray:
        """bool[...]: whether pixels f[..., 2] are inside the picture."""
        limit = np.array([self.width, self.height]) - 0.5
        return ((np.asarray(pixels) >= -0.5) & (np.asarray(pixels) <= limit)).all(-1)

    def plain(self) -> dict:
        """Plain data, as `read_cameras` takes it."""
        raw = dataclasses.asdict(self)
        arrays = {k: v.tolist() for k, v in raw.items() if isinstance(v, np.ndarray)}
        return {**raw, **arrays, "distortion": list(self.distortion)}

    @classmethod
    def from_plain(cls, raw: dict) -> Camera:
        if not isinstance(raw, dict):
            raise KeypointError(f"a camera: expected {KEYS}, got {raw!r}")
        size = {"height", "width"}
        if set(raw) == {"projection", *size}:
            return cls.from_projection(raw["projection"], raw["height"], raw["width"])
        posed = {"intrinsics", "rotation", "position", *size}
        if set(raw) - {"distortion"} != posed:
            raise KeypointError(f"a camera: expected {KEYS}, got keys {sorted(raw)}")
        lens = raw.get("distortion", ())
        if not isinstance(lens, (list, tuple)):
            raise KeypointError(f"camera.distortion: expected five numbers, got {lens!r}")
        return cls(**{**raw, "distortion": tuple(lens)})


def read_cameras(path: str | Path) -> dict[str, Camera]:
    """Calibration file: a JSON object of cameras by name. Raises KeypointError."""
    try:
        raw = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise KeypointError(f"{path} is no readable calibration file: {error}") from None
    if not isinstance(raw, dict) or not raw:
        raise KeypointError(f"{path}: expected {{name: camera}}, a camera being {KEYS}")
    cameras = {}
    for name, camera in raw.items():
        try:
            cameras[name] = Camera.from_plain(camera)
        except KeypointError as error:
            raise KeypointError(f"{path}, camera {name!r}: {error}") from None
    return cameras


def write_cameras(path: str | Path, cameras: dict[str, Camera]) -> None:
    """Whole or not at all: an existing file is replaced."""
    plain, path = {name: camera.plain() for name, camera in cameras.items()}, Path(path)
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(plain, indent=1) + "\n")
    partial.replace(path)


def triangulate(cameras: Sequence[Camera], pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """The point f64[3] that two or more cameras see at pixels f[V, 2], and how far from them it
    projects (root mean square) [px].

    The linear solution (smallest singular vector, Hartley and Zisserman, section 12.2) starts
    Gauss-Newton on the distances in the pictures. Raises KeypointError where the pixels do not
    say where the point is: fewer than two views, rays that are parallel, rays that meet behind.
    """
    pixels = np.asarray(pixels, np.float64)
    if len(cameras) < 2 or pixels.shape != (len(cameras), 2) or not np.isfinite(pixels).all():
        raise KeypointError(
            f"triangulation: expected finite pixels of two or more views, got {pixels.tolist()} "
            f"for {len(cameras)} cameras"
        )
    rays = np.stack([camera.ray(pixel) for camera, pixel in zip(cameras, pixels)])
    if _widest(rays) < MIN_ANGLE:
        raise KeypointError(
            "triangulation: the rays are parallel within "
            f"{np.rad2deg(MIN_ANGLE):.1f} degrees; the views need more distance"
        )
    straight = np.stack([camera.straighten(pixel) for camera, pixel in zip(cameras, pixels)])
    matrices = np.stack([camera.projection for camera in cameras])
    point = _refine(matrices, straight, _linear(matrices, straight))
    if not all(np.isfinite(camera.project(point)).all() for camera in cameras):
        raise KeypointError("triangulation: the rays meet behind a camera")
    offset = _residual(matrices, straight, point)[0]
    return point, float(np.sqrt((offset**2).sum(-1).mean()))


def _widest(rays: np.ndarray) -> float:
    """The largest angle between any two lines [rad]; the sine is exact where it is small."""
    sines = np.linalg.norm(np.cross(rays[:, None], rays[None]), axis=-1)
    return float(np.arcsin(np.clip(sines.max(), 0, 1)))


def _linear(matrices: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    rows = pixels[:, :, None] * matrices[:, 2:3] - matrices[:, :2]
    rows = rows.reshape(-1, 4)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    solution = np.linalg.svd(rows)[2][-1]
    if abs(solution[3]) < 1e-12:
        raise KeypointError("triangulation: the rays meet at infinity")
    return solution[:3] / solution[3]


def _residual(matrices: np.ndarray, pixels: np.ndarray, point: np.ndarray):
    """Offsets f64[V, 2] in the pictures and their derivative f64[V, 2, 3] by the point."""
    h = matrices[:, :, :3] @ point + matrices[:, :, 3]
    flat = h[:, :2] / h[:, 2:]
    slope = (matrices[:, :2, :3] - flat[:, :, None] * matrices[:, 2:, :3]) / h[:, 2:, None]
    return flat - pixels, slope


def _refine(matrices: np.ndarray, pixels: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Gauss-Newton until it stands still; a step that makes it worse is not taken."""
    offset, slope = _residual(matrices, pixels, point)
    for _ in range(20):
        step = np.linalg.lstsq(slope.reshape(-1, 3), -offset.ravel(), rcond=None)[0]
        moved, its_slope = _residual(matrices, pixels, point + step)
        if not (moved**2).sum() < (offset**2).sum():
            break
        point, offset, slope = point + step, moved, its_slope
    return point


def _bend(flat: np.ndarray, lens: tuple[float, ...]) -> np.ndarray:
    """OpenCV's radial (k1 k2 k3) and tangential (p1 p2) distortion of x/z, y/z."""
    k1, k2, p1, p2, k3 = lens
    x, y = flat[..., 0], flat[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    bent_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return np.stack([bent_x, bent_y], -1)


def _numbers(name: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError):
        raise KeypointError(f"{name}: expected numbers {list(shape)}, got {value!r}") from None
    if array.shape != shape or not np.isfinite(array).all():
        raise KeypointError(f"{name}: expected finite numbers {list(shape)}, got {value!r}")
    return array
