"""The recorder on a real ROS graph: it refuses what would be no good, and keeps all of the rest."""

import contextlib
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")
pytest.importorskip("rosbags", reason="rosbags is not installed (the extra `ros`)")

import yaml
from rclpy.node import Node
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import JointState
from staged import CONFIG, Stage
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robostack.real.bags import Bag, describe, read_episode
from robostack.real.nodes.listening import Listener
from robostack.real.nodes.node import LATCHED, SENSOR, Spin, connect
from robostack.real.nodes.recorder_node import Recorder
from robostack.real.samples import StreamError

DOMAIN = 71


def wait_for(condition, what: str, seconds: float = 30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(describe(CONFIG), sort_keys=False))
    return path


class Desk:
    """A recorder, and somebody who calls its services over ROS."""

    def __init__(self, config, folder, *parameters, namespace="", domain=DOMAIN):
        given = [f"robot:={config}", f"folder:={folder}", *parameters]
        args = ["--ros-args", *(word for p in given for word in ("-p", p))]
        args += ["-r", f"__ns:=/{namespace}"] if namespace else []
        self.context = connect(args, domain_id=domain)
        self.recorder = Recorder(self.context)
        self.caller = Node("operator", context=self.context)
        self.spin = Spin(self.caller)

    def call(self, name: str) -> tuple[bool, str]:
        client = self.caller.create_client(Trigger, f"recorder/{name}")
        assert client.wait_for_service(20)
        answer = client.call(Trigger.Request(), timeout_sec=30)
        return answer.success, answer.message

    def steady(self) -> None:
        """Every required topic comes at its rate."""
        wait_for(lambda: not self.recorder.complaints(), "a steady robot")

    def close(self) -> None:
        self.recorder.close()
        self.spin.close()
        self.caller.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def stage():
    stage = Stage(DOMAIN)
    yield stage
    stage.close()


@pytest.fixture
def desk(config, tmp_path, stage):
    desk = Desk(config, tmp_path / "bags", "task:=lift the cube")
    yield desk
    desk.close()


def test_an_episode_from_start_to_success_is_one_of_the_store(desk, tmp_path):
    desk.steady()
    assert desk.call("start") == (True, "recording 000000")
    assert "already recording" in desk.call("start")[1]
    time.sleep(1.5)
    done, text = desk.call("success")
    assert done and text.startswith(f"kept {tmp_path / 'bags' / '000000'}")
    bag = Bag(tmp_path / "bags" / "000000")
    assert bag.robot == CONFIG and bag.about["success"] is True and bag.about["ended"] == ""
    with Reader(bag.path) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
    assert min(counts[t.name] for t in desk.recorder.topics.values() if t.required) >= 20
    episode = read_episode(bag.path)
    assert episode.task == "lift the cube" and episode.success and episode.source == "rollout"
    assert len(episode) >= 15


@pytest.mark.slow
def test_what_a_policy_saw_live_is_in_the_bag_that_was_recorded_beside_it(desk, tmp_path):
    """A listener as the policy node has it looks at each command, over DDS, while the recorder
    writes. Neither hears a message at the very time of the other: a look may lack a joint's newest
    value, and keeps the one before; else of one picture both have the same numbers."""
    listener, seen = Listener(desk.caller, CONFIG), []

    def look(message):
        with contextlib.suppress(StreamError):
            seen.append(listener.observe("lift the cube"))

    desk.caller.create_subscription(JointState, "executed", look, SENSOR)
    desk.steady()
    assert desk.call("start")[0]
    seen.clear()
    wait_for(lambda: len(seen) > 40, "looks")
    live = list(seen)
    assert desk.call("success")[0]
    listener.close()
    episode = read_episode(tmp_path / "bags" / "000000")
    rows = {image.tobytes(): t for t, image in enumerate(episode.images["front"])}
    both = [(o, rows[key]) for o in live if (key := o.images["front"].tobytes()) in rows]
    assert len(both) >= 0.7 * len(live), f"{len(both)} of {len(live)} looks are in the bag"
    off = np.array([np.abs(o.state - episode.states[t]).max() for o, t in both])
    assert np.mean(off < 1e-6) >= 0.5, off
    assert off.max() <= 2 * 0.3 + 1e-6, "what moves in two periods at most: a late message"


@pytest.mark.slow
def test_a_start_is_refused_while_a_topic_does_not_come_at_its_rate(desk, stage, tmp_path):
    desk.steady()
    stage.silent.add("hand/image_raw/compressed")
    wait_for(desk.recorder.complaints, "a complaint")
    time.sleep(1.0)
    done, text = desk.call("start")
    assert not done
    assert "/hand/image_raw/compressed: expected 20 Hz, measured" in text and "front" not in text
    assert not (tmp_path / "bags").exists()


def test_nothing_is_kept_discarded_or_marked_before_a_start(desk):
    for name in ("keep", "discard", "success", "failure"):
        assert desk.call(name) == (False, "nothing is being recorded; call recorder/start first")


def test_a_discarded_episode_goes_to_the_trash_and_a_stopped_recorder_keeps_its_own(
    desk, tmp_path, config
):
    desk.steady()
    assert desk.call("start")[0]
    assert desk.call("discard") == (True, f"discarded, to {tmp_path / 'bags' / 'trash' / '000000'}")
    publisher = desk.caller.create_publisher(String, "task", LATCHED)
    publisher.publish(String(data="push the cube"))
    wait_for(lambda: desk.recorder._task == "push the cube", "the task")
    assert desk.call("start") == (True, "recording 000001")
    time.sleep(0.5)
    desk.recorder.close()
    bag = Bag(tmp_path / "bags" / "000001")
    assert bag.about["success"] is None and bag.about["ended"] == "the recorder was stopped"
    assert bag.about["task"] == "push the cube" == bag.last("task").data  # which was said before


def test_a_disk_that_fails_ends_the_episode_and_is_told_of(desk, tmp_path):
    desk.steady()
    assert desk.call("start")[0]
    desk.recorder._recording.error = OSError(28, "No space left on device")
    wait_for(lambda: "could not be finished" in desk.recorder._report()[1], "the news of it")
    level, text, _ = desk.recorder._report()
    assert "000000 could not be finished ([Errno 28] No space left" in text and level != b"\x00"
    desk.steady()
    assert (tmp_path / "bags" / "partial" / "000000").is_dir()
    assert desk.call("start") == (True, "recording 000001")  # and it goes on
    assert desk.call("keep")[0]


@pytest.mark.slow
def test_an_episode_that_was_forgotten_is_kept_and_ended(stage, config, tmp_path):
    desk = Desk(config, tmp_path / "bags", "task:=lift", "longest:=1.0")
    try:
        desk.steady()
        assert desk.call("start")[0]
        wait_for((tmp_path / "bags" / "000000").is_dir, "the episode")
        about = Bag(tmp_path / "bags" / "000000").about
        assert about["ended"] == "longer than 1 s" and about["success"] is None
    finally:
        desk.close()


@pytest.mark.parametrize(
    ("parameter", "complaint"),
    [
        ("task:=''", "no task"),
        ("spare_gb:=1e9", "GiB are free"),
        ("rates:=['front/image_raw=500']", "front/image_raw: expected 500 Hz"),
    ],
)
def test_a_start_is_refused_with_what_is_to_be_done(stage, config, tmp_path, parameter, complaint):
    desk = Desk(config, tmp_path / "bags", "task:=lift", parameter)
    try:
        wait_for(lambda: len(desk.recorder.complaints()) <= ("rates" in parameter), "the robot")
        done, text = desk.call("start")
        assert not done and complaint in text
    finally:
        desk.close()


@pytest.mark.parametrize(
    ("parameter", "complaint"),
    [
        ("rates:=['nothing=3']", "rates: \\['nothing'\\]; recorded are"),
        ("rates:=['executed=often']", "expected a number, got 'often'"),
        ("topics:=['wrench']", "expected TOPIC:VALUE, got 'wrench'"),
        ("topics:=['wrench:no_such/msg/Thing']", "no message type 'no_such/msg/Thing'"),
    ],
)
def test_a_recorder_with_a_wrong_parameter_does_not_start(config, tmp_path, parameter, complaint):
    args = ["--ros-args", "-p", f"robot:={config}", "-p", parameter]
    context = connect(args, domain_id=DOMAIN)
    try:
        with pytest.raises(ValueError, match=complaint):
            Recorder(context)
    finally:
        context.try_shutdown()


@pytest.mark.slow
def test_two_arms_are_recorded_apart(config, tmp_path):
    stages = [Stage(DOMAIN, namespace=arm) for arm in ("left", "right")]
    desk = Desk(config, tmp_path / "bags", "task:=lift", "topics:=['/tf_like:std_msgs/msg/String']",
                namespace="left")  # fmt: skip
    try:
        desk.steady()
        desk.caller.create_client(Trigger, "recorder/start")
        assert desk.recorder.start() == "recording 000000"
        time.sleep(0.8)
        desk.recorder.finish(False)
        with Reader(tmp_path / "bags" / "000000") as reader:
            topics = {c.topic for c in reader.connections}
        assert "/left/joint_states" in topics and "/tf_like" in topics
        assert not [topic for topic in topics if topic.startswith("/right")]
        assert len(read_episode(tmp_path / "bags" / "000000")) >= 5
    finally:
        desk.close()
        for stage in stages:
            stage.close()
