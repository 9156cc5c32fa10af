"""What the CPU renderer draws, laid out for its kernels: triangles, textures and lights."""

from __future__ import annotations

import cv2
import mujoco
import numpy as np

from robostack.sim import raster_kernels as kernels
from robostack.sim.shapes import Shape

MAX_LIGHTS = 100  # as MuJoCo, and the headlight
_RGB = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)


def lights(model: mujoco.MjModel, data: mujoco.MjData) -> kernels.Lights:
    """The active lights; the headlight comes first and is placed later, with each camera."""
    on = np.flatnonzero(model.light_active)[:MAX_LIGHTS]
    head = model.vis.headlight
    first = 1 if head.active else 0
    count = first + len(on)
    colors, falls, spots = np.zeros((count, 9)), np.zeros((count, 3)), np.ones((count, 3))
    positions, directions = np.zeros((count, 3)), np.zeros((count, 3))
    positions[first:], directions[first:] = data.light_xpos[on], data.light_xdir[on]
    colors[first:, :3], colors[first:, 3:6] = model.light_ambient[on], model.light_diffuse[on]
    colors[first:, 6:] = model.light_specular[on]
    falls[first:] = model.light_attenuation[on]
    spots[first:, 0] = model.light_type[on] == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    cutoff = model.light_cutoff[on]
    spots[first:, 1] = np.where(cutoff >= 180, -2, np.cos(np.deg2rad(cutoff)))
    spots[first:, 2] = model.light_exponent[on]
    if first:
        colors[0] = np.concatenate([head.ambient, head.diffuse, head.specular])
    return kernels.Lights(positions, directions, colors, falls, spots)


def merge(model, geoms, shapes: list[Shape], rows: np.ndarray, still: int) -> kernels.Scene:
    """All shapes after each other, their indices counting on."""
    sizes = [(len(s.vertices), len(s.triangles), len(s.normals)) for s in shapes]
    first = np.concatenate([[(0, 0, 0)], np.cumsum(sizes, axis=0)]).astype(np.int32)
    vertices, triangles, bounds, texcoords, texture = [], [], [], [], rows.copy()
    for row, (geom, one) in enumerate(zip(geoms, shapes)):
        begin, _, corner = first[row]
        vertices.append(one.vertices)
        under = begin + one.corner_vertices[one.triangles]
        triangles.append(np.concatenate([under, corner + one.triangles], axis=1))
        low, high = one.vertices.min(0), one.vertices.max(0)
        middle = (low + high) / 2
        radius = np.linalg.norm(one.vertices - middle, axis=1).max()
        bounds.append([*middle, radius])
        texcoords.append(_texcoords(model, geom, one, rows[row]))
        if one.texcoords is not None and rows[row, 1] == kernels.TEXTURE_CUBE:
            texture[row] = -1  # as in OpenGL, coordinates of a picture find nothing in a cube
    counts = np.array(sizes)
    return kernels.Scene(
        vertices=np.concatenate(vertices).astype(np.float32),
        triangles=np.concatenate(triangles).astype(np.int32),
        owners=np.repeat(np.arange(len(geoms)), counts[:, 1]).astype(np.int32),
        normals=np.concatenate([s.normals for s in shapes]).astype(np.float32),
        texcoords=np.concatenate(texcoords).astype(np.float32),
        corner_vertices=np.concatenate(
            [begin[0] + s.corner_vertices for begin, s in zip(first, shapes)]
        ).astype(np.int32),
        corner_owners=np.repeat(np.arange(len(geoms)), counts[:, 2]).astype(np.int32),
        first=first,
        bounds=np.array(bounds),
        planes=model.geom_type[geoms] == mujoco.mjtGeom.mjGEOM_PLANE,
        texture=texture,
        still=still,
    )


def _texcoords(model: mujoco.MjModel, geom: int, one: Shape, texture: np.ndarray) -> np.ndarray:
    """Texture coordinates f64[C, 3] of corners, by MuJoCo's rules for repeated textures."""
    result = np.zeros((len(one.normals), 3))
    if texture[0] < 0:
        return result
    if one.texcoords is not None:
        result[:, :2] = one.texcoords
        return result
    kind, size = model.geom_type[geom], model.geom_size[geom].copy()
    kinds = mujoco.mjtGeom
    if kind in (kinds.mjGEOM_SPHERE, kinds.mjGEOM_CAPSULE, kinds.mjGEOM_CYLINDER):
        size = size[[0, 0, 0 if kind == kinds.mjGEOM_SPHERE else 1]]
    material = model.geom_matid[geom]
    uniform = model.mat_texuniform[material]
    if texture[1] == kernels.TEXTURE_CUBE:
        return one.unit * (size if uniform else 1)
    scale, positive = model.mat_texrepeat[material].astype(float), size[:2] > 0
    if kind in (kinds.mjGEOM_PLANE, kinds.mjGEOM_MESH):  # these are not cut in unit size
        scale[positive] /= size[:2][positive]
    if uniform:
        scale[positive] *= size[:2][positive]
    result[:, :2] = 0.5 * scale * [1, -1] * one.unit[:, :2] - 0.5
    return result


def textures(model: mujoco.MjModel, geoms: np.ndarray) -> tuple[kernels.Textures, np.ndarray]:
    """Textures that `geoms` use, with mip maps, and i32[G, 2] rows of Scene.texture."""
    rows = np.full((len(geoms), 2), -1, np.int32)
    known: dict[int, int] = {}
    texels, levels = [], []
    start = 0
    for row, geom in enumerate(geoms):
        material = model.geom_matid[geom]
        index = int(model.mat_texid[material, _RGB]) if material >= 0 else -1
        if index < 0:
            continue
        flat = model.tex_type[index] == mujoco.mjtTexture.mjTEXTURE_2D
        if index not in known:
            known[index] = len(levels)
            pyramid = _pyramid(_faces(model, index))
            table = []
            for level in pyramid:
                count, high, wide = level.shape[:3]
                table.append([start, high, wide, high * wide if count > 1 else 0])
                start += count * high * wide
                texels.append(level.reshape(-1, 3))
            levels.append(table)
        rows[row] = known[index], kernels.TEXTURE_2D if flat else kernels.TEXTURE_CUBE
    padded = np.zeros((len(levels), max(map(len, levels), default=1), 4), np.int64)
    for row, table in enumerate(levels):
        padded[row, : len(table)] = table
    flat = np.zeros((start, 4), np.uint8)
    if texels:
        flat[:, :3] = np.concatenate(texels)
    return kernels.Textures(flat, padded, np.array([len(t) for t in levels], np.int64)), rows


def _faces(model: mujoco.MjModel, index: int) -> np.ndarray:
    """Pictures u8[N, H, W, 3] of a texture: one, or six of a cube that does not repeat one."""
    high, wide, channels = (
        int(a[index]) for a in (model.tex_height, model.tex_width, model.tex_nchannel)
    )
    begin = model.tex_adr[index]
    data = model.tex_data[begin : begin + high * wide * channels].reshape(high, wide, channels)[
        ..., :3
    ]
    if model.tex_type[index] != mujoco.mjtTexture.mjTEXTURE_2D:
        return data.reshape(-1, wide, wide, 3)
    if model.tex_colorspace[index] == mujoco.mjtColorSpace.mjCOLORSPACE_SRGB:
        share = np.arange(256) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        data = np.round(255 * linear).astype(np.uint8)[data]
    return data[None]


def _pyramid(faces: np.ndarray) -> list[np.ndarray]:
    """Mip maps: each level half as wide and high as the one before, down to one texel."""
    levels = [faces]
    while max(levels[-1].shape[1:3]) > 1:
        high, wide = (max(side // 2, 1) for side in levels[-1].shape[1:3])
        smaller = [cv2.resize(f, (wide, high), interpolation=cv2.INTER_LINEAR) for f in levels[-1]]
        levels.append(np.stack(smaller))
    return levels
