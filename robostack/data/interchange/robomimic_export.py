"""A store as robomimic's HDF5 (robomimic.py says how that is laid out); what it has no place for is
in attributes and data sets of ours beside its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np

from robostack.data.interchange.report import Report
from robostack.data.interchange.robomimic import OURS
from robostack.data.interchange.side_car import TOLD
from robostack.types import Episode, RobotSpec


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[h5py.File]:
    """A file that is there whole or not at all."""
    partial = path.with_name(f".{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with h5py.File(partial, "w") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def export(episodes: Iterable[Episode], spec: RobotSpec, path: Path, report: Report) -> None:
    """Write all episodes into one file; everything that robomimic has no place for is in
    attributes and data sets of ours beside its own."""
    total = 0
    with _new_file(path) as file:
        data = file.create_group("data")
        for number, episode in enumerate(episodes):
            _write(data.create_group(f"demo_{number}"), episode)
            total += len(episode)
            report.episodes += 1
            if episode.success is None:
                report.note("rewards are 0 in episodes of which nobody said whether they succeeded")
        data.attrs["total"] = total
        data.attrs["env_args"] = json.dumps(
            {
                "env_name": spec.robot,
                "type": 2,  # robomimic's number of gym environments; it has none for robots
                "env_kwargs": {"control_freq": spec.control_hz},
            }
        )
        data.attrs[OURS] = spec.to_json()
    report.note(
        "no states of a simulator, as episodes hold what was seen: robosuite cannot replay them"
    )
    report.note(
        "env_args is of type gym and names the robot, as robomimic has no type for one: train with "
        "experiment.rollout.enabled=false, on obs/state and obs/CAMERA_image"
    )


def _write(demo: h5py.Group, episode: Episode) -> None:
    steps = len(episode)
    demo.attrs["num_samples"] = steps
    demo.attrs[OURS] = json.dumps({name: getattr(episode, name) for name in TOLD})
    demo["actions"] = episode.actions
    last = np.arange(steps) == steps - 1
    demo["rewards"] = (last & bool(episode.success)).astype(np.float32)
    demo["dones"] = (last & episode.terminated).astype(np.int64)
    fields = {"state": episode.states}
    fields |= {f"{name}_image": frames for name, frames in episode.images.items()}
    for name, rows in fields.items():
        packed = dict(chunks=(1, *rows.shape[1:]), compression="gzip", compression_opts=1)
        kind = packed if rows.ndim == 4 else {}
        demo.create_dataset(f"obs/{name}", data=rows[:-1], **kind)
        demo.create_dataset(f"next_obs/{name}", data=rows[1:], **kind)
    demo["stamps"] = episode.stamps
    for name, points in episode.keypoints.items():
        demo[f"keypoints/{name}"] = points
    if episode.truth is not None:
        demo["truth"] = episode.truth
