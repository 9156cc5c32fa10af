"""How well a robot's streams and nodes are, in the words of diagnostic_msgs."""

from __future__ import annotations

import math
import statistics
import threading
from collections import deque
from dataclasses import dataclass, field

from robostack.real.rates import Rate
from robostack.real.robot import RobotConfig

OK, WARN, ERROR, STALE = range(4)  # DiagnosticStatus.level
SILENT = 1.0  # [s] without a message, or three periods of a slow topic: STALE
RECENT = 200  # messages whose ages are looked at
LONG = 0.3  # [s] that somebody may be silent for; more is to be said aloud
SLOW = 0.15  # [s] to a rest, likewise


@dataclass(frozen=True)
class Health:
    """What is said of one thing on /diagnostics."""

    level: int
    message: str
    values: dict[str, float] = field(default_factory=dict)


class Pulse:
    """Rate and ages of one topic. `hz` is expected of it; 0: nothing is. A message older than
    `max_age` [s] on arrival is an error; 0: none is."""

    def __init__(self, hz: float = 0.0, max_age: float = 0.0, least: float = 0.8):
        self.expected, self.max_age, self.least = hz, max_age, least
        self.rate, self.count = Rate(), 0
        self._ages: deque[float] = deque(maxlen=RECENT)
        self._lock = threading.Lock()

    def tick(self, heard: float, age: float = math.nan) -> None:
        """A message came at `heard` on a monotonic clock, `age` [s] after its stamp."""
        self.rate.tick(heard)
        with self._lock:
            self.count += 1
            if math.isfinite(age):
                self._ages.append(age)

    def health(self, now: float) -> Health:
        with self._lock:
            ages = sorted(self._ages)
        hz, silence = self.rate.hz(now), self.rate.age(now)
        values = {"hz": hz, "expected_hz": self.expected, "count": float(self.count)}
        text = f"{hz:.1f} Hz"
        if ages:
            median, worst = statistics.median(ages), ages[-1]
            values |= {"age_ms_median": 1e3 * median, "age_ms_max": 1e3 * worst}
            text += f", {1e3 * median:.0f} ms old (at most {1e3 * worst:.0f})"
        if not self.expected:
            return Health(OK, text if self.count else "nothing came", values)
        if not self.count:
            return Health(STALE, f"nothing came, expected {self.expected:g} Hz", values)
        if silence > max(SILENT, 3 / self.expected):
            return Health(STALE, f"silent for {silence:.1f} s", values)
        if self.max_age and ages and median > self.max_age:
            return Health(ERROR, f"{text}; expected at most {1e3 * self.max_age:.0f} ms", values)
        if hz < self.least * self.expected:
            return Health(WARN, f"{text}; expected {self.expected:g} Hz", values)
        return Health(OK, text, values)


def summary(parts: dict[str, Health]) -> Health:
    """The worst of several, by name; a stale one is as bad as an error."""
    order = {OK: 0, WARN: 1, STALE: 2, ERROR: 3}
    bad = {name: part for name, part in parts.items() if part.level != OK}
    if not bad:
        return Health(OK, f"{len(parts)} are well")
    level = max((part.level for part in bad.values()), key=order.__getitem__)
    worst = sorted(bad, key=lambda name: -order[bad[name].level])
    return Health(level, "; ".join(f"{name}: {bad[name].message}" for name in worst))


def doubts(robot: RobotConfig, stops_within: float) -> list[str]:
    """What a robot's file allows that a careful one would not; an arm takes `stops_within` [s]."""
    found = []
    if stops_within > SLOW:
        found.append(
            f"it takes up to {stops_within:.2f} s to come to rest: less speed or more jerk"
        )
    for key in ("state", "alive", "deadman", "blind", "device"):
        limit = getattr(robot.timeouts, key)
        if limit > LONG:
            found.append(f"timeouts.{key} is {limit:g} s, in which nobody notices")
    if not robot.timeouts.estop:
        found.append("timeouts.estop is 0: an emergency stop that is unplugged is not noticed")
    return found
