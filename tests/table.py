"""A simulated robot with its arm node and an operator's, in one process: what a hand does to it."""

from dataclasses import replace

import numpy as np
import yaml
from arms import Sliding, excess, served
from wired import Wire, until

from robostack.real.bags import describe
from robostack.real.robot import Timeouts
from robostack.real.samples import Limits

PATIENT = Timeouts(state=2.0, alive=2.0, deadman=0.5)  # for a loaded machine
SAID = {"action": "absolute joint positions [rad]", "gripper": "1 closes"}


def jointed_table(hz=50.0, **changes):
    """Joints a and b and a gripper, which are sent targets and lag behind them."""
    robot = served(hz, timeouts=PATIENT, state_limits=Limits(max_age=2.0, max_skew=2.0))
    slow = {n: replace(robot.actions[n], max_error=2.0) for n in ("a", "b")}  # and so do messages
    return replace(robot, actions=robot.actions | slow, conventions=SAID, **changes)


class Table:
    """On a graph of its own, until it is closed; `operate` adds a teleop node to it."""

    def __init__(self, domain, robot, folder, namespace=""):
        from robostack.real.nodes.arm_node import ArmNode
        from robostack.real.nodes.node import connect
        from robostack.real.nodes.sim_robot_node import SimRobotNode

        self.robot, self.file, self.domain = robot, folder / "robot.yaml", domain
        self.folder, self.made, self.connect = folder, [], connect
        self.remapped = ["-r", f"__ns:=/{namespace}"] if namespace else []
        self.file.write_text(yaml.safe_dump(describe(robot), sort_keys=False))
        self.context = self.connected()
        self.env = Sliding(robot)
        self.plant = self.keep(SimRobotNode(self.context, robot, lambda: self.env))
        self.wire = self.keep(Wire(self.context, robot))
        self.arm = self.keep(ArmNode(self.context, robot))
        until(lambda: self.wire.executed, 60)

    def keep(self, node):
        self.made.append(node)
        return node

    def connected(self, **parameters):
        given = {"robot": self.file, **parameters}
        words = [word for k, v in given.items() for word in ("-p", f"{k}:={v}")]
        return self.connect(["--ros-args", *self.remapped, *words], domain_id=self.domain)

    def mapping(self, values):
        path = self.folder / "mapping.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def operate(self, values, device=None):
        """A teleop node with a mapping, and with the device unless it has to open that."""
        from robostack.real.nodes.teleop_node import TeleopNode

        context = self.connected(device=self.mapping(values))
        return self.keep(Hand(TeleopNode(context, device), context))

    @property
    def at(self):
        return self.env.at

    @property
    def reason(self):
        return self.arm.arm.reason

    def rests(self):
        """Waits until nothing is commanded to move any more, and the arm holds."""
        until(lambda: self.reason and self.arm.arm.safety.resting, what=lambda: self.reason)

    def legal(self):
        """That no command has ever exceeded a limit."""
        worst = excess(self.robot, np.array([action for *_, action in self.wire.executed]))
        assert max(worst.values()) <= 1e-9, worst

    def close(self):
        for node in reversed(self.made):
            node.close()
        self.context.try_shutdown()


class Hand:
    """A teleop node, with the context of its parameters."""

    def __init__(self, teleop, context):
        self.teleop, self.context = teleop, context

    def close(self):
        self.teleop.close()
        self.context.try_shutdown()
