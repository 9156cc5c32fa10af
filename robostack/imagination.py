"""A page of what a world model imagines and what became of it, as pictures.

A latent has no picture. It is shown by the real frame, of all others in the data, whose latent is
nearest: blurred dreams would look plausible whatever they mean, and a wrong frame is plainly wrong.
"""

from __future__ import annotations

import base64
import html
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from robostack import figures, page
from robostack.data.store import find_stores, open_store
from robostack.learn.run import progress
from robostack.rewards.saved import RewardError
from robostack.rewards.world_model import WorldModel
from robostack.types import Episode, SpecMismatch, main_camera

TILE = 128  # px


@dataclass(frozen=True)
class ImagineConfig:
    """How much is shown."""

    states: int = 6  # start states, each with its best and its worst chunk
    library: int = 4000  # real frames to choose from, at most

    def __post_init__(self) -> None:
        if min(self.states, self.library) < 1:
            raise ValueError(f"states={self.states}, library={self.library}: expected 1 or more")


@dataclass
class Library:
    """Real frames with their latents, and which group of tries each belongs to."""

    latents: torch.Tensor  # f32[M, D]
    frames: np.ndarray  # u8[M, H, W, 3]
    groups: np.ndarray  # str[M]

    def nearest(self, latent: torch.Tensor, without: str) -> np.ndarray:
        """The frame u8[H, W, 3] of another start state whose latent is nearest to f32[D]."""
        distance = (self.latents - latent).abs().mean(1)
        distance[torch.from_numpy(self.groups == without)] = torch.inf
        return self.frames[int(distance.argmin())]


def write(model: WorldModel, data: Path, out: Path, config: ImagineConfig) -> dict:
    """The page, as file `out`, and how good imagining was. Raises RewardError for data without
    several tries from one state, or of another robot."""
    groups, library = _read(model, data, config.library)
    if not groups:
        raise RewardError(f"{data} has no tries from one state; make them with `robostack cases`")
    errors = np.array([e for g in groups.values() for e in _errors(model, g)])
    keys = sorted(groups, key=lambda key: _spread(groups[key]), reverse=True)[: config.states]
    rows = [_row(model, groups[key], key, library) for key in keys]
    relative = errors[:, 0].mean(0) / errors[:, 1].mean(0)
    steps = np.arange(1, len(relative) + 1)
    line = {"imagined": (steps, relative), "nothing changes": (steps, np.ones(len(steps)))}
    head = ["now", "best chunk: imagined", "and real", "worst chunk: imagined", "and real", "truth"]
    page.write(
        out,
        "robostack: imagined and real",
        [
            "<h1>Imagined and real</h1><p>Chunks that were executed from one and the same state. "
            "An imagined end is shown by the nearest real frame of another start.</p>",
            page.table(head, rows),
            "<h2>Error of imagining</h2><p>Distance to the real latent, as a share of that of "
            f"predicting no change; {len(errors)} chunks.</p>",
            figures.curves([("relative error", "steps", line)]),
        ],
    )
    return {"page": str(out), "relative_error": relative.round(3).tolist(), "chunks": len(errors)}


def _read(model: WorldModel, data: Path, most: int) -> tuple[dict[str, list[Episode]], Library]:
    groups: dict[str, list[Episode]] = defaultdict(list)
    latents, frames, names = [], [], []
    for path in find_stores(data):
        store = open_store(path)
        try:
            model.spec.require_same(store.spec, "the world model", str(path))
        except SpecMismatch:
            continue
        for _, episode in progress(store.episodes(), f"read {path.name}", len(store)):
            group = f"{episode.task}: {episode.group}" if episode.group else ""
            if group and len(episode) >= 2:
                groups[group].append(episode)
            latents.append(model.encode(episode)[:: 1 if group else 2])
            shown = episode.images[main_camera(episode.images)][:: 1 if group else 2]
            frames.append(shown)
            names += [group] * len(shown)
    if not latents:
        raise RewardError(f"{data} holds no episode of the robot that the world model knows")
    keep = np.random.default_rng(0).permutation(len(names))[:most]
    found = Library(torch.cat(latents)[keep], np.concatenate(frames)[keep], np.array(names)[keep])
    return {k: g for k, g in groups.items() if len(g) > 1}, found


def _spread(group: list[Episode]) -> float:
    """How differently the tries ended, where the simulator tells."""
    ends = [e.truth[-1] if e.truth is not None else float(bool(e.success)) for e in group]
    return float(np.std(ends))


@torch.inference_mode()
def _errors(model: WorldModel, group: list[Episode]) -> list[np.ndarray]:
    """Error of each step, and that of predicting no change: f32[2, H] of every whole chunk."""
    found = []
    horizon = min(model.config.horizon, max(map(len, group)))
    for episode in group:
        if len(episode) < horizon:
            continue
        real = model.encode(episode)
        actions = torch.from_numpy(episode.actions[:horizon]).to(real.device)[None]
        imagined = model.imagine(real[:1], actions).mean(0)[0]
        later = real[1 : horizon + 1]
        both = torch.stack([(guess - later).abs().mean(1) for guess in (imagined, real[:1])])
        found.append(both.cpu().numpy())
    return found


@torch.inference_mode()
def _row(model: WorldModel, group: list[Episode], key: str, library: Library) -> list[str]:
    first = group[0].observation(0)
    horizon = max(map(len, group))
    chunks = np.stack([e.actions[np.minimum(np.arange(horizon), len(e) - 1)] for e in group])
    order = model.rank(first, chunks).argsort()[::-1]
    camera = main_camera(first.images)
    cells = [_picture(first.images[camera]) + f"<br><small>{html.escape(key)}</small>"]
    for i in (order[0], order[-1]):
        actions = torch.from_numpy(group[i].actions).to(model.device)[None]
        latent = model.slow_eye(*model.glance(first))
        end = model.imagine(latent, actions).mean(0)[0, -1]
        cells += [
            _picture(library.nearest(end, key)),
            _picture(group[i].images[camera][-1]),
        ]
    ends = [None if e.truth is None else float(e.truth[-1]) for e in group]
    told = [ends[order[0]], ends[order[-1]]]
    return [*cells, "" if None in told else f"{told[0]:.2f} against {told[1]:.2f}"]


def _picture(frame: np.ndarray) -> str:
    large = cv2.resize(frame, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    _, png = cv2.imencode(".png", large[..., ::-1])
    data = base64.b64encode(png).decode()
    return f"<img src='data:image/png;base64,{data}' width='{TILE}'>"
