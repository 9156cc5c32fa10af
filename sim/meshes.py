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


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "robostack" / "meshes"


def lean_model(source: str | Path, faces: int) -> mujoco.MjModel:
    """Compile MJCF with at most about `faces` faces over all visual meshes.

    `source` is the XML itself, or the Path of an MJCF file, next to which includes and assets lie.
    A mesh counts as visual if no geom that can collide uses it. Textured meshes (robosuite's
    pedestal, 5,800 faces) are left alone and come on top: their coordinates would have to move.
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
    digest = hashlib.sha256(vertices.tobytes() + faces.tobytes() + str(target).encode())
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
    # weld vertices that a format with one normal a corner has split, or no edge can collapse
    grid = np.round(vertices / (np.ptp(vertices, axis=0).max() + 1e-12) * 1e5).astype(np.int64)
    _, first, inverse = np.unique(grid, axis=0, return_index=True, return_inverse=True)
    vertices, faces = vertices[first], inverse.ravel()[faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (a != c)]
    if len(faces) <= target:
        return vertices.astype(np.float32), faces.astype(np.int32)
    return fast_simplification.simplify(
        vertices.astype(np.float32),
        faces.astype(np.int32),
        target_reduction=1 - target / len(faces),
        agg=5,
    )
