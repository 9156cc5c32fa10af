"""What a point looks like in one view, and where in another picture something looks like it.

A point on a patch of a colour that its surroundings lack is found by that colour, whichever way
the object has turned; any other point by correlation with its patch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from robostack.rewards.keypoints.tracks import KeypointError

CONTRAST = 0.15  # of colour, as `colours` has it, between a patch and its surroundings
WHOLE = 0.85  # ratio of areas, or of sides, from which on two blobs are of a size
DARK = 8.0  # [grey values] below which colours fade
TEXTURE = 3.0  # standard deviation of grey values, for a patch to be told from a plain surface


def detect(image: np.ndarray, count: int, box: tuple[int, int, int, int] | None = None):
    """At most `count` corners f32[N, 2] of an image, or of its box (left, top, right, bottom) [px].

    Corners as in Shi and Tomasi (1994), strongest first.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = box or (0, 0, width, height)
    mask = np.zeros((height, width), np.uint8)
    mask[max(top, 0) : bottom, max(left, 0) : right] = 255
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found = cv2.goodFeaturesToTrack(grey, count, 0.02, 3, mask=mask, blockSize=3)
    return np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)


def colours(image: np.ndarray) -> np.ndarray:
    """Shares f32[H, W, 3] of red, green and blue: colour without brightness, so that the faces of
    a lit object are alike. What is nearly black counts as grey."""
    light = image.astype(np.float32) + DARK
    return light / light.sum(-1, keepdims=True)


class Blob(NamedTuple):
    """A connected region of an image; weights between 0 and 1 count as parts of a pixel."""

    centre: np.ndarray  # f64[2] [px]
    area: float  # [px]
    low: np.ndarray  # f64[2], its left and upper end [px]
    high: np.ndarray  # f64[2], its right and lower end [px]


def blobs(weights: np.ndarray) -> list[Blob]:
    """Every connected region where f32[H, W] is positive."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats((weights > 0).astype(np.uint8))
    found = []
    for label, (left, top, width, height, _) in enumerate(boxes[1:], 1):
        here = np.s_[top : top + height, left : left + width]
        part = np.where(labels[here] == label, weights[here], 0).astype(np.float64)
        area = float(part.sum())
        y, x = np.mgrid[top : top + height, left : left + width]
        centre = np.array([(part * x).sum(), (part * y).sum()]) / area
        ends = [part.max(0), part.max(1)]  # along x and y
        low = np.array([left, top]) + 0.5 - [end[0] for end in ends]
        high = np.array([left + width, top + height]) - 1.5 + [end[-1] for end in ends]
        found.append(Blob(centre, area, low, high))
    return found


@dataclass(frozen=True, eq=False)
class Look:
    """The look of a point, from a picture in which it was shown."""

    crop: np.ndarray  # uint8[4r+1, 4r+1, 3], the pixel of the point and 2r around it
    shift: np.ndarray  # f64[2], from the middle of that pixel to the point [px]
    scale: float = 1.0  # how much larger its blob is where it is looked for

    @classmethod
    def of(cls, image: np.ndarray, pixel: np.ndarray, radius: int) -> Look:
        """Raises KeypointError where there is nothing to tell the point from its surroundings."""
        u, v = np.round(pixel).astype(int)
        wide = cv2.copyMakeBorder(image, *[2 * radius] * 4, cv2.BORDER_REPLICATE)
        look = cls(wide[v : v + 4 * radius + 1, u : u + 4 * radius + 1].copy(), pixel - [u, v])
        if look.tint is None and cv2.cvtColor(look.patch, cv2.COLOR_RGB2GRAY).std() < TEXTURE:
            raise KeypointError(
                f"nothing to follow at pixel ({u}, {v}): the picture is plain there; expected a "
                "corner, a pattern, or a colour of its own"
            )
        return look

    @property
    def radius(self) -> int:
        return len(self.crop) // 4

    @property
    def patch(self) -> np.ndarray:
        """The inner uint8[2r+1, 2r+1, 3]."""
        return np.ascontiguousarray(
            self.crop[self.radius : -self.radius, self.radius : -self.radius]
        )

    @cached_property
    def tint(self) -> tuple[np.ndarray, float, Blob] | None:
        """(colour f32[3], tolerance, its blob, from the point on), or None where the surroundings
        have the same colour."""
        shares, r = colours(self.crop), self.radius
        inner = shares[2 * r - 1 : 2 * r + 2, 2 * r - 1 : 2 * r + 2]
        colour = np.median(inner.reshape(-1, 3), axis=0)
        rim = np.ones(shares.shape[:2], bool)
        rim[r:-r, r:-r] = False
        contrast = np.percentile(np.linalg.norm(shares[rim] - colour, axis=-1), 25)
        if contrast < CONTRAST:
            return None
        tolerance, point = contrast / 2, 2 * r + self.shift
        found = blobs(_likeness(shares, colour, tolerance))
        own = min(found, key=lambda blob: np.linalg.norm(blob.centre - point))
        centre, low, high = ((end - point) * self.scale for end in (own.centre, own.low, own.high))
        return colour, tolerance, Blob(centre, own.area * self.scale**2, low, high)

    def differs(self, other: Look) -> bool:
        """Whether the two have colours of their own that are not the same."""
        if self.tint is None or other.tint is None:
            return False
        return bool(np.linalg.norm(self.tint[0] - other.tint[0]) > CONTRAST)

    def as_at(self, image: np.ndarray, pixel: np.ndarray) -> Look:
        """The look of the same point in another picture, where its blob may be larger."""
        if self.tint is None:
            return self
        colour, tolerance, own = self.tint
        found = blobs(_likeness(colours(image), colour, tolerance))
        here = min(found, key=lambda blob: np.linalg.norm(blob.centre - own.centre - pixel))
        return replace(self, scale=self.scale * float(np.sqrt(here.area / own.area)))

    def find(
        self, image: np.ndarray, near: np.ndarray | None = None, reach: float = np.inf
    ) -> tuple[np.ndarray, float]:
        """Where in the image it is, f64[2] [px], and how alike that place is, 0 to 1.

        Within `reach` of `near` [px], of both coordinates; the whole image without one.
        """
        height, width = image.shape[:2]
        low, high = np.zeros(2, int), np.array([width, height])
        if near is not None:
            margin = reach + self.radius + 1
            low = np.clip(np.floor(near - margin), 0, high).astype(int)
            high = np.clip(np.ceil(near + margin) + 1, 0, high).astype(int)
        window = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
        if min(window.shape[:2]) < 2:
            return np.full(2, np.nan), 0.0
        where = None if near is None else near - low
        pixel, alike = (self._by_patch if self.tint is None else self._by_tint)(window, where)
        if near is not None and not (np.abs(pixel + low - near) <= reach).all():
            return np.full(2, np.nan), 0.0
        return pixel + low, alike

    def _by_tint(self, window: np.ndarray, near: np.ndarray | None) -> tuple[np.ndarray, float]:
        """The blob of this colour with about the same area; of two alike, the nearer.

        Of a blob of which a part is hidden, or that has grown together with another, the middle
        says little: the point is then the one nearest to `near` for which what is seen lies
        within the whole, or the reverse.
        """
        colour, tolerance, own = self.tint
        best, value = (np.full(2, np.nan), 0.0), -np.inf
        for blob in blobs(_likeness(colours(window), colour, tolerance)):
            pixel, alike = blob.centre - own.centre, min(blob.area / own.area, own.area / blob.area)
            away = 0.0 if near is None else np.linalg.norm(pixel - near) / self.radius
            if alike - 0.1 * away <= value:
                continue
            value = alike - 0.1 * away
            if near is not None and not _whole(blob, own):
                ends = np.sort([blob.low - own.low, blob.high - own.high], axis=0)
                pixel = np.clip(near, ends[0], ends[1])
            best = pixel, alike
        return best

    def _by_patch(self, window: np.ndarray, near: np.ndarray | None) -> tuple[np.ndarray, float]:
        """The peak of normalised cross-correlation, between pixels by a parabola."""
        r = self.radius
        if window.std() < 1e-3:
            return np.full(2, np.nan), 0.0
        wide = cv2.copyMakeBorder(window, r, r, r, r, cv2.BORDER_REPLICATE)
        alike = cv2.matchTemplate(wide, self.patch, cv2.TM_CCOEFF_NORMED)
        alike = np.where(np.isfinite(alike), alike, -1)
        row, column = np.unravel_index(alike.argmax(), alike.shape)
        fine = [_peak(alike[row], column), _peak(alike[:, column], row)]
        return np.array(fine) + self.shift, float(np.clip(alike[row, column], 0, 1))


def _whole(blob: Blob, own: Blob) -> bool:
    """Whether all of a blob is seen and nothing else. A smaller one has been covered in part, for
    objects do not shrink; a larger one has come nearer if its sides have grown alike."""
    sides = (blob.high - blob.low) / (own.high - own.low)
    grown = blob.area / own.area
    return grown > WHOLE and (grown < 1 / WHOLE or sides.min() > WHOLE * sides.max())


def _likeness(shares: np.ndarray, colour: np.ndarray, tolerance: float) -> np.ndarray:
    """1 within half the tolerance of the colour, 0 beyond the whole."""
    away = np.linalg.norm(shares - colour, axis=-1)
    return np.clip(2 - 2 * away / tolerance, 0, 1)


def _peak(values: np.ndarray, i: int) -> float:
    """Where the parabola through the largest value and its neighbours is highest."""
    if not 0 < i < len(values) - 1:
        return float(i)
    before, here, after = map(float, values[i - 1 : i + 2])
    bend = before - 2 * here + after
    return i + (0.5 * (before - after) / bend if bend < 0 else 0.0)
