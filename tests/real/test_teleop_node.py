"""An operator over DDS: a pad on `joy`, a leader arm; the arm obeys while it is held, no longer."""

import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

import yaml
from line_robot import ROBOT, VALUES, LineRobot, wait_for
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from robostack.real.arm import HOLD, OPERATOR, POLICY
from robostack.real.nodes.commanding import Commander
from robostack.real.nodes.node import COMMAND, PUBLISH, Spin, answering
from robostack.real.nodes.teleop_node import TeleopNode, main

DOMAIN = 84
PAD = {
    "device": "joy",
    "deadman": "button0",
    "motions": {"dx": {"axis": "axis0"}, "dy": {"axis": "axis1"}},
    "gripper": {"toggle": "button1"},
    "session": {"start": "button2", "keep": "button2", "discard": "button3"},
    "speed": 1.0,
    "deadzone": 0.0,
}


class Desk:
    """A line robot with its arm node, a teleop node, and somebody with a pad."""

    def __init__(self, folder, mapping):
        (folder / "robot.yaml").write_text(yaml.safe_dump(VALUES, sort_keys=False))
        (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))
        given = [f"robot:={folder}/robot.yaml", f"device:={folder}/mapping.yaml"]
        args = ["--ros-args", *(word for p in given for word in ("-p", p))]
        self.line = LineRobot(DOMAIN, args=args)
        self.hand = Node("hand", context=self.line.context)
        self.sources, self.deadman, self.called = [], [], []
        listen = self.hand.create_subscription
        listen(JointState, "executed", lambda m: self.sources.append(int(m.effort[0])), COMMAND)
        listen(Bool, "operator/deadman", lambda m: self.deadman.append(m.data), COMMAND)
        for name in ("start", "keep", "discard"):
            act = answering(lambda name=name: self.called.append(name) or name)
            self.hand.create_service(Trigger, f"recorder/{name}", act)
        self.joy = self.hand.create_publisher(Joy, "joy", PUBLISH)
        self.spin = Spin(self.hand)
        self.held = ([0.0, 0.0], [0, 0, 0, 0])
        self._stop, self.silent = threading.Event(), False
        self._thread = threading.Thread(target=self._repeat, daemon=True)
        self._thread.start()
        self.teleop = TeleopNode(self.line.context)
        wait_for(lambda: len(self.sources) > 3 and self.deadman, "the arm and the operator")

    def _repeat(self):
        """As a joy node does, 20 times a second."""
        while not self._stop.wait(0.05):
            if not self.silent:
                axes, buttons = self.held
                self.joy.publish(Joy(axes=axes, buttons=buttons))

    def hold(self, x=0.0, y=0.0, buttons=""):
        """Push the stick, with buttons 0123 held."""
        self.held = ([x, y], [int(str(i) in buttons) for i in range(4)])

    def x(self):
        return self.line.robot._env.x

    def close(self):
        self._stop.set()
        self._thread.join()
        self.teleop.close()
        self.spin.close()
        self.hand.destroy_node()
        self.line.close()


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, PAD)
    yield desk
    desk.close()


def test_the_arm_obeys_while_the_deadman_is_held_and_stays_when_it_is_let_go(desk):
    begin = desk.x()
    desk.hold(x=1.0)  # without the deadman
    time.sleep(0.4)
    assert desk.x() == begin and not any(desk.deadman)
    desk.hold(x=1.0, buttons="0")
    wait_for(lambda: desk.x() > begin + 0.3, "motion")
    assert OPERATOR in desk.sources and desk.deadman[-1]
    desk.hold()
    wait_for(lambda: not desk.deadman[-1], "the word that it was let go")
    wait_for(lambda: desk.sources[-1] == HOLD, "a hold")
    time.sleep(0.2)
    there = desk.x()
    time.sleep(0.4)
    assert desk.x() == there


def test_a_pad_that_falls_silent_with_the_stick_pushed_lets_go(desk):
    desk.hold(x=0.5, buttons="0")
    wait_for(lambda: desk.sources[-1] == OPERATOR, "the operator")
    desk.silent = True
    wait_for(lambda: not desk.deadman[-1] and desk.sources[-1] == HOLD, "a hold")


def test_it_takes_over_from_a_policy_and_the_fingers_stay_as_they_were(desk):
    commander = Commander(desk.hand, ROBOT.spec)
    stop = threading.Event()

    def policy():
        row = np.array([[0.1, 0, 1]], np.float32)  # closed fingers
        while not stop.wait(0.05):
            commander.send(row.repeat(4, 0), desk.hand.get_clock().now().nanoseconds * 1e-9)

    thread = threading.Thread(target=policy, daemon=True)
    thread.start()
    commander.stand(True)
    wait_for(lambda: desk.sources[-1] == POLICY, "the policy")
    wait_for(lambda: desk.line.robot._held[2] == 1, "closed fingers")
    desk.hold(x=-0.2, buttons="0")
    wait_for(lambda: desk.sources[-1] == OPERATOR, "the operator")
    fingers = []
    for _ in range(10):
        fingers.append(desk.line.robot._held[2])
        time.sleep(0.05)
    assert set(fingers) == {1.0}
    desk.hold()
    wait_for(lambda: desk.sources[-1] == POLICY, "the policy, which looks again")
    stop.set()
    thread.join()
    commander.close()


def test_one_button_starts_and_keeps_a_recording(desk):
    def press(button):
        seen = desk.teleop.driver
        desk.hold(buttons=button)
        wait_for(lambda: f"button{button}" in seen._before, "the press")
        desk.hold()
        wait_for(lambda: not seen._before, "the release")

    wait_for(lambda: desk.teleop.driver._started, "the pad")
    wait_for(lambda: desk.teleop._recorder["start"].service_is_ready(), "the recorder")
    press("2")
    wait_for(lambda: desk.called == ["start"] and desk.teleop._recording, "a start")
    press("2")
    wait_for(lambda: desk.called == ["start", "keep"] and not desk.teleop._recording, "a keep")


def test_mistakes_are_one_line(tmp_path, capfd):
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(VALUES, sort_keys=False))
    given = ["-p", f"robot:={tmp_path}/robot.yaml", "-p", "device:=joystick"]
    assert main(["--ros-args", *given]) == 1
    assert "mapping 'joystick': expected a .yaml file or one of" in capfd.readouterr().err
