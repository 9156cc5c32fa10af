"""The keypoint reward on a try that goes on: every picture is looked at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from robostack.protocols import Scores
from robostack.rewards.follow import newest
from robostack.rewards.keypoints.track import require_shown
from robostack.rewards.keypoints.tracking import Tracking
from robostack.rewards.sight import Sight
from robostack.types import Observation

if TYPE_CHECKING:
    from robostack.rewards.keypoints.affordance import KeypointAffordance


class KeypointFollower:
    """Points are followed from picture to picture; what the program makes of them all is worked out
    anew, since a gap that ends changes what was before."""

    def __init__(self, reward: KeypointAffordance):
        self.reward = reward
        self._tracking: Tracking | None = None
        self._sight = Sight()
        self._states: list[np.ndarray] = []

    def see(self, observations: Sequence[Observation], actions: np.ndarray) -> Scores:
        """Raises KeypointError as `score` does, of the try so far."""
        tracker, spec = self.reward.source, self.reward.spec
        if self._tracking is None:
            for camera in tracker.views(spec.state_names):
                require_shown(camera, tracker.cameras[camera], observations[0].images)
            self._tracking = Tracking(tracker, spec.state_names)
        for look in observations:
            self._tracking.see(look.images, look.state)
            self._states.append(look.state)
        self._sight.see(observations)
        points, confidence = self._tracking.points()
        task = observations[-1].task
        return newest(self.reward.judge(points, confidence, np.stack(self._states), task, spec))
