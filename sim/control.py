"""Two ways to execute an action in a robosuite environment: its own Python, or one compiled call.

Both have step(action), bind() after every reset, and save()/load() of what they remember.
"""

from __future__ import annotations

import numpy as np

from robostack.sim import kernel

# what the kernel implements: attribute of robosuite's OperationalSpaceController -> value
_LAW = {
    "impedance_mode": "fixed",
    "use_ori": True,
    "input_type": "delta",
    "input_ref_frame": "base",
    "uncoupling": True,
    "interpolator_pos": None,
    "interpolator_ori": None,
    "lite_physics": True,
    "_goal_update_mode": "achieved",
}


class StockControl:
    """robosuite's own loop: Python computes the torques of every physics substep."""

    name = "stock"

    def __init__(self, suite):
        self._suite = suite
        self._substeps = int(suite.control_timestep / suite.model_timestep)
        self._grippers = [r.gripper[arm] for r in suite.robots for arm in r.arms]

    def bind(self) -> None:
        """Nothing: robosuite makes its controllers anew at every reset."""

    def _arms(self) -> list:
        return [robot.part_controllers[arm] for robot in self._suite.robots for arm in robot.arms]

    def step(self, action: np.ndarray) -> None:
        for substep in range(self._substeps):
            self._suite.sim.step1()
            self._suite._pre_action(action, policy_step=substep == 0)
            self._suite.sim.step2()

    def save(self) -> tuple:
        """The grippers' ramps, and what the arm controllers keep: the posture that they lean to
        and whether their copy of the state is due for an update."""
        ramps = [np.array(gripper.current_action) for gripper in self._grippers]
        return ramps, [(arm.initial_joint.copy(), arm.new_update) for arm in self._arms()]

    def load(self, saved: tuple) -> None:
        for robot in self._suite.robots:
            for part in robot.part_controllers.values():
                part.update(force=True)  # their copies of the state; this runs mj_forward
        for gripper, ramp in zip(self._grippers, saved[0]):
            gripper.current_action = ramp.copy()
        for arm, (posture, due) in zip(self._arms(), saved[1]):
            arm.initial_joint, arm.new_update = posture.copy(), due


class KernelControl:
    """The same law and the same physics without Python. See robostack.sim.kernel."""

    name = "kernel"

    def __init__(self, suite):
        self._suite = suite
        self._model, self._data = suite.sim.model._model, suite.sim.data._data
        self._substeps = int(suite.control_timestep / suite.model_timestep)
        data, nv = self._data, self._model.nv
        self._state = kernel.State(*(getattr(data, name) for name in kernel.State._fields))
        self._work = kernel.Work(
            jacp=np.zeros((3, nv)),
            jacr=np.zeros((3, nv)),
            inertia=np.zeros((nv, nv)),
            goal=np.zeros((_count(suite), 3)),
            turn=np.zeros((_count(suite), 3, 3)),
            first=np.ones(1, bool),
        )
        self.bind()

    def bind(self) -> None:
        """Read the controllers' parameters; robosuite makes them anew at every reset."""
        self._arms, self._fingers = _read_arms(self._suite), _read_fingers(self._suite)
        self._work.first[0] = True

    def step(self, action: np.ndarray) -> None:
        kernel.control_step(
            self._model._address,
            self._data._address,
            self._substeps,
            action,
            self._state,
            self._arms,
            self._fingers,
            self._work,
        )

    def save(self) -> tuple:
        kept = self._fingers.ramp, self._arms.posture, self._arms.stale, self._work.first
        return tuple(array.copy() for array in kept)

    def load(self, saved: tuple) -> None:
        kept = self._fingers.ramp, self._arms.posture, self._arms.stale, self._work.first
        for array, value in zip(kept, saved):
            array[:] = value


def misfit(suite) -> str | None:
    """Why the kernel cannot stand in for this environment's controllers, or None if it can."""
    sizes = set()
    for number, robot in enumerate(suite.robots):
        who = f"robot {number} ({type(robot.robot_model).__name__})"
        if robot.is_mobile:
            return f"{who} has a moving base"
        for part, controller in robot.part_controllers.items():
            kind = type(controller).__name__
            if part not in robot.arms:
                if kind != "SimpleGripController" or not controller.use_action_scaling:
                    return f"{who} has a {part} controlled by {kind}"
                if (
                    controller.interpolator
                    or _notch(robot.gripper[part[: -len("_gripper")]]) is None
                ):
                    return f"{who} has a gripper that does not move by a fixed notch a step"
                continue
            if kind != "OperationalSpaceController":
                return f"{who} has a {part} arm controlled by {kind}, not OSC_POSE"
            for name, value in _LAW.items():
                if getattr(controller, name) != value:
                    got = getattr(controller, name)
                    return f"{who} has an OSC controller with {name}={got!r}, not {value!r}"
            sizes.add(len(controller.qpos_index))
    if len(sizes) != 1:
        return "its arms have different numbers of joints"
    return None


def _count(suite) -> int:
    return sum(len(robot.arms) for robot in suite.robots)


def _parts(suite):
    """(robot, arm, its controller, where its six numbers begin in the action) of every arm."""
    begin = 0
    for robot in suite.robots:
        splits = robot.composite_controller._action_split_indexes
        for arm in robot.arms:
            yield robot, arm, robot.part_controllers[arm], begin + splits[arm][0]
        begin += robot.action_dim


def _read_arms(suite) -> kernel.Arms:
    limits = suite.sim.model._model.actuator_ctrlrange
    rows = []
    for robot, arm, osc, slot in _parts(suite):
        span = np.stack([osc.input_min, osc.input_max], axis=1).astype(float)
        gain = (osc.output_max - osc.output_min) / (osc.input_max - osc.input_min)
        actuators = robot._ref_actuators_indexes_dict[arm]
        row = kernel.Arms(
            qpos=np.array(osc.qpos_index, np.int64),
            dof=np.array(osc.qvel_index, np.int64),
            actuator=np.array(actuators, np.int64),
            torque=limits[actuators].astype(float),
            site=np.int64(suite.sim.model.site_name2id(osc.ref_name)),
            base=np.array(robot.composite_controller.get_controller_base_pose(arm)[1], float),
            posture=np.array(osc.initial_joint, float),
            slot=np.int64(slot),
            limit=span,
            gain=gain.astype(float),
            offset=(osc.output_max + osc.output_min) / 2 - gain * span.mean(axis=1),
            kp=osc.kp.astype(float),
            kd=osc.kd.astype(float),
            # taken while the arm was placed, before the gripper's fingers were
            stale=np.array(osc.mass_matrix, float),
        )
        rows.append(row)
    return kernel.Arms(*(np.ascontiguousarray(np.stack(column)) for column in zip(*rows)))


def _read_fingers(suite) -> kernel.Fingers:
    limits = suite.sim.model._model.actuator_ctrlrange
    actuators, slots, speeds, ramps = [], [], [], []
    for robot, arm, _, slot in _parts(suite):
        own = robot._ref_joint_gripper_actuator_indexes.get(arm, [])
        if not own:
            continue
        gripper = robot.gripper[arm]
        actuators += list(own)
        slots += [slot + 6] * len(own)
        speeds += list(_notch(gripper))
        ramps += list(np.broadcast_to(gripper.current_action, len(own)))
    span = limits[actuators].reshape(-1, 2)
    return kernel.Fingers(
        actuator=np.array(actuators, np.int64),
        slot=np.array(slots, np.int64),
        speed=np.array(speeds, float),
        centre=span.mean(axis=1),
        half=(span[:, 1] - span[:, 0]) / 2,
        ramp=np.array(ramps, float),
    )


def _notch(gripper) -> np.ndarray | None:
    """How far each actuator's command moves a step when the gripper is told +1, or None if it does
    not follow clip(command + notch * sign(action)). Found by asking: every gripper in robosuite
    writes this law down on its own."""
    if gripper.dof == 0:
        return np.zeros(0)
    if gripper.dof != 1:
        return None
    before = gripper.current_action
    try:
        gripper.current_action = np.zeros(1)
        notch = np.array(gripper.format_action(np.ones(1)), float)
        for begin in (np.zeros_like(notch), np.full_like(notch, 0.3), np.full_like(notch, -0.95)):
            for sign in (-1.0, 0.0, 1.0):
                gripper.current_action = begin.copy()
                moved = gripper.format_action(np.array([0.5 * sign]))
                if not np.allclose(moved, np.clip(begin + notch * sign, -1, 1), atol=1e-12):
                    return None
        return notch
    finally:
        gripper.current_action = before
