"""Ctrl-C at any stage: exit code 130, nothing that looks finished, and the same command goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest

from robostack.cli import OK, STOPPED, main
from robostack.learn.learner import Learner

TINY = """
env: {cameras: {agentview: 32}, horizon: 60}
demos: {seeds: 3}
bc:
  steps: 12
  batch: 4
  draws: 2
  save_every: 4
  policy: {small: {width: 32, layers: 1, heads: 2}, expert: {width: 32}}
tries: {by: branch, seeds: 1, branch: {tries: 2, points: 2, span: 4, every: 4}}
reward: {steps: 3, eye: {side: 16, width: 16}, success: {batch: 16}}
exam: 0
prefer: {weights: {outcome: 1, keypoints: 1}}
dpo: {steps: 2, batch: 2, draws: 2}
rl: {rl: {iterations: 1, episodes: 2, updates: 2, batch: 4, draws: 2, critic_updates: 2}}
evaluate: {episodes: 2}
"""


def words(folder, out):
    return ["demo", "--config", str(folder / "tiny.yaml"), "--out", str(out)]


def start(folder, out):
    command = [sys.executable, "-m", "robostack.cli", *words(folder, out), "--workers", "2"]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(file, process):
    """Until a stage has begun; the demo must not have ended before."""
    for _ in range(1200):
        if file.exists():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    raise AssertionError(f"{file} never came")


@pytest.mark.slow
def test_interrupted_the_demo_still_arrives(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.yaml").write_text(TINY)
    out = tmp_path / "demo"
    process = start(tmp_path, out)
    wait_for(out / "seed-0" / "tries" / "run.json", process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and workers
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == STOPPED, errors
    assert "goes on from here" in errors and "Traceback" not in errors, errors
    assert not (out / "summary.json").exists()
    made = {path: path.stat().st_mtime_ns for path in out.rglob("summary.json")}
    assert {path.parent.name for path in made} == {"demos", "bc", "bc-eval"}
    again, step = [*words(tmp_path, out), "--workers", "1"], Learner.step

    def cut(learner, losses):  # once more, while weights are learned
        if (out / "seed-0" / "dpo" / "run.json").exists():
            raise KeyboardInterrupt
        return step(learner, losses)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", cut)
        assert main(again) == STOPPED and "goes on from here" in capsys.readouterr().err
    assert not (out / "summary.json").exists()
    assert main(again) == OK
    assert (out / "summary.json").exists() and (out / "report.html").exists()
    assert {path: path.stat().st_mtime_ns for path in made} == made  # what was done stays
