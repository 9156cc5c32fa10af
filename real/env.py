"""A robot over ROS 2 as an Env: what evaluates and collects in simulation drives it, too."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from robostack.real.robot import RobotConfig
from robostack.real.streams import StreamError
from robostack.types import Observation, Step

HORIZON = 400  # control steps of a try, where nobody said
LOOK = 0.8  # of a control period after an action, so that the next one is there at its end
READY = 15.0  # [s] within which all streams must be trustworthy after a reset
PATIENCE = 2.0  # [s] that a stream may be bad for in a try


class LinkError(RuntimeError):
    """The robot's nodes are not there, or refuse."""


class Link(Protocol):
    """The robot's side of a RosEnv: `robostack.real.nodes.env_link`, or a test's."""

    def now(self) -> float:
        """[s] on the robot's clock."""

    def wait(self, until: float) -> None:
        """Sleep until that time of the robot's clock."""

    def act(self, row: np.ndarray) -> tuple[float, np.ndarray | None]:
        """Have the arm execute one action f32[A]; returns when it was told to, on that clock, and
        what it does instead f32[A] where an operator has taken over."""

    def hold(self) -> None:
        """Drop what is still to be done, and stay."""

    def begin(self, seed: int, ask: bool = True) -> None:
        """Put the scene into its start state, or, with `ask`, have somebody do it; returns when it
        is."""

    def look(self, task: str, began: float) -> Observation:
        """What is seen now; its stamp is the time since `began`. Raises StreamError."""

    def ages(self) -> dict[str, float]:
        """[s] of the newest picture of each camera, by its stamp. Raises StreamError."""

    def verdict(self) -> bool | None:
        """Whether the try has succeeded, as far as anybody said since `begin`."""

    def over(self) -> bool:
        """Whether somebody has ended the try."""

    def judge(self) -> bool | None:
        """Whether it has succeeded, at its end, where somebody can still be asked."""

    def close(self) -> None: ...


class RosEnv:
    """One arm and its scene. Its `reset` puts the scene back through the service `sim/reset` where
    a simulated robot offers it, else it asks the operator to.

    Stamps are seconds since the reset on the robot's clock, at which the arm was looked at. A step
    takes one control period of the arm node, which tells on `executed` what it did; where the
    policy thinks for longer than what is left of one, the arm holds in between. Where an operator
    has taken over, the step tells what was executed, so that rollouts keep that.
    """

    renderer = None  # nobody can draw a real scene

    def __init__(self, config: RobotConfig, task: str, link: Link, horizon: int = 0):
        self.spec, self.task, self.horizon = config.spec, task, horizon or HORIZON
        self.ends = True  # at success; else it runs on to the time limit and only tells of it
        self.asks = True  # an operator to put the scene back; else `reset` takes it as it is
        self._link = link
        self._steps, self._began = 0, 0.0

    @classmethod
    def open(cls, path: str, task: str, horizon: int = 0, namespace: str = "") -> RosEnv:
        """The robot that a file (configs/robot/*.yaml) describes, and whose nodes are in a
        namespace. Needs rclpy."""
        from robostack.real.nodes.env_link import connect
        from robostack.real.paths import find

        config = RobotConfig.load(find(path))
        return cls(config, task, connect(config, namespace=namespace), horizon)

    def reset(self, seed: int) -> Step:
        self._link.hold()
        self._link.begin(seed, self.asks)
        self._steps, self._began = 0, self._link.now()
        seen = self._settle(READY)
        self._began += seen.stamp  # which is 0 then
        return self._step(dataclasses.replace(seen, stamp=0.0))

    def step(self, action: np.ndarray) -> Step:
        """Raises ValueError for a bad action; StreamError where the robot cannot be seen for longer
        than PATIENCE, in which it holds."""
        action = np.asarray(action)
        if action.shape != (self.spec.action_dim,) or not np.isfinite(action).all():
            raise ValueError(
                f"action: expected {self.spec.action_dim} finite numbers "
                f"{self.spec.action_names}, got {action}"
            )
        told, executed = self._link.act(self.spec.clip(action))
        self._link.wait(told + LOOK / self.spec.control_hz)
        try:
            seen = self._link.look(self.task, self._began)
        except StreamError:  # a hiccup, or the end of a camera
            self._link.hold()
            seen = self._settle(PATIENCE)
        self._steps += 1
        return dataclasses.replace(self._step(seen), executed=executed)

    def look(self) -> Step:
        """What is seen now: nothing is done and no step counted. Raises StreamError."""
        return Step(self._link.look(self.task, self._began), False, False, self._link.verdict())

    def ages(self) -> dict[str, float]:
        """[s] of the newest picture of each camera, by its stamp. Raises StreamError."""
        return self._link.ages()

    def plan(self) -> Iterator[np.ndarray]:
        raise ValueError(
            f"{self.spec.robot} is a robot: no scripted expert knows its scene; demonstrate with "
            "`robostack up` and teleoperation, or give --policy"
        )

    def close(self) -> None:
        self._link.close()

    def _step(self, seen: Observation) -> Step:
        success = self._link.verdict()
        terminated = (bool(success) and self.ends) or self._link.over()
        truncated = not terminated and self._steps >= self.horizon
        if truncated or terminated:
            self._link.hold()
        if truncated and success is None:
            success = self._link.judge()
        return Step(seen, terminated, truncated, success)

    def _settle(self, patience: float) -> Observation:
        """The first look at which every stream can be trusted, waited for."""
        end = time.monotonic() + patience
        while True:
            try:
                return self._link.look(self.task, self._began)
            except StreamError as error:
                if time.monotonic() > end:
                    text = f"{error.text}, and that for {patience:g} s"
                    raise StreamError(error.stream, error.trouble, text) from None
            time.sleep(0.02)
