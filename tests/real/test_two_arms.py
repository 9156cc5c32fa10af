"""Two arms of one graph, each in its namespace: what is said to one is not heard by the other."""

from contextlib import contextmanager

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from diagnostic_msgs.msg import DiagnosticArray
from table import Table, jointed_table
from wired import until

from robostack.real.arm import HOLD, OPERATOR, POLICY, STOP

DOMAIN = 89


@contextmanager
def laid(folder, name, **changes):
    (folder / name).mkdir()
    robot = jointed_table(20.0, **changes)
    table = Table(DOMAIN, robot, folder / name, namespace=name)
    try:
        yield table
    finally:
        table.close()


@pytest.mark.slow
def test_what_stops_one_arm_leaves_the_other_alone(tmp_path):
    with laid(tmp_path, "left") as left, laid(tmp_path, "right") as right:
        told = []
        left.wire.hear(DiagnosticArray, "/diagnostics", lambda m: told.extend(m.status))
        left.wire.keep("alive", True)
        left.wire.drive(0.4)
        until(lambda: left.at[0] > 0.3)
        assert not right.at.any() and {s for _, s, _ in right.wire.executed} == {HOLD}
        right.wire.keep("alive", True)
        right.wire.drive(-0.6)
        until(lambda: right.at[0] < -0.3)
        assert left.at[0] > 0.3

        left.wire.switch("estop", True)
        until(lambda: left.wire.source == STOP and left.wire.stopped[-1])
        assert right.wire.source == POLICY and right.wire.stopped == [False]
        until(lambda: right.at[0] < -0.59)
        until(lambda: any("emergency stop was pressed" in s.message for s in told))
        until(lambda: any(s.name == "right/arm" and s.message == "moves" for s in told))
        assert {s.name for s in told if s.level == b"\x02"} == {"left/arm"}

        left.wire.switch("estop", False)
        until(lambda: not left.arm.arm.causes.pressed and left.arm.arm.safety.resting)
        assert left.wire.ask("arm/estop_reset").success
        right.wire.keep("operator/deadman", True)
        right.wire.drive(0.2, operator=True)
        until(lambda: right.wire.source == OPERATOR and left.wire.source == POLICY)
        assert right.wire.ask("arm/hold").success
        until(lambda: right.wire.source == HOLD)
        assert left.wire.source == POLICY
        left.legal()
        right.legal()
