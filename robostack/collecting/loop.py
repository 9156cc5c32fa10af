"""The loop of collecting: poll the device, hear the person, step the robot, record. Any Env, any
device; everything that shows something looks at `status` and `pictures`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np

from robostack.collecting.saving import longest
from robostack.collecting.session import Session
from robostack.collecting.words import MB, counts
from robostack.protocols import Env
from robostack.real.env import LinkError
from robostack.real.samples import StreamError
from robostack.real.teleop.device import Poll, TeleopDevice
from robostack.real.teleop.driver import Drive, Driver
from robostack.rollout import Recorder
from robostack.types import Episode, Step

SHOWN = 8  # findings
UNREACHED = (StreamError, LinkError)  # the robot cannot be seen, or does not do as it is told


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast."""

    max_s: float = 60.0  # of a recording
    pace: float = 1.0  # control periods per period of the clock; 0: as fast as it goes
    lost_s: float = 5.0  # without the device until the recording ends
    task: str = ""  # instruction; "": the environment's own
    drive_always: bool = False  # between recordings, too, e.g. to put things back; unrecorded

    def __post_init__(self) -> None:
        if not (self.max_s > 0 and self.pace >= 0 and self.lost_s > 0):
            raise ValueError(
                f"max_s={self.max_s}, pace={self.pace}, lost_s={self.lost_s}: expected more than "
                "0 (pace: or 0)"
            )


@runtime_checkable
class Looks(Protocol):
    """What a robot adds to an Env, whose scene changes while nobody acts."""

    def look(self) -> Step:
        """What is seen now; nothing is done and no step counted."""


@runtime_checkable
class Dated(Protocol):
    """What a robot adds whose pictures have a stamp of their own."""

    def ages(self) -> dict[str, float]:
        """[s] of the newest picture of each camera."""


@dataclass
class Collector:
    """One robot, one person, one session. `clock` [s] is monotonic; `said` gives the words
    that each press of a key means, where it was on a page or a terminal and not on the device."""

    env: Env
    driver: Driver
    device: TeleopDevice
    session: Session
    config: LoopConfig
    said: Callable[[], list[Sequence[str]]] = list
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    stop: Callable[[], bool] = lambda: False  # whether to end at the next period
    record: Recorder | None = None
    late: int = 0  # periods that took too long
    waits: bool = False  # for the scene to be put back, which may take as long as it takes
    blind: str = ""  # why the robot cannot be seen, between recordings
    astray: str = ""  # why it could not be put back; a recording begins with another try
    left: str = ""  # where a recording is that the end of the session found in memory
    _words: deque = field(default_factory=deque)  # said and not yet heard
    _ticks: deque = field(default_factory=lambda: deque(maxlen=40))

    def run(self, show: Callable[[Collector], None]) -> None:
        """Until the session is over; `show` is called once a period and must be quick. What is
        being recorded when it is interrupted waits in `pending` for the next session."""
        self._back()
        period = 1 / self.env.spec.control_hz / self.config.pace if self.config.pace else 0.0
        due = self.clock()
        try:
            while self.session.state != "over" and not self.stop():
                self.tick()
                show(self)
                due += period
                left = due - self.clock()
                if left > 0:
                    self.sleep(left)
                else:
                    self.late += left < -period / 2
                    due = self.clock()
        finally:
            if self.record is not None and self.record.actions:
                self.session.receive(self._episode()[0])
                self.record = None
            self.left = self.session.leave()

    def tick(self) -> None:
        """One control period."""
        now = self.clock()
        self._ticks.append(now)
        self.poll = self.device.poll(now)
        self.drive = self.driver.act(self.poll, now, self.step.observation.state)
        self._heard_device = now if self.poll.alive else self._heard_device
        order = self._hear(now) or self.session.tick(now)
        if order == "begin":
            order = self._begin(now)
        elif order == "end":
            order = self._stop("", now)
        elif self.record is not None:
            order = self._advance(now)
        elif order != "reset":
            self._between()
        if order == "reset":
            self._put_back()

    def _hear(self, now: float) -> str:
        """The device's words are one press, those from elsewhere a press each."""
        order = self.session.hear(self.drive.events, now)
        self._words.extend(self.said())
        while self._words and not order:  # an order is carried out before the next word counts
            order = self.session.hear(self._words.popleft(), now)
        return order

    def _begin(self, now: float) -> str:
        """Record from here on; what the session orders where the robot is not up to it."""
        try:
            if self.astray:
                self._back()
            if isinstance(self.env, Looks):  # a robot takes a while to begin to obey
                self._act(self.driver.hold)
        except UNREACHED as error:
            return self.session.stopped(None, str(error), now)
        self.record = Recorder(self.env, "demo", self.session.seed, steps=[self.step])
        self._heard_device = self.clock()
        return ""

    def _act(self, action: np.ndarray) -> np.ndarray:
        """One control period of the robot; the action f32[A] that it executed. Where another device
        drove it past this one (`teleop_node`), that is what was demonstrated, and this one goes on
        from there."""
        self.step = self.env.step(action)
        self._seen_at = self.clock()
        if self.step.executed is None:
            return action
        self._heard_device = self._seen_at
        done = np.asarray(self.step.executed, np.float32)
        self.driver.take_over(done)
        return done

    def _between(self) -> None:
        """A period in which nothing is recorded: what is seen stays fresh where it can change. What
        cannot be seen is told; the last picture stays."""
        try:
            if self.config.drive_always:
                self._act(self.drive.action)
            elif isinstance(self.env, Looks):
                self.step = self.env.look()
                self._seen_at = self.clock()
            self.blind = ""
        except UNREACHED as error:
            self.blind = str(error)

    def _advance(self, now: float) -> str:
        """One action of the recording; what the session orders after it."""
        try:
            done = self._act(self.drive.action)
        except UNREACHED as error:  # what was recorded is still good
            return self._stop(str(error), now)
        self.record.actions.append(done)
        self.record.steps.append(self.step)
        seconds = len(self.record.actions) / self.env.spec.control_hz
        if self.step.terminated:
            return self._stop("the task is done" if self.step.success else "the task ended", now)
        if self.step.truncated or seconds >= self.config.max_s:
            return self._stop(f"time is up ({seconds:.0f} s)", now)
        if now - self._heard_device > self.config.lost_s:
            return self._stop(f"the device was lost for {self.config.lost_s:g} s", now)
        return ""

    def _stop(self, why: str, now: float) -> str:
        if not self.record.actions:
            self.record = None
            return self.session.stopped(None, why, now)
        episode, short = self._episode()
        self.session.receive(episode)  # and only then it is let go of here
        self.record = None
        return self.session.stopped(episode, "; ".join(filter(None, (why, short))), now)

    def _episode(self) -> tuple[Episode, str]:
        """What was recorded, and why not all of it, if so."""
        episode, short = longest(self.record)
        if self.config.task:
            episode = replace(episode, task=self.config.task)
        return episode, short

    def _put_back(self) -> None:
        """`_back`, or why not: then it is tried again when a recording is to begin."""
        try:
            self._back()
        except UNREACHED as error:
            self.astray = str(error)

    def _back(self) -> None:
        """To the start of the present seed, with a hand that holds nothing."""
        self.record, self.waits = None, True
        try:
            self.step: Step = self.env.reset(self.session.seed)
        finally:
            self.waits = False
        self.astray, self._seen_at = "", self.clock()
        self.driver.reset()
        self.poll = Poll({}, frozenset(), False)
        self.drive = Drive(self.driver.hold, False, (), "")
        self._heard_device = self.clock()
        begin = getattr(self.device, "begin", None)
        if begin is not None:
            begin()

    # what can be seen ------------------------------------------------------------------------
    @property
    def task(self) -> str:
        return self.config.task or self.step.observation.task

    @property
    def pictures(self) -> dict[str, np.ndarray]:
        """Camera -> uint8[H, W, 3] of now."""
        return self.step.observation.images

    def rate(self) -> float:
        """[Hz] of the last periods."""
        span = self._ticks[-1] - self._ticks[0] if len(self._ticks) > 1 else 0.0
        return (len(self._ticks) - 1) / span if span > 0 else 0.0

    def _ages(self, now: float) -> dict[str, float]:
        """[s] of each camera's picture: by its stamp where the robot tells, else since it was seen.
        None while nothing changes before the cameras of a simulation."""
        if isinstance(self.env, Dated):
            try:
                return {name: round(age, 2) for name, age in self.env.ages().items()}
            except UNREACHED:  # what is shown is the last that there was
                pass
        moves = self.record is not None or self.config.drive_always or isinstance(self.env, Looks)
        return dict.fromkeys(self.pictures, round(now - self._seen_at, 2)) if moves else {}

    def status(self) -> dict:
        """Everything that a screen or a page shows, as JSON can hold it."""
        session, now = self.session, self.clock()
        recorded = len(self.record.actions) if self.record else session.steps
        other = self.step.executed is not None
        return {
            "state": session.state,
            "words": list(session.words()),
            "task": self.task,
            "kept": session.kept,
            "goal": session.config.episodes,
            "trash": len(session.shelves.trash),
            "seed": session.seed,
            "seconds": round(recorded / self.env.spec.control_hz, 2),
            "max_s": self.config.max_s,
            "success": self.step.success if session.state == "recording" else session.success,
            "clean": session.state == "review" and session.clean,
            "unsaved": session.unsaved,
            "findings": [str(f) for f in session.findings[:SHOWN]],
            "found": counts(session.findings),
            "message": session.message or self.astray or self.blind,
            "alive": self.poll.alive,
            "engaged": self.drive.engaged or other,
            "note": "another device drives" if other else self.drive.note,
            "held": sorted(self.poll.buttons),
            "speed": self.driver.speed,
            "arm": self.driver.arms[self.driver.arm].rstrip("_/"),
            "closed": self.driver.closed,
            "rate": round(self.rate(), 1),
            "hz": self.env.spec.control_hz,
            "late": self.late,
            "ages": self._ages(now),
            "free_mb": session.shelves.free() // MB,
        }
