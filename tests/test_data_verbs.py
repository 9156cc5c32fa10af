"""What the verbs about stores ask of the name of a file that they write."""

import pytest
from fakes import SQUARE_SPEC, square_episode

from robostack import cli
from robostack.data.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path / "store", SQUARE_SPEC)
    store.append(square_episode(0, success=True))
    return store


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "page"], "ends in .html"),
        (["play", "film.mp4"], "ends in .html or .rrd"),
        (["play", "mine.html"], "exists and is no page of robostack"),
        (["inspect", "folder.html"], "exists and is no page of robostack"),
        (["export", "file.hdf5", "format=lerobot"], "is a folder, not"),
        (["export", "folder", "format=robomimic"], "is a file"),
        (["export", "file.hdf5", "codec=png"], "codec: of no use to export to robomimic"),
    ],
)
def test_a_name_of_another_kind_of_file_is_refused_and_nothing_is_written(
    store, tmp_path, capsys, words, said
):
    (tmp_path / "mine.html").write_text("<title>mine</title>")
    (tmp_path / "folder.html").mkdir()
    before = sorted(tmp_path.rglob("*"))
    verb, out, *keys = words
    given = ["data", verb, "--data", str(store.path), "--out", str(tmp_path / out), *keys]
    assert cli.main(given) == 1 and said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "mine.html").read_text() == "<title>mine</title>"


def test_a_page_of_ours_is_made_anew(store, tmp_path, capsys):
    page = tmp_path / "page.html"
    given = ["data", "inspect", "--data", str(store.path), "--out", str(page)]
    assert cli.main(given) == cli.main([*given, "pictures=1"]) == 0


@pytest.mark.parametrize("keys", [["mask=foo", "hz=9"], ["env.pixels=16"], ["robot=x.yaml"]])
def test_an_import_takes_no_key_that_its_format_has_no_use_for(store, tmp_path, capsys, keys):
    pytest.importorskip("pyarrow")
    out, back = str(tmp_path / "set"), str(tmp_path / "back")
    assert cli.main(["data", "export", "--data", str(store.path), "--out", out, "codec=png"]) == 0
    assert cli.main(["data", "import", out, "--out", back, *keys]) == 1
    assert "of no use to lerobot" in capsys.readouterr().err
