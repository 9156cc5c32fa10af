"""A bag says what was seen and done, bit for bit, or why it does not."""

import contextlib
import json

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")
pytest.importorskip("rosbags", reason="rosbags is not installed (the extra `ros`)")

from rclpy.serialization import serialize_message
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from staged import CONFIG, moment
from std_msgs.msg import Bool, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robostack import cli
from robostack.bag_source import BagSource
from robostack.config import build
from robostack.data.interchange.report import BadEpisode, Report
from robostack.data.store import open_store
from robostack.real.bags import Bag, BagError, bags_in, describe, is_ours, read_episode
from robostack.real.messages import doubles
from robostack.real.observing import Senses
from robostack.real.recording import Recording, Topic
from robostack.real.robot import RobotConfig
from robostack.real.samples import StreamError
from robostack.types import SpecMismatch

BEGIN = 1_700_000_000.0
STEPS = 40
TYPES = get_typestore(Stores.ROS2_JAZZY)
DELAYS = {  # [s] from a period's begin to the arrival; the command itself is stamped 20 ms after it
    "front/image_raw": 0.012,
    "hand/image_raw/compressed": 0.031,
    "joint_states": 0.006,
    "current_pose": 0.001,
    "executed": 0.022,
}
ABOUT = {"task": "lift the cube", "success": True, "robot": describe(CONFIG), "namespace": "/"}


def played(steps=STEPS):
    """(arrival [ns], topic, message) of everything that the staged robot says, as it arrives."""
    found = []
    for i in range(steps):
        begin = BEGIN + i / CONFIG.control_hz
        for topic, message in moment(i, begin):
            found.append((round(1e9 * (begin + DELAYS[topic])), topic, message))
    return sorted(found, key=lambda item: item[0])


def wire(message, kind: str) -> bytes:
    """A message as it travels; `serialize_message` may leave zeros behind it, DDS does not."""
    raw = serialize_message(message)
    for surplus in range(16):
        with contextlib.suppress(SerdeError):
            TYPES.deserialize_cdr(raw[: len(raw) - surplus], kind)
            return raw[: len(raw) - surplus]
    raise AssertionError(f"{kind} cannot be read back")


def bagged(folder, messages, about=ABOUT, prefix="/"):
    types = {
        topic: f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
        for topic, kind in {topic: type(message) for _, topic, message in messages}.items()
    }
    recording = Recording(folder, [Topic(prefix + t, kind) for t, kind in types.items()])
    for stamp, topic, message in messages:
        recording.put(prefix + topic, stamp, wire(message, types[topic]))
    return recording.close(about)[0]


def commanded(source: float):
    """A change of who commanded what is executed."""

    def change(messages):
        for _, topic, message in messages:
            if topic == "executed":
                message.effort[0] = source
        return messages

    return change


def test_what_a_policy_sees_live_is_what_the_bag_says_bit_for_bit(tmp_path):
    messages = played()
    live, seen, ticks = Senses(CONFIG), [], []
    for _, topic, message in messages:
        if topic == "executed":
            ticks.append(message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec)
    for arrival, topic, message in messages:
        now = 1e-9 * arrival
        while len(seen) < len(ticks) and ticks[len(seen)] < now:
            tick = ticks[len(seen)]
            try:
                seen.append(live.observation(live.look(tick, tick), ABOUT["task"]))
            except StreamError:
                seen.append(None)
        if topic in live.topics:
            live.hear(topic, message, now, now)
    first = next(i for i, look in enumerate(seen) if look is not None)
    assert first == 1, "at the first command a picture has not come yet"
    episode = read_episode(bagged(tmp_path, messages))
    assert len(episode) == STEPS - first
    for t in range(len(episode)):
        expected = seen[first + t]
        assert episode.states[t].tobytes() == expected.state.tobytes()
        for name, image in expected.images.items():
            assert episode.images[name][t].tobytes() == image.tobytes()
    actions = np.array([[np.sin(0.3 * i), i % 2] for i in range(first, STEPS)], np.float32)
    np.testing.assert_array_equal(episode.actions, actions)
    np.testing.assert_allclose(np.diff(episode.stamps), 0.05, atol=1e-6)
    assert episode.stamps[0] == 0 and episode.success and episode.task == "lift the cube"
    for t in range(len(episode)):  # the hand's picture of a period comes after its command
        seen = np.random.default_rng(t).integers(0, 256, (24, 32, 3), np.uint8)
        assert np.array_equal(episode.images["front"][t], seen), "of the same instant as the hand's"
        assert abs(np.median(episode.images["hand"][t]) - t) <= 1


def test_values_are_of_the_instant_of_the_pictures(tmp_path):
    """The staged elbow moves by 2 rad/s: the value tells the instant that it is of."""
    episode = read_episode(bagged(tmp_path, played()))
    elbow = episode.states[:, 0] / 2.0 + 0.004  # [s] since the first picture, by the joint's clock
    # both pictures are of the period before the command
    np.testing.assert_allclose(elbow[1:], np.arange(1, STEPS) / 20, atol=1e-6)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [({1}, "rollout"), ({2}, "demo"), ({1, 2}, "intervention"), ({0, 1}, "rollout")],
)
def test_who_commanded_is_what_the_episode_is(tmp_path, sources, expected):
    messages = played()
    mine = [m for _, topic, m in messages if topic == "executed"]
    for i, message in enumerate(mine):
        message.effort[0] = float(sorted(sources)[i * len(sources) // len(mine)])
    assert read_episode(bagged(tmp_path, messages)).source == expected


def test_holding_before_and_after_is_left_out_and_in_between_is_not(tmp_path):
    messages = played()
    mine = [m for _, topic, m in messages if topic == "executed"]
    for message in (*mine[:10], *mine[20:22], *mine[30:]):
        message.effort[0] = 0.0
    episode = read_episode(bagged(tmp_path, messages))
    assert len(episode) == 20
    np.testing.assert_array_equal(episode.actions[:, 1], np.arange(10, 30) % 2)


def without(*topics, after=0.0):
    """Of what the robot says, all but topics from a time on."""

    def change(messages):
        begin = messages[0][0] + 1e9 * after
        return [m for m in messages if m[1] not in topics or m[0] < begin]

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (without("executed"), "has no /executed"),
        (commanded(0.0), "neither a policy nor an operator"),
        (without("front/image_raw", after=1.0), "front: its newest sample is .* old"),
        (without("joint_states"), "joint_states: nothing has come yet"),
        (lambda m: [x for i, x in enumerate(m) if not 100 < i < 140], "no command for 0.4"),
    ],
)
def test_a_bag_that_makes_no_episode_says_why_and_when(tmp_path, change, complaint):
    with pytest.raises(BagError, match=complaint):
        read_episode(bagged(tmp_path, change(played())))


def test_a_folder_of_bags_becomes_a_store_and_a_bad_one_is_told_of(tmp_path, capsys):
    bags = tmp_path / "bags"
    bagged(bags, played())
    bagged(bags, without("executed")(played()))
    bagged(bags, played(), {**ABOUT, "success": None})
    (bags / "partial" / "000009").mkdir(parents=True)
    assert [bag.name for bag in bags_in(bags)] == ["000000", "000001", "000002"]
    command = ["data", "import", "--source", str(bags), "--out", str(tmp_path / "store")]
    cli.main(command)
    assert "has no /executed" in "".join(capsys.readouterr())
    store = open_store(tmp_path / "store")
    assert [store.read(i).success for i in store.ids()] == [True, None]
    again, direct = store.read(store.ids()[0]), read_episode(bags / "000000")
    assert again.states.tobytes() == direct.states.tobytes()
    assert all(again.images[n].tobytes() == direct.images[n].tobytes() for n in direct.images)


def test_the_simulation_says_whether_it_succeeded_where_nobody_did(tmp_path):
    messages = played()
    end = messages[-1][0]
    messages += [(end, "sim/success", Bool(data=True)), (end, "task", String(data="push"))]
    episode = read_episode(bagged(tmp_path, messages, {**ABOUT, "success": None, "task": ""}))
    assert episode.success is True and episode.task == "push"


def test_a_namespace_is_of_all_relative_topics(tmp_path):
    bag = bagged(tmp_path, played(), {**ABOUT, "namespace": "/left"}, prefix="/left/")
    assert len(read_episode(bag)) == STEPS - 1
    assert Bag(bag).resolve("/absolute") == "/absolute"


def test_a_bag_of_another_robot_is_refused_by_the_name_of_what_differs(tmp_path):
    bag = bagged(tmp_path, played())
    other = build(RobotConfig, {**describe(CONFIG), "control_hz": 10.0})
    with pytest.raises(SpecMismatch, match="control_hz"):
        read_episode(bag, other)
    robot = tmp_path / "other.yaml"
    robot.write_text(yaml.safe_dump(describe(other), sort_keys=False))
    with pytest.raises(BadEpisode, match="^robot: .*control_hz: the robot's config has 10"):
        BagSource(bag, Report("", ""), str(robot)).read(0)


def test_what_is_no_finished_bag_is_said_to_be_none(tmp_path):
    with pytest.raises(BagError, match="holds no finished bag"):
        bags_in(tmp_path)
    with pytest.raises(BagError, match="no metadata.yaml.*mcap recover"):
        Bag(tmp_path)
    bag = bagged(tmp_path / "bags", played())
    text = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(text.replace("custom_data", "custom_dat"))
    with pytest.raises(BagError, match="which robot"):
        read_episode(bag)
    (bag / "metadata.yaml").write_text(text[: len(text) // 2])
    with pytest.raises(BagError):
        read_episode(bag)
    mcap = bag / "000000.mcap"
    (bag / "metadata.yaml").write_text(text)
    mcap.write_bytes(mcap.read_bytes()[:5000])
    with pytest.raises(BagError, match="is damaged"):
        read_episode(bag)


JOINT = {"low": -9.0, "high": 9.0, "velocity": 1, "acceleration": 9, "jerk": 99, "max_error": 1}
OTHERS = build(  # the same robot under ros2_control, recorded by somebody else
    RobotConfig,
    {
        **describe(CONFIG),
        "actions": {
            "jaw": {"low": -1.0, "high": 1.0, "kind": "level"},
            "elbow": {**JOINT, "state": "elbow"},
            "wrist": {**JOINT, "state": "wrist"},
        },
        "arms": {
            "arm": {
                "backend": "joint_trajectory",
                "topic": "arm_controller/joint_trajectory",
                "actions": ["elbow", "wrist"],
                "joints": ["j1", "j2"],
            }
        },
        "grippers": {
            "hand": {
                "action": "jaw",
                "backend": "topic_float64",
                "topic": "hand_controller/commands",
                "open": 0.08,
                "closed": 0.0,
            }
        },
    },
)


def commanded_by_others(hz, points=1):
    """Everything that the robot says but `executed`, and what its controllers are told: the arm
    `hz` times a second from the start on, the hand at 0.2 s to open and at 1 s to close."""
    messages = without("executed")(played())
    for i in range(round(STEPS / CONFIG.control_hz * hz)):
        aim = JointTrajectoryPoint(positions=doubles([-0.1 * i, 0.1 * i]))
        message = JointTrajectory(joint_names=["j2", "j1"], points=[aim] * points)
        messages.append((round(1e9 * (BEGIN + 0.022 + i / hz)), OTHERS.topic("arm"), message))
    for at, value in ((0.2, 0.08), (1.0, 0.0)):
        message = Float64MultiArray(data=doubles([value]))
        messages.append((round(1e9 * (BEGIN + at)), OTHERS.topic("hand"), message))
    return sorted(messages, key=lambda item: item[0])


@pytest.mark.parametrize("hz", [20, 100])
def test_a_bag_of_others_has_its_actions_from_what_the_controllers_were_told(tmp_path, hz):
    bag = bagged(tmp_path / "bags", commanded_by_others(hz), about={})
    assert not is_ours(Bag(bag)) and is_ours(Bag(bagged(tmp_path / "ours", played(), about={})))
    episode = read_episode(bag, OTHERS)
    first = int(np.ceil((0.2 - 0.022) * hz))  # before, the hand had not been told anything
    aims = 0.1 * np.arange(first, STEPS / 20 * hz, hz / 20)[:, None] * [1, -1]
    np.testing.assert_allclose(episode.actions[:, 1:], aims, atol=1e-6)
    assert len(episode) == len(aims) and episode.source == "demo" and episode.success is None
    times = 0.022 + first / hz + episode.stamps[:-1]
    np.testing.assert_array_equal(episode.actions[:, 0], np.where(times < 1, -1, 1))
    seen = int((times[3] - DELAYS["hand/image_raw/compressed"]) * 20)  # by both cameras
    picture = np.random.default_rng(seen).integers(0, 256, (24, 32, 3), np.uint8)
    assert np.array_equal(episode.images["front"][3], picture)


@pytest.mark.parametrize(
    ("messages", "robot", "complaint"),
    [
        (commanded_by_others(30), OTHERS, "commands come at 30 Hz.*control_hz=20"),
        (commanded_by_others(20, points=0), OTHERS, "0 points, expected a stream of single ones"),
        (
            without("hand_controller/commands")(commanded_by_others(20)),
            OTHERS,
            "neither /executed nor /hand_controller/commands: what jaw was told",
        ),
        (commanded_by_others(20), CONFIG, "neither /executed nor /command/action: what dx, grip"),
        (
            [m for i, m in enumerate(commanded_by_others(20)) if not 60 < i < 100],
            OTHERS,
            "no command for 0.[45]",
        ),
    ],
)
def test_a_bag_of_others_that_makes_no_episode_says_why(tmp_path, messages, robot, complaint):
    with pytest.raises(BagError, match=complaint):
        read_episode(bagged(tmp_path, messages, about={}), robot)


def test_bare_files_are_imported_by_a_robots_file(tmp_path, capsys):
    robot, files = tmp_path / "robot.yaml", tmp_path / "files"
    robot.write_text(yaml.safe_dump(describe(OTHERS), sort_keys=False))
    files.mkdir()
    whole = bagged(tmp_path / "bags", commanded_by_others(20), about={}) / "000000.mcap"
    (files / "a.mcap").write_bytes(whole.read_bytes())
    (files / "b.mcap").write_bytes(whole.read_bytes()[:-99])
    command = ["data", "import", str(files), "--out", str(tmp_path / "store")]
    assert cli.main(command) == 1 and "robot=" in capsys.readouterr().err
    assert cli.main([*command, f"robot={robot}"]) == 1  # one of the two is cut
    said = capsys.readouterr().err
    assert "left out  b.mcap: bag:" in said and "is damaged" in said
    assert "no `executed`: actions are what was told on arm_controller/joint_trajectory" in said
    episode = open_store(tmp_path / "store").read("000000")
    assert len(episode) == 36 and episode.spec == OTHERS.spec
    one = ["data", "import", str(whole), "--out", str(tmp_path / "one"), f"robot={robot}"]
    assert cli.main(one) == 0 and len(open_store(tmp_path / "one")) == 1


def test_a_config_survives_being_stored_in_a_bag():
    assert build(RobotConfig, json.loads(json.dumps(describe(CONFIG)))) == CONFIG
    assert (
        build(RobotConfig, yaml.safe_load(yaml.safe_dump(describe(CONFIG), sort_keys=False)))
        == CONFIG
    )
