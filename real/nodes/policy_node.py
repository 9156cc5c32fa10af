"""A policy that moves the arm: looks, plans in a thread of its own, publishes chunks of actions.

    python -m robostack.real.nodes.policy_node --ros-args -p robot:=configs/robot/sim.yaml \\
        -p policy:=runs/bc -p task:="lift the red cube" -p autostart:=true
    ros2 service call /policy/start std_srvs/srv/Trigger

Lifecycle: configure loads the model, activate lets it plan; nothing moves before `policy/start`.
`policy/stop` lets the arm hold at once, `policy/reset` begins another try. While a stream that it
looks at cannot be trusted, a camera that hangs for instance, it lets the arm hold, too. With
`dry_run` chunks go to `dry_run/chunk`, which nobody obeys. State and latencies are on /diagnostics.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from rclpy.context import Context
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robostack.policy.realtime import AsyncRunner
from robostack.real.arm import OPERATOR, STOP
from robostack.real.messages import write_chunk
from robostack.real.nodes.commanding import Commander
from robostack.real.nodes.listening import Listener
from robostack.real.nodes.node import (
    COMMAND,
    LATCHED,
    SENSOR,
    Diagnostics,
    Lifecycle,
    Spin,
    answering,
    now,
    parameter,
    run,
)
from robostack.real.nodes.ticking import Ticking
from robostack.real.paths import find
from robostack.real.policies import Loaded, PolicyConfig, load
from robostack.real.robot import RobotConfig
from robostack.real.streams import StreamError

LOOK_HZ = 100.0  # how often it is asked whether a chunk is due; it looks only then
WORDS = {  # what the parameters that PolicyConfig explains mean, for `ros2 param describe`
    "policy": "folder of a policy or of a run, or ws://HOST:PORT of `robostack serve`",
    "execute": "rows of a chunk that are due before the next is asked for; 0: half of them",
    "steps": "of the flow sampler",
    "level": "noise of the flow sampler",
    "temperature": "of the noise that chunks begin with: below 1 likelier ones",
    "rtc": "how a chunk goes on from the last one: none, guided, identity, clamped",
    "seed": "of what the policy draws",
    "threads": "of torch on the CPU; 0: as many as torch likes",
    "jpeg_quality": "of pictures that are sent to a server; 0: as they are",
    "timeout_s": "for a server to answer",
}
SETTLE = 10.0  # [s] for a chunk that is under way, before another try begins


class PolicyNode(Lifecycle):
    """Parameters: `robot`, `task`, `autostart`, `start`, `dry_run` and those of PolicyConfig."""

    def __init__(self, context: Context, **options):
        super().__init__("policy", context=context, **options)
        path = parameter(self, "robot", "", "the robot's configuration (YAML)", needed=True)
        self.config = RobotConfig.load(find(path))
        self.task = parameter(self, "task", "", "instruction, until `task` says another")
        self.dry_run = parameter(self, "dry_run", False, "plan, and move nothing")
        self._start = parameter(self, "start", False, "act as soon as it is active")
        self.settings = PolicyConfig(
            **{
                f.name: parameter(self, f.name, f.default, WORDS[f.name], f.name == "policy")
                for f in fields(PolicyConfig)
            }
        )
        self._lock = threading.RLock()  # of everything below
        self._loaded: Loaded | None = None
        self._runner: AsyncRunner | None = None
        self._running = self._overruled = False
        self._tries, self._blind, self._jumps, self._trouble = 0, 0, 0, ""
        self._saw = time.monotonic()  # when everything it looks at was last as it should be
        self.commander = Commander(self, self.config.spec)
        self.listener = Listener(self, self.config)
        self._dry = self.create_publisher(JointTrajectory, "dry_run/chunk", COMMAND)
        for quality in (LATCHED, COMMAND):  # said before this node was there, or by anybody
            self.create_subscription(String, "task", self._hear_task, quality)
        self.create_subscription(JointState, "executed", self._hear_executed, SENSOR)
        for name, act in (("start", self.start), ("stop", self.stop), ("reset", self.begin_try)):
            self.create_service(Trigger, f"policy/{name}", answering(act))
        self.diagnostics = Diagnostics(self, self._report)
        self._ticks = Ticking(self, LOOK_HZ, self._tick, failed=self._fail)
        self._spin = Spin(self, failed=self._fail)

    # lifecycle ------------------------------------------------------------------------------
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            loaded = load(self.settings, self.config.spec)
        except (ValueError, RuntimeError, OSError) as error:
            self.get_logger().error(f"no policy: {error}")
            self._trouble = str(error)
            return TransitionCallbackReturn.FAILURE
        with self._lock:
            self._loaded, self._trouble = loaded, ""
        self.get_logger().info(
            f"loaded {self.settings.policy}: chunks of {loaded.horizon} actions at "
            f"{loaded.spec.control_hz:g} Hz, the next one after {loaded.execute}"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        with self._lock:
            self._runner = AsyncRunner(
                self._loaded.planner,
                self.config.spec,
                self._loaded.execute,
                clock=lambda: now(self),
                tell=self._send,
            )
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._end()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._unload()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._end()
        self._unload()
        return TransitionCallbackReturn.SUCCESS

    def autostart(self) -> None:
        """Configure and activate. Raises ValueError where that fails, saying why."""
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise ValueError(self._trouble or "the policy node could not be activated")

    # services -------------------------------------------------------------------------------
    def start(self) -> str:
        """Begin to act. Raises ValueError saying what is missing for it."""
        with self._lock:
            if self._runner is None:
                raise ValueError(
                    "the policy is not active; `ros2 lifecycle set /policy configure`, then "
                    "`activate`, or start it with -p autostart:=true"
                )
            if not self.task:
                raise ValueError("no instruction: set parameter `task`, or publish it on `task`")
            try:
                self.listener.look()
                self._runner.check()
            except StreamError as error:
                raise ValueError(str(error)) from None
            except RuntimeError as error:
                raise ValueError(f"{error}; deactivate and activate to begin anew") from None
            self._runner.forget()
            self._running, self._trouble, self._saw = True, "", time.monotonic()
            self.commander.stand(not self.dry_run)
        return f"{'planning without moving' if self.dry_run else 'acting'}: {self.task}"

    def stop(self) -> str:
        """Hold at once; the model stays ready."""
        with self._lock:
            self._running = False
            self.commander.stand(False)
            if self._runner is not None:
                self._runner.forget()
        return "stopped"

    def begin_try(self) -> str:
        """Another try: what was planned is dropped, what the policy draws begins anew."""
        with self._lock:
            if self._runner is None or self._loaded is None:
                raise ValueError("the policy is not active")
            acting = self._running
            self.stop()
            self._runner.check()
            if not self._runner.settle(SETTLE):
                raise ValueError(f"the chunk under way took longer than {SETTLE:g} s")
            self._tries += 1
            seed = self.settings.seed + self._tries
            self._loaded.planner.reset(seed)
            self.listener.clear()
            self._running = acting
            self.commander.stand(acting and not self.dry_run)
        return f"try {self._tries}, seed {seed}"

    # what goes on ---------------------------------------------------------------------------
    def _tick(self) -> None:
        with self._lock:
            runner = self._runner
            if runner is None or not self._running:
                if self._start and runner is not None:
                    self._try_to_start()
                return
            runner.check()
            if self._overruled or self.listener.jumps != self._jumps:
                self._jumps = self.listener.jumps
                runner.forget()
            if not self._overruled:
                self._look(runner)

    def _look(self, runner: AsyncRunner) -> None:
        """Shows the runner what there is where it wants a chunk. Blind for long it does not stand
        behind its last one, which the arm would go on with; it begins anew when it can see."""
        try:
            self.listener.check()
            if runner.wants(now(self)):
                runner.offer(self.listener.observe(self.task))
        except StreamError as error:
            self._blind += 1
            self._trouble = str(error)
            self.get_logger().warning(f"blind: {error}", throttle_duration_sec=1.0)
            if time.monotonic() - self._saw > self.config.timeouts.blind:
                self.commander.stand(False)
                runner.forget()
            return
        self._saw, self._trouble = time.monotonic(), ""
        if not (self.commander.stands or self.dry_run):
            self.commander.stand(True)

    def _try_to_start(self) -> None:
        try:
            self.start()
            self._start = False
        except ValueError as error:
            self.get_logger().info(f"not started yet: {error}", throttle_duration_sec=2.0)

    def _send(self, stamp: float, chunk: np.ndarray) -> None:
        if not self.dry_run:
            self.commander.send(chunk, stamp)
            return
        spec, message = self.config.spec, JointTrajectory()
        self._dry.publish(write_chunk(message, spec.action_names, chunk, stamp, spec.control_hz))

    def _fail(self, error: Exception) -> None:
        """The arm must not wait for a policy that cannot go on."""
        self.stop()
        self._trouble = f"{type(error).__name__}: {error}"

    def _hear_task(self, message: String) -> None:
        if message.data and message.data != self.task:
            self.get_logger().info(f"task: {message.data}")
            self.task = message.data

    def _hear_executed(self, message: JointState) -> None:
        overruled = bool(message.effort) and int(message.effort[0]) in (OPERATOR, STOP)
        if overruled and not self._overruled and self._running:
            self.get_logger().info("somebody else commands the arm; waiting")
        self._overruled = overruled

    def _report(self) -> tuple[bytes, str, dict]:
        runner, told = self._runner, self.diagnostics
        mode = "acting" if self._running else "ready" if runner else "not active"
        values = {"task": self.task, "dry_run": self.dry_run, "tries": self._tries}
        values |= {"policy": self.settings.policy, "blind_ticks": self._blind}
        if runner is not None:
            values |= vars(runner.statistics())
            values.pop("underruns")  # of who takes single actions, which is the arm node
        level = told.OK
        try:
            look = self.listener.look()
            values |= {f"age_ms {name}": 1e3 * age for name, age in look.ages.items()}
        except StreamError as error:
            level, mode = told.WARN, f"{mode}, blind: {error}"
        if self._trouble:
            level, mode = told.ERROR, f"{mode}: {self._trouble}"
        elif self._running and self._overruled:
            mode = "overruled by an operator or a stop"
        return level, mode, values

    def _end(self) -> None:
        self.stop()
        with self._lock:
            runner, self._runner = self._runner, None
        if runner is not None and not runner.close(SETTLE):
            self.get_logger().error("the policy hangs; its thread is left behind")

    def _unload(self) -> None:
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.close()

    def close(self) -> None:
        self._ticks.close()
        self.commander.close()
        self.listener.close()
        self._spin.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close(1.0)
        self.destroy_node()


def make(context: Context, **options) -> PolicyNode:
    node = PolicyNode(context, **options)
    if parameter(node, "autostart", False, "configure and activate by itself"):
        try:
            node.autostart()
        except ValueError:
            node.close()
            raise
    return node


def main(args: Sequence[str] | None = None) -> int:
    return run(__doc__, make, args)


if __name__ == "__main__":
    sys.exit(main())
