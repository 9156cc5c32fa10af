"""Lean pictures show the scene: the right things in the right place, nearly as a full render."""

import numpy as np
import pytest

from robostack.sim.env import EnvConfig, make_env
from robostack.sim.render import GLRenderer

SIZE = {"agentview": (128, 128)}


@pytest.fixture(scope="module")
def xml(lift):
    return lift.xml


@pytest.fixture(scope="module")
def renderers(xml):
    lean, full = GLRenderer(xml, SIZE), GLRenderer(xml, SIZE, faces=10**9)
    yield lean, full
    lean.close()
    full.close()


def difference(a, b):
    return np.abs(a["agentview"].astype(float) - b["agentview"]).mean()


def test_a_lean_picture_is_nearly_a_full_one_and_unlike_one_of_another_moment(lift, renderers):
    lean, full = renderers
    lift.reset(0)
    start = lift.data.qpos.copy()
    for _ in range(12):
        lift.step(np.float32([1, 1, 1, 0, 0, 0, 0]))
    moved = lift.data.qpos.copy()
    for qpos in (start, moved):
        assert difference(lean.render(qpos), full.render(qpos)) < 6
    assert difference(lean.render(start), full.render(moved)) > 1.5 * difference(
        lean.render(moved), full.render(moved)
    )


def test_visual_meshes_keep_a_tenth_of_their_faces_and_solid_ones_all(lift, renderers):
    lean, full = (r.model for r in renderers)
    collides = lift.model.geom_contype | lift.model.geom_conaffinity
    solid = set(lift.model.geom_dataid[(lift.model.geom_type == 7) & (collides > 0)])
    thin = [i for i in range(full.nmesh) if i not in solid]
    assert solid and all(lean.mesh_facenum[i] == full.mesh_facenum[i] for i in solid)
    assert lean.mesh_facenum[thin].sum() < 0.1 * full.mesh_facenum[thin].sum()


def test_drawing_twice_gives_the_same_picture(lift, renderers):
    lift.reset(0)
    first = renderers[0].render(lift.data.qpos)["agentview"]
    assert np.array_equal(renderers[0].render(lift.data.qpos)["agentview"], first)


@pytest.mark.parametrize("seed", range(4))
def test_the_cube_projects_onto_its_red_pixels(lift, seed):
    step = lift.reset(seed)
    x, y = np.round(lift.renderer.project("agentview", step.keypoints["object"])[0]).astype(int)
    red, green, blue = step.observation.images["agentview"][y, x].astype(int)
    assert red > 1.5 * green and red > 1.5 * blue


def test_a_point_further_up_projects_further_up_and_points_project_alone_or_together(lift):
    cube = lift.reset(0).keypoints["object"]
    points = np.stack([cube, cube + [0, 0, 0.05]])
    low, high = lift.renderer.project("agentview", points)
    assert high[1] < low[1] - 2 and high[0] == pytest.approx(low[0], abs=1)
    assert np.allclose(lift.renderer.project("agentview", cube)[0], low)


def test_rendering_does_not_touch_the_physics(lift):
    lift.reset(0)
    before = lift.data.qpos.copy(), lift.data.qvel.copy(), lift.data.time
    lift.renderer.render(lift.data.qpos)
    assert np.array_equal(lift.data.qpos, before[0]) and lift.data.time == before[2]
    assert np.array_equal(lift.data.qvel, before[1])


def test_an_unknown_camera_is_refused_and_the_known_ones_listed(xml):
    with pytest.raises(ValueError, match="'selfie'; this scene has: .*agentview.*eye_in_hand"):
        GLRenderer(xml, {"selfie": (8, 8)})


def test_closing_a_renderer_leaves_the_pictures_of_another_alone(lift, renderers, xml):
    lean, _ = renderers
    other = GLRenderer(xml, {"agentview": (16, 16)})
    before = lean.render(lift.data.qpos)["agentview"]
    other.close()
    assert np.array_equal(lean.render(lift.data.qpos)["agentview"], before)


@pytest.mark.slow
@pytest.mark.parametrize("camera", ["agentview", "robot0_eye_in_hand"])
def test_the_stock_profile_is_the_picture_that_robosuite_makes(camera):
    import robosuite

    from robostack.sim.robosuite_env import quiet_robosuite

    env = make_env(EnvConfig(render="stock", cameras={camera: 64}))
    ours = env.reset(2).observation.images[camera]
    with quiet_robosuite():
        stock = robosuite.make(
            "Lift",
            robots="Panda",
            has_renderer=False,
            has_offscreen_renderer=True,
            use_camera_obs=False,
            hard_reset=False,
            seed=0,
        )
        stock.reset()
    stock.sim.data.qpos[:] = env.data.qpos
    stock.sim.forward()
    stock.sim._render_context_offscreen.gl_ctx.make_current()  # robosuite expects to be alone
    theirs = stock.sim.render(64, 64, camera_name=camera)[::-1]
    assert np.abs(ours.astype(int) - theirs).mean() < 0.5
    stock.close()
    env.close()
