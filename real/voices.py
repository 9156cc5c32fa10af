"""What a policy or an operator has said to the arm, and whether it may still be believed."""

from __future__ import annotations

from collections import Counter

import numpy as np

from robostack.real.messages import Chunk
from robostack.real.robot import RobotConfig
from robostack.real.trajectory import Plan

FUTURE = 0.1  # [s] that a stamp may be ahead of our clock
LATELY = 2.5  # ticks ago: the arm went after the plan until now


class Voice:
    """One source: its sign of life and its plan.

    `sign` is a heartbeat or a deadman switch; `limit` [s] is how long its last value counts.
    `counts` is shared with those who report.
    """

    def __init__(self, robot: RobotConfig, limit: float, counts: Counter[str]):
        self.robot, self._limit, self._counts = robot, limit, counts
        kinds = np.array([a.kind for a in robot.actions.values()])
        finer = robot.rate > robot.control_hz
        self._smooth = (kinds == "absolute") | ((kinds != "level") & finer)
        self._period = 1 / robot.control_hz
        self._sign, self._heard = False, -np.inf
        self._since = -np.inf  # ROS time: chunks that answer older observations are not obeyed
        self.plan: Plan | None = None
        self._asked = -np.inf  # ROS time of the last wish
        self._pending: Chunk | None = None
        self.refused = ""  # why the last refused chunk was

    def sign(self, value: bool, heard: float) -> None:
        self._sign, self._heard = value, heard

    def present(self, heard: float) -> bool:
        return self._sign and heard - self._heard <= self._limit

    def flush(self, since: float | None = None) -> None:
        """Forget what was said; with `since`, also what will be said of observations before."""
        self.plan = self._pending = None
        if since is not None:
            self._since = since

    def offer(self, chunk: Chunk, now: float) -> bool:
        """Whether a chunk is obeyed; see ArmController.offer."""
        age = now - chunk.stamp
        if not len(chunk.actions):
            self.flush()
            return True
        wrong = self._wrong(chunk, age)
        if wrong:
            self.refuse(wrong)
            return False
        late = age > min(self.robot.timeouts.chunk, chunk.offsets[-1] + self._period)
        said = [one.stamp for one in (self._pending, self.plan) if one is not None]
        if late or chunk.stamp < max(self._since, *said, -np.inf):
            self._counts["late chunks" if late else "outdated chunks"] += 1
            return False
        self._pending = chunk
        return True

    def _wrong(self, chunk: Chunk, age: float) -> str:
        names = list(self.robot.actions)
        if chunk.actions.ndim != 2 or chunk.actions.shape[1] != len(names):
            return f"expected [H, {len(names)}], got {list(chunk.actions.shape)}"
        if not np.isfinite(chunk.actions).all():
            row, column = np.argwhere(~np.isfinite(chunk.actions))[0]
            return f"{names[column]} of row {row} is not finite"
        if age < -FUTURE:
            return f"its stamp is {-age:.3g} s ahead of this clock"
        return ""

    def refuse(self, why: str) -> None:
        """A chunk was wrong: what was said before it does not count either."""
        self.flush()
        self._counts["refused chunks"] += 1
        self.refused = why

    def wish(self, now: float, motion: np.ndarray) -> np.ndarray | None:
        """The action f64[A] that is due, None without one. `motion` is Safety.motion."""
        if self._pending is not None:
            chunk, self._pending = self._pending, None
            begin = now - 1 / self.robot.rate  # the motion is that of the tick before
            blend = self._blend(now)
            if self.plan is not None and now - self._asked < LATELY / self.robot.rate:
                # in a stream each plan goes on from the last one: from the arm, which is behind it,
                # the two would chase each other, and the arm would never come to rest
                motion = self.plan.motion(begin)
            self.plan = Plan(chunk, self._smooth, self._period, begin, motion, blend)
            self._counts["chunks"] += 1
            self._counts["rows that were late"] += self.plan.late(now)
        self._asked = now
        if self.plan is None:
            return None
        wish = self.plan.at(now)
        if wish is None:
            self.plan = None
            self._counts["underruns"] += 1
        return wish

    def _blend(self, now: float) -> float:
        """How long the arm takes to join a new plan: where it has not yet joined the last one, no
        longer than it had left, or a stream of targets would be gone after ever more slowly."""
        left = 0.0 if self.plan is None else self.plan.joined - now
        return min(max(left, self._period), self.robot.blend) if left > 0 else self.robot.blend
