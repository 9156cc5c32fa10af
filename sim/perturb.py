"""Perturbations of a simulated environment, each an axis with a strength: is a policy robust?

What is drawn is a function of the episode's seed and the axis alone, so that the same starts can
be evaluated with and without, and axes do not change each other. A strength of 0 changes nothing.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from robostack.sim.catalog import require

if TYPE_CHECKING:
    from robostack.sim.env import SimEnv

AXES = {  # what a strength of 1 means
    "camera": "cameras shifted up to 5 cm and turned up to 5 degrees (a fifth on the hand)",
    "light": "brightness between a half and one and a half, tinted, from another side",
    "texture": "table, walls and floor in other colours",
    "distractors": "six foreign objects on the table, in the pictures only",
    "placement": "objects start in twice as wide a range",
    "sensor": "noise: 10 of 255 in pictures, 5 mm or the like in the state",
    "delay": "actions are executed one control step late (2: two steps)",
    "epsilon": "a fixed pattern of plus or minus 8 of 255 over the pictures",
}
VISUAL = ("camera", "light", "texture", "distractors", "epsilon")
DISTRACTORS = 6
_SHAPES = ("box", "sphere", "cylinder")


def check(strengths: dict[str, float], render: str) -> None:
    """Raise ValueError for an unknown axis, an impossible strength, or pictures that are not."""
    for axis, strength in strengths.items():
        require("perturbation", axis, AXES)
        whole = axis != "delay" or float(strength).is_integer()
        if not 0 <= strength <= 20 or not whole:
            what = "a whole number of control steps" if axis == "delay" else "0 to 20"
            raise ValueError(f"perturb.{axis}={strength}: expected {what} ({AXES[axis]})")
        if axis in VISUAL and render == "none":
            raise ValueError(f"perturb.{axis} changes pictures, and render=none makes none")


def dressed(xml: str, strengths: dict[str, float]) -> str:
    """The cameras' MJCF with the foreign objects that `distractors` needs, if it is asked for.
    They are hidden until an episode places them, and come after all other bodies."""
    if not strengths.get("distractors"):
        return xml
    bodies = "".join(
        # in the middle, because MuJoCo's near plane follows the extent of the scene
        f'<body name="distractor{i}" pos="0 0 .5"><geom type="{_SHAPES[i % 3]}" '
        'size=".022 .022 .022" contype="0" conaffinity="0" group="1" rgba="1 1 1 0"/></body>'
        for i in range(DISTRACTORS)
    )
    head, end, tail = xml.rpartition("</worldbody>")
    return head + bodies + end + tail


class Perturbations:
    """All axes of one environment. Holds what the looks were before they were perturbed."""

    def __init__(self, strengths: dict[str, float], env: SimEnv):
        self.strengths = {axis: s for axis, s in strengths.items() if s > 0}
        self.env, self.seed = weakref.proxy(env), 0  # which has it, and would be kept by it
        self.queue: deque[np.ndarray] = deque()
        if "placement" in self.strengths:
            env.widen_placement(1 + self.strengths["placement"])
        names = ("cam_pos", "cam_quat", "light_diffuse", "light_ambient", "light_pos", "light_dir")
        if env.renderer is not None:
            model = env.renderer.model
            self.before = {name: getattr(model, name).copy() for name in (*names, "geom_rgba")}
            self.headlight = model.vis.headlight.diffuse.copy(), model.vis.headlight.ambient.copy()
            self.materials = model.mat_rgba.copy()

    def _draw(self, axis: str, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, list(AXES).index(axis), *more])

    def begin(self, seed: int) -> None:
        """Draw this episode's looks."""
        self.seed = seed
        idle = np.zeros(self.env.spec.action_dim)
        self.queue = deque([idle] * int(self.strengths.get("delay", 0)))
        for axis in ("camera", "light", "texture", "distractors"):
            if axis in self.strengths:
                getattr(self, f"_{axis}")(self.strengths[axis], self._draw(axis))

    def _camera(self, strength: float, rng: np.random.Generator) -> None:
        model = self.env.renderer.model
        # a camera on the hand is screwed to it: a fifth of what a tripod may be off
        share = strength * np.where(model.cam_bodyid == 0, 1, 0.2)[:, None]
        shift = rng.uniform(-1, 1, model.cam_pos.shape) * 0.05 * share
        turn = rng.uniform(-1, 1, model.cam_pos.shape) * np.deg2rad(5) * share
        model.cam_pos[:] = self.before["cam_pos"] + shift
        for i, quat in enumerate(self.before["cam_quat"]):
            model.cam_quat[i] = _turned(quat, turn[i])

    def _light(self, strength: float, rng: np.random.Generator) -> None:
        model = self.env.renderer.model
        bright = np.clip(1 + rng.uniform(-0.5, 0.5) * strength, 0.05, 3)
        tint = bright * (1 + rng.uniform(-0.15, 0.15, 3) * min(strength, 3))
        model.light_diffuse[:] = self.before["light_diffuse"] * tint
        model.light_ambient[:] = self.before["light_ambient"] * tint
        model.vis.headlight.diffuse[:] = self.headlight[0] * tint
        model.vis.headlight.ambient[:] = self.headlight[1] * tint
        model.light_pos[:] = self.before["light_pos"] + rng.uniform(-1, 1, 3) * 0.5 * strength
        aim = self.before["light_dir"] + rng.uniform(-1, 1, 3) * 0.5 * strength
        model.light_dir[:] = aim / np.linalg.norm(aim, axis=1, keepdims=True)

    def _texture(self, strength: float, rng: np.random.Generator) -> None:
        """Of geoms that are fixed in the world: the scene, not the robot or the objects."""
        model, share = self.env.renderer.model, min(0.8 * strength, 1)
        fixed = model.body_weldid[model.geom_bodyid] == 0
        for geom in np.flatnonzero(fixed):
            material = model.geom_matid[geom]
            colours, source = (
                (model.geom_rgba[geom], self.before["geom_rgba"][geom])
                if material < 0
                else (model.mat_rgba[material], self.materials[material])
            )
            colours[:3] = (1 - share) * source[:3] + share * rng.uniform(0.1, 1, 3)

    def _distractors(self, strength: float, rng: np.random.Generator) -> None:
        """On the height of the object, away from everything that matters."""
        model = self.env.renderer.model
        points = {n: p for n, p in self.env._keypoints().items() if not n.startswith("gripper")}
        keep = np.stack(list(points.values()))
        middle = points.get("object", keep[0])
        taken = list(keep[:, :2])
        for i in range(DISTRACTORS):
            body = model.body(f"distractor{i}").id
            geom = model.body_geomadr[body]
            model.geom_rgba[geom, 3] = 0
            if i >= round(DISTRACTORS * strength):
                continue
            for _ in range(100):
                spot = middle[:2] + rng.uniform(-0.3, 0.3, 2)
                if min(np.linalg.norm(spot - other) for other in taken) > 0.09:
                    taken.append(spot)
                    model.body_pos[body] = [*spot, middle[2]]
                    model.geom_rgba[geom] = [*rng.uniform(0.1, 1, 3), 1]
                    break

    def act(self, action: np.ndarray) -> np.ndarray:
        """The action that is executed now."""
        self.queue.append(action)
        return self.queue.popleft()

    def state(self, state: np.ndarray, step: int) -> np.ndarray:
        strength = self.strengths.get("sensor", 0)
        if not strength:
            return state
        return state + 0.005 * strength * self._draw("sensor", step, 0).standard_normal(len(state))

    def images(self, images: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
        """Pictures u8[H, W, 3] as a worse camera would deliver them."""
        noise, ball = (self.strengths.get(axis, 0) for axis in ("sensor", "epsilon"))
        if not (noise or ball):
            return images
        found = {}
        for i, (name, image) in enumerate(images.items()):
            changed = image.astype(np.float32)
            if noise:
                changed += (
                    10
                    * noise
                    * self._draw("sensor", step, 1 + i).standard_normal(image.shape, np.float32)
                )
            if ball:
                sign = self._draw("epsilon", i).integers(0, 2, image.shape) * 2 - 1
                changed += np.float32(8 * ball) * sign
            found[name] = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
        return found

    def save(self) -> Any:
        return self.seed, [action.copy() for action in self.queue]

    def load(self, saved: Any) -> None:
        """Looks are a function of the seed; only the queue of delayed actions is not."""
        seed, queue = saved
        if seed != self.seed:
            self.begin(seed)
        self.queue = deque(action.copy() for action in queue)


def _turned(quat: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """`quat` (wxyz) followed by a rotation vector [rad] in its own frame."""
    out, turn, angle = np.empty(4), np.empty(4), float(np.linalg.norm(vector))
    mujoco.mju_axisAngle2Quat(turn, vector / max(angle, 1e-12), angle)
    mujoco.mju_mulQuat(out, quat, turn)
    return out
