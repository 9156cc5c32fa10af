"""The checklist of docs/real.md, "First motion on your arm", gone through with a simulated robot
and an operator at a terminal of its own."""

import os
import sys
import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from diagnostic_msgs.msg import DiagnosticArray
from table import Table, jointed_table
from terminal import Terminal
from wired import until

from robostack.real.nodes.monitor_node import Monitor

DOMAIN = 88
KEYS = {
    "device": "keyboard",
    "motions": {"a": {"plus": "a", "minus": "z"}, "b": {"plus": "s", "minus": "x"}},
    "gripper": {"toggle": "space"},
    "speed": 1.0,
    "hold": 0.3,
}


@pytest.fixture
def table(tmp_path):
    table = Table(DOMAIN, jointed_table(enabled=False), tmp_path)
    yield table
    table.close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a terminal of its own")
def test_the_checklist(table):
    # 3, what it senses: nothing moves, and the monitor says why
    assert table.reason == "not enabled"
    watcher, told = table.connected(least=0.2), []  # rates of a loaded machine
    monitor = Monitor(watcher)
    table.wire.hear(DiagnosticArray, "/diagnostics", lambda m: told.extend(m.status))
    until(
        lambda: any(s.name == "monitor" and s.message == "arm: not enabled" for s in told),
        what=lambda: str([s.message for s in told if s.name == "monitor"]),
    )
    monitor.close()
    watcher.try_shutdown()
    # 4, the software stop
    ask, start = table.wire.ask, table.at.copy()
    assert ask("arm/estop").success
    until(lambda: table.wire.stopped and table.wire.stopped[-1])
    assert ask("arm/estop_reset").success
    until(lambda: not table.wire.stopped[-1])
    # 5, it holds
    assert ask("arm/enable", True).success
    until(lambda: table.reason == "the policy is silent")
    # 6, a person, slowly: one axis at a time, up to its end and not beyond
    words = [f"robot:={table.file}", f"device:={table.mapping(KEYS)}"]
    command = [sys.executable, "-m", "robostack.real.nodes.teleop_node", "--ros-args"]
    command += [word for given in words for word in ("-p", given)]
    hand = Terminal(command, {"ROS_DOMAIN_ID": str(DOMAIN)})
    try:
        until(lambda: b"drives jointed" in hand.said, 60, lambda: hand.said.decode())
        assert (table.at == start).all(), "nobody has moved it yet"
        hand.held = "z"
        until(lambda: table.at[0] < -0.3, 60, lambda: hand.said.decode())
        assert table.at[1] == pytest.approx(start[1], abs=1e-6)
        hand.held = ""
        table.rests()
        hand.held = "a"
        end = table.robot.actions["a"].high
        until(lambda: table.at[0] > end - 0.01, 60)
        time.sleep(0.3)
        assert table.at[0] <= end + 1e-6
        # 7, things that break: the node is killed while a key is down
        hand.held = "x"
        until(lambda: table.at[1] < -0.2, 60)
        hand.kill()
        table.rests()
        until(lambda: table.reason == "the policy is silent")
        table.legal()
    finally:
        hand.kill()
