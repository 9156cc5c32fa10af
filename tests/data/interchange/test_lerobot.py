"""Into a LeRobotDataset and back: numbers exactly, pictures as well as their codec says."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exchanged import through
from fakes import require_equal

from robostack.data.interchange import layout
from robostack.data.interchange.exchange import bring, open_source, send
from robostack.data.interchange.formats import ExportConfig, ImportConfig
from robostack.data.interchange.lerobot import LeRobotSource
from robostack.data.interchange.report import FormatError, Report
from robostack.data.interchange.video import psnr
from robostack.data.store import Store

FOREIGN = Path(__file__).parent / "lerobot-0.4.4"  # written by lerobot 0.4.4 itself


def exported(store, out, **options):
    episodes = [episode for _, episode in store.episodes()]
    config = ExportConfig(**options)
    return send(episodes, len(episodes), store.spec, out, config, through)


def imported(path, out, **options):
    report, config = Report(str(path), ""), ImportConfig(**options)
    source = open_source(path, "lerobot", config, report)
    return bring(source, report, out, config, through), Store(out)


@pytest.fixture(scope="module")
def dataset(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("lerobot") / "set"
    exported(store, out, codec="h264")
    return out


@pytest.fixture
def copy(dataset, tmp_path):
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


@pytest.mark.parametrize("codec", ["lossless", "png"])
def test_everything_comes_back_bit_by_bit(store, tmp_path, codec):
    told = exported(store, tmp_path / "out", codec=codec)
    assert set(told.psnr.values()) == {float("inf")}
    report, back = imported(tmp_path / "out", tmp_path / "back")
    assert report.fine and report.episodes == len(store) and back.spec == store.spec
    for (_, before), (_, after) in zip(store.episodes(), back.episodes()):
        require_equal(after, before)


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_a_lossy_codec_loses_no_more_than_it_says_and_only_in_pictures(store, tmp_path, codec):
    told = exported(store, tmp_path / "out", codec=codec)
    report, back = imported(tmp_path / "out", tmp_path / "back")
    assert report.fine and 30 < min(told.psnr.values()) < 80
    for (_, before), (_, after) in zip(store.episodes(), back.episodes()):
        for name in before.images:
            assert psnr(before.images[name], after.images[name]) >= told.psnr[name] - 1e-6
        require_equal(after.__class__(**{**vars(after), "images": before.images}), before)


def test_worse_pictures_than_allowed_are_an_error_and_leave_nothing(store, tmp_path):
    with pytest.raises(FormatError, match="dB PSNR.*codec=lossless"):
        exported(store, tmp_path / "out", crf=51)
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_what_the_format_documents(store, dataset):
    """Of https://huggingface.co/docs/lerobot, LeRobotDataset v3."""
    info = json.loads((dataset / "meta/info.json").read_text())
    episodes = pq.read_table(dataset / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    data = pq.read_table(dataset / "data/chunk-000/file-000.parquet")
    lengths = [len(e) for _, e in store.episodes()]
    assert info["codebase_version"] == "v3.0" and info["fps"] == 10
    assert info["total_episodes"] == 4 and info["total_frames"] == sum(lengths) == data.num_rows
    assert set(data.column_names) == {
        key for key, feature in info["features"].items() if feature["dtype"] != "video"
    }
    assert data.schema.field("observation.state").type == pa.list_(pa.float32(), 4)
    assert data.column("index").to_pylist() == list(range(sum(lengths)))
    begin = 0
    for number, (row, length) in enumerate(zip(episodes, lengths)):
        assert (row["episode_index"], row["length"]) == (number, length)
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (begin, begin + length)
        key = "videos/observation.images.top"
        assert np.isclose(row[f"{key}/from_timestamp"], begin / 10)
        assert np.isclose(row[f"{key}/to_timestamp"], (begin + length) / 10)
        assert len(row["stats/action/mean"]) == 4
        assert np.shape(row["stats/observation.images.top/mean"]) == (3, 1, 1)
        begin += length
    stored = pq.read_schema(dataset / "meta/tasks.parquet").pandas_metadata
    assert stored["index_columns"] == ["task"]  # LeRobot looks instructions up by it


def test_statistics_are_those_of_all_rows_and_pixels(store, dataset):
    stats = json.loads((dataset / "meta/stats.json").read_text())
    rows = np.concatenate([e.actions for _, e in store.episodes()]).astype(np.float64)
    assert np.allclose(stats["action"]["mean"], rows.mean(0))
    assert np.allclose(stats["action"]["q99"], np.quantile(rows, 0.99, axis=0))
    pixels = np.concatenate([e.images["top"][:-1].reshape(-1, 3) for _, e in store.episodes()])
    found = {k: np.ravel(v) for k, v in stats["observation.images.top"].items()}
    assert np.allclose(found["mean"], pixels.mean(0) / 255)
    assert np.allclose(found["std"], pixels.std(0) / 255)
    assert np.allclose(found["min"], pixels.min(0) / 255)
    assert np.allclose(found["q50"], np.median(pixels, 0) / 255, atol=1 / 255)
    assert found["count"] == len(rows)


def test_what_lerobot_wrote_itself_is_read(tmp_path):
    report, store = imported(FOREIGN, tmp_path / "out", conventions={"angles": "degrees"})
    assert report.fine and len(store) == 4
    spec, episode = store.spec, store.read("000000")
    assert spec.robot == "so101" and spec.control_hz == 15 and spec.cameras == {"front": (64, 96)}
    assert spec.action_names == ("a.pos", "b.pos", "gripper.pos")
    assert len(episode) == 39 and episode.task == "push the block" and episode.success is None
    assert np.all(episode.actions >= spec.action_low) and np.all(
        episode.actions <= spec.action_high
    )
    # the bright block moves with the first joint, in the picture of the same row
    bright = (episode.images["front"][:, 30].min(-1) > 200).argmax(1)
    assert np.abs(bright - np.maximum(0, (40 + episode.states[:, 0] / 2).astype(int))).max() <= 1
    found = {c.name: c.found for c in report.conventions}
    assert found == {"gripper": "+1 opens", "action": "absolute", "angles": "degrees"}


def test_an_episode_that_was_edited_since_loses_its_last_action_and_a_note_says_so(copy, tmp_path):
    path = copy / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    state = np.array(table.column("observation.state").to_pylist(), np.float32)
    state[3] += 0.01
    column = pa.FixedSizeListArray.from_arrays(pa.array(state.ravel()), 4)
    place = table.column_names.index("observation.state")
    pq.write_table(table.set_column(place, "observation.state", column), path)
    report, store = imported(copy, tmp_path / "out")
    assert any("episode 0 is not as it was exported" in note for note in report.notes)
    assert [len(e) for _, e in store.episodes()] == [29, 17, 1, 25]


def rewrite(path, column, change):
    table = pq.read_table(path)
    values = change(table.column(column).to_pylist())
    kind = table.schema.field(column).type
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, kind)), path)


def spoil_state(folder):
    def change(rows):
        rows[35][2] = float("nan")  # of the second episode
        return rows

    rewrite(folder / "data/chunk-000/file-000.parquet", "observation.state", change)


def spoil_time(folder):
    def change(rows):
        rows[40] = rows[38]
        return rows

    rewrite(folder / "data/chunk-000/file-000.parquet", "timestamp", change)


def spoil_length(folder):
    def change(rows):
        return [rows[0], rows[1] + 2, *rows[2:]]

    rewrite(folder / "meta/episodes/chunk-000/file-000.parquet", "length", change)


def spoil_side_car(folder):
    rewrite(
        folder / "robostack/episodes.parquet", "stamps", lambda rows: [rows[0], None, *rows[2:]]
    )


def spoil_kind(folder):
    path = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("timestamp")
    words = pa.array(["soon"] * table.num_rows)
    pq.write_table(table.set_column(place, "timestamp", words), path)


@pytest.mark.parametrize(
    ("spoil", "field", "what"),
    [
        (spoil_side_car, "robostack/episodes.parquet", "the episode's row is damaged"),
        (spoil_state, "states", "nan in row 5, dimension 2"),
        (spoil_time, "timestamp", "does not increase at row"),
        (spoil_length, "length", "17 rows, expected 19"),
    ],
)
def test_a_bad_episode_is_named_with_its_field_and_the_others_come(
    copy, tmp_path, spoil, field, what
):
    spoil(copy)
    report, store = imported(copy, tmp_path / "out")
    (problem,) = report.left_out
    assert problem.episode == "episode 1" and problem.field == field and what in problem.what
    assert len(store) == 3 and not report.fine
    assert json.loads((store.path / "import.json").read_text())["left_out"]


def test_a_cut_video_costs_the_episodes_that_it_lacks(store, copy, tmp_path):
    path = copy / "videos/observation.images.wrist/chunk-000/file-000.mp4"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    report, back = imported(copy, tmp_path / "out")
    assert {p.field for p in report.left_out} == {"images.wrist"}
    assert "of" in report.left_out[0].what and "pictures" in report.left_out[0].what
    assert len(back) + len(report.left_out) == len(store) and len(back) >= 1


def test_a_missing_camera_is_named_and_the_set_can_be_had_without_it(store, copy, tmp_path):
    shutil.rmtree(copy / "videos/observation.images.wrist")
    with pytest.raises(FormatError, match=r"(?s)images.wrist.*missing.*cameras=\[top\] leaves"):
        imported(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    report, back = imported(copy, tmp_path / "out", cameras=("top",))
    assert report.fine and back.spec == replace(store.spec, cameras={"top": (32, 48)})
    for (_, before), (_, after) in zip(store.episodes(), back.episodes()):
        assert np.array_equal(after.images["top"][-1], before.images["top"][-1])  # of the side-car
        assert np.array_equal(after.states, before.states) and after.task == before.task
    with pytest.raises(FormatError, match="no camera side; it has top, wrist"):
        imported(copy, tmp_path / "two", cameras=("side",))


@pytest.mark.parametrize("fps", [5, 20])
def test_another_rate_than_the_files_have_is_an_error(copy, tmp_path, fps):
    path = copy / "meta/info.json"
    path.write_text(path.read_text().replace('"fps": 10,', f'"fps": {fps},'))
    shutil.rmtree(copy / "robostack")
    with pytest.raises(FormatError, match="timestamp.*apart"):
        imported(copy, tmp_path / "out")


def without(key):
    return lambda info: {k: v for k, v in info.items() if k != key}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda i: i | {"codebase_version": "v2.1"}, "v2.1, expected v3.x"),
        (lambda i: i | {"features": {"action": i["features"]["action"]}}, "no feature"),
        (lambda i: i | {"features": {"action": {"shape": [4]}}}, "info.json: feature 'action'"),
        (lambda i: i | {"features": {"a": {"shape": True, "dtype": "video"}}}, "feature 'a' is"),
        (without("features"), "info.json: no features"),
        (without("fps"), "info.json: fps is None"),
        (without("data_path"), "info.json: data_path is None"),
    ],
)
def test_a_set_that_is_no_such_one_is_refused_with_what_it_lacks(copy, tmp_path, change, said):
    path = copy / layout.INFO
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(FormatError, match=said):
        imported(copy, tmp_path / "out")
    with pytest.raises(FormatError, match="not a LeRobotDataset"):
        LeRobotSource(tmp_path, Report("", ""))


@pytest.mark.parametrize(
    ("path", "column", "said"),
    [
        ("meta/tasks.parquet", "", "tasks.parquet is missing"),
        ("meta/tasks.parquet", "task_index", "tasks.parquet has columns task; expected task_index"),
        ("robostack/episodes.parquet", "", r"episodes.parquet is missing.*without the folder"),
        ("robostack/episodes.parquet", "stamps", r"episodes.parquet is damaged"),
        ("meta/episodes/chunk-000/file-000.parquet", "length", "file-000.parquet has no .*length"),
        ("data/chunk-000/file-000.parquet", "", "episode 3: data/chunk-000.*parquet: is missing"),
        ("data/chunk-000/file-000.parquet", "timestamp", "episode 3: timestamp: no such column"),
        ("data/chunk-000/file-000.parquet", "task_index", "episode 3: task_index: no such column"),
    ],
)
def test_a_file_or_column_that_is_missing_is_named(copy, tmp_path, path, column, said):
    if column == "task_index" and path.startswith("data"):
        shutil.rmtree(copy / "robostack")  # which says the task itself
    table = pq.read_table(copy / path)
    (copy / path).unlink()
    if column:
        pq.write_table(table.drop_columns([column]), copy / path)
    with pytest.raises(FormatError, match=f"(?s){said}"):
        imported(copy, tmp_path / "out")


def test_times_that_are_no_numbers_are_named(copy, tmp_path):
    spoil_kind(copy)
    with pytest.raises(FormatError, match="episode 3: timestamp: its rows are no vectors"):
        imported(copy, tmp_path / "out")


@pytest.mark.parametrize("codec", ["png", "lossless"])
def test_lerobot_itself_opens_what_is_written(store, tmp_path, codec):
    pytest.importorskip("lerobot")
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    exported(store, tmp_path / "set", codec=codec)
    found = LeRobotDataset("robostack/test", root=tmp_path / "set", video_backend="torchcodec")
    episodes = [episode for _, episode in store.episodes()]
    rows = [(episode, t) for episode in episodes for t in range(len(episode))]
    assert len(found) == len(rows) and found.num_episodes == len(episodes)
    for row, (episode, t) in zip((found[i] for i in range(len(found))), rows):
        assert row["task"] == episode.task
        assert np.array_equal(row["observation.state"].numpy(), episode.states[t])
        assert np.array_equal(row["action"].numpy(), episode.actions[t])
        for camera, frames in episode.images.items():
            picture = 255 * row[f"observation.images.{camera}"].numpy().transpose(1, 2, 0)
            assert np.array_equal(np.rint(picture), frames[t])


def test_a_lossy_codec_needs_even_pictures(tmp_path):
    from exchanged import ARM, arm_episode, pictures

    odd = replace(ARM, cameras={"top": (15, 16)})
    episode = arm_episode(0, 3, spec=odd, images={"top": pictures(4, (15, 16), 0)})
    with pytest.raises(FormatError, match="15 x 16.*codec=lossless"):
        send([episode], 1, odd, tmp_path / "out", ExportConfig(), through)
    send([episode], 1, odd, tmp_path / "out", ExportConfig(codec="lossless"), through)
    report, store = imported(tmp_path / "out", tmp_path / "back")
    require_equal(store.read("000000"), episode)
