"""A folder has one writer, for as long as that one lives; readers are nobody's business."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import SPEC, make_episode

from robostack.data.holding import LOCK, Hold
from robostack.data.store import Store, StoreError

HOLDS = """
import sys, time
from pathlib import Path
from robostack.data.holding import Hold
hold = Hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_another_process_is_named_and_a_killed_one_lets_go(tmp_path):
    Store.create(tmp_path / "store", SPEC).append(make_episode(0))
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreError) as refused:
            Hold(tmp_path)
        assert f"another process ({process.pid}), `-c {tmp_path}`" in str(refused.value)
        assert Store(tmp_path / "store").read("000000").seed == 0  # reading asks nobody
        process.send_signal(signal.SIGKILL)
    hold = Hold(tmp_path)
    assert (tmp_path / LOCK).read_text().startswith(f"{os.getpid()}\n")
    hold.release()
    assert not (tmp_path / LOCK).exists()


def test_letting_go_removes_nobody_elses_lock(tmp_path):
    first = Hold(tmp_path)
    (tmp_path / LOCK).unlink()  # as somebody who removed the folder
    second = Hold(tmp_path)
    first.release()
    first.release()
    with pytest.raises(StoreError, match="another process"):
        Hold(tmp_path)
    second.release()
    Hold(tmp_path).release()


def test_a_full_disk_keeps_nobody_from_holding(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    hold = Hold(Path(tmp_path))
    with pytest.raises(StoreError, match=r"another process \(unknown\); stop"):
        Hold(tmp_path)
    hold.release()
