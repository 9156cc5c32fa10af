"""Lean models look like full ones: fewer faces, in the same place, whatever the source."""

from pathlib import Path

import numpy as np
import pytest

from robostack.sim.meshes import lean_model

RINGS = 30


@pytest.fixture
def mjcf(tmp_path, monkeypatch) -> Path:
    """A file that includes another, with a nameless mesh in a folder next to it: a round bowl."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, RINGS), np.linspace(0, 1, RINGS))
    ball = np.stack([np.cos(angle) * height, np.sin(angle) * height, height**2], axis=-1)
    number = np.arange(RINGS**2).reshape(RINGS, RINGS) + 1
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in ball.reshape(-1, 3)]
    a, b, c, d = (part.ravel() for part in _neighbours(number))
    lines += [f"f {i} {j} {k}" for i, j, k in np.stack([a, b, c, a, c, d], 1).reshape(-1, 3)]
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "bowl.obj").write_text("\n".join(lines))
    (tmp_path / "assets.xml").write_text(
        '<mujoco><asset><mesh file="bowl.obj" inertia="shell"/></asset></mujoco>'
    )
    path = tmp_path / "scene.xml"
    path.write_text("""<mujoco><compiler meshdir="shapes"/><include file="assets.xml"/><worldbody>
        <geom type="mesh" mesh="bowl" contype="0" conaffinity="0" pos="1 0 0"/>
        </worldbody></mujoco>""")
    return path


def _neighbours(number):
    return number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]


def _world_vertices(model) -> np.ndarray:
    import mujoco

    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return model.mesh_vert @ data.geom_xmat[0].reshape(3, 3).T + data.geom_xpos[0]


def test_a_file_with_includes_and_assets_loses_faces_but_not_its_place(mjcf):
    full, lean = lean_model(mjcf, 10**9), lean_model(mjcf, 200)
    assert full.nmeshface > 1500 and lean.nmeshface <= 260
    for model in (full, lean):
        points = _world_vertices(model)
        assert np.allclose(points.min(0), [0, -1, 0], atol=0.06)
        assert np.allclose(points.max(0), [2, 1, 1], atol=0.06)


def test_the_second_time_comes_from_the_cache_and_is_the_same(mjcf):
    first = lean_model(mjcf, 200)
    cached = list((mjcf.parent / "cache").rglob("*.npz"))
    second = lean_model(mjcf, 200)
    assert len(cached) == 1 and np.array_equal(first.mesh_vert, second.mesh_vert)


def test_a_mesh_that_things_collide_with_stays_whole(mjcf):
    mjcf.write_text(mjcf.read_text().replace('contype="0" conaffinity="0"', ""))
    assert lean_model(mjcf, 200).nmeshface == lean_model(mjcf, 10**9).nmeshface
