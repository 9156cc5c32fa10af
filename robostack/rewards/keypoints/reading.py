"""Dataclasses from plain data that anyone may have written: a file, a person, a language model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from robostack.rewards.keypoints.tracks import KeypointError

Length = float  # annotation of a field that must be above 0
Reader = Callable[[Any, str], Any]  # value, where it stands -> value; raises KeypointError


def read_fields(cls: type, raw: Any, where: str, readers: Mapping[str, Reader]) -> Any:
    """An instance of the dataclass `cls`, each field read by the reader of its annotation.

    Raises KeypointError that begins with `where` for a key that is unknown or missing.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if not isinstance(raw, dict):
        raise KeypointError(f"{where}: expected {{{', '.join(fields)}}}, got {raw!r}")
    unknown = sorted(str(key) for key in raw if key not in fields)
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in raw]
    if unknown or missing:
        what = f"unknown key {unknown[0]!r}" if unknown else f"{missing[0]!r} is missing"
        raise KeypointError(f"{where}: {what}; the keys are: {', '.join(fields)}")
    return cls(**{n: readers[str(fields[n].type)](v, f"{where}: {n}") for n, v in raw.items()})


def _word(raw: Any, where: str) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise KeypointError(f"{where}: expected a word, got {raw!r}")
    return raw


def _number(raw: Any, where: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not math.isfinite(raw):
        raise KeypointError(f"{where}: expected a finite number, got {raw!r}")
    return float(raw)


def _length(raw: Any, where: str) -> float:
    if _number(raw, where) <= 0:
        raise KeypointError(f"{where}: expected a number above 0, got {raw!r}")
    return float(raw)


PRIMITIVE: dict[str, Reader] = {"str": _word, "float": _number, "Length": _length}


def several(read: Reader, least: int) -> Reader:
    """The reader of a list of `least` or more, as a tuple."""

    def read_all(raw: Any, where: str) -> tuple:
        if not isinstance(raw, (list, tuple)) or len(raw) < least:
            raise KeypointError(f"{where}: expected a list of {least} or more, got {raw!r}")
        return tuple(read(one, f"{where}[{i}]") for i, one in enumerate(raw))

    return read_all
