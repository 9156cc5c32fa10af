"""Rendering profiles: the one place where it is chosen how a camera makes its picture.

`lean` is what policies are trained and evaluated on: decimated visual meshes, no multisampling, no
shadows or reflections. `stock` is the picture that robosuite itself makes. The profile is part of
every RobotSpec, because a policy sees the difference. `none` makes no pictures: for experts and
policies that look at the state only.
"""

from __future__ import annotations

from pathlib import Path

PROFILES = ("lean", "stock", "none")


def make_renderer(
    profile: str,
    source: str | Path,
    cameras: dict[str, tuple[int, int]],
    groups: tuple[int, ...] = (1,),
):
    """Renderer of the MJCF text or file `source`; None for `none`. Raises ValueError for an
    unknown camera."""
    if profile == "none":
        return None
    from robostack.sim.render import LeanRenderer

    if profile == "lean":
        return LeanRenderer(source, cameras, groups=groups)
    raise ValueError(f"unknown profile {profile!r}; valid: {', '.join(PROFILES)}")
