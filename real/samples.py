"""The last samples of one stream, a camera or a topic of numbers, and when not to trust them."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

EARLY = 0.005  # [s] by which a stamp may be ahead of its arrival: clocks are rounded
BACK = 0.5  # [s] by which a stamp or clock has to go back to mean a new beginning
KEEP = 2.0  # [s] of samples of a stream
MOST = 4000  # samples of a stream, at most
FRAMES = 8  # pictures of a camera, at most

Trouble = Literal["missing", "stale", "silent", "skewed", "frozen"]


class StreamError(RuntimeError):
    """No trustworthy observation can be made now; `stream` and `trouble` say why."""

    def __init__(self, stream: str, trouble: Trouble, text: str):
        super().__init__(f"{stream}: {text}")
        self.stream, self.trouble, self.text = stream, trouble, text


@dataclass(frozen=True)
class Limits:
    """When samples of a stream are no longer good enough to act on. 0 switches a limit off."""

    max_age: float = 0.2  # [s] between a tick and the sample's stamp
    max_skew: float = 0.1  # [s] between the sample's stamp and the pictures' instant
    max_silence: float = 1.0  # [s] on the monotonic clock since anything came
    frozen: float = 0.5  # [s] for which a camera may send the very same picture; a simulated one
    # does so at rest, a real one has noise

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name}: expected 0 (off) or more seconds, got {value}")


def slerp(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """The rotation f64[4] wxyz `share` of the way from one to the other, on the shorter arc, at
    constant angular velocity (Shoemake 1985)."""
    a, b = first / np.linalg.norm(first), second / np.linalg.norm(second)
    dot = float(a @ b)
    if dot < 0:  # q and -q are one rotation
        b, dot = -b, -dot
    if dot > 1 - 1e-9:  # as good as the same: the sine below would be 0
        mixed = (1 - share) * a + share * b
        return mixed / np.linalg.norm(mixed)
    angle = math.acos(dot)
    return (math.sin((1 - share) * angle) * a + math.sin(share * angle) * b) / math.sin(angle)


@dataclass(order=True)
class Sample:
    stamp: float
    value: np.ndarray = field(compare=False)


class Stream:
    """Samples of one source in the order of their stamps, the last few seconds of them."""

    def __init__(self, name: str, limits: Limits, most: int):
        self.name, self.limits, self._most = name, limits, most
        self.clear()

    def clear(self) -> None:
        self.samples: list[Sample] = []
        self.heard = -math.inf  # monotonic [s], when the last one came

    def add(self, value: np.ndarray, stamp: float, heard: float) -> None:
        if self.samples and stamp < self.samples[-1].stamp - BACK:
            self.clear()  # the device began anew; what it said before would be newest for ever
        self.heard = heard
        if self.samples and stamp <= self.samples[-1].stamp:
            insort(self.samples, Sample(stamp, value))
        else:
            self.samples.append(Sample(stamp, value))
        old = bisect_right(self.samples, self.samples[-1].stamp - KEEP, key=lambda s: s.stamp)
        del self.samples[: max(old, len(self.samples) - self._most)]

    def newest(self, now: float) -> Sample:
        """Not later than `now`. Raises StreamError where there is none."""
        index = self._after(now)
        if index == 0:
            raise StreamError(self.name, "missing", "nothing has come yet")
        return self.samples[index - 1]

    def nearest(self, instant: float, now: float) -> Sample:
        """The one closest to `instant` of those not later than `now`; there is one."""
        index, end = self._after(instant), self._after(now)
        around = self.samples[max(0, index - 1) : min(index + 1, end)]
        return min(around, key=lambda s: abs(s.stamp - instant))

    def _after(self, instant: float) -> int:
        return bisect_right(self.samples, instant + EARLY, key=lambda s: s.stamp)

    def check_alive(self, now: float, heard: float) -> None:
        sample, limits = self.newest(now), self.limits
        silence, age = heard - self.heard, now - sample.stamp
        if limits.max_silence and silence > limits.max_silence:
            text = f"silent for {silence:.2f} s, expected at most {limits.max_silence:g}"
            raise StreamError(self.name, "silent", text)
        if limits.max_age and age > limits.max_age:
            hint = "; are both on one clock (use_sim_time)?" if age > 60 else ""
            text = f"its newest sample is {age:.3f} s old, expected at most {limits.max_age:g}"
            raise StreamError(self.name, "stale", text + hint)

    def check_skew(self, skew: float) -> None:
        if self.limits.max_skew and abs(skew) > self.limits.max_skew:
            raise StreamError(
                self.name,
                "skewed",
                f"its sample is {abs(skew):.3f} s {'older' if skew > 0 else 'newer'} than the "
                f"pictures, expected at most {self.limits.max_skew:g}",
            )


class CameraStream(Stream):
    """A stream of pictures, which notices that they are always the same one."""

    def __init__(self, name: str, limits: Limits):
        super().__init__(name, limits, FRAMES)

    def clear(self) -> None:
        super().clear()
        self._last: Sample | None = None
        self._since = -math.inf  # monotonic [s], when the present picture first came
        self._still = ""  # what is the same: "" at first

    def add(self, value: np.ndarray, stamp: float, heard: float) -> None:
        last = self._last
        if last is not None and stamp == last.stamp:
            self._still = "stamp"
        elif self.limits.frozen and last is not None and _same(value, last.value):
            self._still = "picture"
        else:
            self._since, self._still = heard, ""
        super().add(value, stamp, heard)
        self._last = Sample(stamp, value)
        if self._since == -math.inf:  # a device that began anew
            self._since = heard

    def check_alive(self, now: float, heard: float) -> None:
        super().check_alive(now, heard)
        same = self.heard - self._since
        if self.limits.frozen and self._still and same > self.limits.frozen:
            text = f"frozen: the very same {self._still} for {same:.2f} s"
            raise StreamError(self.name, "frozen", text)


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    if first.shape != second.shape or not np.array_equal(first[::16, ::16], second[::16, ::16]):
        return False  # as good as always; the rest is not looked at
    return np.array_equal(first, second)


class ValueStream(Stream):
    """A topic of named numbers. A message may carry some of the fields only."""

    def __init__(self, name: str, limits: Limits, fields: tuple[str, ...]):
        super().__init__(name, limits, MOST)
        self.fields = fields
        self._turns = _quaternions(fields)

    def at(self, instant: float) -> tuple[dict[str, float], float]:
        """Every field at `instant`, and the stamp of the last sample that had a say. Linear between
        two samples, rotations on the arc; after the last one what that says."""
        stamps = np.array([s.stamp for s in self.samples])
        table = np.stack([s.value for s in self.samples])
        found, used = np.empty(len(self.fields)), math.inf
        for columns in self._turns:
            known = np.isfinite(table[:, columns]).all(1)
            if not known.any():
                wanted = ", ".join(self.fields[c] for c in columns)
                raise StreamError(self.name, "missing", f"no message had {wanted} yet")
            value, last = _between(stamps[known], table[known][:, columns], instant)
            found[columns], used = value, min(used, last)
        if instant < stamps[0] - EARLY:
            text = f"its first sample is {stamps[0] - instant:.3f} s newer than the pictures"
            raise StreamError(self.name, "missing", text)
        return dict(zip(self.fields, found.tolist())), used


def _between(stamps: np.ndarray, rows: np.ndarray, instant: float) -> tuple[np.ndarray, float]:
    """Rows f64[n, 1] (a number) or f64[n, 4] (a rotation wxyz) at an instant."""
    after = int(np.searchsorted(stamps, instant, "right"))
    if after in (0, len(stamps)):
        edge = min(after, len(stamps) - 1)
        held = rows[edge]
        return held / np.linalg.norm(held) if len(held) == 4 else held, float(stamps[edge])
    first, second = rows[after - 1], rows[after]
    share = (instant - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
    if rows.shape[1] == 4:
        return slerp(first, second, share), instant
    return (1 - share) * first + share * second, instant


def _quaternions(fields: tuple[str, ...]) -> list[list[int]]:
    """Columns that are interpolated together: the four of a rotation wxyz, each other alone.

    Fields `NAME/qw`, `NAME/qx`, `NAME/qy` and `NAME/qz` are one.
    """
    found, place = [], {name: i for i, name in enumerate(fields)}
    taken: set[int] = set()
    for name in fields:
        if name.endswith("/qw"):
            parts = [name[:-1] + axis for axis in "wxyz"]
            if missing := [part for part in parts if part not in place]:
                raise ValueError(f"{name}: a rotation needs {', '.join(missing)}, too")
            found.append([place[part] for part in parts])
            taken.update(found[-1])
    return found + [[i] for i in range(len(fields)) if i not in taken]
