"""What people said of two tries, in a ledger that nothing can take back."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from robostack.prefer.saved import PreferenceError

ANSWERS = ("left", "right", "equal", "skip")


@dataclass(frozen=True)
class Answer:
    """One press of a key."""

    id: str  # the browser's own: the same answer sent twice counts once
    annotator: str
    key: str  # of the question
    left: str  # episode
    right: str
    answer: str  # one of ANSWERS
    seconds: float  # since the pair was shown
    digests: dict[str, str] | None = None  # of both episodes; None: of a version without

    def __post_init__(self) -> None:
        if self.answer not in ANSWERS:
            raise ValueError(f"answer: expected one of {', '.join(ANSWERS)}, got {self.answer!r}")
        for name in ("id", "annotator", "key", "left", "right"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip() or len(value) > 200:
                raise ValueError(f"{name}: expected some text, got {value!r}")
        if self.digests is not None and not self._names_both():
            raise ValueError(
                f"digests: expected one of {self.left} and one of {self.right}, got {self.digests}"
            )

    def _names_both(self) -> bool:
        return (
            isinstance(self.digests, dict)
            and set(self.digests) == {self.left, self.right}
            and all(isinstance(d, str) and 0 < len(d) <= 200 for d in self.digests.values())
        )

    def vote(self) -> dict[str, float] | None:
        """Share of the vote of each episode; None where it was skipped."""
        if self.answer == "skip":
            return None
        left = {"left": 1.0, "right": 0.0, "equal": 0.5}[self.answer]
        return {self.left: left, self.right: 1 - left}


class Ledger:
    """Answers, one a line, each on the disk before it is acknowledged.

    Reading changes nothing. A line that a crash cut short does not count; before the next answer is
    written, it moves to the end of NAME.torn. Later answers of one annotator to one question
    replace earlier ones, which stay in the file.
    Raises PreferenceError for a file that holds something else.
    """

    def __init__(self, path: str | Path):
        self.path, self._lock = Path(path), threading.Lock()
        self.answers: list[Answer] = []
        if self.path.exists():
            self._read()
        self._ids = {answer.id for answer in self.answers}

    def _read(self) -> None:
        *whole, last = self.path.read_text(errors="replace").split("\n")
        for number, line in enumerate(whole, 1):
            try:
                self.answers.append(_answer(line))
            except (ValueError, TypeError) as error:
                raise PreferenceError(
                    f"{self.path}, line {number}: not an answer ({error})"
                ) from None
        if _is_answer(last):
            self.answers.append(_answer(last))
        elif last and not self.answers:
            raise PreferenceError(
                f"{self.path} holds no answer, but {last[:40]!r}; name another file, or move this "
                "one away"
            )

    def add(self, answer: Answer) -> bool:
        """Whether it is new."""
        with self._lock:
            if answer.id in self._ids:
                return False
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # against another page on the same ledger
                self._end_line(file)
                _write(file, _line(answer))
            self.answers.append(answer)
            self._ids.add(answer.id)
            return True

    def _end_line(self, file: BinaryIO) -> None:
        """A last line without an end gets one if it is an answer, and is put aside if not."""
        file.seek(0)
        rest = file.read().rpartition(b"\n")[2]
        if not rest:
            return
        if _is_answer(rest.decode(errors="replace")):
            _write(file, b"\n")
            return
        with self.path.with_name(f"{self.path.name}.torn").open("ab") as aside:
            _write(aside, rest + b"\n")
        file.truncate(file.seek(0, os.SEEK_END) - len(rest))

    def warn_of_unnamed(self, store: Path) -> None:
        """A word about answers that cannot be checked against a store."""
        unnamed = sum(answer.digests is None for answer in self.answers)
        if unnamed:
            print(
                f"warning: {unnamed} answers in {self.path} do not name their store, as those of "
                f"older versions; taken to be about {store}",
                file=sys.stderr,
            )

    def latest(self) -> dict[tuple[str, str], Answer]:
        """By (annotator, question)."""
        with self._lock:
            return {(a.annotator, a.key): a for a in self.answers}


def digest(answers: Iterable[Answer]) -> str:
    """Tells one list of answers from any other."""
    return hashlib.sha256(b"".join(map(_line, answers))).hexdigest()[:16]


def _line(answer: Answer) -> bytes:
    return (json.dumps(asdict(answer)) + "\n").encode()


def _answer(line: str) -> Answer:
    return Answer(**json.loads(line))


def _is_answer(line: str) -> bool:
    try:
        return bool(_answer(line))
    except (ValueError, TypeError):
        return False


def _write(file: BinaryIO, data: bytes) -> None:
    """On the disk when this returns."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
