"""A copy of a MuJoCo model whose visual meshes have fewer faces. Physics meshes stay as they are.

robosuite's Panda has 180,000 visual faces, which is what a CPU renderer spends its time on. Faces
are shared out by the square root of what each mesh had, so that small parts keep their shape.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import fast_simplification
import mujoco
import numpy as np

MIN_FACES = 32
WELD, MELT = 1e5, 35.0  # cells along the longest side of a mesh
RECIPE = b"3"  # part of the cache's key: change it with the recipe


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "robostack" / "meshes"


def lean_model(source: str | Path, faces: int) -> mujoco.MjModel:
    """Compile MJCF with at most about `faces` faces over all visual meshes.

    `source` is the XML itself, or the Path of an MJCF file, next to which includes and assets lie.
    A mesh counts as visual if no geom that can collide uses it. Textured meshes are left alone
    and come on top: their coordinates would have to move.
    """
    full = _spec(source).compile()
    spec = _spec(source)  # fresh: a compiled spec carries normals of the old mesh
    meshes = {name: full.mesh(name).id for name in _visual_meshes(spec)}
    weight = {name: np.sqrt(full.mesh_facenum[i]) for name, i in meshes.items()}
    total = sum(weight.values())
    for mesh in spec.meshes:
        name = _name(mesh)
        if name not in meshes:
            continue
        index = meshes[name]
        target = max(MIN_FACES, int(faces * weight[name] / total))
        if full.mesh_facenum[index] <= target:
            continue
        vertices, triangles = _decimated(*_arrays(full, index), target)
        mesh.name, mesh.file = name, ""
        mesh.scale, mesh.refpos, mesh.refquat = [1, 1, 1], [0, 0, 0], [1, 0, 0, 0]
        mesh.uservert = vertices.astype(float).ravel()
        mesh.userface = triangles.astype(np.int32).ravel()
    return spec.compile()


def _spec(source: str | Path) -> mujoco.MjSpec:
    if isinstance(source, Path):
        return mujoco.MjSpec.from_file(str(source))
    return mujoco.MjSpec.from_string(source)


def _name(mesh: mujoco.MjsMesh) -> str:
    return mesh.name or Path(mesh.file).stem  # MuJoCo names a nameless mesh after its file


def _visual_meshes(spec: mujoco.MjSpec) -> set[str]:
    textured = {m.name for m in spec.materials if any(str(t) for t in m.textures)}
    visual, keep = set(), set()
    for geom in spec.geoms:
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            fixed = geom.contype or geom.conaffinity or geom.material in textured
            (keep if fixed else visual).add(geom.meshname)
    return visual - keep


def _arrays(model: mujoco.MjModel, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices f64[V, 3] in the frame of the source file, and faces i32[F, 3]."""
    start, count = model.mesh_vertadr[index], model.mesh_vertnum[index]
    vertices = model.mesh_vert[start : start + count].astype(float)
    start, count = model.mesh_faceadr[index], model.mesh_facenum[index]
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.mesh_quat[index])
    # the compiler moved every mesh to its inertial frame: undo it
    vertices = vertices @ rotation.reshape(3, 3).T + model.mesh_pos[index]
    return vertices, model.mesh_face[start : start + count]


def _decimated(vertices: np.ndarray, faces: np.ndarray, target: int) -> tuple:
    key = vertices.tobytes() + faces.tobytes() + str(target).encode() + RECIPE
    digest = hashlib.sha256(key)
    path = cache_folder() / f"{digest.hexdigest()[:32]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as cached:
            return cached["vertices"], cached["faces"]
    reduced = _simplify(vertices, faces, target)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    with partial.open("wb") as file:
        np.savez(file, vertices=reduced[0], faces=reduced[1])
    partial.replace(path)  # several workers may do this at once; each writes the same bytes
    return reduced


def _simplify(vertices: np.ndarray, faces: np.ndarray, target: int) -> tuple:
    """Collapse edges; where loose sheets leave few that can be, and tear, melt vertices instead."""
    vertices, faces = _welded(vertices, faces, WELD)
    if len(faces) > target:
        fewer = fast_simplification.simplify(
            vertices.astype(np.float32),
            faces.astype(np.int32),
            target_reduction=1 - target / len(faces),
            agg=5,
        )
        stuck = len(fewer[1]) > 2 * target and len(faces) > 4 * target
        vertices, faces = _welded(vertices, faces, MELT) if stuck else fewer
    return vertices.astype(np.float32), faces.astype(np.int32)


def _welded(vertices: np.ndarray, faces: np.ndarray, cells: float) -> tuple:
    """One vertex for all in a cell of which `cells` span the longest side. Without it no edge
    collapses in formats that split vertices, one for each normal."""
    grid = np.round(vertices / (np.ptp(vertices, axis=0).max() + 1e-12) * cells).astype(np.int64)
    _, first, inverse = np.unique(grid, axis=0, return_index=True, return_inverse=True)
    faces = inverse.ravel()[faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (a != c)]
    turn = (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3  # to find faces that are there twice
    faces = np.unique(np.take_along_axis(faces, turn, axis=1), axis=0)
    return vertices[first], faces
