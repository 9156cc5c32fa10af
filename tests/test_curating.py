"""The verbs about stores as they are typed: what they print, write and refuse."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from fakes import SPEC, SQUARE_SPEC, make_episode, square_episode

from robostack import cli
from robostack.data.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path / "store", SQUARE_SPEC)
    for seed in range(4):
        store.append(square_episode(seed, success=bool(seed % 2)))
    return store


def ran(capsys, *words):
    """Exit code, what was printed, what was said on stderr."""
    code = cli.main([str(w) for w in words])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_two_words_make_a_verb_and_errors_name_both(tmp_path, capsys):
    code, _, said = ran(capsys, "data", "stats", "--data", tmp_path)
    assert code == 1 and said.startswith("robostack data stats: ") and "robostack collect" in said
    with pytest.raises(SystemExit):
        cli.main(["data"])
    assert "what" in capsys.readouterr().err


def test_validate_passes_what_is_in_order_and_fails_what_is_not(store, capsys):
    code, said, _ = ran(capsys, "data", "validate", "--data", store.path)
    assert code == 0 and json.loads(said.splitlines()[-1]) == {
        "episodes": 4,
        "error": 0,
        "warning": 0,
        "note": 0,
    }
    store.append(store.read("000001"))
    path = store.path / "episodes/000002/images.top/c/0/0/0/0"
    path.write_bytes(path.read_bytes()[:-1])
    code, said, _ = ran(capsys, "data", "validate", "--data", store.path)
    assert code == 1 and "000004: error: states: the same states and actions as" in said
    assert "000002: error: file:" in said and "images.top" in said


def test_stores_are_validated_beside_each_other(store, tmp_path, capsys):
    other = Store.create(tmp_path / "copy", replace(SQUARE_SPEC, control_hz=20.0))
    twin = store.read("000001")
    other.append(replace(twin, spec=other.spec, stamps=twin.stamps / 2))
    words = "data", "validate", "--data", store.path, "--data"
    code, said, _ = ran(capsys, *words, other.path)
    assert code == 1 and json.loads(said.splitlines()[-1])["error"] == 2
    assert f"{other.path}: error: spec: control_hz: " in said
    assert f"the same states and actions as episode {store.path}/000001" in said
    for verb in (words, ("data", "merge", "--out", tmp_path / "out", *words[2:])):
        code, _, told = ran(capsys, *verb, store.path.parent)  # the store of that folder
        assert code == 1 and "is given twice" in told
    assert not (tmp_path / "out").exists()


def test_numbers_that_contradict_the_conventions_are_found(tmp_path, capsys):
    spec = replace(SPEC, conventions={"action": "delta", "gripper": "+1 opens"})
    store = Store.create(tmp_path / "store", spec)
    for seed in range(3):
        episode = make_episode(seed, 60, spec=spec)
        actions, states = 0.8 * episode.actions, episode.states.copy()
        actions[:, 2] = np.where(np.arange(60) // 10 % 2, 1, -1)
        states[1:, 2] = -actions[:, 2] + 0.01 * np.arange(60)
        store.append(replace(episode, actions=actions, states=states))
    code, said, _ = ran(capsys, "data", "validate", "--data", store.path)
    assert code == 0 and "warning: conventions.gripper: CONTRADICTION" in said


def test_how_bad_it_must_be_to_fail_can_be_said(tmp_path, capsys):
    store = Store.create(tmp_path / "store", SPEC)
    store.append(make_episode(1, success=None))
    words = "data", "validate", "--data", store.path
    assert ran(capsys, *words)[0] == 0 and ran(capsys, *words, "severity=note")[0] == 1
    assert "expected error, warning, note" in ran(capsys, *words, "severity=bad")[2]


def test_stores_are_rearranged_without_touching_them(store, tmp_path, capsys):
    before = {p: p.read_bytes() for p in store.path.rglob("*") if p.is_file()}
    given = "--data", store.path, "--out"
    for words in (
        ("split", *given, tmp_path / "parts", "parts={a: 1, b: 1}"),
        ("merge", *given, tmp_path / "good", "only=successes"),
        ("trim", *given, tmp_path / "short", "stop=-2", "--episode", "3", "--episode", "000001"),
        ("trim", "--data", store.path, "auto=true"),
        ("relabel", *given, tmp_path / "named", "task=push"),
    ):
        code, said, _ = ran(capsys, "data", *words)
        assert code == 0 and json.loads(said)
    assert len(Store(tmp_path / "parts/a")) == len(Store(tmp_path / "parts/b")) == 2
    assert [len(e) for _, e in Store(tmp_path / "short").episodes()] == [16, 14, 16, 14]
    assert {e.task for _, e in Store(tmp_path / "named").episodes()} == {"push"}
    assert {p: p.read_bytes() for p in store.path.rglob("*") if p.is_file()} == before


def test_a_reward_may_say_what_succeeded(store, tmp_path, capsys):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import numpy as np\n"
        "class AtTheEdge:\n"
        "    name = fingerprint = 'edge'\n"
        "    def score(self, episode):\n"
        "        x = (episode.images['top'] > 200).any(-1).any(1).argmax(-1)\n"
        "        return (x / 24).clip(0, 1).astype(np.float32)\n"
    )
    words = "--reward", f"{mine}:AtTheEdge", "threshold=0.9"
    again = "data", "relabel", "--data", store.path, "--out", tmp_path / "judged", *words
    code, said, err = ran(capsys, *again, "--strict")
    assert code == 1 and "--strict: edge has not sat an exam" in err
    assert not (tmp_path / "judged").exists()
    code, said, err = ran(capsys, *again)
    assert code == 0 and "warning: edge has not sat an exam" in err, err
    ends = [e.success for _, e in Store(tmp_path / "judged").episodes()]
    assert ends == [False, True, False, True]
    store.append(replace(square_episode(4, success=True), success=False, terminated=False))
    told = "recorded as a failure, but", "AtTheEdge says that it succeeded"
    code, said, _ = ran(capsys, "data", "validate", "--data", store.path, *words)
    assert code == 0 and json.loads(said.splitlines()[-1])["warning"] == 1
    assert "000004: warning: success: " in said and all(text in said for text in told)
    page = tmp_path / "sheet.html"
    code, said, _ = ran(capsys, "data", "inspect", "--data", store.path, "--out", page, *words)
    assert json.loads(said)["warning"] == 1 and all(text in page.read_text() for text in told)


def test_what_cannot_be_read_may_be_left_out_of_an_export(store, tmp_path, capsys):
    pytest.importorskip("h5py")
    (store.path / "episodes/000001/states/c/0/0").unlink()
    words = "data", "export", "--data", store.path, "--out", tmp_path / "x.hdf5", "format=robomimic"
    code, _, said = ran(capsys, *words)
    assert code == 1 and "states" in said and "damaged=skip leaves it out" in said
    code, said, _ = ran(capsys, *words, "damaged=skip")
    assert code == 0 and json.loads(said)["left_out"][0]["episode"] == "000001"
    with h5py.File(tmp_path / "x.hdf5") as file:
        assert len(file["data"]) == 3


def test_out_and_back_through_both_formats(store, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    for name, words in (
        ("set", ["codec=lossless"]),
        ("file.hdf5", ["format=robomimic", "successes=true"]),
    ):
        out, back = tmp_path / name, tmp_path / f"{name}-back"
        code, said, err = ran(capsys, "data", "export", "--data", store.path, "--out", out, *words)
        assert code == 0, err
        code, said, err = ran(capsys, "data", "import", out, "--out", back)
        assert code == 0 and json.loads(said)["episodes"] == (4 if name == "set" else 2), err
        first = Store(back).read("000000")
        assert np.array_equal(
            first.actions, square_episode(int(name != "set"), success=name != "set").actions
        )


def test_an_import_that_left_something_out_says_so_and_exits_1(store, tmp_path, capsys):
    pytest.importorskip("h5py")
    out = tmp_path / "file.hdf5"
    ran(capsys, "data", "export", "--data", store.path, "--out", out, "format=robomimic")
    with h5py.File(out, "r+") as file:
        file["data/demo_2/actions"][3, 1] = np.nan
    code, said, err = ran(capsys, "data", "import", "--source", out, "--out", tmp_path / "back")
    assert code == 1 and json.loads(said)["episodes"] == 3
    assert "left out  demo_2: actions: nan in row 3, dimension 1" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["import", "--out", "x"], "what?"),
        (["import", "absent.hdf5", "--out", "x"], "does not exist"),
        (["import", "a", "b", "--out", "x"], "expected one source"),
        (["export", "--data", "absent", "--out", "x"], "not an episode store"),
        (["export", "--data", "absent", "--out", "x", "codec=mjpeg"], "expected one of h264"),
        (["trim", "--data", "absent", "--out", "x", "auto=true", "start=3"], "leave them out"),
    ],
)
def test_mistakes_get_one_clear_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(["data", *words])
    except SystemExit as stop:
        code = stop.code
    err = capsys.readouterr().err.strip()
    assert code in (1, 2) and said in err.splitlines()[-1]


def test_a_recording_for_rerun_needs_rerun(store, tmp_path, capsys):
    try:
        import rerun  # noqa: F401
    except ModuleNotFoundError:
        words = "data", "play", "--data", store.path, "--out", tmp_path / "x.rrd"
        code, _, said = ran(capsys, *words)
        assert code == 1 and "pip install 'robostack[rerun]'" in said
    else:
        ran(capsys, "data", "play", "--data", store.path, "--out", tmp_path / "x.rrd")
        assert (tmp_path / "x.rrd").stat().st_size > 1000


def test_a_spec_that_differs_is_named(store, tmp_path, capsys):
    spec = replace(SQUARE_SPEC, robot="another")
    other = Store.create(tmp_path / "other", spec)
    other.append(replace(square_episode(9), spec=spec))
    code, _, said = ran(
        capsys, "data", "merge", "--data", store.path, "--data", other.path, "--out", tmp_path / "x"
    )
    assert code == 1 and "robot" in said and "another" in said
