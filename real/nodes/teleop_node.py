"""An operator's device drives the arm, past the policy, while the deadman is held.

    python -m robostack.real.nodes.teleop_node --ros-args -p robot:=configs/robot/sim.yaml \\
        -p device:=keyboard
    python -m robostack.real.nodes.teleop_node --ros-args -p robot:=configs/robot/fr3.yaml \\
        -p device:=leader

`device` is a mapping of configs/teleop by name, or a YAML file. Devices of this machine are
keyboard (of the terminal, over ssh, too), gamepad, spacemouse and evdev; joy listens to `joy`, pose
to `teleop/pose` and leader to `leader/joint_states`, the last two with the buttons of `joy`.

Publishes `operator/deadman`, again and again, and `operator/chunk` while somebody drives. Letting
go is said at once; silence, of the device or of this node, means the same. Buttons of the session
(start, keep, discard, success, failure, redo) call the recorder's services.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import threading
from collections.abc import Sequence

import numpy as np
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robostack.real.messages import MessageError, read_named, write_chunk
from robostack.real.nodes.controls import heard, listen
from robostack.real.nodes.listening import Listener
from robostack.real.nodes.node import (
    COMMAND,
    SENSOR,
    Diagnostics,
    Spin,
    now,
    parameter,
    run,
)
from robostack.real.nodes.ticking import Ticking
from robostack.real.paths import find
from robostack.real.robot import RobotConfig
from robostack.real.streams import StreamError
from robostack.real.teleop.device import MESSAGES, DeviceError, TeleopDevice, open_device
from robostack.real.teleop.driver import Driver
from robostack.real.teleop.mapping import read_mapping

REPEAT_HZ = 30.0  # of the deadman, at least
ROWS = 2  # of a chunk: the next one may be late by a control period
RECORDER = ("start", "keep", "discard", "success", "failure")  # services of the recorder


class TeleopNode(Node):
    """Parameters: `robot`, `device`, `path` (of one of several devices)."""

    def __init__(self, context: Context, device: TeleopDevice | None = None, **options):
        super().__init__("teleop", context=context, **options)
        path = parameter(self, "robot", "", "the robot's configuration (YAML)", needed=True)
        name = parameter(self, "device", "keyboard", "a mapping of configs/teleop, or a YAML file")
        which = parameter(self, "path", "", "which of several devices, e.g. /dev/input/event5")
        self.config = RobotConfig.load(find(path))
        self.mapping = read_mapping(name)
        self.driver = Driver(self.mapping, self.config.spec)
        self.done = threading.Event()  # the operator has quit
        self._device = device or self._open(which)
        self._chunks = self.create_publisher(JointTrajectory, "operator/chunk", COMMAND)
        self._deadman = self.create_publisher(Bool, "operator/deadman", COMMAND)
        self._recorder = {n: self.create_client(Trigger, f"recorder/{n}") for n in RECORDER}
        self._engaged, self._note, self._recording = False, "", False
        self._executed: np.ndarray | None = None
        self.create_subscription(JointState, "executed", self._hear_executed, SENSOR)
        blind = dataclasses.replace(self.config, cameras={})  # the operator has eyes
        self.listener = Listener(self, blind)
        self.diagnostics = Diagnostics(self, self._report)
        hz = self.config.control_hz
        self._every = math.ceil(REPEAT_HZ / hz)  # ticks of a control period
        self._count = 0
        held = f"while {self.mapping.deadman} is held" if self.mapping.deadman else "while it moves"
        self.get_logger().info(f"{self.mapping.device} drives {self.config.robot} {held}")
        self._ticks = Ticking(self, self._every * hz, self._tick, failed=self._fail)
        self._spin = Spin(self)

    def _open(self, path: str) -> TeleopDevice:
        """A device of this machine, or one that topics bring."""
        if self.mapping.device in MESSAGES:
            return listen(self, self.mapping, self.config.timeouts.device)
        try:
            return open_device(self.mapping.device, self.mapping.hold, path)
        except DeviceError as error:
            raise ValueError(str(error)) from None

    def _tick(self) -> None:
        """Asks the device once a control period; between that, the deadman is only repeated."""
        if self._count % self._every == 0:
            self._drive()
        self._count += 1
        self._deadman.publish(Bool(data=self._engaged))

    def _drive(self) -> None:
        poll = self._device.poll(heard())
        try:
            state = self.listener.observe("").state
        except StreamError as error:
            self._release(str(error))
            return
        if not self._engaged and self._executed is not None:
            self.driver.take_over(self._executed)
        drive = self.driver.act(poll, heard(), state)
        for event in self._chosen(drive.events):
            self._obey(event)
        if not drive.engaged:
            self._release(drive.note)
            return
        if not self._engaged:
            self.get_logger().info("the operator drives")
        self._engaged, self._note = True, ""
        names, hz = self.config.spec.action_names, self.config.control_hz
        rows = np.tile(drive.action, (ROWS, 1))
        self._chunks.publish(write_chunk(JointTrajectory(), names, rows, now(self), hz))

    def _release(self, note: str) -> None:
        if self._engaged:
            self._engaged = False
            self._deadman.publish(Bool(data=False))
            self.get_logger().info(f"the operator lets go: {note}")
        self._note = note

    def _fail(self, error: Exception) -> None:
        self._release(f"{type(error).__name__}: {error}")

    # the session ----------------------------------------------------------------------------
    def _chosen(self, events: Sequence[str]) -> list[str]:
        """One button may mean start and keep; which, depends on whether there is a recording."""
        apart = ("keep", "stop") if not self._recording else ("start",)
        several = {"start", "keep"} <= set(events) or {"start", "stop"} <= set(events)
        return [e for e in events if not (several and e in apart)]

    def _obey(self, event: str) -> None:
        if event == "quit":
            self.done.set()
        elif event == "redo":
            self._call("discard", then="start")
        elif event in RECORDER:
            self._call(event)

    def _call(self, name: str, then: str = "") -> None:
        client = self._recorder[name]
        if not client.service_is_ready():
            self.get_logger().warning(f"{name}: no recorder is there")
            return

        def answered(future) -> None:
            told = future.result()
            self.get_logger().info(f"{name}: {told.message}")
            if told.success:
                self._recording = name == "start"
                if then:
                    self._call(then)

        client.call_async(Trigger.Request()).add_done_callback(answered)

    # the rest -------------------------------------------------------------------------------
    def _hear_executed(self, message: JointState) -> None:
        try:
            names = self.config.spec.action_names
            self._executed = read_named(message, names).astype(np.float32)
        except MessageError as error:
            self.get_logger().warning(f"executed: {error}", throttle_duration_sec=5.0)

    def _report(self) -> tuple[bytes, str, dict]:
        values = {"device": self.mapping.device, "speed": self.driver.speed}
        values |= {"recording": self._recording, "note": self._note}
        message = "the operator drives" if self._engaged else f"nobody drives: {self._note}"
        return self.diagnostics.OK, message, values

    def close(self) -> None:
        self._ticks.close()
        self._engaged = False
        self._deadman.publish(Bool(data=False))
        self._device.close()
        self.listener.close()
        self._spin.close()
        self.destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    return run(__doc__, TeleopNode, args)


if __name__ == "__main__":
    sys.exit(main())
