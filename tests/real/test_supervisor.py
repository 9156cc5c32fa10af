"""Real child processes: started, heard, and stopped in order, whoever ends first."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robostack.real.graph import Part, Process, stopping
from robostack.real.supervisor import Supervisor

NODE = """
import os, signal, sys, time
from pathlib import Path

home = Path(os.environ["DIARY"])
name = sys.argv[sys.argv.index("-r") + 1].split("=")[1]

def stopped(number, _):
    signal.signal(number, signal.SIG_IGN)  # a supervisor's end is told once a thread that it had
    with (home / "stopped").open("a") as file:
        file.write(name + "\\n")
    if name != "deaf":
        sys.exit(0)

signal.signal(signal.SIGINT, stopped)
file = sys.argv[sys.argv.index("--params-file") + 1]
print("up with", " ".join(Path(file).read_text().split()), flush=True)
(home / name).write_text(str(os.getpid()))
end = time.monotonic() + (0.5 if name == "brief" else 60)
while time.monotonic() < end:
    time.sleep(0.05)
sys.exit(3)
"""


@pytest.fixture
def diary(tmp_path, monkeypatch):
    (tmp_path / "stand_in_node.py").write_text(NODE)
    monkeypatch.setenv("DIARY", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def process(name: str, **kinds) -> Process:
    return Process(Part(name, "stand_in_node", **kinds), {"rate": 10.0, "task": "a: b"})


def wait_for(*paths: Path, seconds=30.0):
    end = time.monotonic() + seconds
    while not all(p.exists() and p.read_text() for p in paths):
        assert time.monotonic() < end, f"{paths} did not come"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def interrupt(*after: Path) -> subprocess.Popen:
    """Somebody presses Ctrl-C once files are there."""
    code = (
        "import os, signal, sys, time; from pathlib import Path\n"
        "while not all(Path(p).exists() for p in sys.argv[2:]): time.sleep(0.02)\n"
        "os.kill(int(sys.argv[1]), signal.SIGINT)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(os.getpid()), *map(str, after)])


def test_ctrl_c_stops_the_policy_first_and_the_arm_last(diary):
    lines = []
    names = ("sim_robot", "arm", "recorder", "policy")
    processes = [process(name, essential=name == "arm") for name in names]
    friend = interrupt(*(diary / name for name in names))
    assert Supervisor(processes, say=lines.append).run() == 0
    friend.wait()
    order = (diary / "stopped").read_text().split()
    assert order == ["policy", "recorder", "arm", "sim_robot"] == stopping(list(names))
    assert any(line.startswith("   policy | up with") for line in lines)
    assert any("rate: 10.0" in line and "task: 'a: b'" in line for line in lines)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_the_end_of_an_essential_node_ends_all_and_that_of_another_does_not(diary):
    lines = []
    processes = [process("arm"), process("brief", essential=True)]
    assert Supervisor(processes, say=lines.append).run() == 1
    assert (diary / "stopped").read_text().split() == ["arm"]
    assert "brief | ended with exit code 3; stopping all" in lines

    (diary / "stopped").unlink()
    (diary / "brief").unlink()
    lines.clear()
    friend = interrupt(diary / "late")

    def said(line):
        lines.append(line)
        if "the others go on" in line:
            (diary / "late").touch()

    assert Supervisor([process("arm"), process("brief")], say=said).run() == 0
    friend.wait()
    assert (diary / "stopped").read_text().split() == ["arm"]


@pytest.mark.slow
def test_who_does_not_listen_is_made_to(diary, monkeypatch):
    monkeypatch.setattr("robostack.real.supervisor.PATIENCE", 0.5)
    friend = interrupt(diary / "deaf")
    assert Supervisor([process("deaf")], say=lambda line: None).run() == 0
    friend.wait()
    assert not alive(int((diary / "deaf").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_children_stop_when_the_supervisor_is_killed(diary):
    code = (
        "from robostack.real.graph import Part, Process\n"
        "from robostack.real.supervisor import Supervisor\n"
        "Supervisor([Process(Part('arm', 'stand_in_node'), {})]).run()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    wait_for(diary / "arm")
    child.kill()
    child.wait()
    wait_for(diary / "stopped")
    assert (diary / "stopped").read_text().split() == ["arm"]
