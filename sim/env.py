"""What all simulated environments share: the loop, the cameras, time, snapshots, experts."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import mujoco
import numpy as np

from robostack.sim.catalog import TASKS, listing, require
from robostack.sim.perturb import Perturbations, check
from robostack.sim.profiles import PROFILES
from robostack.sim.scene import Scene
from robostack.types import Observation, RobotSpec, Step

ROBOTS = ("Panda", "Sawyer", "IIWA", "Jaco", "Kinova3", "UR5e")
CONTROLLERS = ("OSC_POSE", "OSC_POSITION", "JOINT_POSITION", "JOINT_VELOCITY")


@dataclass(frozen=True)
class EnvConfig:
    """Which simulated robot and scene. It is picklable, so that worker processes can build it."""

    task: str = "Lift"  # `robostack tasks` lists them; with `real` any instruction will do
    real: str = ""  # file of a robot (configs/robot/*.yaml) that is driven over ROS 2 instead
    namespace: str = ""  # of its nodes, with `real`: one arm of several
    cameras: dict[str, int] = field(default_factory=dict)  # name -> side [px]; {}: the task's own
    pixels: int = 64  # side of the square images where `cameras` is {}
    horizon: int = 0  # control steps; 0 takes the task's own
    render: str = "lean"  # a key of PROFILES
    control: Literal["auto", "kernel", "stock"] = "auto"  # of robosuite's tasks
    robot: str = "Panda"  # of robosuite's tasks
    controller: str = "OSC_POSE"  # of robosuite's tasks
    perturb: dict[str, float] = field(default_factory=dict)  # axis -> strength

    def __post_init__(self) -> None:
        if self.namespace and not self.real:
            raise ValueError(
                f"env.namespace={self.namespace}: expected none without env.real, the file of a "
                "robot whose nodes it is of"
            )
        if not self.real:
            require("task", self.task, TASKS, listing())
        require("render", self.render, PROFILES)
        require("robot", self.robot, ROBOTS)
        require("controller", self.controller, CONTROLLERS)
        if any(size < 8 for size in self.cameras.values()) or self.pixels < 8:
            raise ValueError(
                f"cameras: expected {{name: size >= 8}} or pixels >= 8, "
                f"got {self.cameras}, pixels={self.pixels}"
            )
        check(self.perturb, self.render)
        if self.horizon < 0:
            raise ValueError(f"horizon: expected 0 or more control steps, got {self.horizon}")

    def views(self, own: tuple[str, ...]) -> dict[str, tuple[int, int]]:
        """Cameras {name: (height, width)} to render, `own` being the task's."""
        if self.render == "none":
            return {}
        return {
            n: (side, side) for n, side in (self.cameras or dict.fromkeys(own, self.pixels)).items()
        }


def make_env(config: EnvConfig) -> SimEnv:
    """The environment of a task, whichever simulator it belongs to. Raises ValueError for a real
    robot, which `robostack.worlds.make_env` opens, too."""
    if config.real:
        raise ValueError(f"env.real={config.real}: a simulation is wanted here; leave it out")
    return TASKS[config.task].environment()(config)


class SimEnv(abc.ABC):
    """A MuJoCo environment as an Env with snapshots. A family of tasks fills in the hooks."""

    instruction: str = ""  # of the present episode
    groups: tuple[int, ...] = (1,)  # of geoms: those that are seen; others collide
    ends: bool = True  # at success; else it runs on to the time limit and only tells of it

    def __init__(self, config: EnvConfig, spec: RobotSpec, horizon: int, renderer):
        self.config, self.spec, self.renderer = config, spec, renderer
        self.horizon = config.horizon or horizon
        self._steps = 0
        self._perturb = Perturbations(config.perturb, self)

    # hooks ---------------------------------------------------------------------------------
    model: mujoco.MjModel
    data: mujoco.MjData
    _suite: Any  # the library's own environment

    @abc.abstractmethod
    def _begin(self, seed: int) -> None:
        """Put robot and objects where the seed says; the same seed, the same start."""

    @abc.abstractmethod
    def _advance(self, action: np.ndarray) -> None:
        """Physics of one control period under a legal action f64[A]."""

    @abc.abstractmethod
    def _state(self) -> np.ndarray:
        """Proprioception f64[S], in the order of the spec's state names."""

    @abc.abstractmethod
    def _keypoints(self) -> dict[str, np.ndarray]:
        """Privileged points f64[3] [m] in the world frame."""

    @abc.abstractmethod
    def _success(self) -> bool: ...

    def _truth(self, success: bool) -> float | None:
        """The simulator's own dense reward in [0, 1], 1 for success; None where it has none."""
        return None

    @abc.abstractmethod
    def _save(self) -> Any:
        """What the future depends on beside MuJoCo's integration state."""

    @abc.abstractmethod
    def _load(self, saved: Any) -> None: ...

    @abc.abstractmethod
    def plan(self, scene: Scene | None = None) -> Iterator[np.ndarray]:
        """Actions f32[A] of a scripted expert that looks at the privileged state as it goes, or at
        a `scene` that differs from it. Raises ValueError where nobody has written one."""

    def other_requests(self) -> list:
        """What else could be asked in the present scene, for `carry_out` of such tasks."""
        return []

    def widen_placement(self, factor: float) -> None:
        """Let objects start in a range `factor` times as wide. Raises ValueError if they cannot."""
        raise ValueError(f"perturb.placement: the starts of {self.config.task} are fixed")

    # the loop ------------------------------------------------------------------------------
    def reset(self, seed: int) -> Step:
        self._begin(seed)
        self._steps = 0
        mujoco.mj_fwdPosition(self.model, self.data)
        self._perturb.begin(seed)
        return self._look()

    def step(self, action: np.ndarray) -> Step:
        self._act(action)
        return self._look()

    def step_unseen(self, action: np.ndarray) -> Step:
        self._act(action)
        return self._look(pictures=False)

    def _act(self, action: np.ndarray) -> None:
        action = np.asarray(action)
        if action.shape != (self.spec.action_dim,) or not np.isfinite(action).all():
            raise ValueError(
                f"action: expected {self.spec.action_dim} finite numbers "
                f"{self.spec.action_names}, got {action}"
            )
        self._advance(self._perturb.act(self.spec.clip(action).astype(float)))
        self._steps += 1

    def _look(self, pictures: bool = True) -> Step:
        # MuJoCo integrates last and leaves the poses one substep behind; this changes no dynamics
        mujoco.mj_fwdPosition(self.model, self.data)
        observation = Observation(
            images=self._perturb.images(self._render(), self._steps) if pictures else {},
            state=self._perturb.state(self._state(), self._steps).astype(np.float32),
            task=self.instruction,
            stamp=self._steps / self.spec.control_hz,
        )
        success = bool(self._success())
        return Step(
            observation=observation,
            terminated=success and self.ends,
            truncated=not (success and self.ends) and self._steps >= self.horizon,
            success=success,
            keypoints={name: np.asarray(p, np.float32) for name, p in self._keypoints().items()},
            truth=self._truth(success),
        )

    def _render(self) -> dict[str, np.ndarray]:
        return {} if self.renderer is None else self.renderer.render(self.data.qpos)

    def snapshot(self) -> tuple:
        """Everything that the future depends on: MuJoCo's integration state (with the solver's
        warm start), where the model's bodies are fastened, and what the family keeps."""
        size = mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_INTEGRATION)
        state = np.empty(size)
        mujoco.mj_getState(self.model, self.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        fastened = self.model.body_pos.copy(), self.model.body_quat.copy()
        return state, fastened, self._steps, self._save(), self._perturb.save()

    def restore(self, snapshot: tuple) -> Step:
        state, fastened, self._steps, saved, perturbed = snapshot
        self.model.body_pos[:], self.model.body_quat[:] = fastened
        self._set(state)
        self._load(saved)
        self._set(state)  # loading may have moved the solver's warm start
        mujoco.mj_fwdPosition(self.model, self.data)
        self._perturb.load(perturbed)
        return self._look()

    def show(self, qpos: np.ndarray, qvel: np.ndarray, steps: int) -> Step:
        """What there is to see in a state that was recorded elsewhere, so many control steps into
        its episode. What the controller remembers stays as it is."""
        self.data.qpos[:], self.data.qvel[:], self._steps = qpos, qvel, steps
        mujoco.mj_forward(self.model, self.data)
        return self._look()

    def _set(self, state: np.ndarray) -> None:
        mujoco.mj_setState(self.model, self.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)

    def close(self) -> None:
        """What a library's environment is made of refers to itself in circles, which would keep a
        hundred MB and more until the collector comes by."""
        if self.renderer is not None:
            self.renderer.close()
        vars(self._suite).clear()


class ScriptedExpert:
    """A task's expert as a Policy that cheats: it reads the environment that it is given.

    `noise` is the standard deviation of Gaussian noise on every action except the gripper's.
    Noisy demonstrations still succeed mostly, and show recoveries.
    """

    def __init__(self, env: SimEnv, noise: float = 0.0):
        if not 0 <= noise < 1:
            raise ValueError(f"noise: expected a standard deviation in [0, 1), got {noise}")
        self.env, self.noise = env, noise
        self._moves = np.array([not name.endswith("gripper") for name in env.spec.action_names])
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._plan = None

    def act(self, observation: Observation) -> np.ndarray:
        if self._plan is None:  # the plan looks at the scene, so it starts after the env's reset
            self._plan = self.env.plan()
        action = next(self._plan, None)
        if action is None:  # out of plan without success: wait for the time limit
            action = np.zeros(self.env.spec.action_dim, np.float32)
        action = action + self.noise * self._rng.standard_normal(len(action)) * self._moves
        return self.env.spec.clip(action)[None]
