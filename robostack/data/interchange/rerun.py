"""An episode as a recording for the rerun viewer. Needs rerun-sdk 0.22, which nothing else here
does: later ones want numpy 2, and the simulator wants numpy 1."""

from __future__ import annotations

from pathlib import Path

import rerun

from robostack.data.interchange.report import FormatError
from robostack.types import Episode


def export(episode: Episode, out: Path) -> None:
    """Pictures, states, actions and keypoints over time, as file `out` (.rrd)."""
    if not hasattr(rerun, "Scalar"):
        told = f"rerun-sdk {rerun.__version__} is another than 0.22"
        raise FormatError(f"{told}: pip install 'robostack[rerun]'")
    spec, out = episode.spec, Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    recording = rerun.new_recording("robostack")
    recording.save(out)
    recording.log("task", rerun.TextDocument(episode.task), static=True)
    for t, stamp in enumerate(episode.stamps):
        recording.set_time_sequence("step", t)
        recording.set_time_seconds("time", float(stamp))
        for name, frames in episode.images.items():
            recording.log(f"cameras/{name}", rerun.Image(frames[t]).compress(jpeg_quality=95))
        for name, value in zip(spec.state_names, episode.states[t]):
            recording.log(f"states/{name}", rerun.Scalar(float(value)))
        for name, points in episode.keypoints.items():
            recording.log(f"keypoints/{name}", rerun.Points3D(points[t : t + 1]))
        if t < len(episode):
            for name, value in zip(spec.action_names, episode.actions[t]):
                recording.log(f"actions/{name}", rerun.Scalar(float(value)))
    recording.flush()
    recording.disconnect()  # which writes the end of the file
