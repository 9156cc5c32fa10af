"""Pictures of a USB camera, a video file or a folder, each with the time at which it was taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
Fit = Literal["crop", "pad", "stretch"]


class CameraError(RuntimeError):
    """There is no such camera or file, or nothing can be read from it."""


class Lost(CameraError):
    """It gave pictures and gives none any more; it may come back."""


@dataclass(frozen=True)
class Frame:
    image: np.ndarray  # uint8[H, W, 3] RGB
    age: float  # [s] since it was taken, when it was handed out


class Source(Protocol):
    live: bool  # whether it can come back after it was lost, and has a time of its own

    def read(self) -> Frame:
        """The next picture, waited for. Raises Lost, or StopIteration at the end of a file."""

    def close(self) -> None: ...


def fit(image: np.ndarray, size: tuple[int, int], how: Fit = "crop") -> np.ndarray:
    """A picture uint8[h, w, 3] at `size` (height, width): `crop` keeps the middle part of the right
    shape, `pad` keeps everything between black bars, `stretch` keeps everything and distorts.

    The same function shrinks what a policy sees and what is converted from bags for training.
    """
    height, width = size
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    if how == "crop":
        scale = min(h / height, w / width)
        ch, cw = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (h - ch) // 2, (w - cw) // 2
        return _resize(image[top : top + ch, left : left + cw], height, width)
    if how == "stretch":
        return _resize(image, height, width)
    if how != "pad":
        raise ValueError(f"fit: expected crop, pad or stretch, got {how!r}")
    scale = min(height / h, width / w)
    ih, iw = max(1, round(h * scale)), max(1, round(w * scale))
    top, left = (height - ih) // 2, (width - iw) // 2
    padded = np.zeros((height, width, 3), np.uint8)
    padded[top : top + ih, left : left + iw] = _resize(image, ih, iw)
    return padded


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(image, (width, height), interpolation=how))


def open_source(text: str, hz: float = 0.0, loop: bool = True) -> Source:
    """`0` or `/dev/video0`: a camera; a file: a video; a folder: its pictures in order of name.

    `hz` asks a camera for that rate; a file is played at it (0: its own, a folder's 30).
    """
    if text.isdigit() or text.startswith("/dev/"):
        return Device(int(text) if text.isdigit() else text, hz)
    path = Path(text).expanduser()
    if path.is_dir():
        return Played(_folder(path), hz or 30.0, loop, str(path))
    if path.is_file():
        return _video(path, hz, loop)
    raise CameraError(
        f"source {text!r}: expected the number of a camera (0), a device (/dev/video0), a video "
        "file or a folder of pictures; there is no such file or folder"
    )


class Device:
    """A camera that OpenCV opens. Only the newest picture is kept by it where it can."""

    live = True

    def __init__(self, device: int | str, hz: float = 0.0):
        self._name = f"camera {device}"
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraError(
                f"{self._name} cannot be opened: is it plugged in, used by another program, or "
                "not permitted (group video)?"
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if hz:
            self._capture.set(cv2.CAP_PROP_FPS, hz)

    def read(self) -> Frame:
        if not self._capture.grab():
            raise Lost(f"{self._name} gives no pictures any more")
        now = time.monotonic()
        # V4L2 tells when the driver had the picture, on the monotonic clock
        taken = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        age = now - taken if 0 <= now - taken < 1 else 0.0
        ok, image = self._capture.retrieve()
        if not ok:
            raise Lost(f"{self._name} gave a picture that cannot be read")
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), age + time.monotonic() - now)

    def close(self) -> None:
        self._capture.release()


class Played:
    """Pictures that are there already, one every 1 / hz seconds."""

    live = False

    def __init__(self, images: Callable[[], Iterator], hz: float, loop: bool, name: str):
        self._begin, self._loop, self._name = images, loop, name
        self._period, self._next = 1 / hz, time.monotonic()
        self._images = images()

    def read(self) -> Frame:
        image = next(self._images, None)
        if image is None:
            if not self._loop:
                raise StopIteration
            self._images = self._begin()
            image = next(self._images, None)
            if image is None:
                raise CameraError(f"{self._name} holds no pictures")
        wait = self._next - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._next = max(self._next + self._period, time.monotonic())
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), 0.0)

    def close(self) -> None:
        self._images.close()


def _folder(path: Path) -> Callable[[], Iterator]:
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
    if not files:
        raise CameraError(f"{path} holds no pictures ({', '.join(PICTURES)})")

    def images() -> Iterator[np.ndarray]:
        for file in files:
            image = cv2.imread(str(file))
            if image is None:
                raise CameraError(f"{file} is no picture")
            yield image

    return images


def _video(path: Path, hz: float, loop: bool) -> Played:
    capture = cv2.VideoCapture(str(path))
    own, ok = capture.get(cv2.CAP_PROP_FPS), capture.grab()
    capture.release()
    if not ok:
        raise CameraError(f"{path} is no video that OpenCV can read")

    def images() -> Iterator[np.ndarray]:
        capture = cv2.VideoCapture(str(path))
        try:
            while True:
                ok, image = capture.read()
                if not ok:
                    return
                yield image
        finally:
            capture.release()

    return Played(images, hz or own or 30.0, loop, str(path))


class Stillness:
    """Notices a camera that sends the very same picture for longer than `limit` [s] (0: never)."""

    def __init__(self, limit: float):
        self._limit, self._last, self._since = limit, None, 0.0

    def see(self, image: np.ndarray, now: float) -> float:
        """For how long [s] it has been still, where that is too long; else 0."""
        same = self._last is not None and np.array_equal(image, self._last)
        if not same:
            self._last, self._since = image, now
        still = now - self._since
        return still if self._limit and still > self._limit else 0.0
