"""`robostack teleop` from the command line: real simulation, real terminal, real processes."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from browser import wait

from robostack import cli
from robostack.collecting.command import Stop
from robostack.collecting.screen import line
from robostack.collecting.shelves import Shelves
from robostack.data.store import Store, StoreError
from robostack.real.teleop.mapping import Motion, read_mapping

TINY = ["env.cameras={agentview: 32}", "device=scripted", "page.on=false", "pace=0"]
ALONE = ["start_after=0", "review=alone", "decide_after=0", "spare_mb=0"]
COMMAND = [sys.executable, "-m", "robostack.cli", "teleop"]


def teleop(out, *words):
    return cli.main(["teleop", "--out", str(out), *words])


def test_a_scripted_session_gives_a_store_and_goes_on_with_its_settings(tmp_path, capsys):
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
    assert teleop(out, "episodes=3") == 0  # it goes on, with the other settings as they were
    assert json.loads(capsys.readouterr().out)["kept"] == 3
    assert store.attributes("000002")["task"] == "pick it up"
    assert store.attributes("000002")["seed"] == 2


@pytest.mark.slow
def test_the_walk_of_the_page_works_as_it_is_written(here, tmp_path, monkeypatch, capsys):
    """Every command between "Clone it" and "Other devices", with less of everything; the stand-in
    is there for the person, too. So a policy is cloned from what a session gives."""
    text = (Path(__file__).parents[2] / "docs" / "demonstrations.md").read_text()
    walk = text[text.index("## Clone it") : text.index("## Other devices")]
    lines = re.findall(r"^robostack (.+)$", walk, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["train", "evaluate", "teleop", "train"]
    fewer = {"episodes=20": "episodes=2", "--episodes 20": "--episodes 2", "steps=800": "steps=2"}
    tiny = ["batch=4", "draws=2", "policy.small={width: 16, layers: 1, heads: 2}"]
    monkeypatch.chdir(tmp_path)
    for typed in (*lines[2:], *lines[:2]):
        for much, little in fewer.items():
            typed = typed.replace(much, little)
        words = shlex.split(typed)
        assert cli.main(words + (tiny if words[0] == "train" else [])) == 0, capsys.readouterr().err
        if words[0] == "teleop":
            (tmp_path / "runs/mine").symlink_to("standin")
    assert len(Store(tmp_path / "runs/standin/store")) == 2
    assert (tmp_path / "runs/mine-eval/summary.json").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["detector=absent"], "holds no reward"),
        (
            ["device=piano"],
            "device=piano: expected one of browser, keyboard, gamepad, evdev, spacemouse, scripted",
        ),
        (["mapping=piano"], "or one of browser, evdev"),
        (["device=joy"], "comes from ROS topics, to robots; give env.real=FILE"),
        (["device=browser", "page.on=false"], "needs the page"),
        (["device=scripted", "mapping=gamepad"], "has its own"),
        (["device=scripted", "env.task=Wipe"], "no scripted expert; these do: Lift, Stack"),
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
def test_killed_and_stopped_it_goes_on_where_it_was(tmp_path, capsys):
    out = tmp_path / "mine"
    words = ["--out", str(out), "env.cameras={agentview: 32}", "device=scripted", "spare_mb=0"]
    words += ["start_after=0", "page.port=0"]
    with subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True) as process:
        lines = iter(process.stderr.readline, "")
        address = next(found[0] for text in lines if (found := re.search(r"http://\S+", text)))
        assert "Demonstrations" in urllib.request.urlopen(address, timeout=20).read().decode()
        next(text for text in lines if "review" in text)
        with pytest.raises(StoreError, match=f"another process .{process.pid}."):
            Shelves(out, Store(out / "store").spec)
        assert teleop(out) == 1
        told = capsys.readouterr().err  # and that before a robot was opened
        assert "another process" in told and "opening the robot" not in told
        process.send_signal(signal.SIGKILL)
    assert len(Store(out / "pending")) == 1 and len(Store(out / "store")) == 0
    alone = ["review=alone", "decide_after=0", "page.on=false", "pace=0.2"]
    with subprocess.Popen([*COMMAND, *words, *alone], stderr=subprocess.PIPE, text=True) as process:
        next(text for text in iter(process.stderr.readline, "") if "recording" in text)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        errors = process.stderr.read()
        assert process.wait(30) == cli.STOPPED
    assert "goes on from here" in errors and "Traceback" not in errors
    assert len(Store(out / "pending")) == 1 and len(Store(out / "store")) == 1
    assert yaml.safe_load((out / "session.json").read_text())["pace"] == 0.2
    assert teleop(out, "pace=0", "episodes=2") == 0
    told = json.loads(capsys.readouterr().out)  # what was cut off did not succeed
    assert (told["kept"], told["trash"], told["undecided"]) == (2, 1, 0)


def test_a_closed_terminal_and_ctrl_c_ask_to_stop_and_a_second_one_does_not_wait():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(number)
        with Stop() as stop:
            with pytest.raises(KeyboardInterrupt):  # while the robot is opened, say
                os.kill(os.getpid(), number)
                time.sleep(10)
            stop.at_once = lambda: False
            assert not stop()
            os.kill(os.getpid(), number)
            wait(stop)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
                time.sleep(10)
        assert signal.getsignal(number) is before


@pytest.mark.slow
def test_calibrating_a_device_at_a_terminal_writes_a_mapping_that_drives(tmp_path):
    out = tmp_path / "mine.yaml"
    terminal = Terminal("--calibrate", "device=keyboard", "--out", str(out), cwd=tmp_path)
    for question, key in (
        *(("forward?", "w"), ("back?", "s"), ("left?", "a"), ("right?", "d"), ("up?", "r")),
        *(("down?", "f"), *[(f"{text}?", "\x1b") for text in ("tilt left", "tip down")]),
        *(("turn left?", "j"), ("turn right?", "l"), ("fingers?", " ")),
        *(("hold to drive?", "\x1b"), ("the arm stays?", "c"), ("slower?", "-"), ("faster?", "+")),
        *(("two arms?", "\x1b"), ("keep a recording?", "\r"), ("succeeded?", "y")),
        *(("failed; later: undo?", "n"), ("do a recording again?", "b"), ("discard", "x")),
        ("end the session?", "q"),
    ):
        terminal.shows(question)
        for _ in range(8):  # held down: a terminal repeats the key
            terminal.type(key)
            time.sleep(0.05)
    assert terminal.ended() == 0
    mapping = read_mapping(out)
    assert mapping.motions["dx"] == Motion(plus="w", minus="s")
    assert mapping.motions["rz"] == Motion(plus="j", minus="l") and "rx" not in mapping.motions
    assert mapping.gripper.toggle == "space" and mapping.deadman == ""
    assert (mapping.clutch, mapping.slower, mapping.faster) == ("c", "-", "+")
    keys = {**dict.fromkeys(("start", "stop", "keep"), "enter"), "success": "y", "quit": "q"}
    assert mapping.session == {**keys, "failure": "n", "undo": "n", "redo": "b", "discard": "x"}
