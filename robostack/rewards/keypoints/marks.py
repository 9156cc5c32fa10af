"""Pictures that a vision-language model can point at: numbered candidates and a grid of tiles.

Marks and tiles as in MOKA (arXiv 2403.03174) and KAGI (2407.10341): a model names a number or a
tile, which it does far better than it writes pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from robostack.rewards.keypoints.look import CONTRAST, blobs, colours, detect
from robostack.rewards.keypoints.tracks import KeypointError

COLUMNS, ROWS = "abcde", "12345"
SIDE = 640  # shorter side of a marked picture [px]
FONT, SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.55
INK, PAPER, LINE = (255, 255, 255), (20, 20, 20), (90, 200, 255)


@dataclass(frozen=True, eq=False)
class Marked:
    """A picture with its marks; mark number n is at `pixels[n - 1]` of the picture without them."""

    image: np.ndarray  # uint8[H', W', 3], larger than the original
    pixels: np.ndarray  # f64[N, 2] (u, v) in the original [px]
    labels: tuple[tuple[int, int, int, int], ...]  # left, top, right, bottom in `image` [px]


def candidates(image: np.ndarray, count: int) -> np.ndarray:
    """At most `count` pixels f64[N, 2] that may be worth naming, far from each other.

    Middles of blobs of a colour that the picture as a whole lacks come first, the largest before
    the smaller, then corners, each time the one farthest from all that there are already
    (farthest-point sampling). Raises KeypointError for a picture without any.
    """
    if count < 1:
        raise KeypointError(f"candidates: expected a count of 1 or more, got {count}")
    shares = colours(image)
    away = np.linalg.norm(shares - np.median(shares.reshape(-1, 3), axis=0), axis=-1)
    found = blobs(np.clip(away / CONTRAST - 1, 0, 1))
    whole = image.shape[0] * image.shape[1]
    found = [blob for blob in found if 5e-4 * whole < blob.area < 0.1 * whole]
    middles = [b.centre for b in sorted(found, key=lambda b: -b.area)]
    apart = 0.04 * image.shape[0]
    chosen: list[np.ndarray] = []
    for middle in middles[:count]:
        if all(np.linalg.norm(middle - other) >= apart for other in chosen):
            chosen.append(middle)
    left = detect(image, 10 * count).astype(np.float64)
    if not chosen and len(left):
        chosen.append(left[0])
    while chosen and len(chosen) < count and len(left):
        gaps = np.linalg.norm(left[:, None] - np.array(chosen)[None], axis=-1).min(1)
        if gaps.max() < apart:
            break
        chosen.append(left[gaps.argmax()])
    if not chosen:
        raise KeypointError("no candidates for keypoints: the picture is plain")
    return np.array(chosen)


def mark(image: np.ndarray, pixels: np.ndarray) -> Marked:
    """The picture uint8[H, W, 3], enlarged, with a grid and pixels f[N, 2] numbered from 1 on.

    Every label has a place of its own, which covers no mark. Raises KeypointError where there are
    too many for that.
    """
    height, width = image.shape[:2]
    scale = max(1, round(SIDE / min(height, width)))
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    _grid(large)
    pixels = np.asarray(pixels, np.float64)
    dots = np.round((pixels + 0.5) * scale - 0.5).astype(int)
    taken: list[tuple[int, int, int, int]] = []
    for number, dot in enumerate(dots, 1):
        taken.append(_place(str(number), dot, dots, taken, large.shape))
    for dot, (left, top, right, bottom) in zip(dots, taken):
        middle = (left + right) // 2, (top + bottom) // 2
        cv2.line(large, dot.tolist(), middle, PAPER, 2, cv2.LINE_AA)
    for number, (dot, (left, top, right, bottom)) in enumerate(zip(dots, taken), 1):
        cv2.circle(large, dot.tolist(), 5, INK, -1, cv2.LINE_AA)
        cv2.circle(large, dot.tolist(), 3, PAPER, -1, cv2.LINE_AA)
        cv2.rectangle(large, (left, top), (right, bottom), PAPER, -1)
        place = left + 4, bottom - 5
        cv2.putText(large, str(number), place, FONT, SIZE, INK, 1, cv2.LINE_AA)
    return Marked(large, pixels, tuple(taken))


def tile_centre(tile: str, height: int, width: int) -> np.ndarray:
    """Pixel f64[2] in the middle of a tile of a picture: a to e from left to right, 1 to 5 from
    top to bottom. Raises KeypointError for what is no tile."""
    if not isinstance(tile, str) or not re.fullmatch(f"[{COLUMNS}][{ROWS}]", tile):
        raise KeypointError(
            f"expected a tile from a1 (top left) to e5 (bottom right), got {tile!r}"
        )
    share = (np.array([COLUMNS.index(tile[0]), ROWS.index(tile[1])]) + 0.5) / len(COLUMNS)
    return share * [width, height] - 0.5


def tile_at(pixel: Sequence[float], height: int, width: int) -> str:
    """The tile of a pixel (u, v); one outside of the picture belongs to the nearest tile."""
    share = (np.asarray(pixel, np.float64) + 0.5) / [width, height] * len(COLUMNS)
    column, row = np.clip(np.floor(share), 0, len(COLUMNS) - 1).astype(int)
    return COLUMNS[column] + ROWS[row]


def _grid(image: np.ndarray) -> None:
    height, width = image.shape[:2]
    for i in range(1, len(COLUMNS)):
        x, y = round(width * i / len(COLUMNS)), round(height * i / len(ROWS))
        cv2.line(image, (x, 0), (x, height), LINE, 1)
        cv2.line(image, (0, y), (width, y), LINE, 1)
    for i, column in enumerate(COLUMNS):
        for j, row in enumerate(ROWS):
            place = round(width * i / len(COLUMNS)) + 4, round(height * j / len(ROWS)) + 14
            cv2.putText(image, column + row, place, FONT, 0.42, PAPER, 3, cv2.LINE_AA)
            cv2.putText(image, column + row, place, FONT, 0.42, LINE, 1, cv2.LINE_AA)


def _place(text: str, dot: np.ndarray, dots: np.ndarray, taken: list, shape: tuple):
    """The free place for a label that is nearest to its dot."""
    (width, height), _ = cv2.getTextSize(text, FONT, SIZE, 1)
    half = np.array([width + 8, height + 10]) // 2
    for distance in range(22, 200, 8):
        for angle in np.arange(16) * np.pi / 8 - np.pi / 4:
            middle = dot + np.round(distance * np.array([np.cos(angle), np.sin(angle)])).astype(int)
            low, high = middle - half, middle + half
            inside = (low >= 0).all() and (high < [shape[1], shape[0]]).all()
            covers = ((dots >= low - 6) & (dots <= high + 6)).all(1).any()
            meets = any(
                low[0] <= right and left <= high[0] and low[1] <= bottom and top <= high[1]
                for left, top, right, bottom in taken
            )
            if inside and not covers and not meets:
                return (*low.tolist(), *high.tolist())
    raise KeypointError(f"no room for the label of mark {text} among {len(dots)}; expected fewer")
