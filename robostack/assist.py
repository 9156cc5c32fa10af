"""A hand that leads: an environment in which part of every action is somebody's who knows better.

A policy that is sure of itself and wrong fails in the same way each time, and learns little from
it. With help it comes through, and its rollouts show how: a curriculum of privileged actions that
are withdrawn (arXiv 2502.15442; there a force on the object, of which the robot's own actions know
nothing; here a share of the action, so that what is recorded is what did it). Who leads is the
keypoint program of the task (`robostack.rewards.keypoints.lead`), blended linearly with the policy
(Dragan and Srinivasa, 2013). It sees what only the simulator knows; the policy never does.

Once that is withdrawn a policy still comes to where it knows no further, and stays there until
time is up. `rescue` is for these places: there, and nowhere else, the program takes the hand, as a
person would who watches (HG-DAgger, arXiv 1810.02890), and gives it back when there is progress.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from robostack.protocols import Env
from robostack.rewards.keypoints.affordance import KeypointAffordance, tracked
from robostack.rewards.keypoints.lead import lead
from robostack.rewards.keypoints.tracks import KeypointError
from robostack.types import RobotSpec, Step

PLACE, TURN = ("dx", "dy", "dz"), "rz"
FINGERS = "gripper"
COIN = 1  # so that whose fingers are led does not go with the way in which they are pulled aside
FRAMES = ("base", "world")  # of actions, and both are the keypoints' own in simulation
STILL, MOVED = 0.02, 0.15  # of a task: progress that is none, and that which ends a rescue


@dataclass(frozen=True)
class AssistConfig:
    """How much, and when it is withdrawn."""

    share: float = 0.0  # of the hand's motion that is not the policy's; 0: all of it is
    easy: float = 0.8  # success of an iteration's rollouts above which the share becomes less,
    less: float = 0.25  # by this part of what it was at first
    rescue: int = 0  # steps without progress after which the program takes the hand; 0: it does
    # not. A good grasp takes some 18 of which nothing is seen

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and 0 <= self.easy <= 1 and 0 <= self.less <= 1):
            raise ValueError(f"assist: expected share, easy and less from 0 to 1, got {self}")
        if self.rescue < 0:
            raise ValueError(f"assist: expected rescue of 0 or more steps, got {self.rescue}")

    def after(self, success: list[float]) -> Led:
        """How much in an iteration, from the success of the rollouts of those before it."""
        left = max(0.0, 1 - self.less * sum(rate > self.easy for rate in success))
        return Led(self.share * left, left, self.rescue)


@dataclass(frozen=True)
class Led:
    """What is left of it. A motion can be led by half, fingers cannot: they are in some of the
    rollouts, so that in the others the policy meets what its own do."""

    share: float = 0.0  # of the hand's motion
    fingers: float = 1.0  # of the rollouts, in which they are led, too
    rescue: int = 0  # steps without progress after which all of it is led

    def within(self, env: Env, drawn: int) -> Env:
        """`env` as it is in the rollout whose policy draws from the seed `drawn`."""
        if not (self.share or self.rescue):
            return env
        coin = np.random.default_rng([drawn, COIN])
        fingers = bool(self.share) and coin.random() < self.fingers
        return Assisted(env, self.share, fingers, self.rescue)


ALONE = Led()


class Standstill:
    """Whether a task has come no further for `patience` steps, and from then on until it has."""

    def __init__(self, patience: int):
        self.patience = patience
        self._seen: list[float] = []  # since the last standstill
        self._least: float | None = None  # in this one

    def __call__(self, progress: float) -> bool:
        """After each observation, with the share of the task that is done."""
        if self._least is None:
            self._seen.append(progress)
            before = self._seen[-1 - self.patience :]
            if len(before) > self.patience and progress < before[0] + STILL:
                self._least = progress
        else:
            self._least = min(self._least, progress)
            if progress >= self._least + MOVED:
                self._seen, self._least = [progress], None
        return self._least is not None


class Assisted:
    """`env`, whose steps tell as `executed` what was done in the place of what was asked.

    Where the program has an opinion, the hand goes by `share` its way, and the fingers do what it
    says if they are led. With `rescue` all of it goes its way while there is a `Standstill` of so
    many steps. Raises ValueError for a robot that is not told where its hand shall go,
    and KeypointError where there is no program for the task, or no keypoints.
    """

    def __init__(self, env: Env, share: float, fingers: bool = True, rescue: int = 0):
        self.env, self.spec, self.share, self.fingers = env, env.spec, share, fingers
        self.rescue = rescue
        self._rows, self._fingers = _rows(env.spec)

    def reset(self, seed: int) -> Step:
        return self.begin(self.env.reset(seed))

    def begin(self, step: Step) -> Step:
        """Go on from where `env` is; `step` is what it has just told. What was before is unknown:
        a program takes the scene as it finds it."""
        if not step.keypoints:
            raise KeypointError("assist needs keypoints, and this environment tells none")
        self._program = KeypointAffordance().program(step.observation.task)
        self._states, self._points = [], {name: [] for name in step.keypoints}
        self._standstill, self._stuck, self._alone = Standstill(self.rescue), False, 0
        return self._see(step)

    def step(self, action: np.ndarray) -> Step:
        done = self._led(action)
        step = self._see(self.env.step(done))
        return step if np.array_equal(done, action) else replace(step, executed=done)

    def _led(self, action: np.ndarray) -> np.ndarray:
        self._alone = self._alone + 1 if self._stuck else 0
        told, done = lead(self._program, self._tracks, self._alone), self.spec.clip(action)
        share, fingers = (1.0, True) if self._stuck else (self.share, self.fingers)
        wanted = told.way / self.spec.unit("m")
        if len(self._rows) > len(PLACE):
            wanted = np.append(wanted, told.turn / self.spec.unit("rad"))
        own = done[self._rows]
        blend = own + share * (np.clip(wanted, -1, 1) - own)
        done[self._rows] = np.where(np.isfinite(wanted), blend, own)
        if fingers and np.isfinite(told.fingers):
            done[self._fingers] = told.fingers
        return self.spec.clip(done)

    def _see(self, step: Step) -> Step:
        self._states.append(step.observation.state)
        for name, seen in self._points.items():
            seen.append(step.keypoints[name])
        points = {name: np.stack(seen) for name, seen in self._points.items()}
        told = np.stack(self._states), step.observation.task, self.spec
        self._tracks = tracked(points, *told)
        if self.rescue:
            done = self._program.progress(self._tracks)[-1]
            self._stuck = self._standstill(float(done @ self._program.shares))
        return step

    def close(self) -> None:
        self.env.close()


def _rows(spec: RobotSpec) -> tuple[list[int], int]:
    """Of the actions, those that move the hand along x, y and z and, where it can be, turn it
    about the vertical, and the fingers'."""
    names = spec.action_names
    missing = [name for name in (*PLACE, FINGERS) if name not in names]
    if missing or spec.conventions.get("frame") not in FRAMES or spec.unit("m") is None:
        raise ValueError(
            f"assist leads a hand that is told where to go by {', '.join(PLACE)} [m] and {FINGERS} "
            f"in the frame {' or '.join(FRAMES)}; {spec.robot} has {', '.join(names)} and "
            f"{spec.conventions}"
        )
    turns = [names.index(TURN)] if TURN in names and spec.unit("rad") else []
    return [names.index(name) for name in PLACE] + turns, names.index(FINGERS)
