"""Meta-World's fifty tasks behind robostack's Env: its models, starts, success and experts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from robostack.sim.env import EnvConfig, SimEnv
from robostack.sim.metaworld_tasks import INSTRUCTIONS, PREFIX
from robostack.sim.perturb import dressed
from robostack.sim.profiles import make_renderer
from robostack.sim.scene import Scene
from robostack.types import RobotSpec

HORIZON = 500  # Meta-World's max_path_length
CAMERAS = ("corner2_near", "gripperPOV")
GROUPS = (0, 1, 2)  # what Meta-World's own pictures show; its collision shapes are in group 4
MISSING = "Meta-World's tasks need the package metaworld: pip install 'robostack[metaworld]'"
_MARKER = "marker_"  # of the names of geoms that stand for sites


def _library(name: str) -> tuple[type, type]:
    """The class of Meta-World's environment and of its scripted policy."""
    try:
        from metaworld.env_dict import ENV_CLS_MAP
        from metaworld.policies import ENV_POLICY_MAP
    except ImportError as error:
        raise RuntimeError(f"{MISSING} ({error})") from error
    # the scripted policies ask for more than the robot may do, and say so at every step
    warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high")
    return ENV_CLS_MAP[name], ENV_POLICY_MAP[name]


def make_suite(environment: type):
    """Meta-World's environment as its multi-task benchmarks (MT) set it up: the goal is part of
    the observation, which only its scripted policy and its success see here."""
    suite = environment()
    suite._set_task_called = True
    suite._partially_observable = False
    del suite.sawyer_observation_space  # cached, with the goal hidden
    suite.seeded_rand_vec = True
    # the reward's costliest parts, at which neither success nor a scripted policy looks
    unused = np.zeros_like(suite._get_quat_objects())
    suite._get_quat_objects = lambda: unused
    suite._gripper_caging_reward = lambda *args, **kwargs: 0.0
    suite.touching_object = lambda geom: _is_pinched(suite, geom)
    return suite


def _is_pinched(suite, geom: int) -> bool:
    """Whether both fingers press on a geom: Meta-World's touching_object without its loops."""
    contact, forces = suite.data.contact, suite.data.efc_force
    pairs, first = contact.geom, contact.efc_address
    on_geom = (pairs == geom).any(axis=1)
    for pad in ("leftpad_geom", "rightpad_geom"):
        touches = on_geom & (pairs == suite.model.geom(pad).id).any(axis=1)
        if not forces[first[touches]].sum() > 0:
            return False
    return True


def visible_scene(path: Path, model: mujoco.MjModel) -> str:
    """MJCF of the scene as the cameras see it, from its file and the model compiled from that.

    Sites become geoms, so that every renderer draws them. Goal markers are among them: Meta-World's
    own pictures show them, and in reach, push and pick-place nothing else tells the goal. Fixed
    cameras that hang upside down are turned, and `corner2_near` is added: corner2 moved to where
    most published results with images have it.
    """
    spec = mujoco.MjSpec.from_file(str(path))
    for asset in [*spec.meshes, *spec.textures, *spec.hfields]:
        if asset.file:  # the text is compiled elsewhere than beside its assets
            asset.file = str((path.parent / asset.file).resolve())
    for site in spec.sites:
        if site.rgba[3] > 0 and site.group in GROUPS and site.size[0] > 0:
            site.parent.add_geom(
                name=_MARKER + site.name,
                type=site.type,
                size=site.size,
                pos=site.pos,
                quat=site.quat,
                rgba=site.rgba,
                group=GROUPS[0],
                contype=0,
                conaffinity=0,
                mass=0,
            )
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0  # so that all meshes count as visual, and get lean
    for camera in [c for c in spec.cameras if c.parent == spec.worldbody]:
        camera.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
        camera.quat = _upright(model.camera(camera.name).quat)
        if camera.name == "corner2":
            near = {"pos": [0.75, 0.075, 0.7], "quat": camera.quat, "fovy": camera.fovy}
            spec.worldbody.add_camera(name="corner2_near", **near)
    return spec.to_xml()


def _upright(quat: np.ndarray) -> np.ndarray:
    """The same line of sight, turned by 180 degrees about it where up is down. Quaternions wxyz."""
    rotation, turned = np.empty(9), np.empty(4)
    mujoco.mju_quat2Mat(rotation, quat)
    if rotation[7] > -1e-6:  # height of the image's upward axis
        return quat
    mujoco.mju_mulQuat(turned, quat, np.array([0.0, 0.0, 0.0, 1.0]))
    return turned


class MetaworldEnv(SimEnv):
    """A task of Meta-World. Its physics, starts and success are its own, to the bit; what costs
    time beside them (reward, inverse dynamics, gymnasium's renderer) is left out."""

    groups = GROUPS

    def __init__(self, config: EnvConfig):
        asked = config.robot, config.controller, config.control
        if asked != (EnvConfig.robot, EnvConfig.controller, EnvConfig.control):
            raise ValueError(
                f"{config.task}: Meta-World has one robot and one controller, "
                f"got robot={config.robot} controller={config.controller} control={config.control}"
            )
        name = config.task.removeprefix(PREFIX)
        environment, self._policy = _library(name)
        self._suite = make_suite(environment)
        cameras = config.views(CAMERAS)
        source = visible_scene(Path(self._suite.model_name), self.model) if cameras else ""
        scene = dressed(source, config.perturb)
        renderer = make_renderer(config.render, scene, cameras, GROUPS)
        super().__init__(config, self._describe(config, cameras), HORIZON, renderer)
        self.instruction = INSTRUCTIONS[name]
        self._pair_markers()
        self._seen, self._done = np.zeros(39), False
        self._fresh = self._save()
        self._begin(0)  # now a snapshot of another environment of this task can be restored

    def _describe(self, config: EnvConfig, cameras: dict) -> RobotSpec:
        return RobotSpec(
            robot="Sawyer",
            state_names=("hand_x", "hand_y", "hand_z", "gripper_opening"),
            action_names=("dx", "dy", "dz", "gripper"),
            action_low=(-1.0,) * 4,
            action_high=(1.0,) * 4,
            cameras=cameras,
            control_hz=1 / (self.model.opt.timestep * self._suite.frame_skip),
            conventions={
                "action": f"hand position delta, 1 = {self._suite.action_scale:g} m",
                "frame": "world",
                "gripper": "+1 closes",
                "gripper_opening": "1 = 0.1 m",
                "render": config.render,
            },
        )

    @property
    def model(self):
        return self._suite.model

    @property
    def data(self):
        return self._suite.data

    def _begin(self, seed: int) -> None:
        """What a new Meta-World environment would show after set_task and reset. Its own resets
        draw one start for all episodes, and keep traces of the episode before."""
        suite = self._suite
        self._load(self._fresh)
        mujoco.mj_resetData(self.model, self.data)
        suite.np_random = np.random.default_rng(seed)
        suite._freeze_rand_vec = False
        suite.reset_model()  # draws until object and goal are far enough apart
        suite._freeze_rand_vec = True
        mujoco.mj_resetData(self.model, self.data)
        seen = suite.reset_model()  # the hand settles among the objects where they are now
        suite._prev_obs = seen[:18].copy()
        seen[18:36] = suite._prev_obs
        self._seen, self._done = seen, False
        self._match_looks()

    def _advance(self, action: np.ndarray) -> None:
        suite = self._suite
        suite.set_xyz_action(action[:3])
        self.data.ctrl[:] = action[3], -action[3]
        mujoco.mj_step(self.model, self.data, nstep=suite.frame_skip)
        mujoco.mj_forward(self.model, self.data)  # success of some tasks needs contact forces
        space = suite.sawyer_observation_space
        self._seen = np.clip(suite._get_obs(), space.low, space.high)
        _, info = suite.evaluate_state(self._seen, action)
        self._done = bool(info["success"])

    def _state(self) -> np.ndarray:
        """As in the first four numbers of Meta-World's own observation."""
        fingers = self.data.body("rightclaw").xpos - self.data.body("leftclaw").xpos
        opening = min(np.linalg.norm(fingers) / 0.1, 1.0)
        return np.append(self.data.body("hand").xpos, opening)

    def _keypoints(self) -> dict[str, np.ndarray]:
        """`object2` exists where a task has two, e.g. the nail beside the hammer."""
        objects = self._suite._get_pos_objects().reshape(-1, 3)
        points = {"gripper": self._suite.tcp_center, "object": objects[0]}
        if len(objects) > 1:
            points["object2"] = objects[1]
        return points | {"target": self._suite._target_pos}

    def _success(self) -> bool:
        return self._done

    def _pair_markers(self) -> None:
        """Ids of sites and of the geoms that stand for them before the cameras."""
        if self.renderer is None:
            return
        seen = self.renderer.model
        names = {seen.geom(i).name: i for i in range(seen.ngeom)}
        pairs = [(i, names.get(_MARKER + self.model.site(i).name)) for i in range(self.model.nsite)]
        self._markers = np.array([pair for pair in pairs if pair[1] is not None]).T

    def _match_looks(self) -> None:
        """Meta-World moves fastened bodies and markers in the physics model: the cameras have a
        model of their own."""
        if self.renderer is None:
            return
        seen, (sites, geoms) = self.renderer.model, self._markers
        bodies = self.model.nbody  # what follows are distractors
        seen.body_pos[:bodies] = self.model.body_pos
        seen.body_quat[:bodies] = self.model.body_quat
        seen.geom_pos[geoms] = self.model.site_pos[sites]

    def _render(self) -> dict[str, np.ndarray]:
        if self.renderer is None:
            return {}
        data = self.data
        return self.renderer.render(data.qpos, mocap_pos=data.mocap_pos, mocap_quat=data.mocap_quat)

    def _is_live(self, value: Any) -> bool:
        """Whether it is a view of MuJoCo's poses. Meta-World keeps such views, on purpose or not;
        their numbers follow from the state."""
        data = self.data
        poses = data.xpos, data.xquat, data.geom_xpos, data.site_xpos
        return isinstance(value, np.ndarray) and any(np.may_share_memory(value, p) for p in poses)

    def _save(self) -> tuple:
        memory = {
            name: _copy(value)
            for name, value in vars(self._suite).items()
            if isinstance(value, _PLAIN) and not self._is_live(value)
        }
        model = self.model
        places = model.body_pos.copy(), model.body_quat.copy(), model.site_pos.copy()
        return memory, places, self._seen.copy(), self._done

    def _load(self, saved: tuple) -> None:
        memory, (body_pos, body_quat, site_pos), seen, self._done = saved
        for name, value in memory.items():
            setattr(self._suite, name, _copy(value))
        self.model.body_pos[:], self.model.body_quat[:] = body_pos, body_quat
        self.model.site_pos[:] = site_pos
        self._seen = seen.copy()
        self._match_looks()

    def plan(self, scene: Scene | None = None) -> Iterator[np.ndarray]:
        if scene is not None:
            raise ValueError(f"{self.config.task}: its expert sees the scene as it is")
        policy = self._policy()
        while True:
            yield self.spec.clip(policy.get_action(self._seen))


_PLAIN = (type(None), bool, int, float, np.generic, np.ndarray, list)


def _copy(value):
    return value.copy() if isinstance(value, (np.ndarray, list)) else value
