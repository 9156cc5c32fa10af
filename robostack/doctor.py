"""What this machine has, and what to do about what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True  # False: the main job runs without it


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def examine() -> list[Finding]:
    """Every finding; rendering is really tried, not guessed."""
    python = platform.python_version()
    fits = (3, 10) <= sys.version_info[:2] < (3, 13)
    findings = [Finding("python", fits, python, "use Python 3.10, 3.11 or 3.12")]
    for package in ("torch", "mujoco", "robosuite", "zarr", "diffusers", "opencv-python"):
        version = _version(package)
        remedy = "pip install -c constraints.txt -e ."
        findings.append(Finding(package, version is not None, version or "not installed", remedy))
    findings += [_device(), *_rendering(), *_extras(), _rclpy(), _disk()]
    return findings


def _device() -> Finding:
    from robostack.device import device

    try:
        return Finding("torch device", True, f"{device()} ({os.cpu_count()} cores)")
    except ValueError as error:
        return Finding("torch device", False, str(error), "unset ROBOSTACK_DEVICE")


_SCENE = (
    "<mujoco><worldbody><light pos='0 0 3'/><geom size='.5' group='1' rgba='1 0 0 1'/>"
    "<camera name='c' pos='0 0 3'/></worldbody></mujoco>"
)


def _drawn(profile: str) -> bool:
    import numpy as np

    from robostack.sim.profiles import make_renderer

    renderer = make_renderer(profile, _SCENE, {"c": (32, 32)})
    try:
        return int(renderer.render(np.zeros(0))["c"].max()) > 0
    finally:
        renderer.close()


def _rendering() -> list[Finding]:
    """The profile `lean` is ours and needs nothing; `stock` needs OpenGL."""
    from robostack.sim import gl

    findings = []
    for profile, remedy in (("lean", "reinstall numba"), ("stock", gl.INSTALL)):
        name, needed = f"render={profile}", profile == "lean"
        try:
            ok, found = _drawn(profile), "draws"
            if profile == "stock":
                found = f"draws, MUJOCO_GL={gl.require_backend()}"
        except Exception as error:  # drivers fail in many ways, all of which are the finding
            ok, found = False, str(error).splitlines()[0]
        findings.append(
            Finding(name, ok, found if ok else found or "draws nothing", remedy, needed)
        )
    return findings


def _extras() -> list[Finding]:
    """What the main job runs without: Meta-World, pretrained backbones, the policy server."""
    found = []
    for package, extra in (("metaworld",) * 2, ("transformers", "vlm"), ("websockets", "serve")):
        version = _version(package)
        remedy = f"pip install -c constraints.txt 'robostack[{extra}]'"
        found.append(
            Finding(package, version is not None, version or "not installed", remedy, False)
        )
    return found


def _rclpy() -> Finding:
    version = _version("ros-jazzy-rclpy") or _version("rclpy")
    return Finding(
        "rclpy",
        version is not None,
        version or "not installed",
        "source your ROS 2 installation, or pip install ros-jazzy-rclpy (x86-64)",
        needed=False,
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return Finding("disk", free > 2, f"{free:.1f} GiB free here", "free at least 2 GiB")


def report(findings: list[Finding]) -> str:
    width = max(len(f.name) for f in findings)
    lines = []
    for f in findings:
        mark = "ok     " if f.ok else ("MISSING" if f.needed else "absent ")
        lines.append(f"{mark} {f.name:<{width}}  {f.found}")
        if not f.ok:
            lines.append(f"{'':<{width + 10}}-> {f.remedy}")
    return "\n".join(lines)
