"""A simulated robot behind the topics of a real one: it serves any Env that it is handed.

`python -m robostack.simulated_robot` hands it a MuJoCo scene.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from robostack.protocols import Env
from robostack.real.messages import (
    MessageError,
    read_named,
    write_compressed,
    write_image,
    write_named,
    write_seconds,
)
from robostack.real.nodes.node import (
    COMMAND,
    LATCHED,
    PUBLISH,
    Diagnostics,
    Spin,
    answering,
    now,
)
from robostack.real.nodes.sim_controllers import controllers
from robostack.real.robot import ConfigError, RobotConfig
from robostack.types import Step

BUILDING = 120.0  # [s] that an environment may take to be built
RESETTING = 30.0  # [s] that a reset may take


class SimRobotNode:
    """Steps an environment in real time, as it is told.

    With the back end `action` once for every command: they set the pace, so that each is executed
    exactly once, and a period may be half as long or half as long again. Other back ends stream to
    controllers, of which each period takes what is due then (see sim_controllers). Where nothing
    comes it holds: velocity-like actions are 0, the others stay.
    States are published as JointStates, pictures as the robot's cameras would, `sim/success` and,
    with `announce`, the instruction on `task`. With `clock`, the time is the simulation's, on
    /clock. An environment's own end does not stop anything: a robot has none.
    """

    def __init__(
        self,
        context: Context,
        robot: RobotConfig,
        make: Callable[[], Env],
        seed: int = 0,
        clock: bool = False,
        announce: bool = True,
        node: Node | None = None,
    ):
        self.node = node or Node("sim_robot", context=context)
        self.robot, self.announce = robot, announce
        self.seed = self.node.declare_parameter(
            "seed", seed, ParameterDescriptor(description="of the next reset, which counts on")
        ).value
        self.node.add_on_set_parameters_callback(self._reseed)
        self._period = 1 / robot.control_hz
        self._topics = _topics(robot)
        self._controllers = controllers(self.node, robot)
        self._still = np.array([a.kind in ("delta", "velocity") for a in robot.actions.values()])
        self._held = np.array([a.low for a in robot.actions.values()])
        self._commands: list[np.ndarray] = []  # at most the newest
        self._asked: list[threading.Event] = []  # resets that are waited for
        self._change = threading.Condition()
        self.steps = self.executed = 0  # control periods, and those with a command
        self._success: bool | None = None
        self._error: BaseException | None = None
        self._closed, self._ready = threading.Event(), threading.Event()
        self.done = threading.Event()  # the simulation has failed
        self._advertise(clock)
        self.node.get_logger().info("building the scene")
        self._thread = threading.Thread(
            target=self._work, args=(make,), name="simulation", daemon=True
        )
        self._thread.start()
        if not self._ready.wait(BUILDING):
            raise OSError(f"the environment was not built within {BUILDING:g} s")
        if self._error is not None:
            raise self._error
        self._spin = Spin(self.node)
        self.node.get_logger().info(f"ready: {robot.robot}, seed {seed}, {robot.control_hz:g} Hz")

    def _advertise(self, clock: bool) -> None:
        node, robot = self.node, self.robot
        self._states = {t: node.create_publisher(JointState, t, PUBLISH) for t in self._topics}
        self._cameras = {
            name: node.create_publisher(
                CompressedImage if camera.compressed else Image, camera.topic, PUBLISH
            )
            for name, camera in robot.cameras.items()
        }
        self._clock = node.create_publisher(Clock, "/clock", PUBLISH) if clock else None
        self._told = node.create_publisher(Bool, "sim/success", LATCHED)
        self._task = node.create_publisher(String, "task", LATCHED)
        for name, arm in robot.arms.items():
            if arm.backend == "action":
                node.create_subscription(JointState, robot.topic(name), self._hear, COMMAND)
        node.create_service(Trigger, "sim/reset", answering(self._reset))
        Diagnostics(node, self._report)

    # what is asked for ----------------------------------------------------------------------
    def _hear(self, message: JointState) -> None:
        try:
            action = read_named(message, list(self.robot.actions))
            if not np.isfinite(action).all():
                raise MessageError(f"expected finite actions, got {action}")
        except MessageError as error:
            self.node.get_logger().warning(f"command refused: {error}", throttle_duration_sec=2.0)
            return
        with self._change:
            self._commands[:] = [action]
            self._change.notify_all()

    def _reseed(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "seed":
                self.seed = parameter.value
        return SetParametersResult(successful=True)

    def _reset(self) -> str:
        done = threading.Event()
        with self._change:
            self._asked.append(done)
            self._change.notify_all()
        if not done.wait(RESETTING):
            raise OSError(f"not reset within {RESETTING:g} s")
        return f"reset with seed {self.seed - 1}"

    # the simulation's thread ----------------------------------------------------------------
    def _work(self, make: Callable[[], Env]) -> None:
        try:
            self._env = make()  # here, because an OpenGL context belongs to its thread
            self.robot.spec.require_same(self._env.spec, "the robot's file", "the environment")
            self._begin()
        except BaseException as error:
            self._error = error
            return
        finally:
            self._ready.set()
        try:
            self._live()
        except BaseException as error:
            self._error = error
            self.node.get_logger().error(f"the simulation failed: {type(error).__name__}: {error}")
            self.done.set()
        finally:
            self._env.close()

    def _live(self) -> None:
        last, commanded = time.monotonic(), False
        while not self._closed.is_set():
            commanded, asked = self._await(last, commanded)
            if asked:
                self._begin()
                for done in asked:
                    done.set()
            last = time.monotonic()
            streamed = self._streamed()
            self._publish(self._env.step(self._held.astype(np.float32)))
            self.steps += 1
            self.executed += commanded or streamed

    def _await(self, last: float, before: bool) -> tuple[bool, list[threading.Event]]:
        """Waits for the next period; whether it has a command, and the resets that are wanted."""
        earliest = last + 0.5 * self._period
        latest = last + (1.5 if before else 1.0) * self._period
        with self._change:
            while not self._closed.is_set():
                clock = time.monotonic()
                if clock >= latest or (self._commands and clock >= earliest):
                    break
                self._change.wait((earliest if self._commands else latest) - clock)
            asked, self._asked = self._asked, []
            action = self._commands.pop() if self._commands and not asked else None
            self._commands.clear()
        self._held = np.where(self._still, 0.0, self._held) if action is None else action
        return action is not None, asked

    def _streamed(self) -> bool:
        """Takes what the controllers of arms and grippers are due; whether that is anything."""
        due = [(controller.columns, controller.due()) for controller in self._controllers]
        for columns, values in due:
            if values is not None:
                self._held[columns] = values
        return any(values is not None for _, values in due)

    def _begin(self) -> None:
        step = self._env.reset(self.seed)
        self._held = _standing(self.robot, step.observation.state)
        for controller in self._controllers:
            controller.clear()
        self.seed += 1
        self._success = None
        if self.announce:
            self._task.publish(String(data=step.observation.task))
        self._publish(step)

    def _publish(self, step: Step) -> None:
        stamp = now(self.node)
        if self._clock is not None:
            stamp = (self.steps + 1) * self._period  # a stamp of 0 would mean that there is none
            self._clock.publish(Clock(clock=write_seconds(Clock().clock, stamp)))
        state = step.observation.state
        for topic, (columns, joints) in self._topics.items():
            self._states[topic].publish(write_named(JointState(), joints, state[columns], stamp))
        for name, publisher in self._cameras.items():
            image, frame = step.observation.images[name], f"{name}_optical_frame"
            compressed = self.robot.cameras[name].compressed
            message = (CompressedImage if compressed else Image)()
            write = write_compressed if compressed else write_image
            publisher.publish(write(message, image, stamp, frame))
        if step.success is not None and step.success != self._success:
            self._success = step.success
            self._told.publish(Bool(data=step.success))

    def _report(self) -> tuple[bytes, str, dict]:
        message = f"seed {self.seed - 1}, success {self._success}"
        values = {"steps": self.steps, "with a command": self.executed}
        return Diagnostics.OK, message, values

    def close(self) -> None:
        """Raises RuntimeError where the simulation failed: the process must not end well then."""
        self._closed.set()
        with self._change:
            self._change.notify_all()
        self._thread.join(5.0)
        self._spin.close()
        self.node.destroy_node()
        if self.done.is_set():
            raise RuntimeError("the simulation failed") from self._error


def _standing(robot: RobotConfig, state: np.ndarray) -> np.ndarray:
    """The action f64[A] that asks for where a robot in state f32[S] is; levels begin low."""
    found, states = np.zeros(len(robot.actions)), list(robot.state)
    for i, action in enumerate(robot.actions.values()):
        if action.kind == "absolute":
            found[i] = state[states.index(action.state)]
        elif action.kind == "level":
            found[i] = action.low
    return found


def _topics(robot: RobotConfig) -> dict[str, tuple[list[int], list[str]]]:
    """Topic -> columns of the state and names of the joints that it carries."""
    found: dict[str, tuple[list[int], list[str]]] = defaultdict(lambda: ([], []))
    for column, (name, source) in enumerate(robot.sources.items()):
        if source.field != "position":
            raise ConfigError(
                f"state.{name}: a simulated robot publishes TOPIC:position/JOINT, got "
                f"{robot.state[name]}"
            )
        found[source.topic][0].append(column)
        found[source.topic][1].append(source.name)
    return dict(found)
