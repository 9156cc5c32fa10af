"""Messages that come when they come, aligned into one look at the robot: live and offline alike.

Every stream (a camera, a topic of joint values) keeps its last samples. `Streams.sample(now)` takes
of every camera the newest frame that is not of the future, and interpolates the proprioception to
the instant of the pictures, because what the arm did since then is not in them. The same calls in
the same order give the same answer, so a bag that is played through here becomes the observations
that a policy would have been given.

Two clocks: stamps and `now` are on the robot's clock (ROS time, simulated or not); `heard` is a
monotonic one, on which a stream that has fallen silent is noticed even if the robot's clock stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from robostack.real.samples import BACK, EARLY, CameraStream, Limits, StreamError, ValueStream

__all__ = ["Limits", "Look", "StreamError", "Streams"]


@dataclass(frozen=True)
class Look:
    """What all streams say of one instant."""

    stamp: float  # [s] of the pictures (the oldest of them), which the values are interpolated to
    images: dict[str, np.ndarray]  # camera -> as it came, uint8[H, W, 3]
    values: dict[str, dict[str, float]]  # topic -> field -> value at `stamp`
    ages: dict[str, float]  # [s] stream -> tick minus the instant that its value is of
    skews: dict[str, float]  # [s] stream -> `stamp` minus that instant


class Streams:
    """All cameras and topics of one robot.

    `cameras` are names, `topics` the fields that are read of each; `limits` by name of the stream,
    which default to Limits(). `warn` is told, once for each stream, of stamps that cannot be, and
    of every clock that jumps back. Not thread-safe: callers hold one lock around it.
    """

    def __init__(
        self,
        cameras: Iterable[str],
        topics: dict[str, tuple[str, ...]],
        limits: dict[str, Limits] | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ):
        given = limits or {}
        self._cameras = {n: CameraStream(n, given.get(n, Limits())) for n in cameras}
        self._values = {n: ValueStream(n, given.get(n, Limits()), f) for n, f in topics.items()}
        both = set(self._cameras) & set(self._values)
        unknown = set(given) - set(self._cameras) - set(self._values)
        if both or unknown:
            raise ValueError(f"streams: named twice {sorted(both)}, limits of none {unknown}")
        self._warn, self._warned = warn, set()
        self._now = -math.inf
        self.jumps = 0  # times that the clock went back

    @property
    def names(self) -> list[str]:
        return [*self._cameras, *self._values]

    def clear(self) -> None:
        """Forget everything: what comes next is another try."""
        for stream in (*self._cameras.values(), *self._values.values()):
            stream.clear()

    def add_image(
        self, camera: str, image: np.ndarray, stamp: float, now: float, heard: float
    ) -> None:
        """A picture uint8[H, W, 3] of the instant `stamp`, which arrived at `now` and `heard`."""
        stream = self._stream(camera, self._cameras)
        self._clock(now)
        stream.add(image, self._plausible(camera, stamp, now), heard)

    def add_values(
        self, topic: str, values: dict[str, float], stamp: float, now: float, heard: float
    ) -> None:
        """Named numbers; those that nobody asked for are ignored, and a message with none of the
        others or with a value that is not finite is dropped whole."""
        stream = self._stream(topic, self._values)
        self._clock(now)
        row = np.array([values.get(name, math.nan) for name in stream.fields], np.float64)
        asked = [values[name] for name in stream.fields if name in values]
        if not np.isfinite(asked).all():
            self._once(topic, "values that are not finite", "such messages are dropped")
        elif asked:
            stream.add(row, self._plausible(topic, stamp, now), heard)

    def check(self, now: float, heard: float) -> None:
        """Raises StreamError naming the stream that is missing, stale, silent or frozen."""
        self._clock(now)
        for stream in (*self._cameras.values(), *self._values.values()):
            stream.check_alive(now, heard)

    def sample(self, now: float, heard: float) -> Look:
        """One look at the tick `now`. Raises StreamError as `check`, or where one is skewed."""
        self.check(now, heard)
        newest = {name: stream.newest(now) for name, stream in self._cameras.items()}
        instant = min((s.stamp for s in newest.values()), default=now)
        frames = {name: s.nearest(instant, now) for name, s in self._cameras.items()}
        read = {name: stream.at(instant) for name, stream in self._values.items()}
        used = {n: f.stamp for n, f in frames.items()} | {n: last for n, (_, last) in read.items()}
        skews = {name: instant - stamp for name, stamp in used.items()}
        for stream in (*self._cameras.values(), *self._values.values()):
            stream.check_skew(skews[stream.name])
        return Look(
            stamp=instant,
            images={name: frame.value for name, frame in frames.items()},
            values={name: values for name, (values, _) in read.items()},
            ages={name: now - stamp for name, stamp in used.items()},
            skews=skews,
        )

    def _stream(self, name: str, among: dict):
        if name not in among:
            raise ValueError(f"no stream {name!r}; there are {', '.join(among) or 'none'}")
        return among[name]

    def _clock(self, now: float) -> None:
        """Notices that time goes back: a bag that is played again, a simulation that is reset."""
        if now < self._now - BACK:
            self._warn(
                f"the clock went back by {self._now - now:.2f} s; all that was seen is forgotten"
            )
            self.jumps += 1
            self.clear()
            self._now = now
        self._now = max(self._now, now)

    def _plausible(self, name: str, stamp: float, now: float) -> float:
        if stamp <= 0 or not math.isfinite(stamp):
            self._once(name, "no stamps", "the time of arrival is taken")
            return now
        if stamp > now + EARLY:
            self._once(name, f"stamps {stamp - now:.3f} s ahead", "the time of arrival is taken")
            return now
        return stamp

    def _once(self, name: str, what: str, done: str) -> None:
        if (name, done) not in self._warned:
            self._warned.add((name, done))
            self._warn(f"{name}: has {what}; {done}")
