"""Geoms as triangles: meshes as MuJoCo stores them, and primitives cut as finely as it draws them.

Triangles are counter-clockwise from outside. A corner is a vertex together with a normal and a
texture coordinate; at the edge of a box one vertex lies under several corners.
"""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np

SLICES, STACKS, RINGS, QUADS = 24, 12, 3, 4
PLANE_CELLS = 200  # of an endless plane, to a side, in MuJoCo
_Type = mujoco.mjtGeom


class Shape(NamedTuple):
    vertices: np.ndarray  # f64[V, 3] in the geom's frame [m]
    normals: np.ndarray  # f64[C, 3]
    corner_vertices: np.ndarray  # i64[C]
    triangles: np.ndarray  # i64[T, 3] corners
    unit: np.ndarray  # f64[C, 3] corners before scaling by the geom's size
    texcoords: np.ndarray | None = None  # f64[C, 2] given explicitly by a mesh


def shape(model: mujoco.MjModel, geom: int) -> Shape:
    """Raises ValueError for a type of geom that cannot be drawn."""
    kind, size = _Type(model.geom_type[geom]), model.geom_size[geom]
    if kind == _Type.mjGEOM_MESH:
        return mesh(model, model.geom_dataid[geom])
    if kind == _Type.mjGEOM_PLANE:
        return plane(size, _cells(model, geom))
    if kind == _Type.mjGEOM_BOX:
        return _scaled(*box(), size)
    if kind in (_Type.mjGEOM_SPHERE, _Type.mjGEOM_ELLIPSOID):
        scale = size if kind == _Type.mjGEOM_ELLIPSOID else size[[0, 0, 0]]
        return _scaled(*_revolved(_ball(0)), scale)
    if kind == _Type.mjGEOM_CYLINDER:
        return _scaled(*_revolved(_can()), size[[0, 0, 1]])
    if kind == _Type.mjGEOM_CAPSULE:
        return _scaled(*_revolved(_ball(size[1] / size[0])), size[[0, 0, 0]])
    name = model.geom(geom).name
    raise ValueError(f"geom {name!r}: the raster renderer cannot draw a {kind.name[7:].lower()}")


def mesh(model: mujoco.MjModel, index: int) -> Shape:
    """A normal counts unless it is far from its face's: there the edge is meant to be sharp."""
    start, count = model.mesh_faceadr[index], model.mesh_facenum[index]
    chosen = slice(start, start + count)
    faces = model.mesh_face[chosen].astype(np.int64)
    begin, number = model.mesh_vertadr[index], model.mesh_vertnum[index]
    vertices = model.mesh_vert[begin : begin + number].astype(float)
    flat = np.cross(
        vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]]
    )
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-30
    index_of = model.mesh_facenormal[chosen].astype(np.int64)
    begin, number = model.mesh_normaladr[index], model.mesh_normalnum[index]
    smooth = model.mesh_normal[begin : begin + number].astype(float)
    normals = np.concatenate([smooth, flat])
    has_texcoords = model.mesh_texcoordadr[index] >= 0
    if not has_texcoords:  # a mesh with texture coordinates keeps its normals, sharp or not
        sharp = (smooth[index_of] * flat[:, None]).sum(-1) < 0.8
        own = len(smooth) + np.arange(count)[:, None]
        index_of = np.where(sharp, own, index_of)
    key = faces * len(normals) + index_of
    texcoords = None
    if has_texcoords:
        begin, number = model.mesh_texcoordadr[index], model.mesh_texcoordnum[index]
        texcoords = model.mesh_texcoord[begin : begin + number].astype(float)
        key = key * number + model.mesh_facetexcoord[chosen]
        texcoords = texcoords[np.unique(key) % number]
    unique, triangles = np.unique(key, return_inverse=True)
    if has_texcoords:
        unique = unique // number
    corner_vertices = unique // len(normals)
    return Shape(
        vertices,
        normals[unique % len(normals)],
        corner_vertices,
        triangles.reshape(-1, 3),
        vertices[corner_vertices],
        texcoords,
    )


def tile(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Steps f64[2] [m] by which MuJoCo moves an endless plane along with the camera."""
    material = model.geom_matid[geom]
    repeat = model.mat_texrepeat[material] if material >= 0 else np.zeros(2)
    far = model.vis.map.zfar * model.stat.extent
    return np.where(repeat > 0, 4 / np.maximum(repeat, 1e-9), 4.2 * far / (PLANE_CELLS - 2))


def _cells(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Width f64[2] [m] of the cells into which MuJoCo cuts an endless plane."""
    return (2.1 * model.vis.map.zfar * model.stat.extent + tile(model, geom)) / PLANE_CELLS


def plane(size: np.ndarray, cells: np.ndarray) -> Shape:
    """A plane, +z up. Where its size is 0 it is endless: cells as MuJoCo's near the middle, which
    is kept under the camera, and twice as wide each further out."""
    steps = np.concatenate([np.arange(9), 8 + 2.0 ** np.arange(1, 6), [PLANE_CELLS / 2]])
    x, y = (
        np.linspace(-side, side, 13) if side > 0 else cell * np.concatenate([-steps[:0:-1], steps])
        for side, cell in zip(size, cells)
    )
    points, triangles = _grid(x, y)
    normals = np.tile([0.0, 0, 1], (len(points), 1))
    return Shape(points, normals, np.arange(len(points)), triangles, points)


def box() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(vertices, normals, triangles) of a cube from -1 to 1."""
    side = np.linspace(-1, 1, QUADS + 1)
    points, triangles = _grid(side, side)
    points[:, 2] = 1
    up = np.array([0.0, 0, 1])
    vertices, normals, faces = [], [], []
    for axis in range(3):
        for sign in (1, -1):
            turn = np.roll(np.eye(3), axis, axis=0)  # even permutations keep the orientation
            turn = turn * [1, sign, sign]
            vertices.append(points @ turn.T)
            normals.append(np.tile(turn @ up, (len(points), 1)))
            faces.append(triangles + len(points) * len(faces))
    return np.concatenate(vertices), np.concatenate(normals), np.concatenate(faces)


def _grid(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points f64[len(x) * len(y), 3] at z = 0 and triangles i64[T, 3] facing +z."""
    columns, rows = np.meshgrid(x, y, indexing="ij")
    points = np.stack([columns, rows, np.zeros_like(rows)], axis=-1).reshape(-1, 3)
    number = np.arange(len(points)).reshape(len(x), len(y))
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    quads = np.stack([a, b, d, b, c, d], axis=-1)  # cut along the diagonal that OpenGL chooses
    return points, quads.reshape(-1, 3)


def _ball(half: float) -> np.ndarray:
    """Profile of a unit sphere drawn apart to a capsule: rows (radius, z, normal's radius, z)."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, STACKS + 1)
    profile = np.stack([np.cos(angle), np.sin(angle), np.cos(angle), np.sin(angle)], axis=-1)
    if half == 0:
        return profile
    lower, upper = profile[: STACKS // 2 + 1].copy(), profile[STACKS // 2 :].copy()
    lower[:, 1] -= half
    upper[:, 1] += half
    return np.concatenate([lower, upper])


def _can() -> np.ndarray:
    """Profile of a closed cylinder of radius 1 from z = -1 to 1, with sharp rims."""
    radius, height = np.linspace(0, 1, RINGS + 1), np.linspace(-1, 1, RINGS + 1)
    one, nought = np.ones(RINGS + 1), np.zeros(RINGS + 1)
    bottom = np.stack([radius, -one, nought, -one], axis=-1)
    side = np.stack([one, height, one, nought], axis=-1)
    top = np.stack([radius[::-1], one, nought, one], axis=-1)
    return np.concatenate([bottom, side, top])


def _revolved(profile: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(vertices, normals, triangles) of a profile, from low to high, turned around z."""
    angle = 2 * np.pi * np.arange(SLICES + 1) / SLICES
    triangles = _grid(angle, profile[:, 1])[1]
    around = np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, None]
    stacked = [around * profile[:, :1], around * profile[:, 2:3]]
    heights = [np.broadcast_to(profile[:, k, None], (SLICES + 1, len(profile), 1)) for k in (1, 3)]
    vertices, normals = (
        np.concatenate([flat, high], axis=-1).reshape(-1, 3) for flat, high in zip(stacked, heights)
    )
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    solid = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-9  # poles and rims collapse some
    return vertices, normals, triangles[solid]


def _scaled(vertices, normals, triangles, scale) -> Shape:
    bent = normals / np.maximum(scale, 1e-9)
    bent /= np.linalg.norm(bent, axis=1, keepdims=True)
    return Shape(vertices * scale, bent, np.arange(len(vertices)), triangles, vertices)
