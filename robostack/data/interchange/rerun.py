"""An episode as a recording for the rerun viewer. Needs rerun-sdk, which nothing else here does."""

from __future__ import annotations

from pathlib import Path

import rerun

from robostack.types import Episode


def export(episode: Episode, out: Path) -> None:
    """Pictures, states, actions and keypoints over time, as file `out` (.rrd)."""
    spec, out = episode.spec, Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    recording = rerun.RecordingStream("robostack")
    recording.save(str(out))
    recording.log("task", rerun.TextDocument(episode.task), static=True)
    for t, stamp in enumerate(episode.stamps):
        recording.set_time("step", sequence=t)
        recording.set_time("time", duration=float(stamp))
        for name, frames in episode.images.items():
            recording.log(f"cameras/{name}", rerun.Image(frames[t]).compress(jpeg_quality=95))
        for name, value in zip(spec.state_names, episode.states[t]):
            recording.log(f"states/{name}", rerun.Scalars(float(value)))
        for name, points in episode.keypoints.items():
            recording.log(f"keypoints/{name}", rerun.Points3D(points[t : t + 1]))
        if t < len(episode):
            for name, value in zip(spec.action_names, episode.actions[t]):
                recording.log(f"actions/{name}", rerun.Scalars(float(value)))
    recording.flush()
