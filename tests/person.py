"""Somebody who looks at the scene and presses keys: a scripted expert's actions, key by key."""

from robostack.real.teleop.mapping import Mapping
from robostack.real.teleop.motion import turned

FIRM = 0.15  # of an action, from where on its key is pressed


class Person:
    """Decides once a control period which keys to hold. Everything goes through the keys: start,
    driving, fingers, keep."""

    def __init__(self, collector, mapping: Mapping):
        self.collector, self.mapping = collector, mapping
        self._plan, self._tapped = None, False

    def keys(self) -> set[str]:
        collector, session = self.collector, self.collector.session
        if session.state != "recording":
            self._plan = None
            self._tapped = not self._tapped  # press, let go, press, ...
            word = {"ready": "start", "review": "keep"}.get(session.state)
            return {self.mapping.session[word]} if word and self._tapped else set()
        if self._plan is None:
            self._plan = collector.env.plan()
        names = [n for n in collector.env.spec.action_names if n != "gripper"]
        action = next(self._plan, None)
        if action is None:
            return set()
        held = set()
        for name, wanted in zip(names, turned(names, action[:-1], -self.mapping.yaw)):
            motion = self.mapping.motions[name]
            if abs(wanted) > FIRM:
                held.add(motion.plus if wanted > 0 else motion.minus)
        toggle = bool(action[-1] > 0) != collector.driver.closed and not self._tapped
        self._tapped = toggle
        return held | ({self.mapping.gripper.toggle} if toggle else set())
