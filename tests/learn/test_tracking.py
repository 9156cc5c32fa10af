"""Metrics reach dashboards that are asked for, and nothing else does."""

import pytest

from robostack.learn.run import Run
from robostack.learn.tracking import VARIABLE, open_trackers


def test_nothing_is_tracked_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    run = Run(tmp_path / "run", "test", {})
    run.log(0, {"loss": 1.0})
    left = {p.name for p in run.path.iterdir()} - {"writer.lock"}
    assert left == {"metrics.jsonl", "run.json"}


def test_tensorboard_reads_what_was_logged(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv(VARIABLE, "tensorboard")
    run = Run(tmp_path / "run", "test", {})
    for step in range(3):
        run.log(step, {"loss": 1.0 / (step + 1), "kl": 0.0})
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert sorted(events.Tags()["scalars"]) == ["kl", "loss"]
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [
        (0, 1.0),
        (1, 0.5),
        (2, pytest.approx(1 / 3)),
    ]
    run.finish({})


def test_an_unknown_dashboard_is_an_error_that_names_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "tensorbord")
    with pytest.raises(ValueError, match="tensorbord: expected tensorboard or wandb"):
        open_trackers(tmp_path)
