"""`robostack teleop env.real=...` as it is typed, before a simulated robot and its arm node, with a
pad whose buttons and axes come on `joy`; and an emergency stop in the middle of it."""

import contextlib
import json
import threading

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from line_robot import VALUES, LineRobot
from rclpy.node import Node
from sensor_msgs.msg import Joy

from robostack import cli
from robostack.collecting.session import Session
from robostack.data.store import Store
from robostack.real.nodes import env_link

DOMAIN = 48
PAD = {
    "device": "joy",
    "deadman": "button1",
    "motions": {"dx": {"axis": "axis0"}, "dy": {"axis": "axis1"}},
    "gripper": {"toggle": "button0"},
    "speed": 0.8,
}
ALONE = ["start_after=0", "review=alone", "decide_after=0", "spare_mb=0", "page.on=false"]
BUSY = [f"audit.{name}=1e6" for name in ("gap", "rate", "frozen", "unseen", "dropped", "saturated")]


def until(over, do):
    """Again and again in a thread of its own, until `over` is set."""

    def work():
        while not over.wait(0.03):
            do()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_pad_on_joy_demonstrates_and_an_emergency_stop_costs_one_recording(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    monkeypatch.setattr(env_link, "ACT", 1.0)
    robot, mapping, out = tmp_path / "line.yaml", tmp_path / "pad.yaml", tmp_path / "mine"
    # Nothing here is about a pad that falls silent, and on a busy machine its thread may wait.
    patient = VALUES | {"timeouts": VALUES["timeouts"] | {"device": 5.0}}
    robot.write_text(yaml.safe_dump(patient, sort_keys=False))
    mapping.write_text(yaml.safe_dump(PAD))
    line, over = LineRobot(DOMAIN), threading.Event()
    pad = Node("pad", context=line.context)
    joy = pad.create_publisher(Joy, "joy", 1)
    ends: list[tuple[int, str]] = []  # steps of a recording, and why it ended
    hits: list[int] = []  # ends before the button is hit

    def stopped(self, episode, why, now, stopped=Session.stopped):
        ends.append((0 if episode is None else len(episode), why))
        return stopped(self, episode, why, now)

    monkeypatch.setattr(Session, "stopped", stopped)

    def stop_once():
        """Somebody hits the button on the way, and lets go once no recording can begin."""
        arm = line.arm.arm
        if not hits and line.robot._env.x > 0.5:
            hits.append(len(ends))
            arm.trip("test", "a test")
        elif hits and arm.causes.latched and any(steps == 0 for steps, _ in ends):
            with contextlib.suppress(ValueError):  # it has not come to rest yet
                line.arm._reset()

    talks = until(over, lambda: joy.publish(Joy(axes=[1.0, 0.0], buttons=[0, 1])))
    stops = until(over, stop_once)
    try:
        words = ["--out", str(out), f"env.real={robot}", "env.task=go right", "device=joy"]
        words += [f"mapping={mapping}", "episodes=1", *ALONE, *BUSY]
        assert cli.main(["teleop", *words]) == 0
    finally:
        over.set()
        talks.join()
        stops.join()
        pad.destroy_node()
        line.close()
    told = capsys.readouterr()
    summary = json.loads(told.out)
    assert (summary["kept"], summary["undecided"]) == (1, 0) and summary["trash"] >= 1
    (steps, why), (none, again) = ends[hits[0] : hits[0] + 2]
    assert steps > 3 and none == 0 and "the arm is stopped" in why and "the arm is stopped" in again
    assert f"nothing was recorded: {again}" in told.err
    (kept,) = (e for _, e in Store(out / "store").episodes())
    assert kept.source == "demo" and kept.success and kept.terminated and kept.task == "go right"
    assert np.allclose(kept.actions, [0.8, 0, -1]) and kept.states[-1, 0] >= 1
    broken = Store(out / "trash").read(f"{hits[0]:06d}")  # up to where the arm was stopped
    assert 0.4 < broken.states[-1, 0] < 0.9 and not broken.success
