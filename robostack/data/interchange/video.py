"""Pictures as video files by PyAV: written, read back at given times, and compared."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np

from robostack.data.interchange.report import BadEpisode

Codec = Literal["h264", "av1", "lossless"]
ENCODERS = {  # PyAV's name, pixels, options; a key frame every second one makes seeking quick
    "h264": ("libx264", "yuv420p", {"crf": "{crf}", "preset": "medium", "g": "2", "bf": "0"}),
    "av1": ("libsvtav1", "yuv420p", {"crf": "{crf}", "preset": "8", "g": "2"}),
    "lossless": ("libx264rgb", "rgb24", {"qp": "0", "preset": "fast", "g": "2", "bf": "0"}),
}
CRF = {"h264": 16, "av1": 24, "lossless": 0}  # what is hard to tell from the original


def size_fits(codec: Codec, shape: tuple[int, ...]) -> bool:
    """Whether pictures of this shape can be halved in both directions, as 4:2:0 colour needs."""
    return codec == "lossless" or (shape[0] % 2 == 0 and shape[1] % 2 == 0)


class VideoWriter:
    """One file that grows by episodes, at a constant rate."""

    def __init__(self, path: Path, fps: float, shape: tuple[int, ...], codec: Codec, crf: int):
        os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder: errors only
        name, pixels, options = ENCODERS[codec]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", options={"movflags": "faststart"})
        options = {key: value.format(crf=crf) for key, value in options.items()}
        self._stream = self._container.add_stream(name, Fraction(fps).limit_denominator(1001))
        self._stream.height, self._stream.width = shape[:2]
        self._stream.pix_fmt, self._stream.options = pixels, options
        self.frames = self.bytes = 0

    def write(self, frames: np.ndarray) -> None:
        """Append pictures u8[N, H, W, 3]."""
        for frame in frames:
            self._put(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
        self.frames += len(frames)

    def _put(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            self.bytes += packet.size
            self._container.mux(packet)

    def close(self) -> None:
        self._put(None)
        self._container.close()


def read_video(
    path: Path, start: float, count: int, fps: float, field: str, tolerance: float = 0.2
) -> np.ndarray:
    """Pictures u8[count, H, W, 3] at `start` and every 1 / fps seconds from there on.

    Raises BadEpisode where the file is damaged, too short, or of another rate: a picture may be
    off by `tolerance` of a period.
    """
    frames: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            container.seek(max(0, int((start - 0.5 / fps) / stream.time_base)), stream=stream)
            for frame in container.decode(stream):
                wanted = start + len(frames) / fps
                off = (frame.time - wanted) * fps
                if off < -0.5 and not frames:  # from the key frame on
                    continue
                if abs(off) > tolerance:
                    raise BadEpisode(
                        field,
                        f"{path.name}: a picture at {frame.time:.4f} s, expected {wanted:.4f} s; "
                        f"its rate is {float(stream.average_rate or 0):.4g} Hz, not {fps:.4g} Hz",
                    )
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == count:
                    return np.stack(frames)
    except (av.error.FFmpegError, IndexError) as error:
        said = str(error).split(": '")[0]
        raise BadEpisode(
            field, f"{path.name} is damaged after {len(frames)} of {count} pictures ({said})"
        ) from None
    raise BadEpisode(field, f"{path.name} ends after {len(frames)} of {count} pictures")


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of the worst of pictures u8[N, H, W, 3], peak signal to noise [dB]; infinite where equal."""
    error = np.square(one.astype(np.float32) - other.astype(np.float32)).mean((1, 2, 3)).max()
    return float("inf") if error == 0 else float(20 * np.log10(255) - 10 * np.log10(error))
