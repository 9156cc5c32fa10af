"""A page of films: episodes, and beside each picture what a reward says of it."""

from __future__ import annotations

import base64
import html
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robostack import figures, page
from robostack.data.store import find_stores, open_store
from robostack.learn.run import progress
from robostack.protocols import Reward
from robostack.rewards.combine import explained
from robostack.rewards.keypoints import KeypointAffordance
from robostack.rewards.keypoints.camera import CALIBRATION, Camera, read_cameras
from robostack.rewards.keypoints.overlay import film, term_table
from robostack.rewards.saved import RewardError
from robostack.types import Episode, SpecMismatch, main_camera

LOOKS = ("camera", "light", "distractors")  # stores of other looks are not filmed


@dataclass(frozen=True)
class WatchConfig:
    """Which episodes are filmed."""

    each: int = 1  # episodes of a label and store
    camera: str = ""  # name; "": the first that does not move, or the first
    table: int = 8  # control steps between the rows of the table of terms

    def __post_init__(self) -> None:
        if min(self.each, self.table) < 1:
            raise ValueError(f"each={self.each}, table={self.table}: expected 1 or more")


def write(rewards: dict[str, Reward], data: Path, out: Path, config: WatchConfig) -> Path:
    """The page, as file `out`. Raises RewardError where no reward can judge any episode."""
    parts, refused = ["<h1>What the rewards say</h1>"], Counter()
    chosen = list(_chosen(data, config.each))
    shown = 0
    for store, episode_id in progress(chosen, "watch", len(chosen)):
        episode, cameras = open_store(store).read(episode_id), _cameras(store)
        name = episode.label or ("success" if episode.success else "no success")
        parts.append(f"<h2>{html.escape(f'{episode.task}: {name}')}</h2>")
        for reward in rewards.values():
            try:
                parts.append(_seen(reward, episode, cameras, config))
                shown += 1
            except (RewardError, SpecMismatch) as error:
                refused[str(error).splitlines()[0]] += 1
                parts.append(f"<p class='soft'>{reward.name}: {html.escape(str(error))}</p>")
    if not shown:
        raise RewardError(f"nothing to watch: {'; '.join(refused) or 'no episode'}")
    page.write(out, "robostack: what the rewards say", parts)
    return out


def _chosen(data: Path, each: int) -> Iterator[tuple[Path, str]]:
    """The first episodes of every label, instruction or not, of each store that is plain."""
    for store in find_stores(data):
        if store.name in LOOKS:
            continue
        opened, count = open_store(store), Counter()
        for episode_id in opened.ids():
            about = opened.attributes(episode_id)
            kind = about.get("label") or about["success"]
            count[kind] += 1
            if kind != "try" and count[kind] <= each:
                yield store, episode_id


def _cameras(store: Path) -> dict[str, Camera]:
    path = open_store(store).path / CALIBRATION
    return read_cameras(path) if path.is_file() else {}


def _seen(reward: Reward, episode: Episode, cameras: dict[str, Camera], config: WatchConfig) -> str:
    """A film of one reward's view of an episode, and its terms as a table."""
    scores = explained(reward, episode)
    camera = config.camera or main_camera(cameras or episode.images)
    if camera not in episode.images:
        raise RewardError(f"camera={camera}: the episode has {', '.join(sorted(episode.images))}")
    pixels = {}
    if camera in cameras:
        judged = isinstance(reward, KeypointAffordance)
        points = reward.points(episode)[0] if judged else episode.keypoints
        points = {n: p for n, p in points.items() if np.isfinite(p).all()}
        pixels = {n: cameras[camera].project(p).astype(np.float32) for n, p in points.items()}
    frames = film(episode.images[camera], pixels, scores, f"{reward.name}: {episode.task}")
    header, rows = term_table(scores, config.table)
    return (
        f"<h3>{html.escape(reward.name)}</h3>{_embedded(frames)}"
        f"<details><summary>terms</summary>{page.table(header, rows)}</details>"
    )


def _embedded(frames: np.ndarray) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.webm"
        figures.write_video(frames, path)
        data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<video autoplay loop muted playsinline controls width="{frames.shape[2]}" '
        f'src="data:video/webm;base64,{data}"></video>'
    )
