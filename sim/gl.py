"""Choose how MuJoCo renders without a display, before mujoco is first imported.

mujoco reads MUJOCO_GL once, at import, and its default (glfw) dies on a machine without a screen.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys

BACKENDS = ("egl", "osmesa", "glfw")
INSTALL = "sudo apt-get install -y libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri"


_too_late = False  # mujoco was imported, and so bound to its default, before we could choose


class NoGL(RuntimeError):
    """No library that can render was found."""


def egl_problem() -> str | None:
    """None where EGL can open a device without a display, else what is missing."""
    path = ctypes.util.find_library("EGL") or "libEGL.so.1"
    try:
        egl = ctypes.CDLL(path)
    except OSError:
        return "libEGL.so.1 is not installed (Debian package libegl1)"
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return "libEGL cannot list devices (Debian package libegl-mesa0)"
    query = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)
    )(address)
    count = ctypes.c_int(0)
    if not query(0, None, ctypes.byref(count)) or count.value == 0:
        return "EGL knows no device (Debian packages libegl-mesa0 libgl1-mesa-dri)"
    return None


def osmesa_problem() -> str | None:
    """None where OSMesa can be loaded, else what is missing."""
    if ctypes.util.find_library("OSMesa"):
        return None
    return "libOSMesa is not installed (Debian package libosmesa6)"


def choose_backend() -> str:
    """Set MUJOCO_GL to a back end that works here; one that the user set is kept.

    Returns its name, or "" where none was found: physics still works then, rendering raises NoGL.
    """
    global _too_late
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if not chosen:
        _too_late = "mujoco" in sys.modules and not os.environ.get("DISPLAY")
        if egl_problem() is None:
            chosen = "egl"
        elif osmesa_problem() is None:
            chosen = "osmesa"
        elif os.environ.get("DISPLAY"):
            chosen = "glfw"
        if chosen:
            os.environ["MUJOCO_GL"] = chosen
    if chosen in ("egl", "osmesa"):
        os.environ.setdefault("PYOPENGL_PLATFORM", chosen)
    return chosen


def require_backend() -> str:
    """The back end in use. Raises NoGL, naming the package to install."""
    if _too_late:
        raise NoGL(
            "mujoco was imported before robostack.sim and will look for a display; import "
            "robostack.sim first, or set MUJOCO_GL=egl"
        )
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if not chosen:
        raise NoGL(
            "no way to render: "
            f"{egl_problem()}; {osmesa_problem()}; no DISPLAY is set.\nInstall one with: {INSTALL}"
        )
    if chosen not in BACKENDS:
        raise NoGL(f"MUJOCO_GL={chosen!r}: expected one of {', '.join(BACKENDS)}")
    problem = {"egl": egl_problem, "osmesa": osmesa_problem}.get(chosen, lambda: None)()
    if problem:
        raise NoGL(f"MUJOCO_GL={chosen}, but {problem}.\nInstall it with: {INSTALL}")
    return chosen
