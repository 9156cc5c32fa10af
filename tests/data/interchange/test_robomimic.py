"""robomimic's HDF5: ours comes back exactly, others with everything that they hold."""

import json
import shutil

import h5py
import numpy as np
import pytest
from exchanged import through
from fakes import require_equal

from robostack.data.interchange.exchange import bring, open_source, send
from robostack.data.interchange.formats import ExportConfig, ImportConfig
from robostack.data.interchange.report import FormatError, Report
from robostack.data.interchange.robomimic import RobomimicSource
from robostack.data.store import Store

OSC = {"type": "OSC_POSE", "control_delta": True}


def imported(path, out, **options):
    report, config = Report(str(path), ""), ImportConfig(**options)
    source = open_source(path, "robomimic", config, report)
    return bring(source, report, out, config, through), Store(out)


@pytest.fixture
def foreign(tmp_path):
    """As robomimic's own Lift: three demonstrations, the last not successful, one mask."""
    path, rng = tmp_path / "low_dim.hdf5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        kwargs = {"robots": ["Panda"], "control_freq": 20, "controller_configs": OSC}
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": kwargs})
        for number in (0, 1, 10):
            demo, steps = data.create_group(f"demo_{number}"), 12 + number
            demo.attrs["num_samples"] = steps
            demo["actions"] = rng.uniform(-1, 1, (steps, 7))
            demo["rewards"] = (np.arange(steps) == steps - 1) * float(number < 10)
            demo["dones"] = (np.arange(steps) == steps - 1).astype(int)
            seen = {
                "robot0_eef_pos": rng.normal(size=(steps + 1, 3)),
                "robot0_eef_quat": unit(rng.normal(size=(steps + 1, 4))),
                "robot0_gripper_qpos": rng.normal(size=(steps + 1, 2)),
                "object": rng.normal(size=(steps + 1, 10)),
                "agentview_image": rng.integers(0, 255, (steps + 1, 8, 8, 3), dtype=np.uint8),
            }
            for name, rows in seen.items():
                demo[f"obs/{name}"], demo[f"next_obs/{name}"] = rows[:-1], rows[1:]
        file["mask/good"] = np.array([b"demo_1", b"demo_0"])
    return path


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def ours(store, tmp_path):
    out = tmp_path / "out.hdf5"
    send([e for _, e in store.episodes()], 4, store.spec, out, ExportConfig(), through)
    return out


def test_ours_comes_back_bit_by_bit(store, ours, tmp_path):
    report, back = imported(ours, tmp_path / "back")
    assert report.fine and back.spec == store.spec
    for (_, after), (_, before) in zip(back.episodes(), store.episodes()):
        require_equal(after, before)
    _, some = imported(ours, tmp_path / "some", cameras=("wrist",))
    assert some.spec.cameras == {"wrist": (32, 32)} and len(some) == len(store)
    for given in ({"hz": 9.0}, {"state": ("state",)}, {"conventions": {"action": "delta"}}):
        with pytest.raises(FormatError, match=f"says its {next(iter(given))} itself"):
            imported(ours, tmp_path / "none", **given)


def stand(file):
    file["data/demo_1/stamps"][5] = file["data/demo_1/stamps"][3]


def never(file):
    file["data/demo_1/stamps"][5] = np.nan


def unsaid(file):
    del file["data/demo_1"].attrs["robostack"]


def garbled(file):
    file["data/demo_1"].attrs["robostack"] = "{"


@pytest.mark.parametrize(
    ("change", "field", "what"),
    [
        (stand, "stamps", "does not increase at row 5"),
        (never, "stamps", "nan in row 5"),
        (unsaid, "attribute robostack", "is missing"),
        (garbled, "attribute robostack", "is damaged"),
    ],
)
def test_what_is_wrong_with_one_of_ours_is_named_and_the_others_come(
    ours, tmp_path, change, field, what
):
    with h5py.File(ours, "r+") as file:
        change(file)
    report, store = imported(ours, tmp_path / "back")
    (problem,) = report.left_out
    assert (problem.episode, problem.field) == ("demo_1", field) and what in problem.what
    assert len(store) == 3


@pytest.mark.parametrize("attribute", ["env_args", "robostack"])
def test_an_attribute_that_is_no_json_is_named_with_its_file(ours, tmp_path, attribute):
    with h5py.File(ours, "r+") as file:
        file["data"].attrs[attribute] = "{'env"
    with pytest.raises(FormatError, match=f"out.hdf5: attribute {attribute} of `data` is"):
        imported(ours, tmp_path / "back")


def test_robomimic_itself_reads_what_is_written(store, ours):
    pytest.importorskip("robomimic")
    import robomimic.utils.obs_utils as observed
    from robomimic.utils.dataset import SequenceDataset

    keys = {"low_dim": ["state"], "rgb": ["top_image", "wrist_image"]}
    observed.initialize_obs_utils_with_obs_specs({"obs": keys})
    wanted = dict(obs_keys=("state", "top_image", "wrist_image"), load_next_obs=True)
    found = SequenceDataset(str(ours), dataset_keys=("actions", "rewards", "dones"), **wanted)
    rows = [(episode, t) for _, episode in store.episodes() for t in range(len(episode))]
    assert len(found) == len(rows)
    for row, (episode, t) in zip((found[i] for i in range(len(found))), rows):
        assert np.array_equal(row["actions"][0], episode.actions[t])
        assert np.array_equal(row["next_obs"]["state"][0], episode.states[t + 1])
        assert np.array_equal(row["obs"]["top_image"][0], episode.images["top"][t])


def test_what_we_write_is_what_the_format_documents(store, ours):
    episodes = [episode for _, episode in store.episodes()]
    with h5py.File(ours) as file:
        data = file["data"]
        assert data.attrs["total"] == sum(map(len, episodes))
        assert {"env_name", "type", "env_kwargs"} <= json.loads(data.attrs["env_args"]).keys()
        for number, episode in enumerate(episodes):
            demo, steps = data[f"demo_{number}"], len(episode)
            assert demo.attrs["num_samples"] == steps
            for key in ("actions", "rewards", "dones", "obs/state", "next_obs/top_image"):
                assert len(demo[key]) == steps, key
            assert np.array_equal(demo["obs/state"][1:], demo["next_obs/state"][:-1])
            assert bool(demo["rewards"][-1]) == bool(episode.success)


def test_an_arm_of_robosuite_is_read_with_its_quaternion_turned_round(foreign, tmp_path):
    report, store = imported(foreign, tmp_path / "out")
    spec, episode = store.spec, store.read("000001")
    assert spec.robot == "Panda" and spec.control_hz == 20
    assert spec.action_names == ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
    assert spec.state_names[:4] == ("robot0_eef_x", "robot0_eef_y", "robot0_eef_z", "robot0_eef_qw")
    assert spec.conventions["gripper"] == "+1 closes" and spec.cameras == {"agentview": (8, 8)}
    with h5py.File(foreign) as file:
        demo = file["data/demo_1"]
        quaternion = demo["obs/robot0_eef_quat"][:].astype("f4")
        assert np.array_equal(episode.states[:-1, 4:7], quaternion[:, :3])
        assert np.array_equal(episode.states[:-1, 3], quaternion[:, 3])
        last = demo["next_obs/robot0_eef_pos"][-1].astype("f4")
        assert np.array_equal(episode.states[-1, :3], last)
        assert np.array_equal(episode.images["agentview"][:-1], demo["obs/agentview_image"])
        assert np.array_equal(episode.actions, demo["actions"][:].astype("f4"))
    assert [(len(e), e.success) for _, e in store.episodes()] == [
        (12, True),
        (13, True),
        (22, False),
    ]
    assert any("obs/object" in note for note in report.notes)


def test_a_mask_and_other_observations_can_be_chosen(foreign, tmp_path):
    _, store = imported(foreign, tmp_path / "out", mask="good", state=("object",))
    assert len(store) == 2 and store.spec.state_dim == 10
    with pytest.raises(FormatError, match="no mask 'bad'; it has good"):
        imported(foreign, tmp_path / "two", mask="bad")
    with pytest.raises(FormatError, match="no obs/arm; it has .*robot0_eef_pos"):
        imported(foreign, tmp_path / "two", state=("arm",))


def test_without_next_obs_the_last_action_goes_and_a_note_says_so(foreign, tmp_path):
    with h5py.File(foreign, "r+") as file:
        for demo in file["data"].values():
            del demo["next_obs"]
    report, store = imported(foreign, tmp_path / "out")
    assert [len(e) for _, e in store.episodes()] == [11, 12, 21]
    assert any("N - 1 actions" in note for note in report.notes)


def spoil(path, key, change):
    with h5py.File(path, "r+") as file:
        demo = file["data/demo_1"]
        rows = demo[key][:]
        del demo[key]
        changed = change(rows)
        if changed is not None:
            demo[key] = changed


def nan(rows):
    rows[4, 2] = np.nan
    return rows


@pytest.mark.parametrize(
    ("key", "change", "field", "what"),
    [
        ("actions", nan, "actions", "nan in row 4, dimension 2"),
        ("obs/robot0_eef_pos", nan, "states", "nan in row 4"),
        ("obs/agentview_image", lambda rows: None, "obs/agentview_image", "missing"),
        ("obs/agentview_image", lambda rows: rows / 255, "obs/agentview_image", "expected uint8"),
        ("obs/robot0_eef_pos", lambda rows: rows[:, :2], "next_obs/robot0_eef_pos", "but obs/"),
        ("obs/robot0_eef_pos", lambda rows: rows[:-1], "states", "as many vectors"),
        ("actions", lambda rows: rows[:, :6], "actions", "(6,) numbers each, expected (7,)"),
        ("rewards", lambda rows: rows[1:], "rewards", "12 of 13"),
        ("rewards", lambda rows: 1.0, "rewards", "holds no rows"),
        ("obs/agentview_image", lambda rows: rows[:-3], "images.agentview", "expected"),
        ("actions", lambda rows: rows[:-1], "actions", "12 of 14"),
    ],
)
def test_a_bad_demonstration_is_named_with_its_field_and_the_others_come(
    foreign, tmp_path, key, change, field, what
):
    spoil(foreign, key, change)
    report, store = imported(foreign, tmp_path / "out")
    (problem,) = report.left_out
    assert (problem.episode, problem.field) == ("demo_1", field) and what in problem.what
    assert len(store) == 2 and not report.fine


def test_a_file_that_is_cut_or_of_something_else_is_refused(foreign, tmp_path):
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(foreign.read_bytes()[:3000])
    (tmp_path / "text.hdf5").write_text("thesis")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["numbers"] = np.zeros(3)
    for name in ("cut", "text", "other", "absent"):
        with pytest.raises(FormatError, match="not robosuite's or robomimic's HDF5"):
            RobomimicSource(tmp_path / f"{name}.hdf5", Report("", ""))


def test_a_rate_that_nobody_says_is_asked_for(foreign, tmp_path):
    with pytest.raises(FormatError, match="rate itself: 20 Hz, not hz=10"):
        imported(foreign, tmp_path / "out", hz=10)
    copy = shutil.copy(foreign, tmp_path / "copy.hdf5")
    with h5py.File(copy, "r+") as file:
        file["data"].attrs["env_args"] = "{}"
    with pytest.raises(FormatError, match="hz=20"):
        imported(copy, tmp_path / "out")
    _, store = imported(copy, tmp_path / "out", hz=10)
    assert store.spec.control_hz == 10 and store.spec.action_names[0] == "action0"


def test_the_first_whole_demonstration_says_what_all_should_hold(foreign, tmp_path):
    with h5py.File(foreign, "r+") as file:
        del file["data/demo_0/obs"]
    report, store = imported(foreign, tmp_path / "out")
    (problem,) = report.left_out
    assert problem.episode == "demo_0" and len(store) == 2 and "agentview" in store.spec.cameras


def test_dense_rewards_do_not_say_what_succeeded(foreign, tmp_path):
    with h5py.File(foreign, "r+") as file:
        file["data/demo_1/rewards"][3] = 0.4
    report, store = imported(foreign, tmp_path / "out")
    assert {e.success for _, e in store.episodes()} == {None}
    assert any("do not say what succeeded" in note for note in report.notes)


def test_a_camera_may_be_called_anything(foreign, tmp_path):
    with h5py.File(foreign, "r+") as file:
        for demo in file["data"].values():
            for fields in ("obs", "next_obs"):
                demo[fields].move("agentview_image", "agentview_rgb")
    _, store = imported(foreign, tmp_path / "out")
    assert len(store) == 3 and store.spec.cameras == {"agentview_rgb": (8, 8)}
