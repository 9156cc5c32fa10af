"""A trained reward that looks on: progress, success and termination while a try goes on.

    python -m robostack.real.nodes.reward_node --ros-args -p robot:=configs/robot/sim.yaml \\
        -p reward:=runs/progress -p task:="lift the red cube"

Publishes `progress` (Float64, the potential in [0, 1]), `success` (Bool, whether it looks done now)
and `termination` (Bool, whether it was done at any time of the try). A try begins with the first
command of a policy or an operator, and another one after `reward/reset`, a new task, a reset of the
simulation, or a pause of `pause` seconds. Scores come at most `hz` times a second and take at most
half of the time.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64, String
from std_srvs.srv import Trigger

from robostack.protocols import Reward
from robostack.real.arm import OPERATOR, POLICY
from robostack.real.messages import MessageError, read_named
from robostack.real.nodes.listening import Listener
from robostack.real.nodes.node import (
    COMMAND,
    LATCHED,
    SENSOR,
    Diagnostics,
    Spin,
    answering,
    parameter,
    run,
)
from robostack.real.nodes.ticking import Ticking
from robostack.real.paths import find
from robostack.real.robot import RobotConfig
from robostack.real.scoring import Growing
from robostack.real.streams import StreamError
from robostack.rewards.load import import_reward, load_reward


class RewardNode:
    """The node. It sees at the control rate, as the episodes were made that the reward knows."""

    def __init__(self, context: Context):
        self.node = Node("reward", context=context)
        given = partial(parameter, self.node)
        path = find(given("robot", "", "the robot (RobotConfig, YAML)", needed=True))
        name = given("reward", "", "a reward, or the run that trained it", needed=True)
        self._task = given("task", "", "the instruction, until the topic `task` says another")
        self._hz = given("hz", 2.0, "scores a second, at most")
        self._pause = given("pause", 5.0, "nobody commands for so long: the next try begins [s]")
        threshold = given("threshold", 0.95, "progress that is success, of rewards that say none")
        longest = given("longest", 1200, "control steps of a try that are looked at")
        self.config = RobotConfig.load(path)
        self.growing = Growing(_reward(name, self.config), self.config.spec, threshold, longest)
        self._lock = threading.Lock()  # of the try: whether it goes on, and its last command
        self._command: tuple[float, np.ndarray] | None = None  # monotonic [s], f32[A]
        self._began = self._blind = 0
        self._trouble, self._said = "", "waiting for a command"
        self._progress = self.node.create_publisher(Float64, "progress", COMMAND)
        self._success = self.node.create_publisher(Bool, "success", COMMAND)
        self._termination = self.node.create_publisher(Bool, "termination", COMMAND)
        self.listener = Listener(self.node, self.config)
        self._jumps = 0
        for quality in (LATCHED, COMMAND):
            self.node.create_subscription(String, "task", self._hear_task, quality)
        self.node.create_subscription(JointState, "executed", self._hear_executed, SENSOR)
        self.node.create_subscription(Bool, "sim/success", self._hear_simulation, LATCHED)
        self.node.create_service(Trigger, "reward/reset", answering(self.reset))
        self._diagnostics = Diagnostics(self.node, self._report)
        self._ticks = Ticking(self.node, self.config.control_hz, self._look)
        self._scores = Ticking(self.node, self._hz, self._score)
        self._spin = Spin(self.node)

    # what is seen ----------------------------------------------------------------------------
    def _hear_task(self, message: String) -> None:
        if message.data and message.data != self._task:
            self._task = message.data
            self.reset()

    def _hear_simulation(self, message: Bool) -> None:
        if not message.data:  # said at a reset
            self.reset()

    def _hear_executed(self, message: JointState) -> None:
        if not message.effort or int(message.effort[0]) not in (POLICY, OPERATOR):
            return
        try:
            row = read_named(message, self.config.spec.action_names).astype(np.float32)
        except MessageError as error:
            self._trouble = f"executed: {error}"
            return
        with self._lock:
            self._command = time.monotonic(), row

    def reset(self) -> str:
        """Another try begins with the next command."""
        with self._lock:
            self._command = None
            self.growing.begin()
        self._said = "waiting for a command"
        return "the next command begins a try"

    def _look(self) -> None:
        """Once a control period: what is seen now belongs to the try while somebody commands."""
        if self.listener.jumps != self._jumps:
            self._jumps = self.listener.jumps
            self.reset()
        with self._lock:
            silent = time.monotonic() - self._command[0] if self._command else math.inf
            if silent > self._pause and len(self.growing):
                self.growing.begin()
            if silent > 2 / self.config.control_hz or self.growing.full or not self._task:
                return
            try:
                observation = self.listener.observe(self._task)
            except StreamError as error:
                self._blind, self._trouble = self._blind + 1, str(error)
                return
            first = not self.growing.begun
            self.growing.see(observation, None if first else self._command[1])
            self._trouble = ""

    def _score(self) -> None:
        begin, steps = time.monotonic(), len(self.growing)
        if steps == self._began:  # nothing new
            return
        self._began = steps
        try:
            verdict = self.growing.judge()
        except Exception as error:  # whatever a reward raises: it stops talking, and says why
            self._trouble = f"{type(error).__name__}: {error}"
            raise
        if verdict is None:
            return
        self._progress.publish(Float64(data=verdict.progress))
        self._success.publish(Bool(data=verdict.success))
        self._termination.publish(Bool(data=verdict.termination))
        took = time.monotonic() - begin
        self._said = (
            f"progress {verdict.progress:.3f} after {verdict.steps} steps, in {1e3 * took:.0f} ms"
        )
        time.sleep(max(0.0, took - 1 / self._hz))  # the policy needs the processor, too

    # itself ----------------------------------------------------------------------------------
    def _report(self):
        values = {"task": self._task, "steps": len(self.growing), "blind_ticks": self._blind}
        if self._trouble:
            return Diagnostics.WARN, f"{self._said}; {self._trouble}", values
        return Diagnostics.OK, self._said, values

    def close(self) -> None:
        self._scores.close()
        self._ticks.close()
        self.listener.close()
        self._spin.close()
        self.node.destroy_node()


def _reward(name: str, config: RobotConfig) -> Reward:
    """Raises ValueError for what is no reward, and for one of another robot (SpecMismatch)."""
    own = ":" in name and not Path(name).exists()
    try:
        reward = import_reward(name) if own else load_reward(name)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    if hasattr(reward, "spec"):
        reward.spec.require_same(config.spec, f"the reward {name}", "the robot's config")
    return reward


def main(args: list[str] | None = None) -> int:
    return run(__doc__, RewardNode, args)


if __name__ == "__main__":
    sys.exit(main())
