"""robosuite tasks behind robostack's Env: Panda, OSC_POSE deltas, 20 Hz, lean cameras."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field

import mujoco
import numpy as np

from robostack.sim.render import LeanRenderer
from robostack.sim.scene import Scene
from robostack.sim.tasks import TASKS
from robostack.types import Observation, RobotSpec, Step

CONTROL_HZ = 20
STATE_NAMES = (
    *("gripper_x", "gripper_y", "gripper_z"),
    # the first two columns of the rotation matrix: no sign to flip, unlike a quaternion
    *("gripper_xx", "gripper_xy", "gripper_xz", "gripper_yx", "gripper_yy", "gripper_yz"),
    "gripper_opening",
)
ACTION_NAMES = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")


@dataclass(frozen=True)
class EnvConfig:
    """Which simulated robot and scene. It is picklable, so that worker processes can build it."""

    task: str = "Lift"
    cameras: dict[str, int] = field(  # name -> side of the square image [px]
        default_factory=lambda: {"agentview": 64, "robot0_eye_in_hand": 64}
    )
    horizon: int = 0  # control steps; 0 takes the task's own

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}; valid tasks: {', '.join(TASKS)}")
        if not self.cameras or any(size < 8 for size in self.cameras.values()):
            raise ValueError(f"cameras: expected {{name: size >= 8}}, got {self.cameras}")
        if self.horizon < 0:
            raise ValueError(f"horizon: expected 0 or more control steps, got {self.horizon}")


@contextlib.contextmanager
def _quiet_robosuite():
    """robosuite warns at import and at every reset about things its users need not know."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _make_robosuite(task: str):
    with _quiet_robosuite():
        import robosuite
        from robosuite.controllers import load_composite_controller_config

        controller = load_composite_controller_config(controller="BASIC", robot="Panda")
        controller["body_parts"] = {"right": controller["body_parts"]["right"]}
        return robosuite.make(
            task,
            robots="Panda",
            controller_configs=controller,
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            control_freq=CONTROL_HZ,
            ignore_done=True,
            hard_reset=False,
            seed=0,
        )


class RobosuiteEnv:
    """A robosuite task as an Env with snapshots.

    Physics and controllers are robosuite's own, called substep by substep; what is left out is its
    observation machinery, which would cost as much as the physics.
    """

    def __init__(self, config: EnvConfig):
        self.config, self.task = config, TASKS[config.task]
        self.horizon = config.horizon or self.task.horizon
        self._suite = _make_robosuite(config.task)
        self._robot = self._suite.robots[0]
        self._gripper = self._robot.gripper["right"]
        self._site = self._robot.eef_site_id["right"]
        self._substeps = round(self._suite.control_timestep / self._suite.model_timestep)
        sizes = {name: (size, size) for name, size in config.cameras.items()}
        # the scene as MJCF: asked for at once, because MuJoCo returns the model it compiled last
        self.xml: str = self._suite.sim.model.get_xml()
        self.renderer = LeanRenderer(self.xml, sizes)
        self.spec = RobotSpec(
            robot="Panda",
            state_names=STATE_NAMES,
            action_names=ACTION_NAMES,
            action_low=(-1.0,) * 7,
            action_high=(1.0,) * 7,
            cameras=sizes,
            control_hz=float(CONTROL_HZ),
            conventions={
                "action": "OSC_POSE delta, 1 = 0.05 m or 0.5 rad",
                "frame": "base",
                "gripper": "+1 closes",
                "render": "lean",
            },
        )
        self._steps = 0

    @property
    def scene(self) -> Scene:
        """Privileged view, for scripted experts."""
        return Scene(self._model, self._data, self._site)

    @property
    def _model(self) -> mujoco.MjModel:
        return self._suite.sim.model._model

    @property
    def _data(self) -> mujoco.MjData:
        return self._suite.sim.data._data

    def reset(self, seed: int) -> Step:
        # the placement sampler shares this generator: seed it in place
        self._suite.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        with _quiet_robosuite():
            self._suite.reset()
        self._steps = 0
        return self._look()

    def step(self, action: np.ndarray) -> Step:
        action = np.asarray(action)
        if action.shape != (self.spec.action_dim,) or not np.isfinite(action).all():
            raise ValueError(
                f"action: expected {self.spec.action_dim} finite numbers "
                f"{self.spec.action_names}, got {action}"
            )
        action = self.spec.clip(action).astype(float)
        for substep in range(self._substeps):
            self._suite.sim.step1()
            self._suite._pre_action(action, policy_step=substep == 0)
            self._suite.sim.step2()
        self._steps += 1
        return self._look()

    def _look(self) -> Step:
        # step2 integrates but leaves the poses one substep behind; this stage changes no dynamics
        mujoco.mj_fwdPosition(self._model, self._data)
        position, rotation = self.scene.gripper()
        fingers = self._data.qpos[self._robot._ref_gripper_joint_pos_indexes["right"]]
        state = np.concatenate(
            [position, rotation[:, 0], rotation[:, 1], [fingers[0] - fingers[1]]]
        )
        observation = Observation(
            images=self.renderer.render(self._data.qpos),
            state=state.astype(np.float32),
            task=self.task.instruction,
            stamp=self._steps / CONTROL_HZ,
        )
        success = bool(self._suite._check_success())
        keypoints = {name: self.scene.body(body)[0] for name, body in self.task.bodies.items()}
        keypoints["gripper"] = position
        keypoints["support"] = np.asarray(self._suite.table_offset)  # centre of the table top
        return Step(
            observation=observation,
            terminated=success,
            truncated=not success and self._steps >= self.horizon,
            success=success,
            keypoints={name: point.astype(np.float32) for name, point in keypoints.items()},
        )

    def snapshot(self) -> tuple:
        """Everything that the future depends on: MuJoCo's integration state (with the solver's
        warm start), the gripper's ramp, the step count, and what robosuite's arm controller keeps:
        the posture it leans to and whether its copy of the state is due for an update."""
        size = mujoco.mj_stateSize(self._model, mujoco.mjtState.mjSTATE_INTEGRATION)
        state = np.empty(size)
        mujoco.mj_getState(self._model, self._data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        arm = self._robot.part_controllers["right"]
        kept = arm.initial_joint.copy(), arm.new_update
        return state, self._gripper.current_action.copy(), self._steps, kept

    def restore(self, snapshot: tuple) -> Step:
        state, ramp, steps, kept = snapshot
        arm = self._robot.part_controllers["right"]
        self._set(state)
        for part in self._robot.part_controllers.values():
            part.update(force=True)  # their copies of the state; this runs mj_forward
        arm.initial_joint, arm.new_update = kept[0].copy(), kept[1]
        self._set(state)  # mj_forward has moved the solver's warm start
        self._gripper.current_action = ramp.copy()
        self._steps = steps
        return self._look()

    def _set(self, state: np.ndarray) -> None:
        mujoco.mj_setState(self._model, self._data, state, mujoco.mjtState.mjSTATE_INTEGRATION)

    def close(self) -> None:
        self.renderer.close()


class ScriptedExpert:
    """A task's expert as a Policy that cheats: it reads the environment that it is given.

    `noise` is the standard deviation of Gaussian noise on the six motion dimensions; the gripper
    is left alone. Noisy demonstrations still succeed mostly, and show recoveries.
    """

    def __init__(self, env: RobosuiteEnv, noise: float = 0.0):
        if not 0 <= noise < 1:
            raise ValueError(f"noise: expected a standard deviation in [0, 1), got {noise}")
        self.env, self.noise = env, noise
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._plan = None

    def act(self, observation: Observation) -> np.ndarray:
        if self._plan is None:  # the plan looks at the scene, so it starts after the env's reset
            self._plan = self.env.task.expert(self.env.scene)
        action = next(self._plan, None)
        if action is None:  # out of plan without success: wait for the time limit
            action = np.zeros(self.env.spec.action_dim, np.float32)
        action[:6] += self.noise * self._rng.standard_normal(6)
        return self.env.spec.clip(action)[None]
