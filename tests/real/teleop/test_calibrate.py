"""Calibrating asks, understands, and what it writes drives an arm as was shown."""

import numpy as np
import pytest

from robostack.real.teleop.calibrate import BUTTONS, MOTIONS, Calibration
from robostack.real.teleop.device import Poll
from robostack.real.teleop.driver import Driver
from robostack.real.teleop.mapping import Motion, read_mapping, write_mapping
from robostack.types import RobotSpec

REST = {"x": 0.01, "y": -0.02, "trigger": -1.0}
NAMES = ("dx", "dy", "dz", "gripper")
ARM = RobotSpec(
    "arm", (), NAMES, (-1.0,) * 4, (1.0,) * 4, {}, 20.0,
    {"action": "delta", "gripper": "+1 closes"},
)  # fmt: skip


def answer(asking, poll):
    """Hold an answer until it is understood, then let go."""
    rest = Poll(REST, frozenset(), True)
    for _ in range(3):
        asking.feed(rest)
    understood = [asking.feed(poll) for _ in range(3)]
    assert understood[:2] == ["", ""]
    return understood[2]


def pushed(**axes):
    return Poll({**REST, **axes}, frozenset(), True)


def pressed(button):
    return Poll(REST, frozenset([button]), True)


def test_what_was_shown_becomes_a_mapping_that_does_it(tmp_path):
    asking = Calibration("gamepad", motions=NAMES[:3])
    assert asking.question == "forward"
    assert answer(asking, pushed(y=-0.9, x=0.3)) == "forward: -y"
    assert answer(asking, pushed(x=-1.0)) == "left: -x"
    assert answer(asking, pressed("up")) == "up: up" and asking.question == "down"
    assert answer(asking, pressed("down")) == "down: down"
    for button in BUTTONS:
        answer(asking, pressed(f"the {button} one"))
    assert asking.question == ""
    write_mapping(asking.mapping, tmp_path / "mine.yaml")
    mapping = read_mapping(tmp_path / "mine.yaml")
    assert mapping == asking.mapping
    own = {name: f"the {name} one" for name in BUTTONS}
    held = {"deadman", "clutch", "slower", "faster", "switch"}
    assert {name: getattr(mapping, name) for name in held} == {name: own[name] for name in held}
    assert mapping.session == {
        **dict.fromkeys(("start", "stop", "keep"), own["start"]),
        **dict.fromkeys(("failure", "undo"), own["failure"]),
        **{name: own[name] for name in ("success", "redo", "discard", "quit")},
    }
    driver = Driver(mapping, ARM)
    driver.act(pushed(), 0.0, [])
    held = frozenset([own["deadman"], own["gripper"], "up"])
    drive = driver.act(Poll({"x": -1, "y": -1}, held, True), 0.1, [])
    assert np.allclose(drive.action, [0.4, 0.4, 0.4, 1])
    still = driver.act(Poll(REST, frozenset([own["deadman"]]), True), 0.2, [])
    assert np.array_equal(still.action, [0, 0, 0, 1])  # noise at rest moves nothing


def test_a_stick_that_is_still_away_from_its_rest_answers_nothing():
    asking = Calibration("gamepad")
    answer(asking, pushed(y=-1.0))
    for _ in range(10):
        assert asking.feed(pushed(y=-1.0)) == "" and asking.waits
    assert asking.question == "left"


def test_a_trigger_that_rests_at_its_end_is_no_motion():
    asking = Calibration("gamepad")
    for _ in range(3):
        asking.feed(pushed())
    assert [asking.feed(pushed(trigger=1.0)) for _ in range(5)] == [""] * 5


def test_a_device_without_axes_can_be_asked_too():
    asking = Calibration("keyboard", motions=("dx",))
    for keys in ([], [], "w", "w", "w", [], "s", "s", "s"):
        asking.feed(Poll({}, frozenset(keys), True))
    assert asking.mapping.motions == {"dx": Motion(plus="w", minus="s")}


def test_what_means_something_already_is_no_answer():
    asking = Calibration("gamepad", motions=("dx", "dy"))
    answer(asking, pushed(y=-1.0))
    assert answer(asking, pushed(y=1.0)) == "+y means something else already"
    assert asking.question == "left"
    for button in ("a", "b"):
        answer(asking, pressed(button))
    assert answer(asking, pressed("b")) == "b means something else already"
    assert asking.question == BUTTONS["gripper"] and asking.mapping.gripper is None


def test_a_lost_device_answers_nothing():
    asking = Calibration("gamepad")
    for _ in range(3):
        asking.feed(pushed())
    lost = Poll({**REST, "y": 1.0}, frozenset(["a"]), False)
    assert [asking.feed(lost) for _ in range(5)] == [""] * 5


def test_questions_can_be_left_out_and_half_an_answer_with_them():
    asking = Calibration("gamepad")
    answer(asking, pressed("up"))
    assert asking.question == "back"
    asking.skip()
    assert asking.question == "left" and asking.mapping.motions == {}
    for _ in range(len(MOTIONS) - 1 + len(BUTTONS)):
        asking.skip()
    assert asking.question == ""


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_dead_zone_grows_with_what_the_stick_does_at_rest(noise):
    asking = Calibration("gamepad", motions=("dx",))
    asking.feed(pushed(x=0.0))
    asking.feed(pushed(x=noise))
    for _ in range(3):
        asking.feed(pushed(x=1.0))
    assert asking.mapping.deadzone == max(0.08, 2 * noise)
