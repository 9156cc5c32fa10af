"""Whether ROS 2 can be used here, said in one clear sentence; imports nothing of it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

INSTALL = (
    "source a ROS 2 installation (`. /opt/ros/jazzy/setup.bash`), with robostack in a venv that "
    "sees it (`python3 -m venv --system-site-packages`), or, on x86_64, install the wheels: "
    "`pip install 'robostack[ros]'`"
)


class RosMissing(ImportError):
    """ROS 2 is not there, or not what the environment variables ask for."""


def middlewares() -> list[str]:
    """Names of the RMW implementations that are installed, e.g. rmw_fastrtps_cpp."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    folders = [
        Path(prefix) / "share" / "ament_index" / "resource_index" / "rmw_typesupport"
        for prefix in prefixes
        if prefix
    ]
    names = {entry.name for f in folders if f.is_dir() for entry in f.iterdir()}
    return sorted(names - {"rmw_implementation"})  # the one that chooses


def require_ros() -> None:
    """Raises RosMissing. To be called before rclpy is imported: with a middleware that is not
    installed, the import itself ends the process."""
    if importlib.util.find_spec("rclpy") is None:
        raise RosMissing(f"rclpy is not installed for {sys.executable}: {INSTALL}")
    wanted, there = os.environ.get("RMW_IMPLEMENTATION", ""), middlewares()
    if wanted and there and wanted not in there:
        raise RosMissing(
            f"RMW_IMPLEMENTATION={wanted}, but installed are {', '.join(there)}; unset it or "
            f"install {wanted}"
        )
    if os.environ.get("_ROS_WHEELS_BOOTSTRAP_COMPLETE") and not os.environ.get("LD_LIBRARY_PATH"):
        raise RosMissing(
            "the ROS wheels need the LD_LIBRARY_PATH that they set in the first process; it was "
            "cleared but _ROS_WHEELS_BOOTSTRAP_COMPLETE was kept: keep both or clear both"
        )
