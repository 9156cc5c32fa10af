"""What renderers share, and rendering through OpenGL, in one context for all cameras."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

from robostack.rewards.keypoints.camera import Camera
from robostack.sim import gl
from robostack.sim.meshes import lean_model

FACES = 10_000  # indistinguishable from 180,000 up to 128 px; see tests/bench/render_speed.py
ALL_FACES = 10**9
_OFF = ("SHADOW", "REFLECTION", "SKYBOX", "HAZE", "FOG")


class Renderer:
    """What renderers share: a model and data of their own, cameras by name, and projection.

    The physics model keeps its meshes; only positions are copied over. `source` is MJCF as XML or
    the Path of a file. Raises ValueError for a camera that the scene lacks.
    """

    def __init__(self, source: str | Path, cameras: dict[str, tuple[int, int]], faces: int):
        self.model = lean_model(source, faces)
        known = [self.model.camera(i).name for i in range(self.model.ncam)]
        for name in cameras:
            if name not in known:
                raise ValueError(f"unknown camera {name!r}; this scene has: {', '.join(known)}")
        self.data = mujoco.MjData(self.model)
        self.cameras = cameras
        self.ids = {name: known.index(name) for name in cameras}

    def place(self, qpos: np.ndarray, mocap_pos: np.ndarray | None, mocap_quat: np.ndarray | None):
        """Put geoms, cameras and lights where f64[nq] (and mocap f64[nmocap, 3 | 4]) says."""
        self.data.qpos[:] = qpos
        if mocap_pos is not None:
            self.data.mocap_pos[:] = mocap_pos
        if mocap_quat is not None:
            self.data.mocap_quat[:] = mocap_quat
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def is_fixed(self, name: str) -> bool:
        """Whether the camera stands still in the world, so that one projection fits all frames."""
        return int(self.model.cam_bodyid[self.ids[name]]) == 0

    def calibration(self, name: str) -> Camera:
        """The camera as it stood in the last picture."""
        (height, width), camera = self.cameras[name], self.ids[name]
        focal = 0.5 * height / np.tan(0.5 * np.deg2rad(self.model.cam_fovy[camera]))
        lens = [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
        turn = self.data.cam_xmat[camera].reshape(3, 3) @ np.diag([1, -1, -1])
        return Camera(lens, turn, self.data.cam_xpos[camera].copy(), height, width)

    def project(self, name: str, points: np.ndarray) -> np.ndarray:
        """Pixels (x, y) f64[N, 2] of world points f64[N, 3] at the last rendered positions."""
        height, width = self.cameras[name]
        camera = self.ids[name]
        focal = 0.5 * height / np.tan(0.5 * np.deg2rad(self.model.cam_fovy[camera]))
        rotation = self.data.cam_xmat[camera].reshape(3, 3)
        local = (np.atleast_2d(points) - self.data.cam_xpos[camera]) @ rotation
        depth = -local[:, 2:]  # a MuJoCo camera looks along its own -z, y up
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        return centre + focal * local[:, :2] * [1, -1] / depth


class GLRenderer(Renderer):
    """Renders `cameras` {name: (height, width)} through OpenGL, geoms of `groups` only.

    `effects` are what robosuite's own pictures have: four samples a pixel, shadows, reflections,
    a sky. Raises gl.NoGL without a back end.
    """

    def __init__(
        self,
        source: str | Path,
        cameras: dict[str, tuple[int, int]],
        faces: int = FACES,
        groups: tuple[int, ...] = (1,),  # robosuite: group 0 collides, group 1 is seen
        effects: bool = False,
    ):
        gl.require_backend()
        super().__init__(source, cameras, faces)
        height = max(size[0] for size in cameras.values())
        width = max(size[1] for size in cameras.values())
        self.model.vis.quality.offsamples = 4 if effects else 0
        self.model.vis.global_.offheight, self.model.vis.global_.offwidth = height, width
        self.gl = mujoco.GLContext(width, height)
        self.gl.make_current()
        self.context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        self.scene = mujoco.MjvScene(self.model, maxgeom=2000)
        for flag in () if effects else _OFF:
            self.scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
        self.option = mujoco.MjvOption()
        self.option.geomgroup[:] = 0
        self.option.geomgroup[list(groups)] = 1
        self.option.sitegroup[:] = effects
        self.camera = mujoco.MjvCamera()
        self.camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.perturb = mujoco.MjvPerturb()

    def render(
        self,
        qpos: np.ndarray,
        mocap_pos: np.ndarray | None = None,
        mocap_quat: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Images {camera: uint8[H, W, 3] RGB} at generalised positions f64[nq].

        Mocap bodies stay where they were unless f64[nmocap, 3] and f64[nmocap, 4] are given.
        """
        self.place(qpos, mocap_pos, mocap_quat)
        self.gl.make_current()
        images = {}
        for name, (height, width) in self.cameras.items():
            self.camera.fixedcamid = self.ids[name]
            mujoco.mjv_updateScene(
                self.model,
                self.data,
                self.option,
                self.perturb,
                self.camera,
                mujoco.mjtCatBit.mjCAT_ALL,
                self.scene,
            )
            view = mujoco.MjrRect(0, 0, width, height)
            pixels = np.empty((height, width, 3), np.uint8)
            mujoco.mjr_render(view, self.scene, self.context)
            mujoco.mjr_readPixels(pixels, None, view, self.context)
            images[name] = pixels[::-1].copy()  # GL counts rows from below
        return images

    def close(self) -> None:
        """Free the GL context; not doing so makes EGL complain when Python exits."""
        if self.gl is not None:
            self.gl.make_current()  # else another renderer's textures and buffers would be freed
            self.context.free()
            self.gl.free()
            self.gl = None
