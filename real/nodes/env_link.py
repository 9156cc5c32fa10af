"""The robot's side of a RosEnv: it looks, sends single actions, and has the scene put back."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import rclpy
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from robostack.real.arm import OPERATOR, POLICY, STOP
from robostack.real.env import LinkError
from robostack.real.messages import MessageError, read_named, seconds
from robostack.real.nodes import node as nodes
from robostack.real.nodes.commanding import Commander
from robostack.real.nodes.listening import Listener
from robostack.real.nodes.node import COMMAND, LATCHED, Spin, answering, now
from robostack.real.robot import RobotConfig
from robostack.types import Observation

DISCOVERY = 3.0  # [s] for a simulated robot's services to be found
ANSWER = 120.0  # [s] for a service to answer: a simulated robot may still be building its scene
ACT = 3.0  # [s] for the arm to do what it is told
AGAIN = 2.5  # control periods after which an action that was not executed is sent again
ASK_EVERY = 30.0  # [s] between two reminders to an operator


def connect(config: RobotConfig, context: Context | None = None, namespace: str = "") -> RosLink:
    """In a ROS context of its own, unless one is given."""
    return RosLink(config, context or nodes.connect(), namespace, own=context is None)


class RosLink:
    """A node `env` beside an arm node.

    A simulated robot is reset through its service `sim/reset` and says on `sim/success` how it
    went. For a real one the operator puts the scene back and says so on the terminal, or by the
    service `env/ready`; whether a try succeeded is said on `success` by whatever watches, else by
    the services `env/success` and `env/failure`, which end it, or asked on the terminal.
    """

    def __init__(self, config: RobotConfig, context: Context, namespace: str, own: bool):
        self._own, self._context, self._period = own, context, 1 / config.control_hz
        self._node = rclpy.create_node("env", context=context, namespace=namespace)
        self._namespace = self._node.get_namespace().rstrip("/") + "/"
        self._verdict: bool | None = None
        self._over = False
        self._ready = threading.Event()
        self._simulated: bool | None = None
        self._told = threading.Condition()
        self._actions = config.spec.action_names
        self._executed: tuple[float, int, np.ndarray] | None = None  # the last one's stamp [s],
        # source and action
        self._trouble = ""
        self._sent = 0.0  # when the action that is waited for was sent
        self._commander = Commander(self._node, config.spec)
        self._listener = Listener(self._node, config)
        create = self._node.create_subscription
        create(Bool, "success", self._hear_success, COMMAND)
        create(Bool, "sim/success", self._hear_simulation, LATCHED)
        create(JointState, "executed", self._hear_executed, COMMAND)
        self._reset = self._node.create_client(Trigger, "sim/reset")
        self._seed = self._node.create_client(SetParameters, "sim_robot/set_parameters")
        for act in (self.ready, self.success, self.failure):
            self._node.create_service(Trigger, f"env/{act.__name__}", answering(act))
        self._spin = Spin(self._node)

    # the clock ------------------------------------------------------------------------------
    def now(self) -> float:
        return now(self._node)

    def wait(self, until: float) -> None:
        while (left := until - self.now()) > 0:
            time.sleep(min(left, self._period))

    # the arm --------------------------------------------------------------------------------
    def act(self, row: np.ndarray) -> tuple[float, np.ndarray | None]:
        """Raises LinkError where the arm node is not heard, is stopped, or goes on holding."""
        if not self._commander.stands:
            self._commander.stand(True)
        end = time.monotonic() + ACT
        while time.monotonic() < end:
            with self._told:
                self._executed, self._sent = None, self.now()
                self._commander.send(row[None], self._sent)
                if self._told.wait_for(self._moved, AGAIN * self._period):
                    stamp, source, action = self._executed
                    return stamp, action if source == OPERATOR else None
        raise LinkError(self._why_still())

    def _moved(self) -> bool:
        heard = self._executed
        return heard is not None and heard[0] >= self._sent and heard[1] in (POLICY, OPERATOR)

    def _why_still(self) -> str:
        """Why nothing moved, in words."""
        arm = f"{self._namespace}arm"
        if self._executed is None and self._trouble:
            return self._trouble
        if self._executed is None:
            return f"no arm node is heard on {self._namespace}executed; start one"
        if self._executed[1] == STOP:
            return f"the arm is stopped; {arm}/estop_reset ends it, /diagnostics says why"
        return f"the arm goes on holding; {arm}/enable may be wanted, /diagnostics says why"

    def hold(self) -> None:
        self._commander.stand(False)

    def look(self, task: str, began: float) -> Observation:
        return self._listener.observe(task, self.now() - began)

    def ages(self) -> dict[str, float]:
        look = self._listener.look()
        return {camera: look.ages[camera] for camera in look.images}

    # the scene ------------------------------------------------------------------------------
    def begin(self, seed: int, ask: bool = True) -> None:
        """Raises LinkError where a simulated robot refuses; an operator is waited for."""
        if self._simulated is None:
            self._simulated = self._reset.wait_for_service(DISCOVERY)
        if self._simulated:
            self._reset_simulation(seed)
        elif ask:
            self._ask_for_scene(seed)
        self._verdict, self._over = (False if self._simulated else None), False
        self._listener.clear()

    def verdict(self) -> bool | None:
        return self._verdict

    def over(self) -> bool:
        return self._over

    def judge(self) -> bool | None:
        """The operator's word, where there is a terminal to ask on."""
        if self._verdict is None:
            with _terminal() as terminal:
                while terminal is not None:
                    _say(terminal, "Did it succeed? [y/n] ")
                    answer = terminal.readline().decode().strip().lower()
                    if answer in ("y", "yes", "n", "no"):
                        return answer.startswith("y")
        return self._verdict

    def _reset_simulation(self, seed: int) -> None:
        value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=seed)
        parameter = ParameterMessage(name="seed", value=value)
        told = self._call(self._seed, SetParameters.Request(parameters=[parameter]))
        if not told.results[0].successful:
            raise LinkError(f"the simulated robot refuses seed {seed}: {told.results[0].reason}")
        answer = self._call(self._reset, Trigger.Request())
        if not answer.success:
            raise LinkError(f"the simulated robot could not be reset: {answer.message}")

    def _call(self, client, request):
        future = client.call_async(request)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        if not done.wait(ANSWER):
            client.remove_pending_request(future)
            raise LinkError(f"{client.srv_name} gave no answer within {ANSWER:g} s")
        return future.result()

    def _ask_for_scene(self, seed: int) -> None:
        self._ready.clear()
        ask = f"start {seed}: put the scene back, then call {self._namespace}env/ready"
        asked = -ASK_EVERY
        with _terminal() as terminal:
            while not self._ready.wait(0.1):
                if time.monotonic() > asked + ASK_EVERY:
                    asked = time.monotonic()
                    self._node.get_logger().info(ask)
                    if terminal is not None:
                        _say(terminal, f"{ask}, or press Enter\n")
                if terminal is not None and select.select([terminal], [], [], 0)[0]:
                    terminal.readline()
                    return

    # what is said ---------------------------------------------------------------------------
    def ready(self) -> str:
        self._ready.set()
        return "going on"

    def success(self) -> str:
        self._verdict = self._over = True
        return "the try has succeeded"

    def failure(self) -> str:
        self._verdict, self._over = False, True
        return "the try has failed"

    def _hear_executed(self, message: JointState) -> None:
        source = int(message.effort[0]) if message.effort else POLICY
        try:
            action = read_named(message, self._actions).astype(np.float32)
        except MessageError as error:
            self._trouble = f"executed: {error}"
            return
        with self._told:
            self._executed = seconds(message.header.stamp), source, action
            self._told.notify_all()

    def _hear_success(self, message: Bool) -> None:
        if not self._simulated:  # which knows better than a reward that looks on
            self._verdict = message.data

    def _hear_simulation(self, message: Bool) -> None:
        self._verdict = message.data

    def close(self) -> None:
        self._commander.close()
        self._listener.close()
        self._spin.close()
        self._node.destroy_node()
        if self._own:
            self._context.try_shutdown()


@contextlib.contextmanager
def _terminal() -> Iterator[BinaryIO | None]:
    """The operator's terminal, which worker processes do not have as their standard input."""
    try:
        opened = open("/dev/tty", "r+b", buffering=0)  # noqa: SIM115
    except OSError:  # a service, a container
        yield None
        return
    with opened:
        yield opened


def _say(terminal: BinaryIO, text: str) -> None:
    os.write(terminal.fileno(), text.encode())
