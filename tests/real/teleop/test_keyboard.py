"""The terminal's keys through a real pseudo terminal; the terminal is always put back."""

import os
import pty
import signal
import subprocess
import sys
import termios
import time

import pytest
from browser import wait

from robostack.real.teleop.device import DeviceError
from robostack.real.teleop.keyboard import TerminalKeyboard, split

READER = """
import os, sys, time
from robostack.real.teleop.keyboard import TerminalKeyboard
keyboard = TerminalKeyboard(0.2, sys.argv[1])
print("ready", flush=True)
if sys.argv[2] == "crash":
    raise RuntimeError("a bug")
if sys.argv[2] == "abort":
    os.abort()
time.sleep(60)
"""


@pytest.fixture
def terminal():
    """The two ends of a pseudo terminal: what a person types into, and its path."""
    mine, theirs = pty.openpty()
    yield mine, os.ttyname(theirs)
    for end in (mine, theirs):
        os.close(end)


def mode(terminal):
    """Whether it echoes, waits for whole lines, and turns Ctrl-C into a signal."""
    flags = termios.tcgetattr(terminal[0])[3]
    return tuple(bool(flags & f) for f in (termios.ECHO, termios.ICANON, termios.ISIG))


def test_keys_are_held_for_a_while_after_each_report_of_them(terminal):
    keyboard = TerminalKeyboard(0.15, terminal[1])
    assert mode(terminal) == (False, False, True)
    os.write(terminal[0], b"wA \r\x1b[A\x1bOD\x7f")
    names = {"w", "a", "space", "enter", "up", "left", "backspace"}
    wait(lambda: keyboard.poll(10.0).buttons == names)
    assert keyboard.poll(10.14).buttons == names
    assert keyboard.poll(10.16) == ({}, frozenset(), True)
    os.write(terminal[0], b"w")
    wait(lambda: keyboard.poll(10.2).buttons == {"w"})
    keyboard.close()
    assert mode(terminal) == (True, True, True)


def test_a_key_that_arrives_in_pieces_is_one_key_and_escape_alone_is_another(terminal):
    keyboard = TerminalKeyboard(0.15, terminal[1])
    os.write(terminal[0], b"\x1b")
    wait(lambda: keyboard.poll(1.0) and keyboard._text)  # it has arrived
    assert not keyboard.poll(1.0).buttons
    os.write(terminal[0], b"[B")
    wait(lambda: keyboard.poll(1.01).buttons == {"down"})
    os.write(terminal[0], b"\x1b")
    wait(lambda: keyboard.poll(2.0) and keyboard._text)
    assert keyboard.poll(2.1).buttons == {"escape"}
    keyboard.close()


def test_a_terminal_that_hangs_up_is_a_lost_device():
    mine, theirs = pty.openpty()
    keyboard = TerminalKeyboard(0.15, os.ttyname(theirs))
    os.close(theirs)
    os.write(mine, b"w")
    wait(lambda: keyboard.poll(1.0).buttons == {"w"})
    os.close(mine)
    wait(lambda: not keyboard.poll(1.1).alive)
    assert keyboard.poll(1.1).buttons == frozenset()
    keyboard.close()


@pytest.mark.parametrize("end", ["crash", "abort", signal.SIGTERM, signal.SIGKILL])
def test_the_terminal_is_put_back_however_the_process_ends(terminal, end):
    command = [sys.executable, "-c", READER, terminal[1], str(end)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"ready\n"
        if not isinstance(end, str):
            assert mode(terminal) == (False, False, True)
            process.send_signal(end)
        assert process.wait(30) != 0
        wait(lambda: mode(terminal) == (True, True, True))


def test_keys_come_from_the_controlling_terminal_even_where_input_is_a_pipe():
    script = (
        "import sys, time\n"
        "from robostack.real.teleop.keyboard import TerminalKeyboard\n"
        "keyboard = TerminalKeyboard(0.2)\n"
        "print('ready', flush=True)\n"
        "while not (held := keyboard.poll(time.monotonic()).buttons): time.sleep(0.01)\n"
        "print(*held, 'and', sys.stdin.read(), flush=True)\n"
    )
    child, mine = pty.fork()
    if child == 0:
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, input=b"a pipe")
        os._exit(done.returncode)
    seen = b""

    def told(text):
        nonlocal seen
        seen += os.read(mine, 1000)
        return text in seen

    wait(lambda: told(b"ready"), 60)
    os.write(mine, b"j")
    wait(lambda: told(b"j and a pipe"), 60)
    assert os.waitpid(child, 0)[1] == 0
    os.close(mine)


def test_without_a_terminal_it_is_said_what_to_use_instead(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="device=browser, or ssh -t|`device=browser`"):
        TerminalKeyboard(0.2, str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("text", "final", "keys", "left"),
    [
        ("é~[", False, ["é", "~", "["], ""),
        ("\x1b[3~x", False, ["delete", "x"], ""),
        ("\x1b[1;5C", False, [], ""),  # with a modifier: not one of ours, and no letters of it
        ("\x1b[1;", False, [], "\x1b[1;"),
        ("\x1b[1;", True, ["escape", "[", "1", ";"], ""),
        ("\x1bw", False, ["escape", "w"], ""),
        ("\x01\x02", False, [], ""),
    ],
)
def test_what_a_terminal_writes_is_split_into_keys(text, final, keys, left):
    assert split(text, final) == (keys, left)


def test_polling_costs_little(terminal):
    keyboard = TerminalKeyboard(0.15, terminal[1])
    began = time.process_time()
    for i in range(1000):
        keyboard.poll(i / 20)
    assert time.process_time() - began < 1  # of 50 s of driving
    keyboard.close()
