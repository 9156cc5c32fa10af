"""The CPU renderer draws what OpenGL draws, and what can be worked out by hand."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import mujoco
import numpy as np
import pytest

from robostack.sim.raster import RasterRenderer
from robostack.sim.render import GLRenderer

VIEW = {"eye": (64, 64)}
DARK = '<headlight ambient="0 0 0" diffuse="0 0 0" specular="0 0 0"/>'
GLOWING = """<material name="red" rgba="1 0 0 1" emission="1" specular="0"/>
    <material name="green" rgba="0 1 0 1" emission="1" specular="0"/>
    <material name="veil" rgba="0 1 0 .5" emission="1" specular="0"/>"""


def scene(world: str, assets: str = GLOWING, visual: str = "", eye: str = 'pos="0 0 2"') -> str:
    return f"""<mujoco><visual>{visual}</visual><asset>{assets}</asset><default>
        <geom group="1"/></default><worldbody><camera name="eye" {eye}/>{world}
        </worldbody></mujoco>"""


def pixels(source, qpos=(), view=VIEW, **options) -> np.ndarray:
    return RasterRenderer(source, view, **options).render(np.array(qpos))["eye"]


def apart(a, b) -> float:
    return np.abs(a.astype(float) - b).mean()


def apart_from_gl(source, samples=1) -> float:
    lean = GLRenderer(source, VIEW)
    expected = lean.render(lean.model.qpos0)["eye"]
    lean.close()
    assert expected.std() > 8  # there is something in the picture
    return apart(pixels(source, lean.model.qpos0, samples=samples), expected)


# what can be worked out ------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 4])
def test_a_glowing_box_covers_the_pixels_between_its_projected_corners(samples):
    box = '<geom type="box" size=".4 .2 .1" pos=".1 .05 0" material="red"/>'
    renderer = RasterRenderer(scene(box, visual=DARK), VIEW, samples=samples)
    image = renderer.render(np.zeros(0))["eye"]
    top = np.array([[-0.3, 0.25, 0.1], [0.5, -0.15, 0.1]])  # the side that faces the camera
    (left, upper), (right, lower) = renderer.project("eye", top)
    rows, columns = np.mgrid[:64, :64]
    inside = (columns > left + 1) & (columns < right - 1) & (rows > upper + 1) & (rows < lower - 1)
    outside = (columns < left - 1) | (columns > right + 1) | (rows < upper - 1) | (rows > lower + 1)
    assert inside.sum() > 100 and (image[inside] == [255, 0, 0]).all()
    assert (image[outside] == 0).all()


def test_four_samples_make_an_edge_through_a_pixel_half_as_bright():
    focal = 32 / np.tan(np.deg2rad(22.5))
    side = 10.0 * 2 / focal  # the edge of a plate at distance 2 falls 10 pixels from the middle
    plate = f'<geom type="plane" size="{side} {side} 1" material="red"/>'
    image = pixels(scene(plate, visual=DARK), samples=4)[..., 0]
    assert (image[32, 22:42] == 255).all() and image[32, 21] == image[32, 42] == 0
    shifted = scene(plate.replace("/>", f' pos="{1 / focal} 0 0"/>'), visual=DARK)  # half a pixel
    image = pixels(shifted, samples=4)[..., 0]
    assert image[32, 22] == image[32, 42] == 128 and (image[32, 23:42] == 255).all()


@pytest.mark.parametrize("nearer, color", [("red", [255, 0, 0]), ("green", [0, 255, 0])])
def test_the_nearer_thing_is_seen_whatever_the_order(nearer, color):
    heights = {"red": 0, "green": 0} | {nearer: 0.5}
    boxes = "".join(
        f'<geom type="box" size=".3 .3 .1" pos="0 0 {z}" material="{name}"/>'
        for name, z in heights.items()
    )
    assert (pixels(scene(boxes, visual=DARK))[32, 32] == color).all()


def test_a_floor_that_passes_under_the_camera_is_drawn_up_to_it():
    floor = '<geom type="plane" size="50 50 1" material="red"/>'
    level = 'pos="0 0 .5" xyaxes="1 0 0 0 0 1"'
    image = pixels(scene(floor, visual=DARK, eye=level))[..., 0]
    assert (image[40:] == 255).all() and (image[:30] == 0).all()


def test_what_lets_light_through_is_blended_twice_as_mujoco_does():
    veil = '<geom type="box" size=".3 .3 .1" pos="0 0 .5" material="veil"/>'
    back = '<geom type="box" size=".6 .6 .1" material="red"/>'
    image = pixels(scene(back + veil, visual=DARK))
    assert np.abs(image[32, 32].astype(int) - [64, 191, 0]).max() <= 1
    assert apart_from_gl(scene(back + veil, visual=DARK)) < 1


def test_the_far_side_of_things_is_not_drawn_and_the_back_of_a_plane_faintly():
    inside = scene('<geom type="sphere" size="3" material="red"/>', visual=DARK)
    assert (pixels(inside) == 0).all()
    below = scene('<geom type="plane" size="1 1 1" pos="0 0 3" material="red"/>', visual=DARK)
    upward = below.replace('pos="0 0 2"', 'pos="0 0 2" xyaxes="1 0 0 0 -1 0"')
    assert pixels(upward)[32, 32, 0] == pytest.approx(255 * (1 - 0.7**2), abs=1)


# the same as OpenGL ----------------------------------------------------------------------------

SHAPES = {
    "box": 'type="box" size=".5 .3 .2"',
    "sphere": 'type="sphere" size=".5"',
    "ellipsoid": 'type="ellipsoid" size=".6 .3 .4"',
    "capsule": 'type="capsule" size=".25 .35"',
    "cylinder": 'type="cylinder" size=".35 .3"',
    "plane": 'type="plane" size=".6 .4 .1"',
    "endless": 'type="plane" size="0 0 .1"',
}
LIGHTS = {
    "headlight": "",
    "sun": '<light directional="true" dir="-.3 .2 -1" pos="0 0 3" diffuse=".6 .5 .3"/>',
    "spot": '<light pos=".3 .3 1.5" dir="-.2 -.2 -1" cutoff="40" exponent="3" '
    'attenuation=".5 .3 .1" ambient=".1 0 .1"/>',
    "off": '<light pos="0 0 3" active="false"/>',
}


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> str:
    """An image file without any symmetry."""
    rows, columns = np.mgrid[:64, :64]
    image = np.stack([255 - 2 * rows, 3 * columns, 120 * (rows > columns)], axis=-1)
    path = tmp_path_factory.mktemp("texture") / "picture.png"
    cv2.imwrite(str(path), image.clip(0, 255).astype(np.uint8))
    return str(path)


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("kind", SHAPES)
def test_light_falls_on_shapes_as_in_opengl(kind, light):
    shape = f'<geom {SHAPES[kind]} euler="25 20 10" material="shiny"/>'
    assets = '<material name="shiny" rgba=".8 .5 .3 1" specular=".6" shininess=".3"/>'
    assert apart_from_gl(scene(shape + LIGHTS[light], assets)) < 1.5


# an endless plane has no size that a uniform cube texture could be measured by
TEXTURED = [
    (kind, texture, uniform)
    for kind in SHAPES
    for texture in ("2d", "cube")
    for uniform in ("true", "false")
    if (kind, texture, uniform) != ("endless", "cube", "true")
]


@pytest.mark.parametrize(("kind", "texture", "uniform"), TEXTURED)
def test_textures_lie_on_shapes_as_in_opengl(kind, texture, uniform, picture):
    shape = f'<geom {SHAPES[kind]} euler="25 20 10" material="printed"/>'
    assets = f"""<texture name="t" type="{texture}" file="{picture}"/><material name="printed"
        texture="t" texrepeat="2 1.5" texuniform="{uniform}" specular="0"/>"""
    assert apart_from_gl(scene(shape, assets)) < 2.5


def test_far_textures_are_averaged_as_in_opengl(picture):
    floor = '<geom type="plane" size="0 0 .1" material="printed"/>'
    assets = f"""<texture name="t" type="2d" file="{picture}"/>
        <material name="printed" texture="t" texrepeat="3 3" texuniform="true"/>"""
    level = 'pos="0 0 .5" xyaxes="1 .3 0 0 .2 1"'
    assert apart_from_gl(scene(floor, assets, eye=level)) < 4


TASKS = ["Stack", "PickPlaceCan", "NutAssemblySquare", "Door"]


def suite(task: str) -> tuple[str, np.ndarray]:
    """MJCF of a robosuite task and three poses f64[3, nq]."""
    import robosuite

    env = robosuite.make(
        task,
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        hard_reset=False,
        seed=0,
    )
    xml = env.sim.model.get_xml()
    joints = env.robots[0]._ref_joint_pos_indexes
    rng, poses = np.random.default_rng(0), []
    for _ in range(3):
        env.reset()
        poses.append(env.sim.data.qpos.copy())
        poses[-1][joints] += rng.uniform(-0.4, 0.4, len(joints))
    env.close()
    return xml, np.array(poses)


@pytest.fixture(scope="module")
def lift():
    return suite("Lift")


VIEWS = ("agentview", "frontview", "robot0_eye_in_hand")
LIFT_SIZES = ((84, 1), (128, 1), (84, 4), (224, 4))
TASK_SIZES = ((84, 1), (128, 1), (84, 4), (128, 4))


def square(size: int) -> dict[str, tuple[int, int]]:
    return dict.fromkeys(VIEWS, (size, size))


def comparison(xml: str, poses: np.ndarray, sizes) -> dict[tuple[int, int], list[float]]:
    """How far our pictures are from OpenGL's, by (size, samples). Four samples are compared with
    OpenGL's picture of twice the size, made small."""
    largest = max(size * (2 if samples == 4 else 1) for size, samples in sizes)
    lean = GLRenderer(xml, square(largest))  # each renderer takes a second to be made
    ours = {n: RasterRenderer(xml, square(8), samples=n) for n in {n for _, n in sizes}}
    distances = {}
    for size, samples in sizes:
        lean.cameras = square(size * (2 if samples == 4 else 1))
        raster, found = ours[samples].through(square(size)), []
        for qpos in poses:
            expected, got = lean.render(qpos), raster.render(qpos)
            for name in VIEWS:
                whole = cv2.resize(expected[name], (size, size), interpolation=cv2.INTER_AREA)
                found.append(apart(got[name], whole))
        distances[size, samples] = found
    lean.close()
    return distances


def looks_alike(distances: list[float], samples: int) -> bool:
    # textures of a picture of twice the size are finer: single views differ more
    return np.mean(distances) < 3 and np.max(distances) < (3 if samples == 1 else 5)


@pytest.fixture(scope="module")
def lift_compared(lift):
    return comparison(*lift, LIFT_SIZES)


@pytest.mark.parametrize("size, samples", LIFT_SIZES)
def test_lift_looks_as_in_opengl(lift_compared, size, samples):
    distances = lift_compared[size, samples]
    assert len(distances) == 9 and looks_alike(distances, samples), distances


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_tasks_look_as_in_opengl(task):
    for (_, samples), distances in comparison(*suite(task), TASK_SIZES).items():
        assert looks_alike(distances, samples), distances


# what it promises ------------------------------------------------------------------------------


def test_a_pose_gives_the_same_bytes_whatever_was_drawn_before(lift):
    """What stands still is kept after the second picture: no picture may tell."""
    xml, poses = lift
    cameras = dict.fromkeys(["agentview", "robot0_eye_in_hand"], (48, 48))
    one, other = RasterRenderer(xml, cameras), RasterRenderer(xml, cameras)
    first = [one.render(qpos) for qpos in poses]
    for order in (2, 0, 1, 1, 0):
        again = other.render(poses[order])
        assert all(np.array_equal(again[name], first[order][name]) for name in cameras)


BALLS = """<geom name="fixed" type="box" size=".2 .2 .2" pos="-.4 0 0" material="red"/>
    <body pos=".4 0 0"><freejoint/><geom name="free" type="sphere" size=".2"/></body>"""


def test_what_is_written_to_the_model_is_seen_in_the_next_picture():
    renderer = RasterRenderer(scene(BALLS), VIEW)
    model, qpos = renderer.model, renderer.model.qpos0
    before = [renderer.render(qpos)["eye"] for _ in range(4)][-1]

    def changed(array, value) -> bool:
        kept = array.copy()
        array[:] = value
        differs = not np.array_equal(renderer.render(qpos)["eye"], before)
        array[:] = kept
        return differs and np.array_equal(renderer.render(qpos)["eye"], before)

    assert changed(model.geom("fixed").rgba, [0, 0, 1, 1])
    assert changed(model.geom("free").rgba, [0, 0, 1, 0.3])
    assert changed(model.geom("free").rgba, [0, 0, 1, 0])
    assert changed(model.mat_rgba[0], [0, 1, 1, 1])
    assert changed(model.mat_emission, 0.2)
    assert changed(model.geom("fixed").size, 0.1)
    assert changed(model.geom("free").size, 0.3)
    assert changed(model.cam_fovy, 60)
    assert changed(model.cam_pos[0], [0, 0, 3])
    assert changed(model.vis.headlight.diffuse, 0.1)
    assert changed(model.geom("fixed").pos, [-0.5, 0, 0])


def test_textures_are_read_again_when_told():
    assets = """<texture name="t" type="cube" builtin="flat" rgb1="1 0 0" width="8" height="8"/>
        <material name="m" texture="t" emission="1"/>"""
    renderer = RasterRenderer(
        scene('<geom type="box" size=".5 .5 .5" material="m"/>', assets), VIEW
    )
    assert renderer.render(np.zeros(0))["eye"][32, 32, 0] > 200
    renderer.model.tex_data[:] = 0
    renderer.refresh_textures()
    assert renderer.render(np.zeros(0))["eye"][32, 32, 0] == 0


def test_only_the_chosen_groups_are_drawn_and_mocap_bodies_go_where_they_are_told():
    world = """<geom type="box" size=".1 .1 .1" group="0" material="green"/>
        <body name="hand" mocap="true"><geom type="box" size=".1 .1 .1" material="red"/></body>"""
    renderer = RasterRenderer(scene(world, visual=DARK), VIEW)
    assert (renderer.render(np.zeros(0))["eye"][32, 32] == [255, 0, 0]).all()
    away = renderer.render(np.zeros(0), mocap_pos=[[5, 0, 0]])["eye"]
    assert (away == 0).all()
    both = RasterRenderer(scene(world, visual=DARK), VIEW, groups=(0, 1))
    moved = both.render(np.zeros(0), mocap_pos=[[5, 0, 0]])["eye"]
    assert (moved[32, 32] == [0, 255, 0]).all()


def test_mistakes_are_named():
    world = '<geom type="sphere" size=".1"/>'
    with pytest.raises(ValueError, match="'selfie'; this scene has: eye"):
        RasterRenderer(scene(world), {"selfie": (8, 8)})
    with pytest.raises(ValueError, match="samples: expected 1 or 4, got 3"):
        RasterRenderer(scene(world), VIEW, samples=3)
    lens = 'pos="0 0 2" sensorsize=".01 .01" resolution="64 64" focal=".01 .01"'
    with pytest.raises(ValueError, match="camera 'eye': only cameras given by fovy"):
        RasterRenderer(scene(world, eye=lens), VIEW)
    with pytest.raises(ValueError, match="no geom in groups"):
        RasterRenderer(scene(world), VIEW, groups=(3,))
    hills = '<hfield name="h" nrow="4" ncol="4" size="1 1 1 .1"/>'
    with pytest.raises(ValueError, match="'hill': the raster renderer cannot draw a hfield"):
        RasterRenderer(scene('<geom name="hill" type="hfield" hfield="h"/>', hills), VIEW)


def test_it_needs_no_opengl(tmp_path: Path):
    path = tmp_path / "scene.xml"
    path.write_text(scene('<geom type="box" size=".3 .3 .3"/>'))
    code = f"""
from pathlib import Path
import numpy as np
from robostack.sim.raster import RasterRenderer
image = RasterRenderer(Path({str(path)!r}), {{"eye": (32, 32)}}).render(np.zeros(0))["eye"]
import sys
assert image.max() > 0
assert not any(name.split(".")[0] == "OpenGL" for name in sys.modules), "OpenGL was loaded"
"""
    disabled = os.environ | {"MUJOCO_GL": "disable"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=disabled, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_meshes_keep_smooth_and_sharp_edges(lift):
    """The Panda has both; each corner's normal is a unit vector on its face's side."""
    renderer = RasterRenderer(lift[0], {"agentview": (8, 8)})
    scene = renderer.scene
    a, b, c = (scene.vertices[scene.triangles[:, k]].astype(float) for k in range(3))
    flat = np.cross(b - a, c - a)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-30
    normals = scene.normals[scene.triangles[:, 3:]]
    assert np.allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-3)
    is_mesh = renderer.model.geom_type[renderer.geoms] == mujoco.mjtGeom.mjGEOM_MESH
    facing = (normals * flat[:, None]).sum(-1)[is_mesh[scene.owners]]
    assert np.mean(facing > 0.79) > 0.99
