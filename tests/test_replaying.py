"""robosuite's own recordings, shown again: the states come out, and the actions are tried."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from robostack.data.interchange.exchange import bring  # noqa: E402
from robostack.data.interchange.formats import ImportConfig  # noqa: E402
from robostack.data.interchange.report import FormatError, Report  # noqa: E402
from robostack.data.store import Store  # noqa: E402
from robostack.replaying import ReplaySource  # noqa: E402
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env  # noqa: E402

CONFIG = EnvConfig(task="Lift", pixels=16)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """demo.hdf5 of two lifts, recorded and gathered by robosuite's own code."""
    from robosuite.scripts.collect_human_demonstrations import gather_demonstrations_as_hdf5
    from robosuite.wrappers import DataCollectionWrapper

    logging.disable(logging.WARNING)
    folder = tmp_path_factory.mktemp("robosuite")
    (folder / "raw").mkdir()
    env = make_env(EnvConfig(task="Lift", render="none", control="stock"))
    recorder = DataCollectionWrapper(env._suite, str(folder / "raw"))
    expert = ScriptedExpert(env, 0.1)
    for seed in range(2):
        env._begin(seed)
        recorder.reset()
        env.control.bind()
        expert.reset(seed)
        while not env._suite._check_success():
            recorder.step(expert.act(None)[0].astype(float))
        recorder.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    recorder.reset()  # writes what it has
    gather_demonstrations_as_hdf5(str(folder / "raw"), str(folder), json.dumps({}))
    logging.disable(logging.NOTSET)
    return folder / "demo.hdf5"


@pytest.fixture
def copy(recorded, tmp_path):
    path = tmp_path / "demo.hdf5"
    path.write_bytes(recorded.read_bytes())
    return path


def imported(path, out):
    report = Report(str(path), "")
    source = ReplaySource(path, report, CONFIG)
    report = bring(source, report, out, ImportConfig(), lambda items, *_: iter(items))
    return {c.name: c for c in report.conventions}, report, Store(out)


@pytest.mark.slow
def test_a_recording_comes_out_as_it_went_in_and_its_actions_explain_it(recorded, tmp_path):
    told, report, store = imported(recorded, tmp_path / "out")
    assert report.fine and len(store) == 2
    assert told["action by replay"].sure > 0.99 and told["gripper by replay"].sure > 0.99
    with h5py.File(recorded) as file:
        for number, (_, episode) in enumerate(store.episodes(), 1):
            demo = file[f"data/demo_{number}"]
            assert np.array_equal(episode.actions, demo["actions"][:].astype("f4"))
            fingers = demo["states"][:, 8] - demo["states"][:, 9]  # time, seven joints, fingers
            assert np.allclose(episode.states[:-1, -1], fingers, atol=1e-6)
            assert episode.success and len(episode.images["agentview"]) == len(episode) + 1


@pytest.mark.slow
def test_a_gripper_that_was_turned_round_and_a_bad_state_are_found(copy, tmp_path):
    with h5py.File(copy, "r+") as file:
        for demo in file["data"].values():
            demo["actions"][:, -1] *= -1
        file["data/demo_2/states"][5, 3] = np.nan
    told, report, store = imported(copy, tmp_path / "out")
    assert told["gripper by replay"].contradicted and not told["action by replay"].contradicted
    assert [(p.episode, p.field) for p in report.left_out] == [("demo_2", "states")]
    assert len(store) == 1 and not report.fine


@pytest.mark.slow
def test_another_task_and_another_model_are_refused(copy, tmp_path):
    with pytest.raises(FormatError, match="of Lift, not of Stack: say env.task=Lift"):
        ReplaySource(copy, Report("", ""), EnvConfig(task="Stack", render="none"))
    with h5py.File(copy, "r+") as file:
        demo = file["data/demo_1"]
        model = demo.attrs["model_file"].replace("robot0_joint3", "robot0_elbow")
        demo.attrs["model_file"] = model
        file["mask/good"] = np.array([b"demo_2"])
    assert ReplaySource(copy, Report("", ""), CONFIG, mask="good").names() == ["demo_2"]
    with pytest.raises(FormatError, match="no mask 'bad'; it has good"):
        ReplaySource(copy, Report("", ""), CONFIG, mask="bad")
    _, report, _ = imported(copy, tmp_path / "out")
    (problem,) = report.left_out
    assert problem.field == "model_file" and "robot0_elbow, robot0_joint3" in problem.what


def test_a_file_without_states_is_refused(tmp_path):
    path = Path(tmp_path / "x.hdf5")
    with h5py.File(path, "w") as file:
        file["data/demo_0/actions"] = np.zeros((3, 7))
    with pytest.raises(FormatError, match="no states to replay"):
        ReplaySource(path, Report("", ""), CONFIG)
