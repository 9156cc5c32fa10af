"""The benchmark of the ROS loop still runs, and our transport loses no picture."""

import json
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

sys.path.append(str(Path(__file__).parent / "bench"))

import ros_loop  # noqa: E402

from robostack.real import dds  # noqa: E402

PAGE = Path(__file__).parents[1] / "docs" / "real.md"


@pytest.mark.slow
def test_every_picture_arrives_and_every_number_is_told(monkeypatch, capsys):
    for name in (*dds.VARIABLES, "ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE"):
        monkeypatch.setenv(name, "")  # what it sets is forgotten afterwards
    monkeypatch.setattr(sys, "argv", ["ros_loop.py", "--seconds", "1", "--domain", "90"])
    ros_loop.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = told["ours"]
    assert found["images"] > 30 and found["image_loss"] <= 0.02
    assert found["commands"] > 30 and 0 < found["command_latency_ms"] < 1000
    assert told["default"].keys() == found.keys() and told["default"]["images"] > 0
    for key in found:
        assert key in ros_loop.__doc__, f"{key} is not explained"
    shown = set(re.findall(r"`(\w+)`", PAGE.read_text().partition("ros_loop.py")[2][:2000]))
    assert {"image_loss", "chunk_latency_ms", "command_latency_ms", "jitter_p99_ms"} <= shown
    assert {key for key in shown if key.endswith(("_ms", "_p99", "_median"))} <= found.keys()
