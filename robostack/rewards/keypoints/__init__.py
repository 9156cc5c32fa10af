"""Keypoint affordance: tasks as stages over named points. The small door to the package."""

from robostack.rewards.keypoints.affordance import KeypointAffordance
from robostack.rewards.keypoints.program import Program
from robostack.rewards.keypoints.tracks import KeypointError, Points

__all__ = ["KeypointAffordance", "KeypointError", "Points", "Program"]
