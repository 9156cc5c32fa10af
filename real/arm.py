"""Who moves the arm and what it is told, tick by tick; all clocks are arguments.

`now` is the ROS clock, which stamps and chunks are on; `heard` is a monotonic clock, which ages are
measured with: a clock that is set, or a bag that begins anew, must not make old news fresh.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from robostack.real.measuring import Measured
from robostack.real.messages import Chunk
from robostack.real.robot import RobotConfig
from robostack.real.safety import Safety
from robostack.real.voices import Voice

HOLD, POLICY, OPERATOR, STOP = range(4)  # sources, as `executed` tells them
JUMP = 0.5  # [s] that the ROS clock may gain on the monotonic one between two ticks
FROZEN = 0.25  # [s] without any progress of the ROS clock
SETTLED = 0.5  # [s] at rest after which an arm is where it was measured, and lags no more
QUIET = 1.0  # [s] at rest after which a holding arm is told no more


@dataclass(frozen=True)
class Command:
    """What one tick decided."""

    action: np.ndarray  # f64[A] raw units of the spec
    motion: np.ndarray  # f64[3, A]: it and its derivatives, see Safety.motion
    speed: np.ndarray  # f64[A] [m/s or rad/s], 0 for levels
    placed: np.ndarray  # f64[A] [m or rad], see Safety.placed
    began: bool  # the first that is sent since it was put to where the arm was measured
    source: int  # one of HOLD, POLICY, OPERATOR, STOP
    reason: str  # why it holds or stops; "" while somebody moves it
    send: bool  # False: the arm is at rest and has been told so often enough
    executed: np.ndarray | None  # f64[A] of the control period that ends here, for the record


@dataclass
class Causes:
    """Why the arm is stopped, which outlasts the causes until somebody resets it."""

    latched: dict[str, str] = field(default_factory=dict)  # kind -> what happened
    pressed: bool = False  # the last word on `estop`
    heard: float = -np.inf  # when that came


class ArmController:
    """Emergency stop over operator over policy; who is silent, late or wrong is not obeyed.

    Whatever happens, `tick` returns a command that robostack.real.safety has made legal. Methods
    may be called from any thread.
    """

    def __init__(self, robot: RobotConfig):
        self.robot, self.safety = robot, Safety(robot)
        self.enabled = robot.enabled
        self.counts: Counter[str] = Counter()
        self.policy = Voice(robot, robot.timeouts.alive, self.counts)
        self.operator = Voice(robot, robot.timeouts.deadman, self.counts)
        self.causes = Causes()
        self.reason = "not measured yet"
        self.measured = Measured(list(robot.state), robot.timeouts.state, self.safety.tolerance)
        self._following = False  # the command goes after an arm that was moved while it rested
        kinds = np.array([a.kind for a in robot.actions.values()])
        self._lasting = (kinds == "absolute") | (kinds == "level")  # the last of a period counts
        self._per_period = round(robot.rate / robot.control_hz)
        self._period: list[np.ndarray] = []
        self._last: tuple[float, float] | None = None  # now, heard of the tick before
        self._advanced = -np.inf  # when `now` was last seen to advance
        self._rested = -np.inf  # since when it is at rest
        self._moved, self._seeds = False, 0
        self._lock = threading.RLock()

    # what is heard ------------------------------------------------------------------------
    def measure(self, values: Mapping[str, float], heard: float, stamp: float = 0.0) -> None:
        """States by name, of the instant `stamp` on the driver's clock; 0: it gives none.

        One that is not finite counts as not heard, and so does one whose stamp is not later than
        its last: a driver that hangs may repeat its last message for ever.
        """
        with self._lock:
            self.measured.hear(values, heard, stamp)

    def alive(self, value: bool, heard: float) -> None:
        with self._lock:
            self.policy.sign(value, heard)

    def deadman(self, value: bool, heard: float) -> None:
        with self._lock:
            self.operator.sign(value, heard)

    def estop(self, pressed: bool, heard: float) -> None:
        with self._lock:
            self.causes.pressed, self.causes.heard = pressed, heard
            if pressed:
                self.trip("estop", "the emergency stop was pressed")

    def offer(self, chunk: Chunk, now: float, operator: bool = False) -> bool:
        """A chunk of the policy or the operator; False where it is not obeyed.

        A chunk that is too old, or older than the one before, is passed over. One that is wrong
        discredits what was said before it, too: then the arm holds until a right one comes.
        """
        with self._lock:
            return self._voice(operator).offer(chunk, now)

    def refuse(self, why: str, operator: bool = False) -> None:
        """A message that was meant to be a chunk is none."""
        with self._lock:
            self._voice(operator).refuse(why)

    def _voice(self, operator: bool) -> Voice:
        return self.operator if operator else self.policy

    def _flush(self, since: float | None = None) -> None:
        self.policy.flush(since)
        self.operator.flush(since)

    # what people and programs ask for -------------------------------------------------------
    def trip(self, kind: str, what: str) -> None:
        """Stop, and stay stopped until `reset`. `kind` names the cause, e.g. "estop"."""
        with self._lock:
            self.causes.latched.setdefault(kind, what)
            self._flush()

    def reset(self, now: float, heard: float) -> None:
        """Leave an emergency stop, to a hold. Raises ValueError while a cause is still there."""
        with self._lock:
            if not self.causes.latched:
                return
            there = self._present(heard)
            if there:
                raise ValueError(f"still there: {'; '.join(there)}")
            self.causes.latched.clear()
            self._flush(now)
            self.safety.trust()
            self._following = self.safety.seeded  # it begins anew, where the arm is

    def _present(self, heard: float) -> list[str]:
        """Causes for a stop, or against ending it, that are there now."""
        there = []
        if self.causes.pressed:
            there.append("the emergency stop is pressed")
        if self._heartless(heard):
            there.append("the heartbeat on `estop` is not heard")
        stale = self._stale(heard)
        if stale:
            there.append(f"not measured: {', '.join(stale)}")
        if self.safety.seeded and not self.safety.resting:
            there.append("the arm has not come to rest yet")
        return there

    def enable(self, on: bool, now: float) -> None:
        """Whether anybody is obeyed. Off is a hold."""
        with self._lock:
            self.enabled = on
            self._flush(now)

    # the tick -----------------------------------------------------------------------------
    def tick(self, now: float, heard: float) -> Command:
        """What the arm is told for the next 1 / rate seconds."""
        with self._lock:
            self._watch_clock(now, heard)
            measured = self.measured.now(heard)
            if not self.safety.seeded:
                unknown = self._begin(heard)
                if unknown:
                    source = STOP if self.causes.latched else HOLD
                    return self._say(source, f"not measured yet: {unknown}", heard, send=False)
            self._watch_causes(measured, heard)
            source, reason = self._who(measured, now, heard)
            moved = self._look_after(measured, heard)
            wish = None
            if source in (POLICY, OPERATOR) and moved:
                source, reason = HOLD, moved
            elif source in (POLICY, OPERATOR):
                wish = self._voice(source == OPERATOR).wish(now, self.safety.motion)
                if wish is None:
                    who = "operator" if source == OPERATOR else "policy"
                    source, reason = HOLD, f"the {who} has no plan"
            self._moved, silent = wish is not None, self._following
            if self._following:
                self._following = not self.safety.approach(self.measured.agreed(heard))
            else:
                self.safety.step(wish, measured)
            return self._say(source, reason, heard, send=not silent)

    def _begin(self, heard: float) -> str:
        """Takes the arm where its samples agree that it is. -> what is not known for that."""
        agreed = self.measured.agreed(heard)
        unknown = self._differing(agreed)
        if not unknown:
            self.safety.seed(agreed)
        return ", ".join(self._stale(heard)) or unknown

    def _look_after(self, measured: np.ndarray, heard: float) -> str:
        """Whether the arm was moved while it rested: then the command goes after it, untold. One
        sample alone may say so, and nobody moves it; several have to before anything follows. ->
        why nobody may move it yet"""
        if self._moved or not self._following and heard - self._rested <= SETTLED:
            return ""  # it may lag
        moved = self.safety.displaced(measured)
        if not (moved or self._following):
            return ""
        agreed = self.measured.agreed(heard)
        self._following |= bool(self.safety.displaced(agreed))
        if not self._following:
            return f"{', '.join(moved)}: measured far from where it was left"
        return self._differing(agreed) or "the arm was moved; its command follows"

    def _differing(self, agreed: np.ndarray) -> str:
        at = dict(zip(self.measured.column, agreed))
        names = [name for name in self.safety.needed if np.isnan(at[name])]
        return f"{', '.join(names)}, its samples do not agree" if names else ""

    def _say(self, source: int, reason: str, heard: float, send: bool) -> Command:
        self.reason = reason
        action = self.safety.command
        if self._moved or not (self.safety.resting or self._following):
            self._rested = heard
        executed = None
        if self.safety.seeded:
            self._period.append(action)
        if len(self._period) == self._per_period:
            executed = np.where(self._lasting, action, np.mean(self._period, axis=0))
            self._period = []
        send = send and heard - self._rested <= QUIET
        began = self.safety.seeds > self._seeds
        if send:
            self._seeds = self.safety.seeds
        return Command(
            action,
            *(self.safety.motion, self.safety.speed, self.safety.placed, began),
            *(source, reason, send, executed),
        )

    def _watch_clock(self, now: float, heard: float) -> None:
        before, self._last = self._last, (now, heard)
        if before is None or now > before[0]:
            self._advanced = heard
        if before is not None and not 0 <= now - before[0] <= heard - before[1] + JUMP:
            self.counts["clock jumps"] += 1
            self._flush(now)

    def _stale(self, heard: float) -> list[str]:
        return self.measured.stale(heard, self.safety.needed)

    def _repeating(self, heard: float) -> str:
        names = self.measured.repeated(heard, self.safety.needed)
        return f" (the stamps of {', '.join(names)} stand still)" if names else ""

    def _heartless(self, heard: float) -> bool:
        limit = self.robot.timeouts.estop
        return limit > 0 and heard - self.causes.heard > limit

    def _watch_causes(self, measured: np.ndarray, heard: float) -> None:
        if self._heartless(heard):
            self.trip("heartbeat", "the heartbeat on `estop` was lost")
        moving = not self._following and (self._moved or not self.safety.resting)
        away = self.safety.away(measured) if moving else []
        if away:
            self.trip("strayed", f"{', '.join(away)}: the arm is not where it was told to be")
        if self.safety.stuck:
            names = ", ".join(self.safety.stuck)
            self.trip("stuck", f"{names}: told to move, and measured to stay")

    def _who(self, measured: np.ndarray, now: float, heard: float) -> tuple[int, str]:
        """Who may move the arm, or why nobody may."""
        held = self.operator.present(heard)
        if held:
            self.policy.flush(now)  # it has to look again afterwards
        else:
            self.operator.flush()
        alive = self.policy.present(heard)
        if not alive:
            self.policy.flush()
        if self.causes.latched:
            return STOP, "; ".join(self.causes.latched.values())
        why = self._nobody(heard)
        if why:
            self._flush()
            return HOLD, why
        if held:
            return OPERATOR, ""
        if not alive:
            return HOLD, "the policy is silent"
        outside = self.safety.outside(measured)
        if outside:
            self.policy.flush(now)
            return HOLD, f"outside the workspace: {', '.join(outside)}"
        return POLICY, ""

    def _nobody(self, heard: float) -> str:
        """Why nobody is obeyed; "" where somebody may be."""
        if not self.enabled:
            return "not enabled"
        stale = self._stale(heard)
        if stale:
            self.counts["ticks without a state"] += 1
            return f"not measured: {', '.join(stale)}{self._repeating(heard)}"
        if heard - self._advanced > FROZEN:
            return "the clock stands still"
        return ""
