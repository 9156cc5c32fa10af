"""What an import and an export promise, whatever the format."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from exchanged import arm_episode, make_store, through

from robostack.data.interchange.exchange import bring, needed, new_folder, open_source, send
from robostack.data.interchange.formats import (
    ExportConfig,
    ImportConfig,
    detect,
    require_used,
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
    made = make_store(tmp_path / "run/store", [arm_episode(0, 5)])
    for path in (made.path, tmp_path / "run"):
        with pytest.raises(FormatError, match="data merge --data"):
            detect(path)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("lerobot", {"hz": 9.0, "mask": "good"}),
        ("bag", {"state": ("a",), "conventions": {"gripper": "+1 opens"}}),
        ("replay", {"cameras": ("a",), "hz": 9.0}),
        ("export to robomimic", {"crf": 20, "least_psnr": 20.0}),
    ],
)
def test_a_key_that_a_format_has_no_use_for_is_refused(kind, given):
    config = ExportConfig if "export" in kind else ImportConfig
    with pytest.raises(FormatError, match=f"^{', '.join(given)}: of no use to {kind}"):
        require_used(config(**given), kind)
    require_used(config(), kind)


def test_an_export_is_of_the_format_that_its_name_promises(tmp_path):
    episodes = [arm_episode(0, 5)]
    for name, format in (("a.hdf5", "lerobot"), ("a", "robomimic")):
        with pytest.raises(FormatError, match=f"format={format} is a f"):
            send(episodes, 1, None, tmp_path / name, ExportConfig(format=format), through)
    spec = episodes[0].spec
    report = send(episodes, 1, spec, tmp_path / "a.h5", ExportConfig(), through)
    assert report.format == "robomimic" and detect(tmp_path / "a.h5") == "robomimic"
    assert any("no states of a simulator" in note for note in report.notes)
    send(episodes, 1, spec, tmp_path / "a", ExportConfig(codec="png"), through)
    assert detect(tmp_path / "a") == "lerobot"


class Odd:
    """A source whose episodes are wrong in every way that reading can fail."""

    format, spec = "odd", arm_episode(0, 5).spec
    errors = {
        "key": KeyError("timestamp"),
        "type": TypeError("no mapping"),
        "index": IndexError("too short"),
        "library": RuntimeError("bad heap"),
        "numpy": ValueError("all the input array dimensions: they must match"),
    }

    def names(self):
        return [*self.errors, "shape", "time", "nan", "fine"]

    def conventions(self):
        return []

    def read(self, number):
        name, episode = self.names()[number], arm_episode(0, 5)
        if name in self.errors:
            raise self.errors[name]
        if name == "shape":
            return replace(episode, states=episode.states[:-1])
        if name != "fine":
            episode.stamps[3] = episode.stamps[1] if name == "time" else float("nan")
        return episode


def test_whatever_is_wrong_with_an_episode_the_others_come(tmp_path):
    report = bring(Odd(), Report("", ""), tmp_path / "out", ImportConfig(), through)
    assert report.episodes == 1 and [p.episode for p in report.left_out] == Odd().names()[:-1]
    told = {p.episode: p for p in report.left_out}
    assert {told[name].field for name in Odd.errors} == {"episode"}
    assert "KeyError: 'timestamp'" in told["key"].what and "must match" in told["numpy"].what
    assert told["shape"].field == "states" and "expected float32" in told["shape"].what
    assert told["time"].field == told["nan"].field == "stamps"
    assert "increase at row 3" in told["time"].what and "nan in row 3" in told["nan"].what


def test_what_was_not_checked_is_in_the_report(tmp_path):
    config, report = ImportConfig(conventions={"griper": "+1 opens"}), Report("", "")
    bring(source_of(FOREIGN, config, report), report, tmp_path / "out", config, through)
    assert "not checked, as no state or action is named for it: frame, lengths, quaternion" in (
        report.notes
    )
    assert "declared, and there is no check of it: griper" in report.notes
    assert report.fine and any("nobody said" in row for row in report.lines())  # degrees


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
    file = tmp_path / "there.hdf5"
    file.touch()
    for there in (out, file):
        with pytest.raises(FormatError, match="exists"):
            send([arm_episode(0, 5)], 1, None, there, ExportConfig(), through)


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
