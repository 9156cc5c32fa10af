"""Keypoints from pictures in which somebody showed them: by hand, or by knowing where they are.

A person names pixels in the first pictures of a demonstration. Where the demonstration carries
keypoints, as those of a simulator do, nobody has to: the points are shown where these are seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from robostack.rewards.keypoints.affordance import KeypointAffordance
from robostack.rewards.keypoints.builtin import PROGRAMS
from robostack.rewards.keypoints.camera import Camera, read_cameras
from robostack.rewards.keypoints.follow import TrackConfig
from robostack.rewards.keypoints.look import Look
from robostack.rewards.keypoints.track import Tracker, require_size
from robostack.rewards.keypoints.tracking import GRIPPER
from robostack.rewards.keypoints.tracks import KeypointError, listed
from robostack.rewards.saved import noted
from robostack.types import Episode

STILL = 0.001  # [m] a point that never moves that far, nor lies elsewhere in other episodes, stands


@dataclass(frozen=True)
class KeypointsConfig:
    """Where a keypoint reward knows its points from."""

    # calibration file, see `read_cameras`: points are followed in pictures; "": those of episodes
    cameras: str = ""
    # {point: {camera: (u, v)}} [px], two cameras or more, in the first pictures of the first
    # success; none: where that episode's own keypoints are seen
    points: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    # {point: (x, y, z)} [m] of those that never move
    places: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.points or self.places) and not self.cameras:
            raise ValueError(
                "cameras: expected the path of a calibration file (.json) for points that are "
                "shown in pictures, got ''"
            )


def from_pictures(config: KeypointsConfig, episodes: Iterable[Episode]) -> KeypointAffordance:
    """The built-in program of the first success's instruction, with points that are followed in
    pictures; of which episode, is noted in `learned_from`.

    Raises KeypointError where that lacks a calibrated camera or a point that the program needs,
    and for points that no two cameras show.
    """
    cameras, first, others = read_cameras(config.cameras), None, []
    for episode in episodes:
        if first is None and episode.success:
            first = episode
        others.append((episode.task, {n: track[0] for n, track in episode.keypoints.items()}))
    if first is None:
        raise KeypointError("no success to choose points from")
    cameras = {name: camera for name, camera in cameras.items() if name in first.images}
    if len(cameras) < 2:
        raise KeypointError(
            f"{config.cameras}: expected two or more cameras of the episodes "
            f"({', '.join(first.images)}), got {', '.join(cameras) or 'none of them'}; to render "
            "more, name them in env.cameras"
        )
    starts: dict[str, list[int]] = {}
    (first,) = noted([first], starts)
    reward = KeypointAffordance(first.spec, _program(first.task))
    needed = set.union(*(program.points for program in reward.programs.values()))
    if set(GRIPPER) <= set(first.spec.state_names):
        needed = needed - {"gripper"}
    images = {name: first.images[name][0] for name in cameras}
    for name, image in images.items():
        require_size(name, cameras[name], image.shape)
    pixels, places = dict(config.points), dict(config.places)
    if not pixels:
        lie = [at for task, at in others if task == first.task]
        places = _standing(needed, first, lie) | places
        pixels = {
            name: _seen(name, first.keypoints[name][0], cameras, images)
            for name in sorted((needed - set(places)) & set(first.keypoints))
        }
    lacking = needed - set(pixels) - set(places)
    if lacking:
        raise KeypointError(
            f"{first.task!r} needs {listed(needed)}; nobody showed {listed(lacking)}: give their "
            "pixels in two cameras in keypoints.points, or their places in keypoints.places"
        )
    reward.source = Tracker(cameras, pixels, images, places)
    reward.learned_from = starts
    reward.explain(first)  # what cannot judge this one can judge none
    return reward


def _program(task: str) -> dict:
    """The built-in program of an instruction by its name. Raises KeypointError."""
    wanted = KeypointAffordance().program(task)
    return {name: program for name, program in PROGRAMS.items() if program is wanted}


def _standing(names: set[str], episode: Episode, others: list[Mapping[str, np.ndarray]]) -> dict:
    """Places of the points that stand still in an episode, and lie there in all others as well."""
    places = {}
    for name in sorted(names & set(episode.keypoints)):
        track = episode.keypoints[name]
        lie = np.stack([*track, *(at[name] for at in others if name in at)])
        if np.linalg.norm(lie - track[0], axis=1).max() < STILL:
            places[name] = tuple(track[0].tolist())
    return places


def _seen(
    name: str, place: np.ndarray, cameras: Mapping[str, Camera], images: Mapping[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Pixels of a place in every view that shows something to follow there. Raises KeypointError
    where fewer than two do."""
    found, wrong = {}, []
    for view, camera in cameras.items():
        pixel = camera.project(place)
        if not camera.sees(pixel):
            wrong.append(f"{view}: it is outside of the picture")
            continue
        try:
            Look.of(images[view], pixel, TrackConfig().patch(camera.height))
        except KeypointError as error:
            wrong.append(f"{view}: {error}")
        else:
            found[view] = tuple(pixel.tolist())
    if len(found) < 2:
        raise KeypointError(
            f"the point {name!r} has to be seen in two views or more; {'; '.join(wrong)}"
        )
    return found
