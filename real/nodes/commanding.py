"""Who commands the arm node: chunks of actions, and a heartbeat that stands behind them."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from robostack.real.messages import write_chunk
from robostack.real.nodes.node import COMMAND
from robostack.real.nodes.ticking import Ticking
from robostack.types import RobotSpec

FAREWELLS = 5  # times that the end is told: best-effort subscribers may miss one
BEAT_HZ = 30.0  # the arm lets go of a policy that it has not heard of for `timeouts.alive`


class Commander:
    """Publishes `chunk`, and on `alive` whether it is meant, from a thread that lives and dies with
    this process: an arm must notice that a policy was killed before its chunk ends."""

    def __init__(self, node: Node, spec: RobotSpec):
        self._spec, self._stands, self._farewells = spec, False, 0
        self._chunks = node.create_publisher(JointTrajectory, "chunk", COMMAND)
        self._alive = node.create_publisher(Bool, "alive", COMMAND)
        self._beat = Ticking(node, BEAT_HZ, self._tell)

    @property
    def stands(self) -> bool:
        return self._stands

    def stand(self, stands: bool) -> None:
        """True: the arm may follow the chunks; False: it holds, at once."""
        if self._stands and not stands:
            self._farewells = FAREWELLS
        self._stands = stands
        self._tell()

    def send(self, chunk: np.ndarray, stamp: float) -> None:
        """Row i of f32[H, A], raw units of the spec, is meant for `stamp` + i / control_hz."""
        message = JointTrajectory()
        names, hz = self._spec.action_names, self._spec.control_hz
        self._chunks.publish(write_chunk(message, names, chunk, stamp, hz))

    def close(self) -> None:
        """The last word is that the arm is to hold."""
        self._beat.close()
        self.stand(False)
        while self._farewells:
            self._tell()

    def _tell(self) -> None:
        """Who does not stand behind anything is silent, once it was heard: somebody else may."""
        if self._stands:
            self._alive.publish(Bool(data=True))
        elif self._farewells:
            self._farewells -= 1
            self._alive.publish(Bool(data=False))
