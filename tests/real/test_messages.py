"""What goes into a message comes out of it, also after a trip through its serialised form."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from robostack.real.messages import (
    MessageError,
    read_chunk,
    read_compressed,
    read_image,
    read_named,
    read_pose,
    seconds,
    write_chunk,
    write_compressed,
    write_image,
    write_named,
    write_pose,
)

RNG = np.random.default_rng(0)


def sent(message):
    return deserialize_message(serialize_message(message), type(message))


@pytest.fixture(scope="module")
def picture():
    return RNG.integers(0, 256, (12, 17, 3), np.uint8)


def test_a_picture(picture):
    message = sent(write_image(Image(), picture, 1.25, "lens"))
    assert np.array_equal(read_image(message), picture)
    assert seconds(message.header.stamp) == 1.25 and message.header.frame_id == "lens"
    turned = picture.transpose(1, 0, 2)  # not contiguous
    assert np.array_equal(read_image(sent(write_image(Image(), turned, 0))), turned)


@pytest.mark.parametrize("encoding, order", [("bgr8", [2, 1, 0]), ("rgba8", [0, 1, 2, 0])])
def test_pictures_of_other_drivers(picture, encoding, order):
    theirs = np.ascontiguousarray(picture[..., order])
    padded = np.pad(theirs.reshape(12, -1), ((0, 0), (0, 5)))
    message = Image(height=12, width=17, encoding=encoding, step=padded.shape[1])
    message.data = padded.tobytes()
    assert np.array_equal(read_image(sent(message)), picture)


def test_a_compressed_picture_is_nearly_the_same():
    smooth = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
    smooth = np.stack([smooth, 255 - smooth, smooth // 2], -1)
    back = read_compressed(sent(write_compressed(CompressedImage(), smooth, 0, quality=95)))
    assert back.shape == smooth.shape
    assert np.abs(back.astype(int) - smooth).mean() < 4  # red and blue are not exchanged


@pytest.mark.parametrize(
    "message, said",
    [
        (Image(encoding="yuv422"), "expected encoding rgb8"),
        (Image(encoding="rgb8", height=2, width=2, step=6, data=bytes(11)), "do not fit 11"),
        (Image(encoding="rgb8"), "do not fit 0 bytes"),
    ],
)
def test_a_picture_that_is_none(message, said):
    with pytest.raises(MessageError, match=said):
        read_image(message)
    with pytest.raises(MessageError, match="0 bytes that are no"):
        read_compressed(CompressedImage())


def test_numbers_are_matched_by_name():
    message = sent(write_named(JointState(), ["b", "a", "c"], np.array([2.0, 1.0, 3.0]), 7.0))
    assert np.array_equal(read_named(message, ["a", "b"]), [1.0, 2.0])
    with pytest.raises(MessageError, match="d not in message"):
        read_named(message, ["a", "d"])
    with pytest.raises(MessageError, match="velocity: 0 values for 3 names"):
        read_named(message, ["a"], "velocity")
    with pytest.raises(MessageError, match="a value for each"):
        write_named(JointState(), ["a"], np.zeros(2), 0)


def test_a_pose_is_wxyz_here_and_xyzw_there():
    half = np.sqrt(0.5)
    message = sent(write_pose(PoseStamped(), (1, 2, 3), (half, 0, 0, half), 0))
    assert message.pose.orientation.z == half and message.pose.orientation.x == 0
    parts = read_pose(message)
    assert [parts[k] for k in ("x", "y", "z")] == [1, 2, 3]
    # a quarter turn about z takes x to y and y to -x
    assert np.allclose([parts[k] for k in ("xx", "xy", "xz")], [0, 1, 0])
    assert np.allclose([parts[k] for k in ("yx", "yy", "yz")], [-1, 0, 0])


def test_q_and_minus_q_are_one_rotation():
    q = RNG.standard_normal(4)
    q /= np.linalg.norm(q)
    one, other = (read_pose(write_pose(PoseStamped(), (0, 0, 0), s * q, 0)) for s in (1, -1))
    assert one == pytest.approx(other) and one["qw"] >= 0


def test_a_pose_that_nobody_has_measured_is_refused():
    message = PoseStamped()
    message.pose.orientation.w = 0.0
    with pytest.raises(MessageError, match="expected a unit quaternion"):
        read_pose(message)


def test_a_chunk_is_matched_by_name():
    chunk = RNG.standard_normal((5, 3))
    message = sent(write_chunk(JointTrajectory(), ["a", "b", "c"], chunk, 12.5, 20.0))
    back = read_chunk(message, ["c", "a", "b"])
    assert back.stamp == 12.5 and np.allclose(back.offsets, np.arange(5) / 20, atol=1e-9)
    assert np.array_equal(back.actions, chunk[:, [2, 0, 1]])


def test_an_empty_chunk_is_one():
    message = sent(write_chunk(JointTrajectory(), ["a", "b"], np.zeros((0, 2)), 1.0, 20.0))
    assert read_chunk(message, ["a", "b"]).actions.shape == (0, 2)


def wrong(change):
    message = write_chunk(JointTrajectory(), ["a", "b"], np.zeros((3, 2)), 0.0, 20.0)
    change(message)
    return message


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda m: setattr(m, "joint_names", ["a", "x"]), "expected a, b; got a, x"),
        (lambda m: setattr(m, "joint_names", ["a", "a"]), "expected a, b; got a, a"),
        (lambda m: setattr(m, "joint_names", []), "got none"),
        (lambda m: m.points[1].positions.pop(), "expected 2 positions a point"),
        (lambda m: setattr(m.points[2].time_from_start, "sec", -1), "that increases"),
        (lambda m: m.points.reverse(), "that increases"),
    ],
)
def test_a_chunk_of_another_robot_is_refused(change, said):
    with pytest.raises(MessageError, match=said):
        read_chunk(wrong(change), ["a", "b"])
