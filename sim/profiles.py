"""Rendering profiles: the one place where it is chosen how a camera makes its picture.

`lean` is what policies are trained and evaluated on: our own rasteriser, decimated visual meshes,
smooth edges, no shadows or reflections, no OpenGL. `stock` is the picture that robosuite itself
makes. The profile is part of every RobotSpec, because a policy sees the difference. `none` makes no
pictures: for experts and policies that look at the state only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robostack.sim.render import Renderer

PROFILES = ("lean", "stock", "none")


def make_renderer(
    profile: str,
    source: str | Path,
    cameras: dict[str, tuple[int, int]],
    groups: tuple[int, ...] = (1,),
) -> Renderer | None:
    """Renderer of the MJCF text or file `source`; None for `none`. Raises ValueError for an
    unknown camera."""
    if profile == "none":
        return None
    if profile == "lean":
        from robostack.sim.raster import RasterRenderer

        return RasterRenderer(source, cameras, groups=groups)
    if profile == "stock":
        from robostack.sim.render import ALL_FACES, GLRenderer

        return GLRenderer(source, cameras, ALL_FACES, groups, effects=True)
    raise ValueError(f"unknown profile {profile!r}; valid: {', '.join(PROFILES)}")
