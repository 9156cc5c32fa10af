"""Pages to look through a store: a contact sheet of all episodes, and one episode in detail."""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from robostack import figures, page
from robostack.data.audit import AuditConfig, Finding, audit_all, trimmed
from robostack.data.store import Store, StoreError
from robostack.types import Episode, main_camera

Progress = Callable[[Iterable, str, int], Iterator]
SIDE = 120  # [px] of a picture of the sheet
CSS = """
h1,p,li{overflow-wrap:anywhere}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:14px}
.card{border:1px solid #dde4e8;border-radius:8px;overflow:hidden;background:#fff}
.card img{display:block;width:100%;height:auto}
.card p{margin:.35rem .7rem} .card ul{margin:.2rem 0 .5rem;padding:0 .7rem 0 1.6rem;font-size:13px}
.card .top{display:flex;justify-content:space-between;gap:.6rem;align-items:baseline}
.error{color:#a8321b;font-weight:600} .warning{color:#96600a} .note{color:#64788a}
.dot{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.4em}
.bar{display:flex;flex-wrap:wrap;gap:.3rem .9rem;margin:.3rem 0} .bar label{cursor:pointer}
.sheet{margin-top:1rem} .card[hidden]{display:none} .wide{overflow-x:auto}
@media(max-width:480px){.sheet{grid-template-columns:1fr} td,th{padding:.2rem .4rem}}
"""
FILTER = """
<script>
document.querySelectorAll('.bar input').forEach(box => box.addEventListener('change', () => {
  const wanted = new Set([...document.querySelectorAll('.bar input:checked')].map(b => b.value));
  document.querySelectorAll('.card').forEach(card => {
    const found = card.dataset.found.split(' ').some(kind => wanted.has(kind));
    card.hidden = !(wanted.has(card.dataset.end) && found);
  });
}));
</script>
"""
COLOURS = {"success": figures.GOOD, "failure": figures.BAD, "unknown": figures.SOFT}


@dataclass(frozen=True)
class InspectConfig:
    """Which episodes the sheet shows, and what counts as suspicious."""

    episodes: int = 60  # at most, evenly out of all; the audit looks at those
    only: Literal["all", "successes", "failures"] = "all"
    pictures: int = 6  # of an episode, evenly in time
    camera: str = ""  # name; "": the first, if possible not on the arm
    threshold: float = 0.5  # with --reward: succeeded where its last potential is above
    audit: AuditConfig = field(default_factory=AuditConfig)

    def __post_init__(self) -> None:
        if self.episodes < 1 or not 1 <= self.pictures <= 30:
            raise ValueError(
                f"episodes={self.episodes}, pictures={self.pictures}: expected 1 or more, 1 to 30"
            )


def write(
    store: Store,
    out: Path,
    config: InspectConfig,
    progress: Progress,
    second: Callable[[Episode], list[Finding]] = lambda episode: [],
) -> dict:
    """The contact sheet, as file `out`; returns how many findings there were. `second` is another
    opinion of each episode. What cannot be read has a card that says so."""
    camera = _camera(store, config.camera)
    about, damaged = _about(store)
    ids = [i for i, a in about.items() if _wanted(a["success"], config.only)]
    if not ids and not damaged:
        raise StoreError(f"only={config.only}: {store.path} has no such episode")
    picked = np.linspace(0, len(ids) - 1, config.episodes).astype(int) if ids else []
    chosen = [ids[k] for k in np.unique(picked).astype(int)]

    def readable() -> Iterator[tuple[str, Episode]]:
        for episode_id in progress(chosen, "inspect", len(chosen)):
            try:
                yield episode_id, store.read(episode_id)
            except StoreError as error:
                damaged[episode_id] = str(error)

    cards, counts = {}, Counter()
    for episode_id, episode, found in audit_all(readable(), config.audit, store.spec):
        found += second(episode)
        counts.update(finding.severity for finding in found)
        cards[episode_id] = _card(episode_id, episode, found, camera, config)
    cards |= {i: _damaged_card(i, why) for i, why in damaged.items()}
    counts["error"] += len(damaged)
    parts = [
        f"<style>{CSS}</style><h1>{html.escape(store.path.parent.name)}/{store.path.name}</h1>",
        _overview(store, about, len(chosen)),
        _filters(),
        f"<div class='sheet'>{''.join(cards[i] for i in sorted(cards))}</div>{FILTER}",
    ]
    page.write(out, f"robostack: {html.escape(str(store.path))}", parts)
    return {"episodes": len(cards), **{s: counts[s] for s in ("error", "warning", "note")}}


def _about(store: Store) -> tuple[dict[str, dict], dict[str, str]]:
    """What is known of every episode, and why nothing is of the others."""
    about, damaged = {}, {}
    for episode_id in store.ids():
        try:
            about[episode_id] = store.attributes(episode_id)
        except StoreError as error:
            damaged[episode_id] = str(error)
    return about, damaged


def _camera(store: Store, name: str) -> str:
    cameras = store.spec.cameras
    if name and name not in cameras:
        raise StoreError(f"camera={name}: the store has {', '.join(cameras) or 'no camera'}")
    return name or main_camera(cameras)


def _wanted(success: bool | None, only: str) -> bool:
    return only == "all" or (success is not None and success == (only == "successes"))


def _outcome(success: bool | None) -> str:
    return {True: "success", False: "failure", None: "unknown"}[success]


def _overview(store: Store, about: dict[str, dict], shown: int) -> str:
    if not about:
        return "<p>None of its episodes can be read.</p>"
    steps = np.array([a["steps"] for a in about.values()])
    tasks = Counter(a["task"] for a in about.values())
    rows = []
    for task, count in tasks.most_common(20):
        ends = Counter(_outcome(a["success"]) for a in about.values() if a["task"] == task)
        rows.append([html.escape(task), str(count), *(str(ends[o]) for o in COLOURS)])
    spec = store.spec
    cameras = ", ".join(f"{n} {h} x {w}" for n, (h, w) in spec.cameras.items()) or "none"
    said = ", ".join(f"{k}: {v}" for k, v in spec.conventions.items())
    some = f"; {shown} of them below" if shown < len(about) else ""
    return (
        f"<p class='soft'>{len(about)} episodes, {steps.sum()} steps, "
        f"{steps.sum() / spec.control_hz / 60:.1f} min at {spec.control_hz:g} Hz{some}. "
        f"Robot {html.escape(spec.robot)}; cameras: {html.escape(cameras)}; {html.escape(said)}</p>"
        f"<div class='wide'>{page.table(['instruction', 'episodes', *COLOURS], rows)}</div>"
        f"<div class='wide'>{figures.histogram(steps, 'steps of an episode', 'episodes')}</div>"
    )


def _filters() -> str:
    def boxes(kinds: Iterable[str]) -> str:
        rows = (f"<label><input type='checkbox' value='{k}' checked> {k}</label>" for k in kinds)
        return f"<div class='bar'>{''.join(rows)}</div>"

    return boxes(COLOURS) + boxes(("error", "warning", "note", "clean"))


def _damaged_card(episode_id: str, why: str) -> str:
    return (
        f"<div class='card' id='e{episode_id}' data-end='unknown' data-found='error'>"
        f"<p class='top'><b>{episode_id}</b><span>cannot be read</span></p>"
        f"<ul><li class='error'>{html.escape(why)}</li></ul></div>"
    )


def _card(
    episode_id: str, episode: Episode, found: list[Finding], camera: str, config: InspectConfig
) -> str:
    end = _outcome(episode.success)
    kinds = " ".join(sorted({f.severity for f in found})) or "clean"
    listed = "".join(f"<li class='{f.severity}'>{html.escape(str(f))}</li>" for f in found[:6])
    more = f"<li class='soft'>and {len(found) - 6} more</li>" if len(found) > 6 else ""
    seconds = episode.stamps[-1] - episode.stamps[0]
    label = f" · {html.escape(episode.label)}" if episode.label else ""
    start, stop = trimmed(episode, config.audit)
    if (start, stop) != (0, len(episode)):
        more += f"<li class='note'>trim auto=true leaves steps {start} to {stop - 1}</li>"
    return (
        f"<div class='card' id='e{episode_id}' data-end='{end}' data-found='{kinds}'>"
        f"{_strip(episode, camera, config.pictures)}"
        f"<p class='top'><b>{episode_id}</b><span><span class='dot' style='background:"
        f"{COLOURS[end]}'></span>{end}{label}</span></p>"
        f"<p class='soft'>{html.escape(episode.task)} · {len(episode)} steps, {seconds:.1f} s · "
        f"{episode.source}</p><ul>{listed}{more}</ul></div>"
    )


def _strip(episode: Episode, camera: str, pictures: int) -> str:
    """Pictures of an episode in rows of three, the first on the left, the last on the right."""
    if not camera:
        return ""
    times = np.linspace(0, len(episode), pictures).round().astype(int)
    gap = [(1, 1), (1, 1), (0, 0)]
    tiles = [np.pad(_square(episode.images[camera][t]), gap, constant_values=255) for t in times]
    columns = min(3, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    ok, data = cv2.imencode(".jpg", np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not ok:
        raise RuntimeError("OpenCV cannot write JPEG; install opencv-python")
    what = f"{len(times)} pictures of {camera}"
    return f"<img loading='lazy' alt='{what}' src='data:image/jpeg;base64,{_b64(data.tobytes())}'>"


def _square(picture: np.ndarray) -> np.ndarray:
    """Fitted into a white square."""
    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small, out = cv2.resize(picture, size, interpolation=way), np.full((SIDE, SIDE, 3), 255, "u1")
    top, left = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = small
    return out


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
