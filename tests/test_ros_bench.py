"""The benchmark of the ROS loop still runs, and our transport loses no picture."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

sys.path.append(str(Path(__file__).parent / "bench"))

import ros_loop  # noqa: E402

from robostack.real import dds  # noqa: E402


@pytest.mark.slow
def test_every_picture_arrives_and_every_number_is_told(monkeypatch):
    for name in (*dds.VARIABLES, "ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE"):
        monkeypatch.setenv(name, "")  # what it sets is forgotten afterwards
    found = ros_loop.measure(1.0, 76, None)
    assert found["images"] > 30 and found["image_loss"] <= 0.02
    assert found["commands"] > 30 and 0 < found["command_latency_ms"] < 1000
    assert {"latency_ms_median", "latency_ms_p99", "jitter_p99_ms", "underruns"} <= found.keys()
