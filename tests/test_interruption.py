"""Ctrl-C at any stage: exit code 130, nothing that looks finished, and the same command goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest

from robostack.cli import OK, STOPPED

TINY = """
env: {cameras: {agentview: 32}}
demos: {seeds: 3}
bc:
  steps: 12
  batch: 4
  draws: 2
  save_every: 4
  policy: {small: {width: 32, layers: 1, heads: 2}}
tries: {by: branch, seeds: 1, branch: {tries: 2, points: 2, span: 4, every: 4}}
reward: {steps: 3}
prefer: {weights: {outcome: 1, keypoints: 1}}
dpo: {steps: 2, batch: 2, draws: 2}
rl: {rl: {iterations: 1, episodes: 2, updates: 2, batch: 4, draws: 2, critic_updates: 2}}
evaluate: {episodes: 2}
"""


def start(folder, out):
    command = [sys.executable, "-m", "robostack.cli", "demo", "--workers", "2"]
    command += ["--config", str(folder / "tiny.yaml"), "--out", str(out)]
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
def test_interrupted_the_demo_still_arrives(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    out = tmp_path / "demo"
    process = start(tmp_path, out)
    wait_for(out / "seed-0" / "bc" / "run.json", process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and workers
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == STOPPED, errors
    assert "goes on from here" in errors and "Traceback" not in errors, errors
    assert not (out / "summary.json").exists()
    process = start(tmp_path, out)
    errors = process.communicate(timeout=180)[1]
    assert process.returncode == OK, errors
    assert (out / "summary.json").exists() and (out / "report.html").exists()
