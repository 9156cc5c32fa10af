"""A file of the configuration is found from anywhere, however robostack was installed."""

import sys
from pathlib import Path

import pytest

from robostack.real import paths

ROOT = Path(__file__).parents[2]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory with nothing in it, and an installation without a checkout."""
    home = tmp_path / "cwd"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path / "site-packages" / "robostack")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "install"))
    return tmp_path


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text("robot: x\n")
    return path


def test_the_nearest_place_wins(elsewhere):
    name = "configs/robot/mine.yaml"
    for place in ("prefix/share/robostack", "install/share/robostack", "cwd"):
        wanted = made(elsewhere / place / name)
        assert paths.find(name) == wanted
    assert paths.find(elsewhere / "prefix/share/robostack" / name) != wanted


def test_a_checkout_is_looked_at_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.find("configs/dds/fastdds.xml") == ROOT / "configs/dds/fastdds.xml"


def test_what_is_not_there_is_said_with_every_place_and_what_is(elsewhere):
    made(elsewhere / "install/share/robostack/configs/robot/panda.yaml")
    with pytest.raises(FileNotFoundError) as error:
        paths.find("configs/robot/pnada.yaml")
    for place in ("cwd", "install/share/robostack", "prefix/share/robostack"):
        assert str(elsewhere / place / "configs/robot/pnada.yaml") in str(error.value)
    assert "there is configs/robot/panda.yaml" in str(error.value)
    with pytest.raises(FileNotFoundError, match="looked for /nowhere/x.yaml$"):
        paths.find("/nowhere/x.yaml")
