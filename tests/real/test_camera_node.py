"""A camera node from files, over DDS: sizes, stamps, order, and what is only sent when wanted."""

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from diagnostic_msgs.msg import DiagnosticArray
from line_robot import wait_for
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from robostack.real.messages import read_compressed, read_image, seconds
from robostack.real.nodes.camera_node import CameraNode, main
from robostack.real.nodes.node import SENSOR, Spin, connect, now

DOMAIN = 81
ROBOT = """
robot: bench
control_hz: 10
state: {x: "joint_states:position/x"}
actions: {gripper: {low: -1, high: 1, kind: level}}
arms: {arm: {backend: action, actions: [gripper]}}
cameras:
  top: {topic: top/image_raw, size: [24, 24], source: "SOURCE"}
  wrist: {topic: wrist/image_raw, size: [24, 24]}
"""


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(8):  # 64 wide, 48 high; the brightness tells which
        cv2.imwrite(str(folder / f"{i}.png"), np.full((48, 64, 3), 30 * i, np.uint8))
    return folder


@pytest.fixture
def robot(tmp_path, pictures):
    path = tmp_path / "robot.yaml"
    path.write_text(ROBOT.replace("SOURCE", str(pictures)))
    return path


class Desk:
    """A camera node and somebody who looks, in one process."""

    def __init__(self, robot, *parameters):
        given = [f"robot:={robot}", "hz:=50.0", *parameters]
        args = ["--ros-args", *(word for p in given for word in ("-p", p))]
        self.context = connect(args, domain_id=DOMAIN)
        self.camera = CameraNode(self.context)
        self.viewer = Node("viewer", context=self.context)
        self.small, self.full, self.told = [], [], []
        self.hear(Image, "top/image_raw", self.small)
        self.spin = Spin(self.viewer)

    def hear(self, kind, topic, into):
        def heard(message):
            into.append((message, now(self.viewer)))

        self.viewer.create_subscription(kind, topic, heard, SENSOR)

    def close(self):
        self.camera.close()
        self.spin.close()
        self.viewer.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def desk(robot):
    desk = Desk(robot)
    yield desk
    desk.close()


def test_the_policys_stream_is_small_stamped_when_taken_and_in_order(desk):
    wait_for(lambda: len(desk.small) > 20, "pictures")
    images = [read_image(message) for message, _ in desk.small]
    assert {image.shape for image in images} == {(24, 24, 3)}
    stamps = np.array([seconds(message.header.stamp) for message, _ in desk.small])
    arrivals = np.array([arrival for _, arrival in desk.small])
    assert (np.diff(stamps) > 0).all() and (arrivals >= stamps).all()
    assert np.median(arrivals - stamps) < 0.1
    numbers = [round(image.mean() / 30) for image in images]
    assert all(0 < (b - a) % 8 <= 4 for a, b in zip(numbers, numbers[1:]))  # few are lost
    assert desk.small[0][0].header.frame_id == "top_optical_frame"


def test_full_pictures_are_coded_only_while_somebody_listens(desk):
    wait_for(lambda: len(desk.small) > 3, "pictures")
    (capture,) = desk.camera._captures
    assert capture._full.get_subscription_count() == 0
    desk.hear(CompressedImage, "top/image_raw/compressed", desk.full)
    wait_for(lambda: len(desk.full) > 3, "full pictures")
    image = read_compressed(desk.full[-1][0])
    assert image.shape == (48, 64, 3) and np.ptp(image) < 8
    twin = {seconds(m.header.stamp) for m, _ in desk.small}
    assert seconds(desk.full[0][0].header.stamp) in twin  # of one moment, one stamp


@pytest.mark.slow
def test_a_camera_that_is_lost_says_so_and_comes_back(desk, pictures):
    desk.hear(DiagnosticArray, "/diagnostics", desk.told)
    wait_for(lambda: len(desk.small) > 3, "pictures")
    held = {path: path.read_bytes() for path in pictures.iterdir()}
    for path in held:
        path.write_bytes(b"unplugged")

    def said(level):
        return any(message.status[0].level == level for message, _ in desk.told)

    wait_for(lambda: said(b"\x02"), "an error on /diagnostics")
    text = next(m.status[0].message for m, _ in desk.told if m.status[0].level == b"\x02")
    assert "top lost" in text and "is no picture" in text
    for path, content in held.items():
        path.write_bytes(content)
    count = len(desk.small)
    desk.told.clear()
    wait_for(lambda: len(desk.small) > count + 3 and said(b"\x00"), "the camera")


@pytest.mark.parametrize(
    "parameters, words",
    [
        (["camera:=side"], "camera 'side': there are top, wrist"),
        (["camera:=wrist"], "camera wrist has no `source`"),
        (["source:=/dev/video9"], "of which camera? give -p camera:=NAME"),
        (["camera:=wrist", "source:=/dev/video97"], "/dev/video97 cannot be opened"),
    ],
)
def test_mistakes_are_one_line(robot, parameters, words, capfd):
    given = [f"robot:={robot}", *parameters]
    assert main(["--ros-args", *(word for p in given for word in ("-p", p))]) == 1
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and words in error
