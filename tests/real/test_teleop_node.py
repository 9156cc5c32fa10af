"""An operator over DDS: a pad on `joy`, a leader arm; the arm obeys while it is held, no longer."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

import yaml
from arms import moved
from geometry_msgs.msg import PoseStamped
from line_robot import ROBOT, VALUES, LineRobot, wait_for
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from table import PATIENT, Table, jointed_table

from robostack.real.arm import HOLD, OPERATOR, POLICY
from robostack.real.messages import write_pose
from robostack.real.nodes.commanding import Commander
from robostack.real.nodes.node import COMMAND, PUBLISH, Spin, answering
from robostack.real.nodes.teleop_node import TeleopNode, main
from robostack.real.paths import find
from robostack.real.robot import Arm
from robostack.real.samples import Limits
from robostack.real.teleop.spacemouse import SpaceMouse

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


# other devices, and robots that are sent targets -----------------------------------------
LEADER = {"device": "leader", "deadman": "button0", "gripper": {"axis": "gripper"}}


@pytest.fixture
def table(tmp_path):
    """table(robot) -> a simulated robot, its arm node, and somebody with things in their hands."""
    made = []

    def lay(robot):
        made.append(Table(DOMAIN, robot, tmp_path))
        return made[0]

    yield lay
    for one in made:
        one.close()


def saying(table, kind, topic, message):
    """Repeats what `message()` returns, None for nothing."""
    publisher = table.wire.node.create_publisher(kind, topic, PUBLISH)

    def say():
        if (told := message()) is not None:
            publisher.publish(told)

    table.wire.repeated[topic] = say


@pytest.mark.slow
def test_a_leader_is_followed_once_it_has_been_brought_to_the_arm_and_no_further(table):
    table = table(jointed_table())
    leader, pedal = {"a": 0.9, "b": -0.4, "gripper": 0.0}, [1]
    names = list(leader)
    saying(
        table,
        JointState,
        "leader/joint_states",
        lambda: JointState(name=names, position=list(leader.values())) if leader else None,
    )
    saying(table, Joy, "joy", lambda: Joy(axes=[], buttons=pedal))
    hand = table.operate({**LEADER, "follow": "match"}).teleop

    def there(place):
        return np.allclose(table.at, place, atol=2e-3) and table.arm.arm.safety.resting

    wait_for(lambda: "bring the leader to the arm: a is" in hand._note, "the wish", 30)
    assert (table.at == 0).all() and OPERATOR not in {s for _, s, _ in table.wire.executed}
    leader |= {"a": 0.02, "b": -0.02}
    wait_for(lambda: table.wire.source == OPERATOR, "the operator")
    leader |= {"a": 0.5, "b": -0.3}
    wait_for(lambda: there([0.5, -0.3]), "the place of the leader")
    pedal[:] = [0]
    wait_for(lambda: "button0 is not held" in hand._note, "the release")
    table.rests()
    leader |= {"a": 0.1}  # the arm is left behind
    pedal[:] = [1]
    wait_for(lambda: "bring the leader to the arm: a is -0.4" in hand._note, "the wish")
    assert table.at[0] > 0.45  # an underrun of a busy machine is a small overshoot
    leader |= {"a": 0.5}
    wait_for(lambda: table.wire.source == OPERATOR, "the operator")
    leader.clear()  # its cable is pulled
    table.rests()
    wait_for(lambda: "lost or silent" in hand._note, "the loss")
    table.legal()


@pytest.mark.slow
def test_a_leader_that_is_followed_relatively_never_makes_the_arm_jump(table):
    table = table(jointed_table())
    leader = [0.9, -0.4, 1.0]
    saying(
        table,
        JointState,
        "leader/joint_states",
        lambda: JointState(name=["a", "b", "gripper"], position=leader),
    )
    saying(table, Joy, "joy", lambda: Joy(axes=[], buttons=[1]))
    table.operate({**LEADER, "speed": 1.0})
    wait_for(lambda: table.wire.source == OPERATOR, "the operator")
    assert np.allclose(table.at, 0, atol=1e-3)
    leader[0] = 0.7
    wait_for(lambda: np.allclose(table.at, [-0.2, 0], atol=2e-3), "as far as the leader went")
    assert table.env.actions[-1][2] == 1.0, "and its fingers are closed"
    table.legal()


def moved_table():
    said = {"action": "delta, 1 = 0.05 m or 0.5 rad", "gripper": "+1 closes"}
    limits = Limits(max_age=2.0, max_skew=2.0)
    robot = replace(moved(), conventions=said, timeouts=PATIENT, state_limits=limits)
    names = {"x": "dx", "y": "dy", "turn": "rz", "gripper": "gripper"}
    actions = {names[k]: replace(v, max_error=2.0) for k, v in robot.actions.items()}
    return replace(robot, actions=actions, arms={"arm": Arm("action", tuple(actions))})


@pytest.mark.slow
def test_a_tracked_hand_moves_the_arm_with_it_and_no_further_than_itself(table):
    table = table(moved_table())
    place, grip = [5.0, 2.0, 1.0], [0, 1]
    upright = 1.0, 0.0, 0.0, 0.0
    pose = lambda: write_pose(PoseStamped(), place, upright, 0.0)  # noqa: E731
    saying(table, PoseStamped, "teleop/pose", pose)
    saying(table, Joy, "joy", lambda: Joy(axes=[0.0, 0.0, 0.0], buttons=grip))
    values = yaml.safe_load(find("configs/teleop/vr.yaml").read_text())
    table.operate(values)
    wait_for(lambda: table.wire.source == OPERATOR, "the operator")

    def further():
        place[0] += 0.001
        return table.at[0] > 0.06

    wait_for(further, "the way of the hand")
    table.wire.repeated.pop("teleop/pose")  # it is lost where it is
    table.rests()
    # what a machine that is busy missed is not caught up; lost at speed it stops within millimetres
    assert 0.06 < table.at[0] <= place[0] - 5.0 + 5e-3 and table.at[1] == 0
    grip[:], there = [0, 0], table.at.copy()
    place[0] = 1.0  # the clutch: with the grip open only the hand moves
    saying(table, PoseStamped, "teleop/pose", pose)
    time.sleep(0.3)
    assert np.array_equal(table.at, there)
    table.legal()


@pytest.mark.slow
def test_a_spacemouse_drives_while_it_is_pushed_and_its_end_is_a_rest(table):
    table = table(moved_table())
    pushed = SimpleNamespace(t=0.0, x=0.0, y=0.0, z=0, roll=0, pitch=0, yaw=0, buttons=[0, 0])
    mouse = SimpleNamespace(read=lambda: pushed, close=lambda: None)
    device = SpaceMouse(opener=lambda: mouse)
    values = yaml.safe_load(find("configs/teleop/spacemouse.yaml").read_text())
    hand = table.operate({**values, "yaw": 0.0}, device).teleop
    wait_for(lambda: "nothing is pressed" in hand._note, "a mouse at rest")
    pushed.x = 1.0
    wait_for(lambda: table.at[0] > 0.1, "motion")
    assert table.at[1] == 0

    def gone():
        raise OSError("unplugged")

    mouse.read = gone
    device._open = gone
    table.rests()
    wait_for(lambda: "lost or silent" in hand._note, "the loss")
    table.legal()
