"""Rollouts go on whatever becomes of those who play them, one of them or many."""

import pytest
from fakes import Deadlies, tiny_vla

from robostack import cli
from robostack.pool import WorkerError
from robostack.rollout import hash_seed
from robostack.sim import arena
from robostack.sim.arena import Arena
from robostack.sim.env import EnvConfig
from robostack.sim.worker import RunnerConfig


@pytest.fixture
def apart(monkeypatch):
    """As it is outside of tests."""
    monkeypatch.setattr(Arena, "isolate", True)


def test_one_worker_is_a_process_except_of_a_robot(apart):
    assert not Arena(EnvConfig(), 1)._pool._here
    assert Arena(EnvConfig(real="robot.yaml", task="lift"), 1)._pool._here


@pytest.mark.slow
def test_a_start_that_kills_is_told_counted_and_passed_over_where_it_may_be(apart, tmp_path, capfd):
    tiny_vla().save(tmp_path)
    with Arena(EnvConfig(), 1, Deadlies) as place:

        def seeds(**how):
            found = place.rollouts(tmp_path, RunnerConfig(), [6, 7, 8], "", **how)
            return [episode.seed for episode in found]

        other = hash_seed(7, arena.SPARE)
        assert seeds(spare=True) == [6, other, 8] and place.lost == 2
        told = f"start 7 cost two workers their lives; start {other} is played in its place"
        assert capfd.readouterr().err.count(told) == 1
        with pytest.raises(WorkerError, match="a worker died with exit code 7"):
            seeds()


@pytest.mark.parametrize(
    "words",
    [
        ["collect", "--out", "{out}"],
        ["cases", "--out", "{out}"],
        ["demo", "--out", "{out}"],
        ["evaluate", "--policy", "random", "--out", "{out}"],
    ],
    ids=lambda words: words[0],
)
def test_patience_is_a_matter_of_the_command_line(words, tmp_path, monkeypatch, capsys):
    def told(*_, patience, **__):
        raise ValueError(f"patience is {patience:g} s")

    monkeypatch.setattr(arena, "open_pool", told)
    monkeypatch.setattr("robostack.batch.open_pool", told)
    words = [word.format(out=tmp_path / "out") for word in words]
    assert cli.main([*words, "--workers", "1", "--patience", "90"]) == cli.FAILED
    assert "patience is 90 s" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_patience_is_some_seconds(text, capsys):
    with pytest.raises(SystemExit):
        cli.main(["collect", "--out", "x", "--patience", text])
    assert "expected seconds above 0 up to 1e+06" in capsys.readouterr().err
