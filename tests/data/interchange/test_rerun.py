"""What rerun reads from a recording is the episode."""

import numpy as np
import pytest
from exchanged import arm_episode

rerun = pytest.importorskip("rerun")

from robostack.data.interchange.rerun import export  # noqa: E402
from robostack.data.interchange.side_car import decode_png  # noqa: E402


def test_a_recording_holds_every_number_and_the_pictures(tmp_path):
    from rerun.dataframe import load_recording

    episode = arm_episode(0, 12)
    export(episode, tmp_path / "new" / "x.rrd")
    view = load_recording(tmp_path / "new" / "x.rrd").view(index="step", contents="/**")
    table = view.select().read_all()

    def column(name):
        return [row[0] for row in table.column(name).to_pylist() if row]

    for names, kind, rows in (
        (episode.spec.state_names, "states", episode.states),
        (episode.spec.action_names, "actions", episode.actions),
    ):
        for i, name in enumerate(names):
            assert np.array_equal(np.float32(column(f"/{kind}/{name}:Scalar")), rows[:, i])
    assert np.array_equal(
        np.float32(column("/keypoints/object:Position3D")), (episode.keypoints["object"])
    )
    for name, frames in episode.images.items():
        for frame, coded in zip(frames, column(f"/cameras/{name}:Blob"), strict=True):
            found = decode_png(np.array(coded, np.uint8).tobytes())
            assert np.abs(found.astype(int) - frame).mean() < 4  # a good JPEG
