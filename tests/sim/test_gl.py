"""Rendering without a display: what works is chosen, what the user chose is kept."""

import os
import subprocess
import sys

import pytest

from robostack.sim import gl


@pytest.fixture(autouse=True)
def no_choice_yet(monkeypatch):
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    monkeypatch.setattr(gl, "_too_late", False)
    monkeypatch.setattr(gl, "_refused", "")
    monkeypatch.setattr(gl, "_chosen", "")


def libraries(monkeypatch, egl, osmesa):
    monkeypatch.setattr(gl, "egl_problem", lambda: None if egl else "no EGL")
    monkeypatch.setattr(gl, "osmesa_problem", lambda: None if osmesa else "no OSMesa")


@pytest.mark.parametrize(
    "egl, osmesa, chosen",
    [(True, True, "egl"), (False, True, "osmesa"), (False, False, "disabled")],
)
def test_the_first_back_end_that_works_is_chosen(monkeypatch, egl, osmesa, chosen):
    libraries(monkeypatch, egl, osmesa)
    assert gl.choose_backend() == chosen


def test_the_choice_of_the_user_is_kept(monkeypatch):
    libraries(monkeypatch, egl=True, osmesa=True)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert gl.choose_backend() == "osmesa"


def test_without_any_library_the_error_names_what_to_install(monkeypatch):
    libraries(monkeypatch, egl=False, osmesa=False)
    gl.choose_backend()
    with pytest.raises(gl.NoGL, match="apt-get install .*libegl1"):
        gl.require_backend()


def test_a_choice_that_cannot_work_names_what_is_missing(monkeypatch):
    libraries(monkeypatch, egl=False, osmesa=True)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    assert gl.choose_backend() == "disabled"  # or importing mujoco would end in a traceback
    with pytest.raises(gl.NoGL, match="no EGL"):
        gl.require_backend()


def test_an_unknown_back_end_lists_the_valid_ones(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    gl.choose_backend()
    with pytest.raises(gl.NoGL, match="egl, osmesa, glfw"):
        gl.require_backend()


@pytest.mark.slow
def test_physics_runs_where_the_chosen_back_end_is_missing():
    code = (
        "from robostack.sim.env import EnvConfig, make_env\n"
        "env = make_env(EnvConfig(render='none'))\n"
        "env.reset(0); env.step([0] * 7)\n"
        "import robostack.sim.gl as gl; gl.require_backend()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "MUJOCO_GL": "vulkan"},
    )
    assert "NoGL: MUJOCO_GL=vulkan: expected one of egl" in done.stderr


def test_importing_mujoco_first_is_named_as_the_mistake():
    code = "import mujoco, robostack.sim.gl as gl; gl.require_backend()"
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert "import robostack.sim first" in done.stderr


def test_this_machine_can_render():
    gl.choose_backend()
    assert gl.require_backend() in gl.BACKENDS
