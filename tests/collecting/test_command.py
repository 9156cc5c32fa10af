"""`robostack teleop` from the command line: real simulation, real terminal, real processes."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
import yaml
from browser import wait

from robostack import cli
from robostack.collecting.screen import line
from robostack.data.store import Store

TINY = ["env.cameras={agentview: 32}", "device=scripted", "page.on=false", "pace=0"]
ALONE = ["start_after=0", "review=alone", "decide_after=0", "spare_mb=0"]
COMMAND = [sys.executable, "-m", "robostack.cli", "teleop"]


def teleop(out, *words):
    return cli.main(["teleop", "--out", str(out), *words])


def test_a_scripted_session_gives_a_store_that_a_policy_is_cloned_from(tmp_path, capsys):
    out = tmp_path / "mine"
    assert teleop(out, *TINY, *ALONE, "episodes=2", "noise=0.05", "task=pick it up") == 0
    told = capsys.readouterr()
    summary = json.loads(told.out)
    assert (summary["kept"], summary["successes"], summary["undecided"]) == (2, 2, 0)
    assert "0 kept; recording (start 0)" in told.err and "2 kept; over" in told.err
    store = Store(out / "store")
    assert [store.attributes(i)["seed"] for i in store.ids()] == [0, 1]
    assert {store.attributes(i)["task"] for i in store.ids()} == {"pick it up"}
    assert (out / "store" / "cameras.json").is_file()
    words = ["steps=2", "batch=4", "draws=2", "policy.small={width: 16, layers: 1, heads: 2}"]
    clone = ["train", "bc", "--data", str(out), "--out", str(tmp_path / "bc"), *words]
    assert cli.main(clone) == 0
    capsys.readouterr()
    # the same command has nothing left to do; a larger goal goes on, with the settings as they were
    assert teleop(out) == 0 and json.loads(capsys.readouterr().out)["kept"] == 2
    assert teleop(out, "episodes=3") == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 3
    assert store.attributes("000002")["task"] == "pick it up"
    assert store.attributes("000002")["seed"] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["device=piano"], "or one of browser, evdev"),
        (["device=joy"], "teleop_node"),
        (["device=browser", "page.on=false"], "needs the page"),
        (["device=scripted", "mapping=gamepad"], "has its own"),
        (["device=scripted", "env.task=Wipe"], "no scripted expert"),
        (["device=browser", "mapping=leader"], "nothing moves dx"),
        (["review=maybe"], "expected one of ask, clean, alone"),
        (["episodes=-1"], "expected 0 or more"),
        (["pade=1"], "did you mean pa"),
        (["env.task=Lfit"], "Lift"),
        (["--calibrate", "device=browser"], "known names"),
    ],
)
def test_mistakes_are_told_in_a_line_and_nothing_is_made(words, told, tmp_path, capsys):
    out = tmp_path / ("mine.yaml" if "--calibrate" in words else "mine")
    assert teleop(out, "env.render=none", *words) != 0
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error
    assert not (out / "store").exists() and not out.is_file()


def test_calibrating_never_overwrites(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("device: gamepad\n")
    assert teleop(tmp_path / "mine.yaml", "--calibrate", "device=gamepad") == 1
    assert "exists" in capsys.readouterr().err
    assert teleop(tmp_path / "mine", "--calibrate", "device=gamepad") == 1
    assert "ends in .yaml" in capsys.readouterr().err


def test_help_teaches_by_example(capsys):
    with pytest.raises(SystemExit):
        cli.main(["teleop", "--help"])
    told = capsys.readouterr().out
    for text in ("device=gamepad", "--calibrate", "env.real=", "train bc", "start_after=-1.0"):
        assert text in told


def test_a_log_has_a_line_for_each_turn():
    status = dict(
        kept=3, state="review", seed=7, seconds=4.25, found="1 error", message="time is up"
    )
    assert line(status) == "3 kept; review (start 7, 4.2 s; 1 error): time is up"


class Terminal:
    """A process on a pseudo terminal of its own, and what it has written."""

    def __init__(self, *words, cwd):
        self.seen = ""
        self.child, self.end = pty.fork()
        if self.child == 0:
            os.chdir(cwd)
            os.environ.update(TERM="xterm", COLUMNS="100", LINES="40")
            os.execv(sys.executable, [*COMMAND, *words])

    def read(self):
        try:
            self.seen += os.read(self.end, 65536).decode(errors="replace")
        except OSError:  # it has ended
            return ""
        return self.seen

    def shows(self, text, seconds=120):
        wait(lambda: text in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.read()[-6000:]), seconds)

    def type(self, keys):
        os.write(self.end, keys.encode())

    def ended(self):
        while self.read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


@pytest.mark.slow
def test_a_session_at_a_terminal_by_its_keys_alone(tmp_path):
    out = tmp_path / "mine"
    words = ["device=keyboard", "page.on=false", "env.cameras={agentview: 32}", "spare_mb=0"]
    terminal = Terminal("--out", str(out), *words, cwd=tmp_path)
    terminal.shows("start [enter]")
    terminal.type("\r")
    terminal.shows("stop [enter]")
    for _ in range(10):
        terminal.type("f")
        time.sleep(0.05)
    terminal.type("\r")
    terminal.shows("keep [enter]")
    terminal.type("n")  # a failure, kept as one
    terminal.shows("kept as 000000")
    terminal.type("q")
    assert terminal.ended() == 0
    episode = Store(out / "store").read("000000")
    assert episode.success is False and episode.actions[:, 2].min() < -0.3  # down
    assert set(episode.actions[:, 6]) == {-1}


@pytest.mark.slow
def test_killed_in_review_the_next_session_begins_there_and_a_second_one_is_refused(tmp_path):
    out = tmp_path / "mine"
    words = ["--out", str(out), "env.cameras={agentview: 32}", "device=scripted", "spare_mb=0"]
    words += ["start_after=0", "page.port=0"]
    with subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True) as process:
        lines = iter(process.stderr.readline, "")
        address = next(found[0] for text in lines if (found := re.search(r"http://\S+", text)))
        assert "Demonstrations" in urllib.request.urlopen(address, timeout=20).read().decode()
        next(text for text in lines if "review" in text)
        second = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
        assert second.returncode == 1 and "another process" in second.stderr
        process.send_signal(signal.SIGKILL)
    assert len(Store(out / "pending")) == 1 and len(Store(out / "store")) == 0
    alone = ["review=alone", "decide_after=0", "pace=0", "page.on=false", "episodes=1"]
    done = subprocess.run([*COMMAND, *words, *alone], capture_output=True, text=True)
    assert done.returncode == 0 and "earlier session" in done.stderr, done.stderr
    assert json.loads(done.stdout)["kept"] == 1 and len(Store(out / "pending")) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_while_recording_what_was_recorded_waits(tmp_path, number):
    out = tmp_path / "mine"
    words = ["--out", str(out), "env.cameras={agentview: 32}", "device=scripted", "spare_mb=0"]
    words += ["start_after=0", "page.on=false", "pace=0.2"]
    with subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True) as process:
        next(text for text in iter(process.stderr.readline, "") if "recording" in text)
        time.sleep(1)
        process.send_signal(number)
        errors = process.stderr.read()
        assert process.wait(30) == cli.STOPPED
    assert "goes on from here" in errors and "Traceback" not in errors
    assert len(Store(out / "pending")) == 1
    assert yaml.safe_load((out / "session.json").read_text())["pace"] == 0.2
