"""The inner loops of the CPU renderer, compiled by numba: from vertices to pixels.

The order of work is the usual one of deferred shading. Every triangle only leaves its depth and
number in the buffers; then each pixel is coloured once from the triangle that won. Light is
computed at corners and interpolated, as OpenGL's fixed pipeline does, but only at corners of
triangles that are seen.

Cameras look along their own -z, x to the right, y up. Depth is kept as 1 / distance, which is
linear on the screen; greater is nearer.

It is one file because numba's cache on disk notices changes of the calling function's file only.
Nothing here allocates: without numba's reference counting the inner loops run three times faster.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

FAST = {"nogil": True, "cache": True, "fastmath": True, "error_model": "numpy", "_nrt": False}
INLINE = FAST | {"forceinline": True}
NOTHING = -1  # the triangle number where no triangle is seen
TEXTURE_2D, TEXTURE_CUBE = 1, 2
# columns of Scene.looks: colour and opacity, then the material
RED, GREEN, BLUE, ALPHA, EMISSION, SPECULAR, SHININESS = range(7)


class Scene(NamedTuple):
    """Triangles of G drawn geoms, those of geoms that stand still first. Rows belong to geoms."""

    vertices: np.ndarray  # f32[V, 3] in the geom's frame [m]
    triangles: np.ndarray  # i32[T, 6] three vertices, counter-clockwise from outside; three corners
    owners: np.ndarray  # i32[T] the geom of a triangle
    normals: np.ndarray  # f32[C, 3] of corners, in the geom's frame
    texcoords: np.ndarray  # f32[C, 3] of corners: s, t, unused; or a direction into a cube
    corner_vertices: np.ndarray  # i32[C]
    corner_owners: np.ndarray  # i32[C]
    first: np.ndarray  # i32[G + 1, 3] where a geom's vertices, triangles and corners begin
    bounds: np.ndarray  # f64[G, 4] a sphere around each geom: centre, radius [m]
    planes: np.ndarray  # bool[G] seen from both sides
    texture: np.ndarray  # i32[G, 2] row in Textures.levels or -1, and TEXTURE_2D or TEXTURE_CUBE
    still: int  # the first so many geoms stand still


class Textures(NamedTuple):
    texels: np.ndarray  # u8[N, 4] RGB and padding, all textures and levels after each other
    levels: np.ndarray  # i64[X, L, 4] first texel, height, width, texels from face to face
    counts: np.ndarray  # i64[X] number of levels


class Lights(NamedTuple):
    positions: np.ndarray  # f64[L, 3] in the world [m]
    directions: np.ndarray  # f64[L, 3]
    colors: np.ndarray  # f64[L, 9] ambient, diffuse and specular RGB
    attenuation: np.ndarray  # f64[L, 3] constant, linear, quadratic
    spots: np.ndarray  # f64[L, 3] 1 if directional, cosine of the cutoff, exponent


class Camera(NamedTuple):
    position: np.ndarray  # f64[3] in the world
    rotation: np.ndarray  # f64[3, 3] columns: right, up, backward
    focal: float  # [samples]
    near: float  # [m]
    far: float  # [m]


class Frame(NamedTuple):
    """What is kept for one camera. `still_*` hold the part of the picture that stands still."""

    points: np.ndarray  # f32[V, 3] vertices in the camera's frame
    screen: np.ndarray  # f32[V, 3] x, y [samples] and 1 / distance, 0 if not in front of the camera
    lit: np.ndarray  # f32[C, 3] light reflected at corners
    is_lit: np.ndarray  # bool[C]
    planes: np.ndarray  # f64[T, 21] of triangles that are seen, see prepare()
    is_ready: np.ndarray  # bool[T]
    visible: np.ndarray  # bool[G]
    poses: np.ndarray  # f64[G, 4, 3] rotation (rows 0-2) and translation, geom to camera
    lights: np.ndarray  # f64[L, 6] position and direction in the camera's frame
    depth: np.ndarray  # f32[h, w]
    ids: np.ndarray  # i32[h, w] triangle of each sample
    image: np.ndarray  # f32[H, W, 3] in [0, 1]
    clipped: np.ndarray  # f32[4, 3] scratch: a triangle cut by the near plane
    seen: np.ndarray  # i64[4] scratch: the triangles in a pixel,
    tally: np.ndarray  # i64[4] how many samples each covers,
    means: np.ndarray  # f64[2, 4] the mean column and row of those
    over_depth: np.ndarray  # as depth and ids, for one geom that lets light through
    over_ids: np.ndarray
    still_depth: np.ndarray
    still_ids: np.ndarray
    still_image: np.ndarray


@njit(**FAST)
def dress(geoms, rgba, materials, mat_rgba, emission, specular, shininess, looks):
    """Fill `looks` by MuJoCo's rule: a geom's own colour counts if it is not the default grey."""
    for row, g in enumerate(geoms):
        look, m, color = looks[row], materials[g], rgba[g]
        grey = color[0] == 0.5 and color[1] == 0.5 and color[2] == 0.5 and color[3] == 1
        for i in range(4):
            look[i] = mat_rgba[m, i] if m >= 0 and grey else color[i]
        if look[ALPHA] >= 0.995:
            look[ALPHA] = 1
        look[EMISSION] = emission[m] if m >= 0 else 0.0
        look[SPECULAR] = specular[m] if m >= 0 else 0.5
        look[SHININESS] = shininess[m] if m >= 0 else 0.5


@njit(**FAST)
def place(scene, frame, camera, positions, rotations, begin, end):
    """Move geoms begin..end into the camera's frame, cull them, and project their vertices."""
    height, width = frame.ids.shape
    half_x, half_y = 0.5 * width / camera.focal, 0.5 * height / camera.focal
    slant_x, slant_y = np.sqrt(1 + half_x * half_x), np.sqrt(1 + half_y * half_y)
    for g in range(begin, end):
        pose = frame.poses[g]
        for i in range(3):
            offset = 0.0
            for k in range(3):
                offset += camera.rotation[k, i] * (positions[g, k] - camera.position[k])
            pose[3, i] = offset
            for j in range(3):
                total = 0.0
                for k in range(3):
                    total += camera.rotation[k, i] * rotations[g, 3 * k + j]
                pose[i, j] = total
        x, y, z = scene.bounds[g, 0], scene.bounds[g, 1], scene.bounds[g, 2]
        r = scene.bounds[g, 3]
        cx = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[3, 0]
        cy = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[3, 1]
        away = -(pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[3, 2])
        frame.visible[g] = (
            away + r > camera.near
            and abs(cx) - half_x * away < r * slant_x
            and abs(cy) - half_y * away < r * slant_y
        )
        if frame.visible[g]:
            project(scene, frame, camera, g)


@njit(**FAST)
def project(scene, frame, camera, g):
    height, width = frame.ids.shape
    middle_x, middle_y = np.float32(0.5 * (width - 1)), np.float32(0.5 * (height - 1))
    focal, near = np.float32(camera.focal), np.float32(camera.near)
    pose, single = frame.poses[g], np.float32
    a, b, c, tx = single(pose[0, 0]), single(pose[0, 1]), single(pose[0, 2]), single(pose[3, 0])
    d, e, f, ty = single(pose[1, 0]), single(pose[1, 1]), single(pose[1, 2]), single(pose[3, 1])
    h, i, j, tz = single(pose[2, 0]), single(pose[2, 1]), single(pose[2, 2]), single(pose[3, 2])
    for v in range(scene.first[g, 0], scene.first[g + 1, 0]):
        x, y, z = scene.vertices[v, 0], scene.vertices[v, 1], scene.vertices[v, 2]
        right = a * x + b * y + c * z + tx
        up = d * x + e * y + f * z + ty
        away = -(h * x + i * y + j * z + tz)
        frame.points[v, 0], frame.points[v, 1], frame.points[v, 2] = right, up, -away
        inverse = np.float32(1) / away if away >= near else np.float32(0)
        frame.screen[v, 0] = middle_x + focal * right * inverse
        frame.screen[v, 1] = middle_y - focal * up * inverse
        frame.screen[v, 2] = inverse


@njit(**FAST)
def rasterize(scene, frame, camera, g, depth, ids):
    """Draw the triangles of geom g that face the camera into `depth` and `ids`."""
    screen = frame.screen
    pose = frame.poses[g]
    # the outside of a plane is its +z; seen from behind it turns round
    behind = scene.planes[g] and (
        pose[3, 0] * pose[0, 2] + pose[3, 1] * pose[1, 2] + pose[3, 2] * pose[2, 2] > 0
    )
    for t in range(scene.first[g, 1], scene.first[g + 1, 1]):
        a, b, c = scene.triangles[t, 0], scene.triangles[t, 1], scene.triangles[t, 2]
        if behind:
            b, c = c, b
        wa, wb, wc = screen[a, 2], screen[b, 2], screen[c, 2]
        if wa > 0 and wb > 0 and wc > 0:
            xa, ya, xb, yb = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1]
            fill(xa, ya, wa, xb, yb, wb, screen[c, 0], screen[c, 1], wc, t, depth, ids)
        elif wa > 0 or wb > 0 or wc > 0:
            clip(frame, camera, a, b, c, t, depth, ids)


@njit(**FAST)
def clip(frame, camera, a, b, c, t, depth, ids):
    """Draw the part of a triangle that lies beyond the near plane: three or four vertices."""
    height, width = ids.shape
    view, points, near = frame.points, frame.clipped, camera.near
    middle_x, middle_y = 0.5 * (width - 1), 0.5 * (height - 1)
    n = 0
    for k in range(3):
        p, q = (a, b, c)[k], (b, c, a)[k]
        p_in, q_in = -view[p, 2] >= near, -view[q, 2] >= near
        for cut in range(2):  # the vertex itself, then where the edge crosses the plane
            if (cut == 0 and not p_in) or (cut == 1 and p_in == q_in):
                continue
            share = cut * (-near - view[p, 2]) / (view[q, 2] - view[p, 2]) if cut else 0.0
            x = view[p, 0] + share * (view[q, 0] - view[p, 0])
            y = view[p, 1] + share * (view[q, 1] - view[p, 1])
            inverse = -1 / (view[p, 2] + share * (view[q, 2] - view[p, 2]))
            points[n, 0] = middle_x + camera.focal * x * inverse
            points[n, 1] = middle_y - camera.focal * y * inverse
            points[n, 2] = inverse
            n += 1
    xa, ya, wa = points[0, 0], points[0, 1], points[0, 2]
    for k in range(2, n):
        xb, yb, wb = points[k - 1, 0], points[k - 1, 1], points[k - 1, 2]
        fill(xa, ya, wa, xb, yb, wb, points[k, 0], points[k, 1], points[k, 2], t, depth, ids)


@njit(**INLINE)
def side(xa, ya, xb, yb):
    """The edge a to b as x = start + slope * y, to the left and to the right of the triangle.

    The side on which the edge does not bound the triangle gets a value that bounds nothing. Both
    triangles at an edge compute the same numbers, so that no sample between them is missed.
    """
    if ya == yb:
        return -1e9, 0.0, 1e9, 0.0
    if ya < yb:
        slope = (xb - xa) / (yb - ya)
        return xa - ya * slope, slope, 1e9, 0.0
    slope = (xa - xb) / (ya - yb)
    return -1e9, 0.0, xb - yb * slope, slope


@njit(**INLINE)
def fill(xa, ya, wa, xb, yb, wb, xc, yc, wc, t, depth, ids):
    """Write triangle t where it covers a sample and is not behind what is there."""
    xa, ya, xb, yb = np.float64(xa), np.float64(ya), np.float64(xb), np.float64(yb)
    xc, yc = np.float64(xc), np.float64(yc)
    area = (xc - xa) * (yb - ya) - (xb - xa) * (yc - ya)
    if area <= 0:
        return  # it shows its back
    height, width = ids.shape
    top, bottom = max(min(ya, yb, yc), 0.0), min(max(ya, yb, yc), height - 1.0)
    left, right = max(min(xa, xb, xc), 0.0), min(max(xa, xb, xc), width - 1.0)
    first, last = int(np.ceil(top)), int(np.floor(bottom))
    if first > last or np.ceil(left) > np.floor(right):
        return  # between samples, or off the screen
    l0, m0, r0, s0 = side(xa, ya, xb, yb)
    l1, m1, r1, s1 = side(xb, yb, xc, yc)
    l2, m2, r2, s2 = side(xc, yc, xa, ya)
    scale = 1 / area
    step_x = ((wc - wa) * (yb - ya) - (wb - wa) * (yc - ya)) * scale
    step_y = ((wb - wa) * (xc - xa) - (wc - wa) * (xb - xa)) * scale
    origin = wa - step_x * xa - step_y * ya
    for y in range(first, last + 1):
        begin = max(max(l0 + m0 * y, l1 + m1 * y), max(l2 + m2 * y, left))
        end = min(min(r0 + s0 * y, r1 + s1 * y), min(r2 + s2 * y, right))
        row = np.float32(origin + step_y * y)
        step = np.float32(step_x)
        for x in range(int(np.ceil(begin)), int(np.floor(end)) + 1):
            w = row + step * np.float32(x)
            if w >= depth[y, x]:
                depth[y, x] = w
                ids[y, x] = t


@njit(**FAST)
def move_lights(lights, camera, frame):
    for n in range(len(lights.positions)):
        for i in range(3):
            position = direction = 0.0
            for k in range(3):
                position += camera.rotation[k, i] * (lights.positions[n, k] - camera.position[k])
                direction += camera.rotation[k, i] * lights.directions[n, k]
            frame.lights[n, i], frame.lights[n, 3 + i] = position, direction


@njit(**FAST)
def light(scene, frame, lights, looks, c):
    """Light that corner c reflects to the camera: ambient, Lambert's diffuse, Blinn's specular."""
    g = scene.corner_owners[c]
    look, pose, p = looks[g], frame.poses[g], frame.points[scene.corner_vertices[c]]
    n = scene.normals[c]
    nx = pose[0, 0] * n[0] + pose[0, 1] * n[1] + pose[0, 2] * n[2]
    ny = pose[1, 0] * n[0] + pose[1, 1] * n[1] + pose[1, 2] * n[2]
    nz = pose[2, 0] * n[0] + pose[2, 1] * n[1] + pose[2, 2] * n[2]
    px, py, pz = np.float64(p[0]), np.float64(p[1]), np.float64(p[2])
    nearness = 1 / np.sqrt(px * px + py * py + pz * pz)
    # MuJoCo gives a scene without any light a little of its own
    base = look[EMISSION] + (0.3 if len(lights.positions) == 0 else 0.0)
    red, green, blue = base * look[RED], base * look[GREEN], base * look[BLUE]
    for k in range(len(lights.positions)):
        at, color = frame.lights[k], lights.colors[k]
        strength, lx, ly, lz = reaching(at, lights.spots[k], lights.attenuation[k], px, py, pz)
        if strength <= 0:
            continue
        diffuse = max(nx * lx + ny * ly + nz * lz, 0.0)
        specular = 0.0
        if diffuse > 0 and look[SPECULAR] > 0:
            hx, hy, hz = lx - px * nearness, ly - py * nearness, lz - pz * nearness
            facing = nx * hx + ny * hy + nz * hz
            if facing > 0:
                facing /= np.sqrt(hx * hx + hy * hy + hz * hz)
                specular = look[SPECULAR] * facing ** (128 * np.float64(look[SHININESS]))
        red += strength * (look[RED] * (color[0] + diffuse * color[3]) + specular * color[6])
        green += strength * (look[GREEN] * (color[1] + diffuse * color[4]) + specular * color[7])
        blue += strength * (look[BLUE] * (color[2] + diffuse * color[5]) + specular * color[8])
    frame.lit[c, 0], frame.lit[c, 1], frame.lit[c, 2] = min(red, 1), min(green, 1), min(blue, 1)
    frame.is_lit[c] = True


@njit(**INLINE)
def reaching(at, spot, attenuation, px, py, pz):
    """(strength, direction to the light) at a point; all in the camera's frame."""
    if spot[0] > 0:  # directional
        return 1.0, -at[3], -at[4], -at[5]
    lx, ly, lz = at[0] - px, at[1] - py, at[2] - pz
    distance = np.sqrt(lx * lx + ly * ly + lz * lz) + 1e-12
    lx, ly, lz = lx / distance, ly / distance, lz / distance
    fall = attenuation[0] + distance * (attenuation[1] + distance * attenuation[2])
    along = -(lx * at[3] + ly * at[4] + lz * at[5])
    if along < spot[1]:  # outside the cone
        return 0.0, lx, ly, lz
    cone = max(along, 0.0) ** spot[2] if spot[2] > 0 and spot[1] > -1 else 1.0
    return cone / max(fall, 1e-12), lx, ly, lz


@njit(**FAST)
def prepare(scene, frame, lights, looks, t):
    """Set up triangle t for shading: 7 linear functions of the viewing ray (dx, dy, -1).

    The first is the sum of the unscaled barycentric coordinates, the others RGB and the three
    texture coordinates times that sum: dividing by it makes them correct in perspective. It holds
    for triangles that reach behind the camera too.
    """
    points, triangles, plane = frame.points, scene.triangles, frame.planes[t]
    for k in range(3, 6):
        if not frame.is_lit[triangles[t, k]]:
            light(scene, frame, lights, looks, triangles[t, k])
    for n in range(21):
        plane[n] = 0.0
    for k in range(3):
        b, c = triangles[t, (k + 1) % 3], triangles[t, (k + 2) % 3]
        bx, by, bz = np.float64(points[b, 0]), np.float64(points[b, 1]), np.float64(points[b, 2])
        cx, cy, cz = np.float64(points[c, 0]), np.float64(points[c, 1]), np.float64(points[c, 2])
        # the volume of the ray and the edge opposite is the barycentric coordinate
        x, y, z = by * cz - bz * cy, bz * cx - bx * cz, by * cx - bx * cy
        corner = triangles[t, 3 + k]
        plane[0], plane[1], plane[2] = plane[0] + x, plane[1] + y, plane[2] + z
        for n in range(3):
            value = np.float64(frame.lit[corner, n])
            plane[3 + 3 * n] += x * value
            plane[4 + 3 * n] += y * value
            plane[5 + 3 * n] += z * value
            value = np.float64(scene.texcoords[corner, n])
            plane[12 + 3 * n] += x * value
            plane[13 + 3 * n] += y * value
            plane[14 + 3 * n] += z * value
    frame.is_ready[t] = True


@njit(**INLINE)
def shade(scene, frame, lights, looks, textures, focal, t, dx, dy, pixel):
    """RGB of triangle t on the viewing ray (dx, dy, -1); `pixel` is a pixel's side in samples."""
    if not frame.is_ready[t]:
        prepare(scene, frame, lights, looks, t)
    f = frame.planes
    total = f[t, 0] * dx + f[t, 1] * dy + f[t, 2]
    scale = 1 / total if total != 0 else 0.0
    red = (f[t, 3] * dx + f[t, 4] * dy + f[t, 5]) * scale
    green = (f[t, 6] * dx + f[t, 7] * dy + f[t, 8]) * scale
    blue = (f[t, 9] * dx + f[t, 10] * dy + f[t, 11]) * scale
    owner = scene.owners[t]
    row, kind = scene.texture[owner, 0], scene.texture[owner, 1]
    if row < 0:
        return red, green, blue
    p = (f[t, 12] * dx + f[t, 13] * dy + f[t, 14]) * scale
    q = (f[t, 15] * dx + f[t, 16] * dy + f[t, 17]) * scale
    # how far texture coordinates move from one pixel to the next, right (s) and down (t)
    scale *= pixel / focal
    ps, pt = (f[t, 12] - p * f[t, 0]) * scale, (f[t, 13] - p * f[t, 1]) * scale
    qs, qt = (f[t, 15] - q * f[t, 0]) * scale, (f[t, 16] - q * f[t, 1]) * scale
    height, width = textures.levels[row, 0, 1], textures.levels[row, 0, 2]
    if kind == TEXTURE_2D:
        right = (ps * width) ** 2 + (qs * height) ** 2
        down = (pt * width) ** 2 + (qt * height) ** 2
        x, y, z = sample(textures, row, 0, p, q, max(right, down), True)
    else:
        r = (f[t, 18] * dx + f[t, 19] * dy + f[t, 20]) / total
        rs, rt = (f[t, 18] - r * f[t, 0]) * scale, (f[t, 19] - r * f[t, 1]) * scale
        face, p, q, depth = cube_face(p, q, r)
        stretch = (0.5 * width / depth) ** 2
        right, down = ps * ps + qs * qs + rs * rs, pt * pt + qt * qt + rt * rt
        x, y, z = sample(textures, row, face, p, q, stretch * max(right, down), False)
    return red * x, green * y, blue * z


@njit(**INLINE)
def cube_face(x, y, z):
    """(face, s, t, distance to the face) of a direction, by OpenGL's table of cube maps."""
    u, v, w = abs(x), abs(y), abs(z)
    if u >= v and u >= w:
        u = max(u, 1e-12)
        return (
            (0, 0.5 - 0.5 * z / u, 0.5 - 0.5 * y / u, u)
            if x > 0
            else ((1, 0.5 + 0.5 * z / u, 0.5 - 0.5 * y / u, u))
        )
    if v >= w:
        return (
            (2, 0.5 + 0.5 * x / v, 0.5 + 0.5 * z / v, v)
            if y > 0
            else ((3, 0.5 + 0.5 * x / v, 0.5 - 0.5 * z / v, v))
        )
    return (
        (4, 0.5 + 0.5 * x / w, 0.5 - 0.5 * y / w, w)
        if z > 0
        else ((5, 0.5 - 0.5 * x / w, 0.5 - 0.5 * y / w, w))
    )


@njit(**INLINE)
def sample(textures, row, face, s, t, footprint, repeat):
    """RGB in [0, 1] at (s, t), bilinear in the level whose texels are nearest to a pixel in size.

    `footprint` is the square of a pixel's length in texels of the finest level.
    """
    level = 0
    while footprint > 2.0 and level + 1 < textures.counts[row]:  # 2: half a level is sqrt(2)
        footprint *= 0.25
        level += 1
    levels = textures.levels
    height, width = levels[row, level, 1], levels[row, level, 2]
    start = levels[row, level, 0] + face * levels[row, level, 3]
    if repeat:
        s, t = s - np.floor(s), t - np.floor(t)
    x, y = s * width - 0.5, t * height - 0.5
    left, top = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - left, y - top
    right, bottom = left + 1, top + 1
    if repeat:
        left = left + width if left < 0 else left
        top = top + height if top < 0 else top
        right = right - width if right >= width else right
        bottom = bottom - height if bottom >= height else bottom
    else:
        left, right = min(max(left, 0), width - 1), min(max(right, 0), width - 1)
        top, bottom = min(max(top, 0), height - 1), min(max(bottom, 0), height - 1)
    texels = textures.texels
    top, bottom = start + top * width, start + bottom * width
    a, b, c, d = top + left, top + right, bottom + left, bottom + right
    wa, wb, wc, wd = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    red = wa * texels[a, 0] + wb * texels[b, 0] + wc * texels[c, 0] + wd * texels[d, 0]
    green = wa * texels[a, 1] + wb * texels[b, 1] + wc * texels[c, 1] + wd * texels[d, 1]
    blue = wa * texels[a, 2] + wb * texels[b, 2] + wc * texels[c, 2] + wd * texels[d, 2]
    return red / 255, green / 255, blue / 255


@njit(**FAST)
def group(ids, left, top, seen, tally, mean_x, mean_y):
    """Sort a pixel's 2 x 2 samples by triangle: (triangles, samples covered, highest triangle)."""
    found, cover, highest = 0, 0, NOTHING
    for j in range(top, top + 2):
        for i in range(left, left + 2):
            t = ids[j, i]
            if t == NOTHING:
                continue
            slot = 0
            while slot < found and seen[slot] != t:
                slot += 1
            if slot == found:
                seen[slot], tally[slot], mean_x[slot], mean_y[slot] = t, 0, 0.0, 0.0
                found += 1
                highest = max(highest, t)
            tally[slot] += 1
            mean_x[slot] += (i - mean_x[slot]) / tally[slot]
            mean_y[slot] += (j - mean_y[slot]) / tally[slot]
            cover += 1
    return found, cover, highest


@njit(**FAST)
def resolve(scene, frame, lights, looks, textures, focal, ids, opacity, moved, image):
    """Blend the triangles of `ids` into `image`; a pixel of k x k samples is their average.

    A triangle that covers several samples of a pixel is shaded once, in the middle of those.
    Pixels where all triangles come before the `moved` first are taken from the still picture;
    NOTHING takes none.
    """
    height, width = image.shape[:2]
    k = ids.shape[0] // height
    middle_x, middle_y = 0.5 * (ids.shape[1] - 1), 0.5 * (ids.shape[0] - 1)
    share, inverse = opacity / (k * k), 1 / focal
    seen, tally, mean_x, mean_y = frame.seen, frame.tally, frame.means[0], frame.means[1]
    for y in range(height):
        for x in range(width):
            left, top = x * k, y * k
            t = highest = ids[top, left]
            uniform = k == 1 or (
                ids[top, left + 1] == t and ids[top + 1, left] == t and ids[top + 1, left + 1] == t
            )
            if uniform:
                found = 0 if t == NOTHING else 1
                cover = k * k * found
                seen[0], tally[0] = t, cover
                mean_x[0], mean_y[0] = left + 0.5 * (k - 1), top + 0.5 * (k - 1)
            else:
                found, cover, highest = group(ids, left, top, seen, tally, mean_x, mean_y)
            if highest < moved:
                for i in range(3):
                    image[y, x, i] = frame.still_image[y, x, i]
                continue
            if found == 0:
                continue
            red = green = blue = 0.0
            for slot in range(found):
                t, count = seen[slot], tally[slot]
                dx, dy = (mean_x[slot] - middle_x) * inverse, (middle_y - mean_y[slot]) * inverse
                r, g, b = shade(scene, frame, lights, looks, textures, focal, t, dx, dy, k)
                red, green, blue = red + count * r, green + count * g, blue + count * b
            keep = 1 - share * cover
            image[y, x, 0] = keep * image[y, x, 0] + share * red
            image[y, x, 1] = keep * image[y, x, 1] + share * green
            image[y, x, 2] = keep * image[y, x, 2] + share * blue


@njit(**FAST)
def copy(depth, ids, to_depth, to_ids):
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            to_depth[y, x], to_ids[y, x] = depth[y, x], ids[y, x]


PLAIN, KEEP, REUSE = 0, 1, 2  # draw all; keep what stands still for later; start from what was kept


@njit(**FAST)
def draw(
    scene, frame, camera, positions, rotations, looks, lights, textures, layered, mode, pixels
):
    """Draw one picture u8[H, W, 3]. `layered` geoms, in this order, are blended over the rest."""
    geoms, focal = len(scene.texture), camera.focal
    move_lights(lights, camera, frame)
    depth, ids = frame.depth, frame.ids
    # numba compiles a function once more for a number that it is given in so many words
    first, none = np.int64(0), np.int64(NOTHING)
    if mode != REUSE:
        frame.is_lit[:] = False
        frame.is_ready[:] = False
        depth[:] = 1 / camera.far
        ids[:] = NOTHING
        place(scene, frame, camera, positions, rotations, first, scene.still)
        for g in range(scene.still):
            if frame.visible[g] and looks[g, ALPHA] >= 1:
                rasterize(scene, frame, camera, g, depth, ids)
    if mode == KEEP:
        copy(depth, ids, frame.still_depth, frame.still_ids)
        still = frame.still_image
        still[:] = 0
        resolve(scene, frame, lights, looks, textures, focal, ids, 1.0, none, still)
    if mode == REUSE:
        frame.is_ready[scene.first[scene.still, 1] :] = False
        frame.is_lit[scene.first[scene.still, 2] :] = False
        copy(frame.still_depth, frame.still_ids, depth, ids)
    place(scene, frame, camera, positions, rotations, scene.still, geoms)
    for g in range(scene.still, geoms):
        if frame.visible[g] and looks[g, ALPHA] >= 1:
            rasterize(scene, frame, camera, g, depth, ids)
    image = frame.image
    image[:] = 0
    moved = NOTHING if mode == PLAIN else scene.first[scene.still, 1]
    resolve(scene, frame, lights, looks, textures, focal, ids, 1.0, moved, image)
    if len(layered):
        blend(scene, frame, camera, looks, lights, textures, layered)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for i in range(3):
                value = min(max(image[y, x, i], np.float32(0)), np.float32(1))
                pixels[y, x, i] = np.uint8(value * np.float32(255) + np.float32(0.5))


@njit(**FAST)
def blend(scene, frame, camera, looks, lights, textures, layered):
    """Draw the `layered` geoms over the opaque ones, each with its nearest faces only."""
    depth, ids, focal, none = frame.over_depth, frame.over_ids, camera.focal, np.int64(NOTHING)
    for g in layered:
        if frame.visible[g]:
            copy(frame.depth, frame.ids, depth, ids)
            ids[:] = NOTHING
            rasterize(scene, frame, camera, g, depth, ids)
            share, image = np.float64(looks[g, ALPHA]), frame.image
            resolve(scene, frame, lights, looks, textures, focal, ids, share, none, image)
