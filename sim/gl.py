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


OFF = "disabled"  # what MuJoCo understands as: no OpenGL in this process

_too_late = False  # mujoco was imported, and so bound to its default, before we could choose
_refused = ""  # the user's choice, and why it cannot work
_chosen = ""  # remembered: robosuite overwrites MUJOCO_GL when it is imported


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


def _problem_with(backend: str) -> str | None:
    if backend not in (*BACKENDS, OFF):
        return f"expected one of {', '.join(BACKENDS)}, {OFF}"
    problem = {"egl": egl_problem, "osmesa": osmesa_problem}.get(backend, lambda: None)()
    return problem and f"{problem}.\nInstall it with: {INSTALL}"


def choose_backend() -> str:
    """Set MUJOCO_GL to a back end that works here; one that the user set is kept if it works.

    Returns its name, or "disabled" where there is none: importing mujoco would fail otherwise.
    Physics and the profile `lean` need no OpenGL; what does raises NoGL then.
    """
    global _too_late, _refused, _chosen
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if chosen:
        problem = _problem_with(chosen)
        _refused = f"MUJOCO_GL={chosen}: {problem}" if problem else ""
        chosen = OFF if problem else chosen
    else:
        _too_late = "mujoco" in sys.modules and not os.environ.get("DISPLAY")
        if egl_problem() is None:
            chosen = "egl"
        elif osmesa_problem() is None:
            chosen = "osmesa"
        else:
            chosen = "glfw" if os.environ.get("DISPLAY") else OFF
    asked = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = _chosen = chosen
    if _refused:
        import mujoco  # noqa: F401  with nothing to look for; it would end in a traceback

        os.environ["MUJOCO_GL"] = asked  # so that child processes say the same
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
    if _refused:
        raise NoGL(_refused)
    if _chosen == OFF:
        raise NoGL(
            "no way to render with OpenGL: "
            f"{egl_problem()}; {osmesa_problem()}; no DISPLAY is set.\nInstall one with: {INSTALL}"
        )
    return _chosen
