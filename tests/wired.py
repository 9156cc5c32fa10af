"""What surrounds an arm node: those who command it, and somebody who records what it says."""

import threading
import time

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from robostack.real.messages import seconds, write_chunk
from robostack.real.nodes.node import LATCHED, PUBLISH, Spin, now

DEEP = QoSProfile(depth=1000)  # reliable: of a record nothing may be missing


def until(condition, timeout=30.0, what="waited in vain"):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.005)


class Wire:
    """Says what it is told to, again and again; `executed` rows are (stamp, source, action)."""

    def __init__(self, context, robot, name="wire"):
        self.robot, self.node = robot, Node(name, context=context)
        self.names = list(robot.actions)
        self.executed, self.stopped = [], []
        create = self.node.create_publisher
        self.switches = {
            n: create(Bool, n, PUBLISH) for n in ("alive", "operator/deadman", "estop")
        }
        self.chunks = {n: create(JointTrajectory, n, PUBLISH) for n in ("chunk", "operator/chunk")}
        self.hear(JointState, "executed", self._record)
        self.node.create_subscription(
            Bool, "estop_state", lambda m: self.stopped.append(m.data), LATCHED
        )
        self.repeated = {}  # what to say -> until it is taken out
        self._closed = threading.Event()
        self._spin = Spin(self.node)
        self._thread = threading.Thread(target=self._repeat, daemon=True)
        self._thread.start()

    def hear(self, kind, topic, callback):
        self.node.create_subscription(kind, topic, callback, DEEP)

    def _record(self, message):
        order = [list(message.name).index(name) for name in self.names]
        action = np.array(message.position)[order]
        self.executed.append((seconds(message.header.stamp), int(message.effort[0]), action))

    def _repeat(self):
        while not self._closed.wait(0.02):
            for say in list(self.repeated.values()):
                say()

    def switch(self, name, value):
        self.switches[name].publish(Bool(data=value))

    def keep(self, name, value):
        """Repeats a switch until `drop(name)`."""
        self.repeated[name] = lambda: self.switch(name, value)

    def drop(self, name):
        self.repeated.pop(name, None)

    def say(self, rows, operator=False, names=None, age=0.0):
        names = names or self.names
        message = write_chunk(
            JointTrajectory(), names, np.asarray(rows), now(self.node) - age, self.robot.control_hz
        )
        self.chunks["operator/chunk" if operator else "chunk"].publish(message)

    def drive(self, value, rows=40, operator=False):
        """Keeps saying that every action shall have a value."""
        topic = "operator/chunk" if operator else "chunk"
        chunk = np.full((rows, len(self.names)), value, np.float64)
        self.repeated[topic] = lambda: self.say(chunk, operator)

    def ask(self, service, value=None):
        kind = Trigger if value is None else SetBool
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(30.0), f"nobody serves {service}"
        request = Trigger.Request() if value is None else SetBool.Request(data=value)
        return client.call(request, timeout_sec=30.0)

    @property
    def source(self):
        return self.executed[-1][1] if self.executed else None

    def close(self):
        self._closed.set()
        self._thread.join(5.0)
        self._spin.close()
        self.node.destroy_node()  # else its latched topics live on in the process
