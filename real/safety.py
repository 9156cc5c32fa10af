"""Between whoever wants an arm to move and the arm: what goes out is always legal and can stop.

This is a software limit, not a safety-rated one: it does not replace the arm's own protective stop,
an emergency stop button or a risk assessment. It holds for the numbers that are sent; what the arm
makes of them is for its controller.
"""

from __future__ import annotations

import numpy as np

from robostack.real import braking
from robostack.real.fence import guards
from robostack.real.robot import Action, RobotConfig

INSIDE = 1 - 1e-6  # of a limit is used, so that rounding on the wire cannot exceed it
STRAYED = 2.0  # times max_error between command and arm is more than a lag: something is in the way
STUCK = 0.5  # [s] for which an axis may be told to go on and be measured to stay
AGREE = 0.1  # of max_error: samples that differ by less say the same
THERE = 1e-6  # of max_error: closer to where it was to go


class UnsafeAction(ValueError):
    """An action that is not obeyed: its message says what was expected."""


class Safety:
    """Turns wished-for actions into legal ones, one every 1 / rate seconds.

    Every axis of robostack.real.braking: an `absolute` action is the position that the axis goes
    after; a `delta` or `velocity` action is the velocity, because a displacement in every control
    period is one. Limits on position, velocity, acceleration and jerk hold for the differences of
    consecutive commands, across chunks, sources, stops and resets, whatever is asked for, because
    every command leaves a legal way to stop. Nothing here can be switched off. An arm that was
    moved while it rested is gone after within the limits, too (`approach`), by commands that are
    not sent; only the very first command is put to where the arm is (`seed`).

    Where velocities are sent, the robot integrates them and position limits are about the measured
    position, and about where the axis may be if what is measured is late or stands still: from
    both, the displacements still to be commanded until rest stay inside. Outside the limits an axis
    may only move back in. Axes are limited one by one: where one is slowed, the path between the
    ends bends, and the speed along it may be root n times that of an axis. Joints of an arm with a
    fence (robostack.real.fence) are slowed together, so that its points stay in their box.
    """

    def __init__(self, robot: RobotConfig):
        self.robot, self.dt = robot, 1 / robot.rate
        self.names = list(robot.actions)
        actions = list(robot.actions.values())
        self._bounds = np.array([(a.low, a.high) for a in actions], np.float64).T
        level = np.array([a.kind == "level" for a in actions])
        self._level, self._axis = np.flatnonzero(level), np.flatnonzero(~level)
        axes = [a for a in actions if a.kind != "level"]
        self._axes = [self.names[i] for i in self._axis]
        self._moving = np.array([a.kind != "absolute" for a in axes])
        posed = {n for arm in robot.arms.values() if arm.backend == "pose" for n in arm.actions}
        self._integrates = np.array([name in posed for name in self._axes])  # and no robot does
        self._limits = np.array([_limits(a, robot) for a in axes]).reshape(-1, 7)
        states = list(robot.state)
        self._state = np.array([states.index(a.state) if a.state else -1 for a in axes], np.int64)
        self._measures = self._state >= 0
        moved = {a.state for a in axes}  # of those the workspace is a limit of the axis
        self._watched = [
            (n, states.index(n), *span) for n, span in robot.workspace.items() if n not in moved
        ]
        self._sent = np.flatnonzero(self._measures & (self._integrates | ~self._moving))
        self.tolerance = np.full(len(states), np.inf)  # f64[S] between samples of one place
        self.tolerance[self._state[self._sent]] = AGREE * self._limits[self._sent, 6]
        self._goal = np.full(len(self._sent), np.nan)  # of `approach`
        self.needed = sorted({a.state for a in axes if a.state} | set(robot.workspace))
        # a velocity is divided and multiplied again: rounding must not take it out of its bounds
        self._least, self._most = np.where(
            self._moving, self._bounds[:, self._axis], [[-np.inf], [np.inf]]
        )
        self._axes_state = np.zeros((len(axes), 9))  # as braking.step has it
        self._guards = guards(robot.arms, self._axes, self._limits)
        self._command = self._bounds[0].copy()  # levels begin at their lower bound
        self.seeds = 0  # how often it was
        # compiled now (once on a machine, then read from a cache) and not at the first command
        braking.step(
            *(self._moving, self._integrates, self._axes_state.copy(), self._limits),
            *(np.zeros(len(axes)), np.zeros(len(axes)), True),
            *(np.empty(len(axes)), np.zeros(len(axes), np.int64)),
        )
        self._altered = np.zeros(len(axes), np.int64)
        self.clipped = 0  # actions that were out of bounds

    # the measured state ------------------------------------------------------------------
    def seed(self, measured: np.ndarray) -> None:
        """Take the arm where it is, f64[S] in the order of the spec, as the command; at rest.

        Raises UnsafeAction where a state that is needed is not finite.
        """
        at = self._measured(measured)
        missing = [self._axes[i] for i in np.flatnonzero(self._measures & ~np.isfinite(at))]
        if missing:
            raise UnsafeAction(f"the state that measures {', '.join(missing)} is not known")
        x = np.where(self._measures, at, 0.0)
        self._axes_state[:] = np.nan
        self._axes_state[:, 0], self._axes_state[:, [1, 2, 7]] = x, 0.0
        self._axes_state[:, 5] = np.minimum(self._limits[:, 0], x)
        self._axes_state[:, 6] = np.maximum(self._limits[:, 1], x)
        self._command[self._axis] = np.where(self._moving, 0.0, x)
        self._found()

    def _found(self) -> None:
        self.seeds += 1
        for guard in self._guards.values():
            guard.found(self._axes_state)

    @property
    def seeded(self) -> bool:
        return self.seeds > 0

    def displaced(self, measured: np.ndarray) -> list[str]:
        """Actions of which somebody has moved the arm away from the command, further than it lags.

        Within max_error the command stays what it was; a command that went back to a measured
        state that lags would let the arm sink a little at every hold.
        """
        away = set(self.away(measured, 1.0))
        return [name for name in (self._axes[i] for i in self._sent) if name in away]

    def approach(self, measured: np.ndarray) -> bool:
        """A step of the command, at rest at first, to where the arm was moved; True when there.

        `measured` f64[S] is what several samples agree on. The arm is not to be told of these
        commands, which are within the limits: it is where they lead to already.
        """
        at = self._measured(measured)[self._sent]
        if np.isnan(at).any():
            self.step(None, measured)
            return False
        error = self._limits[self._sent, 6]
        if not (np.abs(at - self._goal) <= AGREE * error).all():
            self._goal = at
        for i, goal in zip(self._sent, self._goal):
            state, limits = self._axes_state[i], self._limits[i].copy()
            limits[0], limits[1] = min(limits[0], goal), max(limits[1], goal)
            state[5], state[6] = min(state[5], limits[0]), max(state[6], limits[1])
            braking.follow(state, limits, goal, np.nan, False)
            out = state[1] / limits[5] if self._moving[i] else state[0]
            self._command[self._axis[i]] = min(max(out, self._least[i]), self._most[i])
        left = np.abs(self._axes_state[self._sent, 0] - self._goal)
        there = self.resting and bool((left <= THERE * error).all())
        if there:
            self._goal = np.full(len(self._sent), np.nan)
            self._found()
        return there

    def trust(self) -> None:
        """Somebody has looked: what velocities were to do, and were not seen to, is forgotten."""
        self._axes_state[self._moving & ~self._integrates, 3] = np.nan
        self._axes_state[:, 7] = 0.0

    @property
    def stuck(self) -> list[str]:
        """Actions whose axis is told to go on and has been measured to stay for too long."""
        held = self._axes_state[:, 7] * self.dt > STUCK
        return [self._axes[i] for i in np.flatnonzero(held)]

    @property
    def stops_within(self) -> float:
        """[s] that the slowest axis takes to rest, whatever it is doing."""
        steps = [braking.stopping(*limits[2:5]) for limits in self._limits]
        return max(steps, default=0) * self.dt

    def away(self, measured: np.ndarray, times: float = STRAYED) -> list[str]:
        """Actions whose axis is further than `times` max_error from where it was told to be."""
        error = np.abs(self._axes_state[:, 0] - self._measured(measured))
        return [self._axes[i] for i in np.flatnonzero(error > times * self._limits[:, 6])]

    def outside(self, measured: np.ndarray) -> list[str]:
        """States that no axis is, and that have left the workspace, as `name=value`; unknown ones
        count as outside."""
        values = [(name, measured[i], low, high) for name, i, low, high in self._watched]
        return [f"{n}={v:.4g}" for n, v, low, high in values if not low <= v <= high]

    def _measured(self, measured: np.ndarray) -> np.ndarray:
        return np.where(self._measures, np.asarray(measured, np.float64)[self._state], np.nan)

    # commands ------------------------------------------------------------------------------
    @property
    def limited(self) -> dict[str, int]:
        """Action -> how many commands were not what was wished for, because of a limit."""
        return {name: int(n) for name, n in zip(self._axes, self._altered)}

    @property
    def fenced(self) -> dict[str, int]:
        """Arm -> how many commands were cut back, so that it stays in its box."""
        return {arm: guard.held for arm, guard in self._guards.items()}

    @property
    def at_fence(self) -> list[str]:
        """Arms that the last command kept from leaving their box."""
        return [arm for arm, guard in self._guards.items() if guard.holds]

    @property
    def resting(self) -> bool:
        """Whether no axis moves any more."""
        moving = np.abs(self._axes_state[:, 1:3]) > braking.REST * self._limits[:, 4:5]
        return not moving.any()

    @property
    def motion(self) -> np.ndarray:
        """f64[3, A]: the last command and its first two derivatives, raw units and seconds.

        That of a velocity has no second derivative, and levels have none: 0 stands there.
        """
        x, v, a = self._axes_state[:, :3].T
        moving, gain = self._moving, self._limits[:, 5]
        out = np.zeros((3, len(self.names)))
        out[0] = self._command
        out[1, self._axis] = np.where(moving, a / gain, v) / self.dt
        out[2, self._axis] = np.where(moving, 0.0, a) / self.dt**2
        return out

    @property
    def speed(self) -> np.ndarray:
        """f64[A] [m/s or rad/s] that is commanded; 0 for levels."""
        out = np.zeros(len(self.names))
        out[self._axis] = self._axes_state[:, 1] / self.dt
        return out

    @property
    def placed(self) -> np.ndarray:
        """f64[A] [m or rad]: where axes are after the command, from where it begins at; levels."""
        out = self._command.copy()
        out[self._axis] = self._axes_state[:, 0]
        return out

    @property
    def command(self) -> np.ndarray:
        """f64[A], the last command in raw units of the spec."""
        return self._command.copy()

    def check(self, action: np.ndarray) -> np.ndarray:
        """The wish as f64[A] within bounds. Raises UnsafeAction where it is no action at all."""
        action = np.asarray(action, np.float64)
        if action.shape != (len(self.names),):
            raise UnsafeAction(
                f"expected {len(self.names)} actions ({', '.join(self.names)}), "
                f"got {list(action.shape)}"
            )
        finite = np.isfinite(action)
        if not finite.all():
            bad = ", ".join(self.names[i] for i in np.flatnonzero(~finite))
            raise UnsafeAction(f"expected finite actions, {bad} are not")
        inside = np.minimum(np.maximum(action, self._bounds[0]), self._bounds[1])
        self.clipped += bool((inside != action).any())
        return inside

    def step(self, action: np.ndarray | None, measured: np.ndarray) -> np.ndarray:
        """The command f64[A] for the next 1 / rate seconds.

        `action` f64[A] is in raw units of the spec; None brakes within the limits and then holds.
        `measured` f64[S] has NaN where a state is not known; what needs it brakes. Raises
        UnsafeAction for an action that is none, and moves nothing: call again with None.
        """
        if not self.seeded:
            raise UnsafeAction("seed(measured) first: nobody knows where the arm is")
        wish = self._command if action is None else self.check(action)
        at = self._measured(measured)
        stop = action is None or bool(np.isnan(at[self._measures]).any())
        out, before = np.empty(len(self._axis)), self._axes_state.copy()
        braking.step(
            *(self._moving, self._integrates, self._axes_state, self._limits),
            *(wish[self._axis], at, stop, out, self._altered),
        )
        for guard in self._guards.values():
            if guard.keep(before, self._axes_state):
                out[guard.rows] = self._axes_state[guard.rows, 0]
        if not stop:
            self._command[self._level] = wish[self._level]
        self._command[self._axis] = np.minimum(np.maximum(out, self._least), self._most)
        return self.command


def _limits(action: Action, robot: RobotConfig) -> tuple[float, ...]:
    """A row of limits for braking.step, in units of the command clock."""
    dt = 1 / robot.rate
    gain = {"delta": action.scale * robot.control_hz * dt, "velocity": action.scale * dt}.get(
        action.kind, 1.0
    )
    velocity = INSIDE * action.velocity * dt
    if action.kind != "absolute":
        # rounding may not count as too fast: what is over the bounds is cut from the command, and
        # must be less than what that does to the jerk of a slow axis
        velocity = min(velocity, (1 + 1e-12) * gain * min(action.high, -action.low))
    return (
        *(*robot.allowed(action), velocity, INSIDE * action.acceleration * dt**2),
        *(INSIDE * action.jerk * dt**3, gain, action.max_error or np.inf),
    )
