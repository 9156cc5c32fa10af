"""robosuite's tasks behind robostack's Env: its models, controllers and success, run faster."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import numpy as np

from robostack.sim.control import KernelControl, StockControl, misfit
from robostack.sim.env import EnvConfig, SimEnv
from robostack.sim.perturb import dressed
from robostack.sim.profiles import make_renderer
from robostack.sim.scene import Scene
from robostack.sim.tasks import TASKS
from robostack.sim.tasks.task import Task
from robostack.types import CONTACTS, RobotSpec

CONTROL_HZ = 20
FACE = 0.02  # [m] from the middle of what is taken to where a finger touches it
log = logging.getLogger(__name__)
_POSE = (
    *("gripper_x", "gripper_y", "gripper_z"),
    # the first two columns of the rotation matrix: no sign to flip, unlike a quaternion
    *("gripper_xx", "gripper_xy", "gripper_xz", "gripper_yx", "gripper_yy", "gripper_yz"),
)
_ASKS = {  # controller -> names of an arm's actions, and what 1 asks for
    "OSC_POSE": (("dx", "dy", "dz", "rx", "ry", "rz"), "OSC_POSE delta, 1 = 0.05 m or 0.5 rad"),
    "OSC_POSITION": (("dx", "dy", "dz"), "OSC_POSITION delta, 1 = 0.05 m"),
    "JOINT_POSITION": ((), "joint position delta, 1 = 0.05 rad"),
    "JOINT_VELOCITY": ((), "joint velocity, 1 = 0.5 rad/s"),
}


@contextlib.contextmanager
def quiet_robosuite():
    """robosuite warns at import and at every reset about things its users need not know."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def make_suite(task: str, robot: str = "Panda", controller: str = "OSC_POSE", arms: int = 1):
    """The robosuite environment, without its cameras."""
    with quiet_robosuite():
        import robosuite
        from robosuite.controllers import (
            load_composite_controller_config,
            load_part_controller_config,
        )

        composite = load_composite_controller_config(controller="BASIC", robot=robot)
        arm = composite["body_parts"]["right"]
        if controller != arm["type"]:
            part = load_part_controller_config(default_controller=controller)
            arm = part | {"gripper": arm["gripper"]}
        composite["body_parts"] = {"right": arm}
        return robosuite.make(
            task,
            robots=[robot] * arms,
            controller_configs=[composite] * arms,
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            control_freq=CONTROL_HZ,
            ignore_done=True,
            hard_reset=False,
            seed=0,
        )


class RobosuiteEnv(SimEnv):
    """A robosuite task. Models, tasks, controller parameters and success are robosuite's own; the
    control loop is the compiled kernel where it is the same law (robostack.sim.control), else
    robosuite's, and a line on stderr says why. Its observation machinery is left out: it would
    cost as much as the physics."""

    def __init__(self, config: EnvConfig):
        self.task = self._find_task(config.task)
        self._suite = self._make_suite(config)
        # the scene as MJCF: asked for at once, because MuJoCo returns the model it compiled last
        self.xml: str = self._suite.sim.model.get_xml()
        self.control = self._choose_control(config)
        cameras = config.views(self.task.cameras)
        renderer = make_renderer(config.render, dressed(self.xml, config.perturb), cameras)
        super().__init__(config, self._describe(config, cameras), self.task.horizon, renderer)
        self.instruction = self.task.instruction

    def _find_task(self, name: str) -> Task:
        return TASKS[name]

    def _make_suite(self, config: EnvConfig):
        return make_suite(config.task, config.robot, config.controller, self.task.arms)

    def _choose_control(self, config: EnvConfig):
        if config.control == "stock":
            return StockControl(self._suite)
        reason = misfit(self._suite)
        if reason is None:
            return KernelControl(self._suite)
        if config.control == "kernel":
            raise ValueError(f"control=kernel does not fit {config.task}: {reason}")
        log.warning("%s runs robosuite's own, slower control loop: %s", config.task, reason)
        return StockControl(self._suite)

    def _arms(self):
        for robot in self._suite.robots:
            for arm in robot.arms:
                yield robot, arm

    def _fingers(self, robot, arm: str) -> list[int]:
        return robot._ref_gripper_joint_pos_indexes.get(arm) or []

    def _describe(self, config: EnvConfig, cameras: dict) -> RobotSpec:
        states, actions = [], []
        moves, action = _ASKS[config.controller]
        for number, (robot, arm) in enumerate(self._arms()):
            prefix = f"robot{number}_" if self.task.arms > 1 else ""
            fingers = self._fingers(robot, arm)
            names = list(_POSE)
            if fingers:
                two = len(fingers) == 2
                names += ["gripper_opening"] if two else [f"finger{i}" for i in range(len(fingers))]
            states += [prefix + name for name in names]
            joints = len(robot.part_controllers[arm].qpos_index)
            asked = moves or [f"joint{i}" for i in range(joints)]
            actions += [prefix + name for name in [*asked, *(["gripper"] if fingers else [])]]
        return RobotSpec(
            robot=" + ".join([config.robot] * self.task.arms),
            state_names=tuple(states),
            action_names=tuple(actions),
            action_low=(-1.0,) * len(actions),
            action_high=(1.0,) * len(actions),
            cameras=cameras,
            control_hz=float(CONTROL_HZ),
            conventions={
                "action": action,
                "frame": "base",
                "gripper": "+1 closes",
                "render": config.render,
            },
        )

    @property
    def scene(self) -> Scene:
        """Privileged view, for scripted experts."""
        robot = self._suite.robots[0]
        return Scene(self.model, self.data, robot.eef_site_id["right"])

    @property
    def model(self):
        return self._suite.sim.model._model

    @property
    def data(self):
        return self._suite.sim.data._data

    def _begin(self, seed: int) -> None:
        # the placement sampler shares this generator: seed it in place
        self._suite.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        with quiet_robosuite():
            self._suite.reset()
        self.control.bind()
        self._match_looks()

    def widen_placement(self, factor: float) -> None:
        sampler = getattr(self._suite, "placement_initializer", None)
        if sampler is None or not self.task.spacious:
            raise ValueError(
                f"perturb.placement: the objects of {self.task.name} have no room to spread"
            )
        for one in getattr(sampler, "samplers", {"": sampler}).values():
            one.x_range, one.y_range = (_widened(r, factor) for r in (one.x_range, one.y_range))

    def _advance(self, action: np.ndarray) -> None:
        self.control.step(action)
        if self.task.remembers:
            with quiet_robosuite():
                self._suite.reward()  # robosuite keeps the task's memory up to date in here
            self._match_looks()

    def _state(self) -> np.ndarray:
        parts = []
        for robot, arm in self._arms():
            site = robot.eef_site_id[arm]
            columns = self.data.site_xmat[site].reshape(3, 3).T
            fingers = self.data.qpos[self._fingers(robot, arm)]
            opening = [fingers[0] - fingers[1]] if len(fingers) == 2 else fingers
            parts += [self.data.site_xpos[site], columns[0], columns[1], opening]
        return np.concatenate(parts)

    def _keypoints(self) -> dict[str, np.ndarray]:
        scene = self.scene
        points = {name: scene.point(where) for name, where in self.task.keypoints.items()}
        for number, (robot, arm) in enumerate(self._arms()):
            name = f"gripper{number}" if number else "gripper"
            points[name] = self.data.site_xpos[robot.eef_site_id[arm]].copy()
        if self.task.support is not None:
            points["support"] = np.asarray(self.task.support(self._suite))
        if self.task.grip is not None:
            place, turn = self.task.grip(scene)()
            for name, side in zip(CONTACTS, (-FACE, FACE)):
                points[name] = place + side * turn[:, 0]  # fingers open along x
        return points

    def _match_looks(self) -> None:
        """Some tasks move fastened bodies (Door) or hide geoms (Wipe) in the physics model: the
        cameras have a model of their own."""
        if self.renderer is None:
            return
        seen, bodies = self.renderer.model, self.model.nbody  # what follows are distractors
        seen.body_pos[:bodies] = self.model.body_pos
        seen.body_quat[:bodies] = self.model.body_quat
        seen.geom_rgba[: self.model.ngeom, 3] = self.model.geom_rgba[:, 3]
        seen.site_rgba[:] = self.model.site_rgba  # robosuite hides its aids for teleoperation

    def _success(self) -> bool:
        return bool(self._suite._check_success())

    def _truth(self, success: bool) -> float | None:
        if success or not self.task.dense:
            return 1.0 if self.task.dense else None
        self._suite.reward_shaping = True
        try:
            return float(np.clip(self._suite.reward(None), 0, 1))
        finally:
            self._suite.reward_shaping = False

    def _save(self) -> tuple:
        memory = {name: _copy(getattr(self._suite, name)) for name in self.task.remembers}
        return self.control.save(), memory, self.model.geom_rgba.copy()

    def _load(self, saved: tuple) -> None:
        control, memory, rgba = saved
        self.control.load(control)
        for name, value in memory.items():
            setattr(self._suite, name, _copy(value))
        self.model.geom_rgba[:] = rgba
        self._match_looks()

    @property
    def handled(self) -> str:
        """The body that the task is about."""
        return self.task.keypoints["object"]

    @property
    def goal_body(self) -> str:
        """The body where it shall end, "" where the task has none."""
        return self.task.keypoints.get("target", "")

    def plan(self, scene: Scene | None = None) -> Iterator[np.ndarray]:
        if self.task.expert is None:
            written = ", ".join(name for name, task in TASKS.items() if task.expert)
            raise ValueError(f"{self.task.name} has no scripted expert; these do: {written}")
        if (self.config.robot, self.config.controller) != ("Panda", "OSC_POSE"):
            raise ValueError(
                f"{self.task.name}: the expert is written for a Panda under OSC_POSE, not for "
                f"{self.config.robot} under {self.config.controller}"
            )
        return self.task.expert(scene or self.scene)


def _widened(span, factor: float) -> list[float]:
    middle, half = (span[1] + span[0]) / 2, (span[1] - span[0]) / 2
    return [middle - half * factor, middle + half * factor]


def _copy(value):
    return list(value) if isinstance(value, list) else value
