"""Metrics reach dashboards that are asked for, and nothing else does."""

import sys
from types import ModuleType

import pytest

from robostack.learn.run import Run, finished
from robostack.learn.tracking import VARIABLE


def new_run(folder, **how):
    return Run(folder / "run", "train test", {}, **how)


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in that keeps how it was called, and what was logged by run; `down`: nobody is
    logged in."""
    module = ModuleType("wandb")
    module.Error = type("Error", (Exception,), {})
    module.begun, module.lines, module.ended, module.down = [], {}, [], False
    in_use = set()  # as the real one, it lets nobody begin twice what has not ended

    class Begun:
        def __init__(self, **given):
            if module.down:
                raise module.Error("No API key configured. Use `wandb login` to log in.")
            self.id = given["id"]
            assert self.id not in in_use, f"run ID {self.id} is in use"
            in_use.add(self.id)
            module.begun.append(given)

        def log(self, metrics, step):
            module.lines.setdefault(self.id, []).append((step, metrics))

        def finish(self):
            in_use.remove(self.id)
            module.ended.append(self.id)

    module.init = Begun
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv(VARIABLE, "wandb")
    return module


def test_nothing_is_tracked_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    run = new_run(tmp_path)
    run.log(0, {"loss": 1.0})
    left = {p.name for p in run.path.iterdir()} - {"writer.lock"}
    assert left == {"metrics.jsonl", "run.json"}


def test_tensorboard_reads_what_was_logged(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv(VARIABLE, "tensorboard")
    run = new_run(tmp_path)
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


def test_what_is_wrong_with_a_dashboard_is_told_before_anything_is_made_or_removed(
    tmp_path, monkeypatch
):
    new_run(tmp_path).finish({"done": 1})
    monkeypatch.setenv(VARIABLE, "tensorbord")
    with pytest.raises(ValueError, match="tensorbord: expected tensorboard or wandb"):
        new_run(tmp_path, existing="replace")
    monkeypatch.setenv(VARIABLE, "wandb")
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(ValueError, match="ROBOSTACK_TRACK=wandb: it is not installed: pip install"):
        new_run(tmp_path, existing="replace")
    assert finished(tmp_path / "run")["done"] == 1
    Run(tmp_path / "demos", "collect", {}).finish({})  # which draws nothing, needs nothing


def test_without_a_login_nothing_is_begun_and_nothing_is_left(tmp_path, wandb, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv(VARIABLE, "tensorboard,wandb")
    wandb.down = True
    with pytest.raises(ValueError, match="ROBOSTACK_TRACK=wandb: No API key configured"):
        new_run(tmp_path)
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_goes_on_in_the_run_it_began_on_the_dashboard(tmp_path, wandb):
    new_run(tmp_path).log(0, {"loss": 1.0})
    again = new_run(tmp_path)
    again.log(1, {"loss": 0.5})
    again.finish({})
    assert list(wandb.lines.values()) == [[(0, {"loss": 1.0}), (1, {"loss": 0.5})]]
    assert {given["resume"] for given in wandb.begun} == {"allow"}
    assert wandb.ended == [wandb.begun[0]["id"]] * 2
    new_run(tmp_path, existing="replace")
    assert wandb.begun[2]["id"] != wandb.begun[0]["id"]  # another run is another one there, too


def test_a_run_within_a_run_is_one_of_its_own(tmp_path, wandb):
    outer = new_run(tmp_path)
    inner = Run(outer.path / "rewards", "train reward", {})
    inner.log(0, {"loss": 1.0})
    inner.finish({})
    outer.log(0, {"updates": 2.0})
    assert [len(lines) for lines in wandb.lines.values()] == [1, 1]
    assert {given["reinit"] for given in wandb.begun} == {"create_new"}


def test_lines_of_the_same_step_are_drawn_apart(tmp_path, wandb):
    run = new_run(tmp_path)
    for rollouts in (30, 60):  # two iterations in which nothing was learned
        run.log(0, {"updates": 0}, at=rollouts)
    assert [step for step, _ in next(iter(wandb.lines.values()))] == [30, 60]
    kept = (run.path / "metrics.jsonl").read_text().splitlines()
    assert kept == ['{"step": 0, "updates": 0}'] * 2


def test_an_abandoned_run_leaves_no_dashboard_either(tmp_path, wandb, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv(VARIABLE, "tensorboard,wandb")
    new_run(tmp_path).abandon()
    assert not (tmp_path / "run").exists() and len(wandb.ended) == 1
