"""Rendering without OpenGL: the same pictures as GLRenderer's, several times faster on one core.

What stands still before a camera that stands still is drawn once and kept, until a light, a colour
or a pose changes. The inner loops are in raster_kernels.py.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from robostack.sim import raster_kernels as kernels
from robostack.sim.raster_scene import MAX_LIGHTS, lights, merge, textures
from robostack.sim.render import FACES, Renderer
from robostack.sim.shapes import Shape, shape, tile

SAMPLES = 4


class RasterRenderer(Renderer):
    """Renders `cameras` {name: (height, width)} on the CPU, geoms of `groups` only.

    `samples` a pixel are 1, or 4 for smooth edges. Colours, materials, lights, cameras and the
    sizes of geoms are read from `model` at every render and may be written there; after writing
    to `model.tex_data` call refresh_textures(). Raises ValueError for what it cannot draw.
    """

    def __init__(
        self,
        source: str | Path,
        cameras: dict[str, tuple[int, int]],
        faces: int = FACES,
        groups: tuple[int, ...] = (1,),
        samples: int = SAMPLES,
    ):
        if samples not in (1, 4):
            raise ValueError(f"samples: expected 1 or 4, got {samples}")
        super().__init__(source, cameras, faces)
        for name, camera in self.ids.items():
            if self.model.cam_sensorsize[camera].any() or self.model.cam_orthographic[camera]:
                raise ValueError(f"camera {name!r}: only cameras given by fovy can be drawn")
        self.side = 2 if samples == 4 else 1  # of a pixel, in samples
        drawn = np.flatnonzero(np.isin(self.model.geom_group, groups))
        if not len(drawn):
            raise ValueError(f"no geom in groups {groups}")
        still = np.array([_stands_still(self.model, g) for g in drawn], bool)
        self.geoms = np.concatenate([drawn[still], drawn[~still]]).astype(np.int64)
        self.still = int(still.sum())
        self.looks = np.zeros((len(self.geoms), 7), np.float32)
        self._meshes: dict[int, Shape] = {}
        self.refresh_textures()

    def refresh_textures(self) -> None:
        """Read the model's textures again, and how materials use them."""
        self.textures, self._rows = textures(self.model, self.geoms)
        self._build()

    def _build(self) -> None:
        self._sizes = self.model.geom_size.copy()
        shapes = []
        for g in self.geoms:
            is_mesh = self.model.geom_type[g] == mujoco.mjtGeom.mjGEOM_MESH
            key = int(self.model.geom_dataid[g])
            if is_mesh and key in self._meshes:
                shapes.append(self._meshes[key])
                continue
            shapes.append(shape(self.model, g))
            if is_mesh:
                self._meshes[key] = shapes[-1]
        self.scene = merge(self.model, self.geoms, shapes, self._rows, self.still)
        self._views = {
            name: _View(_frame(self.scene, height, width, self.side))
            for name, (height, width) in self.cameras.items()
        }

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
        model = self.model
        if not np.array_equal(self._sizes, model.geom_size):
            self._build()
        kernels.dress(
            *(self.geoms, model.geom_rgba, model.geom_matid, model.mat_rgba, model.mat_emission),
            *(model.mat_specular, model.mat_shininess, self.looks),
        )
        lit_by = lights(model, self.data)
        return {name: self._draw(name, lit_by) for name in self.cameras}

    def _draw(self, name: str, lit_by: kernels.Lights) -> np.ndarray:
        height, width = self.cameras[name]
        model, data, index, view = self.model, self.data, self.ids[name], self._views[name]
        focal = 0.5 * height * self.side / np.tan(0.5 * np.deg2rad(model.cam_fovy[index]))
        camera = kernels.Camera(
            data.cam_xpos[index].copy(),
            data.cam_xmat[index].reshape(3, 3).copy(),
            float(focal),
            float(model.vis.map.znear * model.stat.extent),
            float(model.vis.map.zfar * model.stat.extent),
        )
        if model.vis.headlight.active:
            lit_by.positions[0], lit_by.directions[0] = camera.position, -camera.rotation[:, 2]
        positions, rotations = data.geom_xpos[self.geoms], data.geom_xmat[self.geoms]
        looks, layered = self._layers(camera, positions, rotations)
        still = self.still
        mode = view.mode(camera, (positions[:still], rotations[:still], looks, *lit_by))
        pixels = np.empty((height, width, 3), np.uint8)
        kernels.draw(
            *(self.scene, view.frame, camera, positions, rotations, looks, lit_by),
            *(self.textures, layered, mode, pixels),
        )
        return pixels

    def _layers(self, camera, positions, rotations) -> tuple[np.ndarray, np.ndarray]:
        """(looks, geoms to blend in this order). MuJoCo draws each twice: inwards and outwards."""
        looks, planes = self.looks, np.flatnonzero(self.scene.planes)
        for row in planes:
            normal, away = rotations[row, 2::3], camera.position - positions[row]
            endless = self._sizes[self.geoms[row], :2] <= 0
            if endless.any():  # it goes with the camera, by whole tiles of its texture
                positions[row] += _tiles(self.model, self.geoms[row], rotations[row], away, endless)
            if normal @ away < 0:
                looks = looks.copy() if looks is self.looks else looks
                looks[row, kernels.ALPHA] *= 0.3  # from behind
        alpha = looks[:, kernels.ALPHA]
        rows = np.flatnonzero((alpha > 0) & (alpha < 1))
        if not len(rows):
            return looks, rows
        distance = np.linalg.norm(positions[rows] - camera.position, axis=1)
        distance -= self.model.geom_rbound[self.geoms[rows]]
        distance[self.scene.planes[rows]] = np.inf
        rows = rows[np.argsort(distance, kind="stable")]
        return looks, np.concatenate([rows, rows[::-1]])

    def through(self, cameras: dict[str, tuple[int, int]]) -> RasterRenderer:
        """The very same scene through other cameras {name: (height, width)}, which must be among
        its own; what is written to `model` shows in both."""
        other = copy.copy(self)
        other.cameras = cameras
        other._build()
        return other

    def close(self) -> None:
        """There is nothing to free; it is here so that renderers can be swapped."""


@dataclass
class _View:
    """One camera's buffers, and what the picture of things that stand still was drawn from."""

    frame: kernels.Frame
    pose: np.ndarray | None = None
    seen: np.ndarray | None = None
    kept: bool = False

    def mode(self, camera: kernels.Camera, rest: tuple[np.ndarray, ...]) -> int:
        """Keep the still part once all has been the same twice: a moving camera gains nothing."""
        pose = np.concatenate([np.ravel(part) for part in camera])
        if self.pose is None or not np.array_equal(self.pose, pose):
            self.pose, self.seen = pose, None
            return kernels.PLAIN
        state = np.concatenate([part.ravel() for part in rest])
        if self.seen is None or not np.array_equal(self.seen, state):
            self.seen, self.kept = state, False
            return kernels.PLAIN
        mode = kernels.REUSE if self.kept else kernels.KEEP
        self.kept = True
        return mode


def _stands_still(model: mujoco.MjModel, geom: int) -> bool:
    body = model.geom_bodyid[geom]
    return model.body_weldid[body] == 0 and model.body_mocapid[model.body_rootid[body]] < 0


def _tiles(model, geom, rotation, away, endless) -> np.ndarray:
    """By how much an endless plane is moved to be under the camera, in the world."""
    axes, step = rotation.reshape(3, 3)[:, :2], tile(model, geom)
    return axes @ (endless * step * np.round(away @ axes / step))


def _frame(scene: kernels.Scene, height: int, width: int, side: int) -> kernels.Frame:
    geoms, (vertices, triangles, corners) = len(scene.texture), scene.first[-1]
    high, wide = height * side, width * side
    return kernels.Frame(
        points=np.zeros((vertices, 3), np.float32),
        screen=np.zeros((vertices, 3), np.float32),
        lit=np.zeros((corners, 3), np.float32),
        is_lit=np.zeros(corners, bool),
        planes=np.zeros((triangles, 21)),
        is_ready=np.zeros(triangles, bool),
        visible=np.zeros(geoms, bool),
        poses=np.zeros((geoms, 4, 3)),
        lights=np.zeros((MAX_LIGHTS + 1, 6)),
        depth=np.zeros((high, wide), np.float32),
        ids=np.zeros((high, wide), np.int32),
        image=np.zeros((height, width, 3), np.float32),
        clipped=np.zeros((4, 3), np.float32),
        seen=np.zeros(4, np.int64),
        tally=np.zeros(4, np.int64),
        means=np.zeros((2, 4)),
        over_depth=np.zeros((high, wide), np.float32),
        over_ids=np.zeros((high, wide), np.int32),
        still_depth=np.zeros((high, wide), np.float32),
        still_ids=np.zeros((high, wide), np.int32),
        still_image=np.zeros((height, width, 3), np.float32),
    )
