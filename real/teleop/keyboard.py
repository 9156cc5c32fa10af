"""The keys of a terminal, over ssh as well: no display, no permission, no other package.

A terminal tells that a key was pressed, again and again while it stays down, and never that it was
let go. So a key counts as held for a while after each report. The browser's page knows better.
"""

from __future__ import annotations

import atexit
import codecs
import contextlib
import os
import select
import subprocess
import termios
import tty

from robostack.real.teleop.device import LOST, DeviceError, Poll

NAMES = {
    " ": "space", "\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\b": "backspace",
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left",
    "\x1b[3~": "delete", "\x1b[H": "home", "\x1b[F": "end", "\x1b[5~": "pageup",
    "\x1b[6~": "pagedown",
}  # fmt: skip
ESCAPE = "\x1b"
ALONE = 0.05  # [s] after which an escape that nothing follows is the key of that name


class TerminalKeyboard:
    """Keys by what they write: letters in lower case, and the names above.

    It reads the controlling terminal even where standard input is a pipe, leaves Ctrl-C and Ctrl-Z
    what they are, and puts the terminal back on `close`, at exit, and when the process is killed.
    Raises DeviceError where there is no terminal.
    """

    def __init__(self, hold: float, path: str = "/dev/tty"):
        self.hold, self.lost = hold, False
        try:
            self._file = os.open(path, os.O_RDWR | os.O_NOCTTY)
            self._before = termios.tcgetattr(self._file)
        except (OSError, termios.error) as error:
            raise DeviceError(
                f"no terminal to read keys from ({error}); use `device=browser`, or ssh -t"
            ) from None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text, self._since = "", 0.0  # what is not yet a key, and since when
        self._until: dict[str, float] = {}  # key -> when it no longer counts as held
        self._guard = _guard(self._file)
        atexit.register(self.close)
        tty.setcbreak(self._file, termios.TCSANOW)

    def poll(self, now: float) -> Poll:
        for key in self._keys(now):
            self._until[key] = now + self.hold
        if self.lost:
            return LOST
        self._until = {key: until for key, until in self._until.items() if now < until}
        return Poll({}, frozenset(self._until), True)

    def _keys(self, now: float) -> list[str]:
        while not self.lost and select.select([self._file], [], [], 0)[0]:
            try:
                data = os.read(self._file, 1024)
            except OSError:  # the terminal has hung up
                data = b""
            self.lost = not data
            self._text += self._decoder.decode(data)
            self._since = now
        keys, self._text = split(self._text, now - self._since > ALONE)
        return keys

    def close(self) -> None:
        """Put the terminal back as it was."""
        atexit.unregister(self.close)
        if self._file < 0:
            return
        with contextlib.suppress(termios.error):  # it has hung up
            termios.tcsetattr(self._file, termios.TCSANOW, self._before)
        os.close(self._file)
        self._file, self.lost = -1, True
        self._guard.communicate(b"done\n")


def _guard(file: int) -> subprocess.Popen:
    """A shell that puts the terminal back if this process ends without having done so: a `kill -9`
    or a crash in a driver would leave it without echo, and with a screen drawn on it no cursor."""
    saved = subprocess.run(["stty", "-g"], stdin=file, capture_output=True, text=True, check=True)
    script = 'read -r word; [ "$word" ] || { stty "$0" <&2; printf "\\033[?25h" >&2; }'
    return subprocess.Popen(
        ["sh", "-c", script, saved.stdout.strip()],
        stdin=subprocess.PIPE,
        stderr=file,  # the terminal
        start_new_session=True,  # Ctrl-C is not for it
    )


def split(text: str, final: bool) -> tuple[list[str], str]:
    """Names of the keys in what a terminal has sent, and what is only the beginning of one; with
    `final` an escape that stands alone is a key."""
    keys = []
    while text:
        if text[0] != ESCAPE:
            if text[0] in NAMES or text[0].isprintable():
                keys.append(NAMES.get(text[0], text[0].lower()))
            text = text[1:]
            continue
        size = _sequence(text)
        if size == 0 and not final:
            break
        if size <= 1:
            keys.append("escape")
        elif text[:size] in NAMES:
            keys.append(NAMES[text[:size]])
        text = text[max(size, 1) :]
    return keys, text


def _sequence(text: str) -> int:
    """Length of the escape sequence at the beginning: 1 for the key alone, 0 if it is not whole."""
    if len(text) == 1 or text in ("\x1b[", "\x1bO"):
        return 0
    if text[1] == "O":
        return 3
    if text[1] != "[":
        return 1
    for i, letter in enumerate(text[2:], 2):
        if "@" <= letter <= "~":
            return i + 1
    return 0
