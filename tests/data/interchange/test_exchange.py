"""What an import and an export promise, whatever the format."""

import json
from pathlib import Path

import pytest
from exchanged import arm_episode, make_store, through

from robostack.data.interchange.exchange import (
    ExportConfig,
    ImportConfig,
    bring,
    detect,
    needed,
    new_folder,
    open_source,
    send,
)
from robostack.data.interchange.report import FormatError, Report

FOREIGN = Path(__file__).parent / "lerobot-0.4.4"


def source_of(path, config, report):
    return open_source(path, detect(path), config, report)


def test_formats_are_told_by_their_looks(tmp_path):
    (tmp_path / "bags/one").mkdir(parents=True)
    (tmp_path / "bags/one/metadata.yaml").touch()
    assert detect(FOREIGN) == "lerobot" and detect(Path("a/b.hdf5")) == "robomimic"
    assert detect(tmp_path / "bags") == detect(tmp_path / "bags/one") == "bag"
    with pytest.raises(FormatError, match="meta/info.json"):
        detect(tmp_path)


def test_strict_imports_nothing_that_contradicts_what_was_declared(tmp_path):
    declared = {"angles": "degrees", "gripper": "+1 closes"}
    for strict in (True, False):
        config, report = ImportConfig(conventions=declared, strict=strict), Report("", "")
        source = source_of(FOREIGN, config, report)
        if strict:
            with pytest.raises(FormatError, match="gripper.*opens"):
                bring(source, report, tmp_path / "out", config, through)
            assert list(tmp_path.iterdir()) == []
        else:
            bring(source, report, tmp_path / "out", config, through)
            assert not report.fine and any("CONTRADICTION" in row for row in report.lines())
            kept = json.loads((tmp_path / "out/import.json").read_text())["conventions"]
            assert [c["name"] for c in kept if c["contradicted"]] == ["gripper"]


def test_nothing_is_written_over(tmp_path):
    out = make_store(tmp_path / "store", [arm_episode(0, 5)]).path
    config, report = ImportConfig(), Report("", "")
    with pytest.raises(FormatError, match="exists"):
        bring(source_of(FOREIGN, config, report), report, out, config, through)
    for format in ("lerobot", "robomimic"):
        with pytest.raises(FormatError, match="exists"):
            send([arm_episode(0, 5)], 1, None, out, ExportConfig(format=format), through)


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "out") as partial:
        (partial / "half").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "out") as partial:
        (partial / "all").touch()
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "all"]


def test_a_package_that_is_missing_is_named_with_what_installs_it():
    with pytest.raises(FormatError, match=r"nowhere.*pip install 'robostack\[data\]'"), needed():
        import nowhere  # noqa: F401


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="crf=99"):
        ExportConfig(crf=99)
