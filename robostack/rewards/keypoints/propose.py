"""A keypoint reward from two pictures and an instruction, with a vision-language model's help.

The model is asked once for a scene and task, never during training: N votes, cached on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robostack.rewards.keypoints.affordance import KeypointAffordance
from robostack.rewards.keypoints.answer import HEIGHTS, VERSION, Answer, Scene, agree
from robostack.rewards.keypoints.camera import Camera, read_cameras, triangulate
from robostack.rewards.keypoints.endpoint import Endpoint, LocalModel, Model
from robostack.rewards.keypoints.follow import TrackConfig
from robostack.rewards.keypoints.look import Look
from robostack.rewards.keypoints.marks import candidates, tile_centre
from robostack.rewards.keypoints.track import Tracker, require_size
from robostack.rewards.keypoints.tracks import KeypointError
from robostack.types import Episode


@dataclass(frozen=True)
class ProposeConfig:
    """Whom to ask, how often, and what to make of the answers."""

    endpoint: str = ""  # address before /chat/completions; "": `model` is a folder or on the hub
    model: str = ""  # name at the endpoint, or the folder of a model of transformers
    cameras: str = ""  # calibration file, see `read_cameras`
    views: tuple[str, ...] = ()  # two or more cameras to show; (): the first two calibrated ones
    candidates: int = 12  # marks in a picture
    votes: int = 5
    agreement: float = 0.6  # share of the votes that each mark must have
    gate: float = 0.03  # mean distance at which marks of two views are one point, of the height
    timeout: float = 60.0  # [s] for a question
    retries: int = 2
    key_variable: str = ""  # environment variable that holds the endpoint's key
    temperature: float = 0.0  # of the endpoint's answers
    cache: str = ""  # folder of valid answers, which are not asked for again; "": keep none

    def __post_init__(self) -> None:
        if self.votes < 1 or self.candidates < 2:
            raise ValueError(
                "expected votes >= 1 and candidates >= 2, got "
                f"votes={self.votes}, candidates={self.candidates}"
            )
        for name in ("agreement", "gate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected above 0, up to 1, got {getattr(self, name)}")
        if len(self.views) == 1 or len(set(self.views)) < len(self.views):
            raise ValueError(f"views: expected two or more different cameras, got {self.views}")

    def ask(self) -> Model:
        """The model that it names. Raises ValueError or EndpointError."""
        if not self.model:
            raise ValueError("model: expected a name at the endpoint, or a model's folder, got ''")
        if not self.endpoint:
            return LocalModel(self.model)
        return Endpoint(
            self.endpoint,
            self.model,
            self.timeout,
            self.retries,
            self.key_variable,
            self.temperature,
        )


@dataclass(frozen=True, eq=False)
class Proposal:
    """A keypoint reward, and how it came about."""

    reward: KeypointAffordance  # of this instruction, with a Tracker as its source
    places: dict[str, np.ndarray]  # object, target, way1, ... f64[3] [m] in the scene shown
    shares: dict[str, float]  # "grasp.agentview" and so on -> share of the votes
    problems: tuple[str, ...]  # why votes were no valid answers
    pictures: tuple[np.ndarray, ...]  # as the first vote was shown them, uint8[H, W, 3]

    @property
    def confidence(self) -> float:
        """Share of the votes that the least certain mark has."""
        return min(share for name, share in self.shares.items() if name != "program")


def propose_reward(config: ProposeConfig, episode: Episode, model: Model) -> Proposal:
    """Asks about the first observation of an episode, and turns the answer into points, a tracker
    of them, and a program: a reward for any episode of this instruction and these cameras.

    Raises KeypointError for cameras that do not fit, answers that are not valid or do not agree,
    marks that are no point, and points that cannot be followed; EndpointError where the model
    does not answer.
    """
    if not config.cameras:
        raise KeypointError("cameras: expected the path of a calibration file (.json), got ''")
    cameras = read_cameras(config.cameras)
    views = config.views or tuple(name for name in cameras if name in episode.images)[:2]
    lacking = [name for name in views if name not in cameras or name not in episode.images]
    if lacking or len(views) < 2:
        raise KeypointError(
            f"views: expected two or more cameras that are calibrated ({', '.join(cameras)}) and "
            f"in the episode ({', '.join(episode.images)}), got {', '.join(views) or 'none'}"
        )
    images = {view: episode.images[view][0] for view in views}
    for view, image in images.items():
        require_size(view, cameras[view], image.shape)
    marks = {view: candidates(image, config.candidates) for view, image in images.items()}
    scene = Scene(episode.task, images, marks)
    answer, shares, problems = vote(scene, model, config)
    places, starts = _places(scene, answer, cameras, config.gate)
    shown = {name: frames[0] for name, frames in episode.images.items() if name in cameras}
    tracker = _tracker(cameras, starts, shown, places)
    reward = KeypointAffordance(episode.spec, {"proposed": answer.program}, tracker)
    reward.explain(episode)  # what cannot judge this one can judge none
    pictures = tuple(marked.image for marked in scene.marked(0))
    return Proposal(reward, places, shares, problems, pictures)


def vote(scene: Scene, model: Model, config: ProposeConfig):
    """(answer, shares, problems): what `config.votes` questions agree on, see `agree`."""
    answers, problems = [], []
    for number in range(config.votes):
        try:
            answers.append(_ask(scene, model, number, config.cache))
        except KeypointError as error:
            problems.append(f"vote {number + 1}: {error}")
    if not answers:
        raise KeypointError(f"none of {config.votes} votes is a valid answer; {problems[0]}")
    try:
        answer, shares = agree(answers, config.votes, config.agreement)
    except KeypointError as error:
        raise KeypointError("; ".join([str(error), *problems[:1]])) from None
    return answer, shares, tuple(problems)


def _ask(scene: Scene, model: Model, number: int, cache: str) -> Answer:
    """One vote, from the cache where it holds a valid answer. Only valid ones are kept."""
    pictures, text = [marked.image for marked in scene.marked(number)], scene.prompt()
    digest = hashlib.sha256(json.dumps([VERSION, model.name, number, text]).encode())
    for picture in pictures:
        digest.update(f"{picture.shape}".encode() + picture.tobytes())
    key = digest.hexdigest()
    file = Path(cache) / f"{key}.json" if cache else None
    if file is not None:
        try:
            entry = json.loads(file.read_text())
            if entry["key"] == key:
                return scene.read(entry["answer"], number)
        except (OSError, ValueError, KeyError, TypeError, KeypointError):
            pass  # not there or damaged: asked again
    words = model.ask(text, pictures)
    answer = scene.read(words, number)
    if file is not None:
        _write(file, {"key": key, "model": model.name, "vote": number, "answer": words})
    return answer


def _write(file: Path, entry: dict) -> None:
    """All of the entry or nothing, whoever else writes it at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".json")
    try:
        with os.fdopen(handle, "w") as stream:
            json.dump(entry, stream, indent=1)
        Path(partial).replace(file)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _places(scene: Scene, answer: Answer, cameras: Mapping[str, Camera], gate: float):
    """Points {name: f64[3]} that the answer names, and the pixels of those that are marks."""
    places, starts = {}, {}
    for name, chosen in (("object", answer.grasp), ("target", answer.target)):
        if not chosen:
            continue
        pixels = {view: scene.candidates[view][mark] for view, mark in chosen.items()}
        point, error = triangulate([cameras[v] for v in pixels], np.stack(list(pixels.values())))
        height = np.mean([cameras[view].height for view in pixels])
        if error > gate * height:
            raise KeypointError(
                f"the marks of the {name} are not the same point: seen from "
                f"{' and '.join(pixels)}, they are {error:.1f} pixels off, expected at most "
                f"{gate * height:.1f}"
            )
        places[name], starts[name] = point, {v: tuple(p.tolist()) for v, p in pixels.items()}
    for i, tile in enumerate(answer.waypoints, 1):
        level = places["object"][2] + HEIGHTS[tile.height]
        places[f"way{i}"] = _at_height(cameras[tile.view], tile.tile, level)
    return places, starts


def _at_height(camera: Camera, tile: str, level: float) -> np.ndarray:
    """Where the ray through the middle of a tile is at a height [m]."""
    away = camera.ray(tile_centre(tile, camera.height, camera.width))
    distance = (level - camera.position[2]) / away[2] if abs(away[2]) > 1e-3 else -1.0
    if distance <= 0:
        raise KeypointError(f"the tile {tile} never comes to a height of {level:.2f} m")
    return camera.position + distance * away


def _tracker(cameras, starts, images, places) -> Tracker:
    """Follows object and target, also in views that nobody marked; a target that looks like its
    surroundings stays where it is."""
    fixed = {name: place for name, place in places.items() if name.startswith("way")}
    followed = {}
    for name, marks in starts.items():
        try:
            looks = {view: _look(cameras, images, view, pixel) for view, pixel in marks.items()}
        except KeypointError:
            if name == "object":
                raise
            fixed[name] = places[name]
            continue
        first = next(iter(looks.values()))
        if any(first.differs(look) for look in looks.values()):
            raise KeypointError(
                f"the marks of the {name} are not the same point: their colours differ between "
                f"{' and '.join(marks)}"
            )
        followed[name] = marks | _elsewhere(cameras, images, places[name], looks)
    return Tracker(cameras, followed, images, fixed, {"support": "object"})


def _elsewhere(cameras, images, place: np.ndarray, looks: Mapping[str, Look]) -> dict:
    """Pixels of a place in further views that show what the marked ones show there."""
    first, found = next(iter(looks.values())), {}
    for view in sorted(images.keys() - looks.keys()):
        pixel = cameras[view].project(place)
        with contextlib.suppress(KeypointError):
            look = _look(cameras, images, view, tuple(pixel.tolist()))
            if (look.tint is None) == (first.tint is None) and not first.differs(look):
                found[view] = tuple(pixel.tolist())
    return found


def _look(cameras, images, view: str, pixel: tuple[float, float]) -> Look:
    if not cameras[view].sees(pixel):
        raise KeypointError(f"{pixel} is outside of the picture of {view!r}")
    radius = TrackConfig().patch(cameras[view].height)
    return Look.of(images[view], np.array(pixel), radius)
