"""Folders that one process writes at a time. Reading needs nothing of this."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path

from robostack.data.store import StoreError

LOCK = "writer.lock"  # in the folder, while somebody writes it


class Hold:
    """A folder of which this is the only writer, until `release` or the end of the process, however
    it comes: the system lets go of what a killed one held. Raises StoreError where another one
    holds it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._file = _locked(folder)
        with contextlib.suppress(OSError):  # a full disk; it only tells who it is
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n{_command()}\n".encode())

    def release(self) -> None:
        file, self._file = self._file, -1
        if file < 0:
            return
        if _is(file, self.folder / LOCK):  # else somebody has removed the folder since
            (self.folder / LOCK).unlink()
        os.close(file)

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            os.close(self._file)


def _locked(folder: Path) -> int:
    """The open lock file of a folder, which nobody else can lock."""
    while True:
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = _who(os.read(file, 500).decode(errors="replace"))
            os.close(file)
            raise StoreError(
                f"{folder} is being written by another process {who}; stop that one, or give "
                "another --out"
            ) from None
        except OSError as error:  # some network disks
            print(
                f"{folder}: this disk knows no locks ({error.strerror}); see to it yourself that "
                "nobody else writes there",
                file=sys.stderr,
            )
            return file
        if _is(file, folder / LOCK):
            return file
        os.close(file)  # whoever held it has just removed it


def _is(file: int, path: Path) -> bool:
    """Whether an open file is the one that is at `path`."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _command() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:400]


def _who(told: str) -> str:
    """Whoever wrote the lock file, in words."""
    number, _, command = told.strip().partition("\n")
    return f"({number or 'unknown'})" + (f", `{command}`" if command else "")
