"""One episode on a page: all its cameras and, moving with them, every state and action."""

from __future__ import annotations

import base64
import html
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robostack import figures, page
from robostack.data.audit import AuditConfig, audit
from robostack.data.store import Store

WIDE, HIGH = 300, 56  # of a curve, in its own units
CSS = """
h1,p,li{overflow-wrap:anywhere}
.films{display:flex;flex-wrap:wrap;gap:10px} .films figure{margin:0}
.films video{border-radius:6px;display:block} figcaption{font-size:13px;color:#64788a}
.curves{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:8px 16px}
.curve{font-size:12px} .curve svg{width:100%;display:block;background:#f7f9fa;cursor:pointer}
.curve b{font-weight:600} .curve span{float:right;color:#64788a}
.control{margin:.8rem 0;display:flex;gap:.8rem;align-items:center} .control input{flex:1}
.error{color:#a8321b;font-weight:600} .warning{color:#96600a} .note{color:#64788a}
"""
SCRIPT = """
<script>
const films = [...document.querySelectorAll('video')], bar = document.querySelector('#at');
const lines = [...document.querySelectorAll('line.now')], told = document.querySelector('#time');
const steps = +bar.max, hz = +bar.dataset.hz, rate = hz / RATE;
let at = 0;
function show(step) {
  at = Math.max(0, Math.min(steps, step));
  bar.value = at;
  told.textContent = `step ${Math.round(at)} of ${steps}, ${(at / hz).toFixed(2)} s`;
  for (const line of lines) for (const x of ['x1', 'x2']) line.setAttribute(x, WIDE * at / steps);
}
function seek(step) {
  films.forEach(f => { f.pause(); f.currentTime = (step + 0.5) / RATE; });
  show(step);
}
bar.addEventListener('input', () => seek(+bar.value));
document.querySelector('#play').addEventListener('click', () => {
  if (films[0] && films[0].paused) {
    if (at >= steps) seek(0);
    films.forEach(f => { f.playbackRate = rate; f.play(); });
  } else films.forEach(f => f.pause());
});
document.querySelectorAll('.curve svg').forEach(s => s.addEventListener('click', e => {
  const box = s.getBoundingClientRect();
  seek(Math.round(steps * (e.clientX - box.left) / box.width));
}));
setInterval(() => { if (films[0] && !films[0].paused) show(films[0].currentTime * RATE); }, 40);
document.querySelector('#play').hidden = !films.length;
show(0);
</script>
"""


@dataclass(frozen=True)
class PlayConfig:
    """How an episode is shown."""

    size: int = 320  # [px] width of a film
    audit: AuditConfig = field(default_factory=AuditConfig)

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError(f"size={self.size}: expected 16 px or more")


def write(store: Store, episode_id: str, out: Path, config: PlayConfig) -> None:
    """The page, as file `out`."""
    episode = store.read(episode_id)
    steps, spec = len(episode), episode.spec
    end = {True: "success", False: "failure", None: "nobody said whether it succeeded"}
    found = audit(episode, config.audit, store.spec)
    listed = "".join(f"<li class='{f.severity}'>{html.escape(str(f))}</li>" for f in found)
    films = "".join(_film(name, frames, config.size) for name, frames in episode.images.items())
    script = SCRIPT.replace("RATE", str(figures.FPS)).replace("WIDE", str(WIDE))
    parts = [
        f"<style>{CSS}</style><h1>{html.escape(episode.task)}</h1>",
        f"<p class='soft'>{html.escape(str(store.path))}, episode {episode_id}: {steps} steps, "
        f"{end[episode.success]}, {episode.source}, seed {episode.seed} "
        f"{html.escape(episode.label)}</p><ul>{listed}</ul>",
        f"<div class='films'>{films}</div>",
        f"<div class='control'><button id='play'>play</button><input id='at' type='range' min='0' "
        f"max='{steps}' value='0' data-hz='{spec.control_hz:g}' aria-label='step'>"
        "<span id='time'></span></div>",
        "<h2>Actions</h2>",
        _curves(spec.action_names, episode.actions, steps),
        "<h2>States</h2>",
        _curves(spec.state_names, episode.states, steps),
        script,
    ]
    page.write(out, f"robostack: episode {episode_id}", parts)


def _film(name: str, frames: np.ndarray, size: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.webm"
        figures.write_video(frames, path)
        data = base64.b64encode(path.read_bytes()).decode()
    return (
        f"<figure><video muted playsinline width='{size}' style='image-rendering:pixelated' "
        f"src='data:video/webm;base64,{data}'></video>"
        f"<figcaption>{html.escape(name)}</figcaption></figure>"
    )


def _curves(names: tuple[str, ...], rows: np.ndarray, steps: int) -> str:
    """A small curve for each column of rows f32[T or T+1, D]."""
    curves = (_curve(name, column, steps) for name, column in zip(names, rows.T))
    return f"<div class='curves'>{''.join(curves)}</div>"


def _curve(name: str, values: np.ndarray, steps: int) -> str:
    low, high = float(values.min()), float(values.max())
    span = (high - low) or 1.0
    points = " ".join(
        f"{WIDE * t / steps:.1f},{HIGH - 4 - (HIGH - 8) * (v - low) / span:.1f}"
        for t, v in enumerate(values)
    )
    return (
        f"<div class='curve'><b>{html.escape(name)}</b><span>{low:.3g} to {high:.3g}</span>"
        f"<svg viewBox='0 0 {WIDE} {HIGH}' preserveAspectRatio='none' height='{HIGH}'>"
        f"<polyline points='{points}' fill='none' stroke='{figures.PALETTE[0]}' "
        "vector-effect='non-scaling-stroke' stroke-width='1.5'/>"
        f"<line class='now' y1='0' y2='{HIGH}' stroke='{figures.BAD}' "
        "vector-effect='non-scaling-stroke'/></svg></div>"
    )
