"""MuJoCo's own window on a simulation: the scene from wherever one likes to look."""

from __future__ import annotations

import os
import sys
import threading

from robostack.protocols import Env
from robostack.sim.env import SimEnv

DISTANCE, AZIMUTH, ELEVATION = 1.4, 180.0, -25.0  # [m, deg]: across the table, at first


class Window:
    """Opens beside the page and shows what is simulated; who closes it goes on without. The mouse
    turns, moves and nears it.

    Raises ValueError for a robot that is none of a simulation, and where there is no display.
    """

    def __init__(self, env: Env):
        if not isinstance(env, SimEnv):
            raise ValueError("window=true: MuJoCo shows simulations, and this is a robot")
        on_linux = sys.platform.startswith("linux")
        if on_linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ValueError(
                "window=true: there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set); "
                "leave it out, the page shows the cameras"
            )
        from mujoco import viewer  # opens a connection to the display

        others = set(threading.enumerate())
        try:
            self._viewer = viewer.launch_passive(
                env.model, env.data, show_left_ui=False, show_right_ui=False
            )
        except RuntimeError as error:  # macOS wants `mjpython` in the place of python
            raise ValueError(f"window=true: {error}") from None
        self._threads = set(threading.enumerate()) - others
        look = self._viewer.cam
        look.lookat[:] = env.reset(0).keypoints["gripper"]
        look.distance, look.azimuth, look.elevation = DISTANCE, AZIMUTH, ELEVATION
        self._viewer.opt.geomgroup[:] = 0
        self._viewer.opt.geomgroup[list(env.groups)] = 1

    def show(self) -> None:
        if self._viewer.is_running():
            self._viewer.sync()

    def close(self) -> None:
        """Waits for its thread, which must not outlive what it draws."""
        self._viewer.close()
        for thread in self._threads:
            thread.join(5)
