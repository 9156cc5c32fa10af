"""The table with its pool of objects as a robosuite environment. Importing it registers it."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
from robosuite.environments.manipulation.manipulation_env import ManipulationEnv
from robosuite.models.arenas import TableArena
from robosuite.models.objects import BallObject, BoxObject, CylinderObject
from robosuite.models.tasks import ManipulationTask

from robostack.sim.tabletop.layout import COLOURS, COPIES, SHAPES, Layout

CAMERA = "tableview"
ORIGIN = np.array([-0.06, 0.0, 0.8])  # of layouts in the world frame: nearer to the robot, on top
_PARKED = np.array([2.0, 0.0, 0.1])  # behind the camera
_MODELS = {"cube": BoxObject, "cylinder": CylinderObject, "ball": BallObject, "bar": BoxObject}
POOL = {f"{shape}{copy}": shape for shape in SHAPES for copy in range(COPIES)}


def _make_object(name: str, shape: str):
    half = SHAPES[shape]
    size = {"cylinder": [half[0], half[2]], "ball": [half[0]]}.get(shape, list(half))
    model = _MODELS[shape](name=name, size=size, density=500, friction=[1.0, 0.005, 0.001])
    model.get_obj().set("gravcomp", "1")  # parked; TabletopEnv gives weight to what is in use
    for geom in model.get_obj().iter("geom"):
        if shape == "ball" and geom.get("group") == "0":
            geom.set("condim", "6")  # else it would roll for ever
    return model


class Tabletop(ManipulationEnv):
    """Places what `layout` says at a reset; the rest of the pool floats out of sight.

    It knows neither observations nor rewards nor success: robostack.sim.tabletop.env does.
    """

    layout: Layout | None = None  # None: everything is parked

    def _load_model(self):
        super()._load_model()
        self.robots[0].robot_model.set_base_xpos(
            self.robots[0].robot_model.base_xpos_offset["table"](0.8)
        )
        arena = TableArena(table_offset=(0, 0, ORIGIN[2]))
        arena.set_origin([0, 0, 0])
        # as agentview, which faces the robot, but nearer: objects are small
        arena.set_camera(CAMERA, [0.46, 0, 1.42], _facing_robot(np.deg2rad(47)))
        self.objects = [_make_object(name, shape) for name, shape in POOL.items()]
        self.model = ManipulationTask(
            mujoco_arena=arena,
            mujoco_robots=[robot.robot_model for robot in self.robots],
            mujoco_objects=self.objects,
        )
        # with a single contact point a standing cylinder would wobble without end
        option = self.model.root.find("option")
        ElementTree.SubElement(option, "flag", multiccd="enable")

    def _reset_internal(self):
        super()._reset_internal()
        things = {thing.body: thing for thing in self.layout.things} if self.layout else {}
        for number, (name, shape) in enumerate(POOL.items()):
            thing, height = things.get(name), SHAPES[shape][2]
            if thing is None:
                position, yaw = _PARKED + [0, 0.2 * number, 0], 0.0
            else:
                position, yaw = ORIGIN + [thing.x, thing.y, height], thing.yaw
            turn = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
            self.sim.data.set_joint_qpos(f"{name}_joint0", np.concatenate([position, turn]))
            rgb = COLOURS[thing.colour] if thing else (0.5, 0.5, 0.5)
            for geom in (f"{name}_g0", f"{name}_g0_vis"):
                self.sim.model.geom_rgba[self.sim.model.geom_name2id(geom)] = (*rgb, 1.0)

    def reward(self, action=None):
        return 0.0

    def _check_success(self):
        return False


def _facing_robot(down: float) -> np.ndarray:
    """Quaternion f64[4] of a camera that looks along -x and `down` [rad] from the horizon."""
    # from looking straight down with -x on top of the picture, turned up about the camera's right
    half = (np.pi / 2 - down) / 2
    return np.array([np.cos(half), np.sin(half), np.sin(half), np.cos(half)]) / np.sqrt(2)
