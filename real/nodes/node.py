"""What every node shares: start and stop, callbacks that may fail, rates, quality of service."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.context import Context
from rclpy.exceptions import InvalidParameterTypeException, ParameterUninitializedException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from robostack.real import dds

CLOSING = 3.0  # [s] that a node gets to close; `ros2 launch` waits 5 after SIGINT
QUIET = 1.0  # [s] between two reports of a callback that keeps failing

# A reliable publisher serves both kinds of subscriber; a best-effort subscriber takes from both.
PUBLISH = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RECORD = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)  # nothing may be missing
COMMAND = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
# Late joiners get the last one. Ask for it only of our own topics: an ordinary publisher does not
# offer it, and a subscriber that asks gets nothing at all then.
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


# start and stop -------------------------------------------------------------------------
def connect(args: Sequence[str] | None = None, domain_id: int | None = None) -> Context:
    """A ROS context whose signals stay Python's: rclpy's own handlers would close it before a
    node could publish its last command."""
    dds.prepare()
    context = Context()
    rclpy.init(
        args=list(args or []),
        context=context,
        domain_id=domain_id,
        signal_handler_options=SignalHandlerOptions.NO,
    )
    return context


def run(
    doc: str,
    make: Callable[[Context], Any],
    args: Sequence[str] | None = None,
    closing: float = CLOSING,
) -> int:
    """The main function of a node: runs until SIGINT or SIGTERM, or until the node says `done`.

    `make(context)` returns the node, started, with a `close()` that is called before the context
    ends, so that it may still publish, and that gets `closing` seconds. A node may have a
    threading.Event `done`. A ValueError or OSError of `make` is the user's to read: it is printed
    in one line, and the exit status is 1.
    """
    args = list(sys.argv[1:] if args is None else args)
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {spec.name}" if spec else Path(sys.argv[0]).name
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} --ros-args -p NAME:=VALUE ...",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(args[: args.index("--ros-args")] if "--ros-args" in args else args)
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        return _live(make, args, stop, closing)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _live(
    make: Callable[[Context], Any], args: list[str], stop: threading.Event, closing: float
) -> int:
    """The exit status of a node's life."""
    context = None
    try:
        context = connect(args)
        node = make(context)
    except (ValueError, OSError, dds.TransportError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        if context is not None:
            context.try_shutdown()
        return 1
    done = getattr(node, "done", None)
    try:
        while not stop.wait(0.1) and context.ok() and not (done is not None and done.is_set()):
            pass
    finally:
        closed = bounded(node.close, closing)
        context.try_shutdown()
    return 0 if closed else 1


def beside(node: Node, suffix: str) -> Node:
    """A second node of the same process, namespace and remappings, named after the first: an
    executor of its own can spin it."""
    return Node(
        f"{node.get_name()}_{suffix}",
        context=node.context,
        namespace=node.get_namespace(),
        cli_args=["--ros-args", "-r", f"__node:={node.get_name()}_{suffix}"],
        enable_rosout=False,
        start_parameter_services=False,
    )


def bounded(act: Callable[[], None], timeout: float) -> bool:
    """Does `act` in a thread; False where it is not done after `timeout` [s] or raises."""
    outcome: list[bool] = []

    def work() -> None:
        act()
        outcome.append(True)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout)
    return bool(outcome)


# callbacks ------------------------------------------------------------------------------
class Spin:
    """Runs the callbacks of nodes in a thread of its own, one at a time.

    A callback that raises is reported (once a second at most) and the others go on: rclpy's own
    `spin` would end there, and the node would look alive and hear nothing. `failed(error)` is
    called each time; a node that commands a robot trips its safety stop in it.
    """

    def __init__(self, *nodes: Node, failed: Callable[[Exception], None] | None = None):
        self.context, self.failed, self.failures = nodes[0].context, failed, 0
        self._log, self._reported = nodes[0].get_logger(), -QUIET
        self._executor = SingleThreadedExecutor(context=self.context)
        for node in nodes:
            self._executor.add_node(node)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="callbacks", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._closed.is_set() and self.context.ok():
            try:
                self._executor.spin_once(timeout_sec=0.1)
            except ExternalShutdownException:
                return
            except Exception as error:
                if self._closed.is_set() or not self.context.ok():
                    return
                self._report(error)
                self._closed.wait(0.01)  # what fails before it waits must not take all of a core

    def _report(self, error: Exception) -> None:
        self.failures += 1
        if time.monotonic() - self._reported >= QUIET:
            self._reported = time.monotonic()
            self._log.error(
                f"a callback failed ({self.failures} in all): {type(error).__name__}: {error}"
            )
        if self.failed is not None:
            self.failed(error)

    def close(self) -> None:
        self._closed.set()
        self._executor.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(2.0)
        self._executor.shutdown(0.0)


def answering(act: Callable[..., str]) -> Callable:
    """A service callback for Trigger or SetBool of a function that returns what to say.

    A Trigger calls `act()`, a SetBool `act(value)`. What `act` raises is told to the caller, a
    ValueError as the refusal that it is; rclpy's own callbacks would leave the call unanswered.
    """

    def callback(request, response):
        try:
            response.message = act(request.data) if hasattr(request, "data") else act()
            response.success = True
        except Exception as error:
            response.success, response.message = False, str(error)
            if not isinstance(error, ValueError):
                response.message = f"{type(error).__name__}: {error}"
        return response

    return callback


class Lifecycle(LifecycleNode):
    """A lifecycle node that outlives requests for transitions that it cannot make.

    rclpy of Jazzy raises out of the executor on them (rclpy #1209). Here they are answered with
    success=False.
    """

    def _LifecycleNodeMixin__on_change_state(self, request, response):
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)
        except Exception as error:
            self.get_logger().warning(f"refused transition {request.transition}: {error}")
            response.success = False
            return response

    def destroy_node(self) -> None:
        """Its state machine, too, which rclpy forgets and which keeps the node on the graph."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()


# parameters and diagnostics -------------------------------------------------------------
class ParameterMissing(ValueError):
    """A parameter without which the node cannot start."""


def parameter(node: Node, name: str, default: Any, description: str, needed: bool = False) -> Any:
    """Declares a read-only parameter and returns its value.

    Raises ParameterMissing where `needed` and empty, and where its type is not that of `default`.
    """
    kind = type(default).__name__
    try:
        declared = node.declare_parameter(
            name, default, ParameterDescriptor(description=description, read_only=True)
        )
    except (InvalidParameterTypeException, ParameterUninitializedException) as error:
        raise ParameterMissing(
            f"parameter {name} ({description}): expected {kind}; {error}"
        ) from None
    if needed and not declared.value:
        raise ParameterMissing(
            f"parameter {name} ({description}) must be given: --ros-args -p {name}:=VALUE"
        )
    return declared.value


def now(node: Node) -> float:
    """The ROS clock [s]: wall time, or /clock where use_sim_time is set."""
    return 1e-9 * node.get_clock().now().nanoseconds


class Diagnostics:
    """Publishes on /diagnostics once a second what `report()` returns.

    That is (level, message, values), level one of OK, WARN, ERROR, STALE.
    """

    OK, WARN, ERROR, STALE = (
        DiagnosticStatus.OK,
        DiagnosticStatus.WARN,
        DiagnosticStatus.ERROR,
        DiagnosticStatus.STALE,
    )

    def __init__(self, node: Node, report: Callable[[], tuple[bytes, str, dict[str, Any]]]):
        self._node, self._report = node, report
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        node.create_timer(1.0, self.publish)

    def publish(self) -> None:
        level, message, values = self._report()
        status = DiagnosticStatus(
            level=level,
            name=self._node.get_fully_qualified_name().lstrip("/"),
            message=message,
            values=[KeyValue(key=k, value=_text(v)) for k, v in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
