import pytest
from examinees import write_examination

from robostack.exam.sheet import ExamConfig


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """An examination that nobody changes."""
    return write_examination(tmp_path_factory.mktemp("data") / "held_out")


@pytest.fixture(scope="session")
def little(tmp_path_factory):
    """A success and a failure of each of two requests."""
    folder = tmp_path_factory.mktemp("little") / "held_out"
    return write_examination(folder, range(1), (), ("success", "failure"), 0)


@pytest.fixture
def config():
    return ExamConfig(draws=50, repeats=2)
