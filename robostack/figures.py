"""Pictures of results: SVG charts and a video grid, as strings that fit into one HTML file."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import cv2  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from robostack.types import Episode  # noqa: E402

INK, GOOD, BAD, SOFT = "#20303c", "#2a9d6f", "#c8553d", "#8aa0ad"
PALETTE = ("#2a6f97", "#e09f3e", "#2a9d6f", "#9e2a2b", "#6d597a", "#8aa0ad")
FPS = 20


def svg(figure: plt.Figure) -> str:
    """A figure as an <svg> element; its text stays text."""
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "robostack"}):
        buffer = io.StringIO()
        unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # same data, same file
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata=unsaid)
    plt.close(figure)
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _axes(width: float, height: float, columns: int = 1):
    style = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    with plt.rc_context({**style, "text.color": INK, "axes.edgecolor": SOFT}):
        return plt.subplots(1, columns, figsize=(width, height), squeeze=False)


def success_bars(rows: list[tuple[str, dict, bool]]) -> str:
    """Success rates with 95 % intervals; rows (label, summary, is a control), first on top."""
    figure, axes = _axes(7.5, 0.5 * len(rows) + 0.6)
    ax = axes[0, 0]
    for y, (_, summary, control) in enumerate(rows[::-1]):
        rate, (low, high) = summary["success_rate"], summary["ci95"]
        colour = SOFT if control else PALETTE[0]
        ax.barh(y, rate, color=colour, height=0.6, alpha=0.85)
        ax.plot([low, high], [y, y], color=INK, lw=1.6, solid_capstyle="butt")
        text = f"{rate:.0%}  ({summary['successes']}/{summary['episodes']})"
        ax.text(high + 0.015, y, text, va="center")
    ax.set_yticks(range(len(rows)), [row[0] for row in rows[::-1]])
    ax.set_xlim(0, 1.15)
    ax.set_xticks(np.linspace(0, 1, 6), [f"{x:.0%}" for x in np.linspace(0, 1, 6)])
    ax.set_xlabel("success rate, with its 95 % Wilson interval")
    return svg(figure)


def curves(panels: list[tuple[str, str, dict[str, tuple[list, list]]]]) -> str:
    """Panels (title, x label, {name: (x, y)}) side by side."""
    figure, axes = _axes(3.4 * len(panels), 2.5, len(panels))
    for ax, (title, xlabel, lines) in zip(axes[0], panels):
        for colour, (name, (x, y)) in zip(PALETTE, lines.items()):
            ax.plot(x, y, color=colour, lw=1.5, label=name, marker="o" if len(x) < 12 else None)
        ax.set_title(title, fontsize=10, loc="left")
        ax.set_xlabel(xlabel)
        if len(lines) > 1:
            ax.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return svg(figure)


def success_curves(lines: dict[str, tuple[list[int], list[float], list | None]]) -> str:
    """Success against rollouts: {label: (rollouts, rates, 95 % intervals or None)}."""
    figure, axes = _axes(7.5, 2.8)
    ax = axes[0, 0]
    for colour, marker, (label, (x, rates, bands)) in zip(PALETTE, "osD^v", lines.items()):
        if bands is not None:
            low, high = zip(*bands)
            ax.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
        ax.plot(x, rates, color=colour, marker=marker, lw=1.5, label=label)
    ax.set_ylim(0, 1)
    ax.set_yticks(np.linspace(0, 1, 6), [f"{y:.0%}" for y in np.linspace(0, 1, 6)])
    ax.set_xlabel("online rollouts")
    ax.legend(frameon=False, fontsize=8)
    return svg(figure)


def reward_traces(titles: list[str], traces: list[dict[str, np.ndarray]], hz: float) -> str:
    """Potentials over time, one panel an episode."""
    figure, axes = _axes(4.6 * len(traces), 2.6, len(traces))
    for ax, title, trace in zip(axes[0], titles, traces):
        for colour, (name, phi) in zip(PALETTE, trace.items()):
            ax.plot(np.arange(len(phi)) / hz, phi, color=colour, lw=1.5, label=name)
        ax.set_title(title, fontsize=10, loc="left")
        ax.set_ylim(-0.03, 1.03)
        ax.set_xlabel("time [s]")
    axes[0, 0].set_ylabel("potential")
    axes[0, -1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return svg(figure)


def histogram(values: np.ndarray, xlabel: str, ylabel: str = "pairs") -> str:
    figure, axes = _axes(4, 2.2)
    axes[0, 0].hist(values, bins=20, color=PALETTE[0], alpha=0.85)
    axes[0, 0].set_xlabel(xlabel)
    axes[0, 0].set_ylabel(ylabel)
    return svg(figure)


def _tile(episode: Episode, camera: str, size: int) -> np.ndarray:
    return framed(episode.images[camera], bool(episode.success), size)


def framed(frames: np.ndarray, success: bool | None, size: int) -> np.ndarray:
    """Frames u8[T+1, size, size, 3], the last one framed in the colour of the outcome, if any."""
    frames = [cv2.resize(f, (size, size), interpolation=cv2.INTER_CUBIC) for f in frames]
    if success is not None:
        colour = (42, 157, 111) if success else (200, 85, 61)
        cv2.rectangle(frames[-1], (1, 1), (size - 2, size - 2), colour, 4)
    return np.stack(frames)


def _grid(rows: list[list[Episode]], camera: str, size: int) -> np.ndarray:
    """Frames of a grid u8[T, H, W, 3]: a row a list; what ends early waits on its last frame."""
    tiles = [[_tile(e, camera, size) for e in row] for row in rows]
    length = max(len(t) for row in tiles for t in row) + FPS // 2
    padded = [
        np.concatenate(
            [np.concatenate([t, np.repeat(t[-1:], length - len(t), 0)]) for t in row], axis=2
        )
        for row in tiles
    ]
    return np.concatenate(padded, axis=1)


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """For native code, which Python's own redirection does not reach."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def write_video(frames: np.ndarray, path: Path) -> None:
    """Frames u8[T, H, W, 3] as VP8 in WebM, which every browser plays."""
    shape = frames.shape[2], frames.shape[1]
    with _silent_stderr():  # OpenCV prints that it replaces the tag by the container's own
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), FPS, shape)
    if not writer.isOpened():
        raise RuntimeError("this OpenCV cannot write WebM video; install opencv-python")
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def video(rows: list[list[Episode]], camera: str, size: int = 128) -> str:
    """A grid of episodes as an HTML <video> element that carries its own data."""
    frames = _grid(rows, camera, size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.webm"
        write_video(frames, path)
        data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<video autoplay loop muted playsinline controls width="{frames.shape[2]}" '
        f'src="data:video/webm;base64,{data}"></video>'
    )


def keypoint_strip(
    frames: np.ndarray, pixels: dict[str, np.ndarray], columns: int = 6, scale: int = 3
) -> str:
    """Evenly spaced frames u8[T, H, W, 3] with named points f64[T, 2] (x, y) [px], as an <img>."""
    shown = []
    for t in np.linspace(0, len(frames) - 1, columns).astype(int):
        picture = cv2.resize(frames[t], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        for colour, track in zip(PALETTE, pixels.values()):
            rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
            x, y = np.round((track[t] + 0.5) * scale).astype(int)
            cv2.circle(picture, (int(x), int(y)), 2 * scale, rgb, scale // 2 + 1, cv2.LINE_AA)
        shown.append(picture)
    legend = ", ".join(
        f"<b style='color:{colour}'>{name}</b>" for colour, name in zip(PALETTE, pixels)
    )
    _, png = cv2.imencode(".png", np.concatenate(shown, 1)[..., ::-1])
    data = base64.b64encode(png).decode()
    return f"<p>{legend}</p><img src='data:image/png;base64,{data}' alt='keypoints'>"


def last_frames(rows: list[list[Episode]], camera: str, path: Path, size: int = 96) -> None:
    """How episodes ended, framed in the colour of the outcome, as a PNG: a row a list."""
    picture = np.concatenate(
        [np.concatenate([_tile(e, camera, size)[-1] for e in row], 1) for row in rows], 0
    )
    cv2.imwrite(str(path), picture[..., ::-1])
