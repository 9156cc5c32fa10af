"""The command line itself: what it takes, and how it refuses."""

from pathlib import Path

import pytest

from robostack import cli


def parsed(*words):
    return cli.parser().parse_args(words)


@pytest.mark.parametrize("flag", ["--data", "--out", "--config"])
def test_a_flag_that_takes_one_value_is_not_silently_overridden(flag, capsys):
    with pytest.raises(SystemExit) as refused:
        parsed("prefer", flag, "a", flag, "b")
    assert refused.value.code == 2
    assert f"{flag} is given twice: a and b; it takes one" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["train", "bc"], ["train", "reward"], ["exam"]])
def test_what_learns_or_is_examined_takes_several_stores(verb):
    args = parsed(*verb, "--data", "a", "--data", "b", "--out", "c")
    assert args.stores == [Path("a"), Path("b")]


def test_the_first_store_that_is_none_is_named(tmp_path, capsys):
    words = ["exam", "keypoints", "--data", str(tmp_path / "x"), "--data", str(tmp_path / "y")]
    assert cli.main([*words, "--out", str(tmp_path / "card")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("robostack exam: ") and str(tmp_path / "x") in said
