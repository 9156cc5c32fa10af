"""What the keypoint reward sees and says, drawn on the video of an episode, and as a table."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from robostack.protocols import Scores

SIDE, PANEL, STRIP = 256, 168, 72  # px: least side of the picture, the bars beside, the curve below
TRAIL = 20  # observations that a point's trail goes back
PAPER, INK, SOFT, BAR = (250, 250, 248), (32, 48, 60), (205, 213, 218), (42, 111, 151)
DONE = (42, 157, 111)
COLOURS = (
    (224, 159, 62),
    (200, 85, 61),
    (42, 157, 111),
    (109, 89, 122),
    (42, 111, 151),
    (158, 42, 43),
)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def film(
    frames: np.ndarray, pixels: dict[str, np.ndarray], scores: Scores, title: str
) -> np.ndarray:
    """Frames u8[T+1, H, W, 3] enlarged, with named points f32[T+1, 2] (x, y) [px] and their
    trails, bars of the terms, and the potential so far: u8[T+1, H', W', 3], H' and W' even.

    Raises ValueError where the frames, the points and the scores differ in length.
    """
    lengths = {len(frames), len(scores.potential), *(len(track) for track in pixels.values())}
    if len(lengths) > 1:
        raise ValueError(f"frames, points and scores of one episode have lengths {sorted(lengths)}")
    height, width = frames.shape[1:3]
    scale = max(1.0, SIDE / min(height, width))
    size = 2 * round(scale * width / 2), 2 * round(scale * height / 2)
    tracks = {
        # (0, 0) is the middle of the first pixel
        name: np.clip((track + 0.5) * (size[0] / width, size[1] / height), -9999, 9999)
        for name, track in pixels.items()
    }
    return np.stack([_page(frames[t], size, tracks, scores, title, t) for t in range(len(frames))])


def term_table(scores: Scores, every: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the potential, the confidence and the terms, one row every `every`
    observations and one of the last."""
    steps = sorted({*range(0, len(scores.potential), every), len(scores.potential) - 1})
    columns = {"potential": scores.potential, "confidence": scores.confidence, **scores.terms}
    rows = [[str(t), *(f"{values[t]:.2f}" for values in columns.values())] for t in steps]
    return ["step", *columns], rows


def stage_name(scores: Scores, t: int) -> str:
    """The first term that is not finished."""
    return next((name for name, value in scores.terms.items() if value[t] < 1), "done")


def _page(
    frame: np.ndarray,
    size: tuple[int, int],
    tracks: dict[str, np.ndarray],
    scores: Scores,
    title: str,
    t: int,
) -> np.ndarray:
    page = np.full((size[1] + STRIP, size[0] + PANEL, 3), PAPER, np.uint8)
    picture = cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)
    colours = dict(zip(tracks, itertools.cycle(COLOURS)))
    for name, track in tracks.items():
        _point(picture, track[max(0, t - TRAIL) : t + 1], colours[name])
    lowest = -np.inf  # names stand below one another, however close their points
    for name in sorted(tracks, key=lambda n: tracks[n][t, 1]):
        x, y = tracks[name][t]
        lowest = max(y + 4, lowest + 12)
        _write(picture, name, (round(x) + 10, round(lowest)), colours[name], halo=True)
    page[: size[1], : size[0]] = picture
    _panel(page[: size[1], size[0] :], scores, title, t)
    _curve(page[size[1] :], scores.potential, t)
    return page


def _point(picture: np.ndarray, trail: np.ndarray, colour: tuple) -> None:
    """The last of `trail` as a ring, the others as a line that leads to it."""
    corners = np.round(trail).astype(np.int32)
    cv2.polylines(picture, [corners], False, colour, 1, cv2.LINE_AA)
    x, y = corners[-1].tolist()
    cv2.circle(picture, (x, y), 5, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.circle(picture, (x, y), 5, colour, 2, cv2.LINE_AA)


def _write(
    picture: np.ndarray, text: str, at: tuple[int, int], colour: tuple, size=0.4, halo=False
) -> None:
    if halo:
        cv2.putText(picture, text, at, _FONT, size, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.putText(picture, text, at, _FONT, size, colour, 1, cv2.LINE_AA)


def _panel(panel: np.ndarray, scores: Scores, title: str, t: int) -> None:
    """Title, stage and a bar of each term; drawn on a copy, because OpenCV wants its rows whole."""
    board = panel.copy()
    for i, line in enumerate(_wrapped(title, panel.shape[1] - 20)[:3]):
        _write(board, line, (10, 18 + 15 * i), INK)
    stage = stage_name(scores, t)
    _write(board, stage, (10, 84), DONE if stage == "done" else INK, size=0.7)
    row = min(24, (panel.shape[0] - 130) // max(1, len(scores.terms)))
    for i, (name, values) in enumerate(scores.terms.items()):
        y, full = 106 + row * i, panel.shape[1] - 76
        _write(board, name, (10, y + 9), INK)
        cv2.rectangle(board, (62, y), (62 + full, y + 11), SOFT, -1)
        long = round(full * float(values[t]))
        if long:
            colour = DONE if values[t] >= 1 else BAR
            cv2.rectangle(board, (62, y), (62 + long, y + 11), colour, -1)
    _write(board, f"sure {scores.confidence[t]:.2f}", (10, panel.shape[0] - 8), INK)
    panel[:] = board


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of words that fit into `width` [px]."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and cv2.getTextSize(longer, _FONT, 0.4, 1)[0][0] > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _curve(strip: np.ndarray, potential: np.ndarray, t: int) -> None:
    """The whole potential in grey, what has happened of it in blue, and its value."""
    height, width = strip.shape[:2]
    left, right, top, low = 30, width - 50, 8, height - 8
    x = np.linspace(left, right, len(potential))
    y = low - (low - top) * np.clip(potential.astype(np.float64), 0, 1)
    corners = np.round(np.stack([x, y], axis=1)).astype(np.int32)
    for value in (0, 1):
        height_of = low - (low - top) * value
        cv2.line(strip, (left, height_of), (right, height_of), SOFT, 1)
        _write(strip, str(value), (14, height_of + 4), INK)
    cv2.polylines(strip, [corners], False, SOFT, 1, cv2.LINE_AA)
    cv2.polylines(strip, [corners[: t + 1]], False, BAR, 2, cv2.LINE_AA)
    at = tuple(corners[t].tolist())
    cv2.circle(strip, at, 4, BAR, -1, cv2.LINE_AA)
    _write(strip, f"{potential[t]:.2f}", (right + 8, at[1] + 4), INK)
