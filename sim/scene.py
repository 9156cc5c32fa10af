"""What a scripted expert may look at: the privileged state of a robosuite environment."""

from __future__ import annotations

import mujoco
import numpy as np


class Scene:
    """Poses in the world frame: position f64[3] [m], rotation matrix f64[3, 3]."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, gripper_site: int):
        self.model, self.data, self._site = model, data, gripper_site

    def gripper(self) -> tuple[np.ndarray, np.ndarray]:
        rotation = self.data.site_xmat[self._site].reshape(3, 3).copy()
        return self.data.site_xpos[self._site].copy(), rotation

    def body(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        index = self.model.body(name).id
        return self.data.xpos[index].copy(), self.data.xmat[index].reshape(3, 3).copy()

    def site(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        index = self.model.site(name).id
        return self.data.site_xpos[index].copy(), self.data.site_xmat[index].reshape(3, 3).copy()

    def joint(self, name: str) -> float:
        """Angle [rad] or travel [m] of a hinge or slide."""
        return float(self.data.qpos[self.model.joint(name).qposadr[0]])

    def axis(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A point on the axis of a hinge f64[3] [m] and the axis' direction f64[3]."""
        index = self.model.joint(name).id
        return self.data.xanchor[index].copy(), self.data.xaxis[index].copy()

    def point(self, place: str) -> np.ndarray:
        """Position f64[3] of a body, or of a site written "site:name"."""
        kind, _, name = place.rpartition(":")
        return (self.site(name) if kind == "site" else self.body(name))[0]
