"""The command that makes the exam's data, on real simulators: resumable, and listed."""

import json

import numpy as np
import pytest

from robostack import cases
from robostack.cases import CasesCommand, make
from robostack.data.store import find_stores, iter_episodes, open_store
from robostack.sim.arena import Arena
from robostack.sim.cases import CaseConfig
from robostack.sim.env import EnvConfig
from robostack.sim.worker import Worker

SMALL = CasesCommand(
    tasks=("Lift",),
    seeds=2,
    shifts={"light": 1.0},
    cases=CaseConfig(kinds=("success", "failure")),
    env=EnvConfig(pixels=16),
)


@pytest.fixture(scope="module", autouse=True)
def here(opened):
    """One worker in this process, whose environments are kept from one command to the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            cases, "Arena", lambda env, *_, **__: Arena(env, 1, lambda: Worker(make=opened))
        )
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("cases") / "run"
    return out, make(SMALL, out)


def test_every_store_is_listed_with_what_it_holds(made):
    out, summary = made
    assert [(s["path"], s["shift"]) for s in summary["stores"]] == [
        ("Lift/plain", ""),
        ("Lift/light", "light"),
    ]
    for entry in summary["stores"]:
        assert entry["episodes"] == {"success": 2, "failure": 2}
    assert find_stores(out) == [out / "Lift/plain", out / "Lift/light"]
    assert len(list(iter_episodes([out]))) == 8


def test_other_looks_show_the_very_same_episodes(made):
    out, _ = made
    plain, light = (open_store(out / "Lift" / name) for name in ("plain", "light"))
    for one, other in zip(plain.episodes(), light.episodes()):
        assert np.array_equal(one[1].states, other[1].states) and one[1].label == other[1].label
        camera = sorted(one[1].images)[0]
        assert not np.array_equal(one[1].images[camera], other[1].images[camera])


def test_truth_and_label_survive_the_disk(made):
    episode = next(iter_episodes([made[0]]))
    assert episode.label == "success" and episode.truth[-1] == 1 and episode.truth.dtype == "f4"


def test_the_cameras_that_stand_still_are_written_down(made):
    path = made[0] / "Lift" / "plain" / "cameras.json"
    assert list(json.loads(path.read_text())) == ["agentview"]


def test_an_interrupted_command_goes_on_where_it_was(made, tmp_path, monkeypatch):
    kept = cases.gather

    def stop_at_light(path, *rest):
        if path.name == "light":
            raise KeyboardInterrupt
        return kept(path, *rest)

    monkeypatch.setattr(cases, "gather", stop_at_light)
    with pytest.raises(KeyboardInterrupt):
        make(SMALL, tmp_path / "run")
    monkeypatch.setattr(cases, "gather", kept)
    assert make(SMALL, tmp_path / "run")["stores"] == made[1]["stores"]


def test_an_unknown_task_or_shift_is_refused():
    with pytest.raises(ValueError, match="unknown task 'Lft'; did you mean Lift"):
        CasesCommand(tasks=("Lft",))
    for task in ("metaworld/reach-v3", "Wipe"):  # another family; no expert
        with pytest.raises(ValueError, match=f"{task} has no scripted cases; these have: Lift"):
            CasesCommand(tasks=(task,))
    with pytest.raises(ValueError, match="unknown perturbation"):
        CasesCommand(shifts={"fog": 1.0})
