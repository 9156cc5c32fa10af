"""Between arrays and the fields of ROS messages. Nothing here needs ROS until a message is made.

Readers take any object with a message's fields: rclpy's, or what rosbags reads from a file.
Quaternions are wxyz outside and xyzw inside messages. What does not fit raises MessageError.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CHANNELS = {  # encoding -> channels, and which of them are red, green and blue
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
}


class MessageError(ValueError):
    """A message that does not hold what it should."""


@dataclass(frozen=True)
class Chunk:
    """Rows of actions for times to come: row i is for `stamp + offsets[i]`."""

    stamp: float  # [s] of the observation it answers
    offsets: np.ndarray  # f64[H] [s], increasing
    actions: np.ndarray  # f64[H, A] raw spec units, in the order that was asked for


# time -----------------------------------------------------------------------------------
def seconds(stamp) -> float:
    """A Time or Duration message in seconds."""
    return stamp.sec + 1e-9 * stamp.nanosec


def write_seconds(stamp, value: float):
    """Sets a Time or Duration message to seconds >= 0, and returns it."""
    nanoseconds = round(value * 1e9)
    stamp.sec, stamp.nanosec = divmod(nanoseconds, 1_000_000_000)
    return stamp


# pictures -------------------------------------------------------------------------------
def write_image(message, image: np.ndarray, stamp: float, frame: str = ""):
    """Fills an Image with uint8[H, W, 3] RGB and returns it.

    The data goes in as an `array.array`, which rclpy takes as it is: bytes cost a hundred times as
    much where field checks are on.
    """
    image = _checked_picture(image)
    message.height, message.width = image.shape[:2]
    message.encoding, message.is_bigendian, message.step = "rgb8", 0, 3 * image.shape[1]
    data = array.array("B")
    data.frombytes(memoryview(image).cast("B"))
    message.data = data
    _write_header(message, stamp, frame)
    return message


def read_image(message) -> np.ndarray:
    """The picture of an Image as uint8[H, W, 3] RGB; a view where it is rgb8 without padding."""
    if message.encoding not in CHANNELS:
        raise MessageError(
            f"image: expected encoding {', '.join(CHANNELS)}, got {message.encoding!r}"
        )
    channels, order = CHANNELS[message.encoding]
    height, width, step = message.height, message.width, message.step
    data = np.frombuffer(message.data, np.uint8)
    if height < 1 or width < 1 or step < channels * width or len(data) != height * step:
        raise MessageError(
            f"image: {height} rows of {step} bytes, {width} pixels of {channels}, do not fit "
            f"{len(data)} bytes"
        )
    rows = data.reshape(height, step)[:, : channels * width].reshape(height, width, channels)
    return rows if order == (0, 1, 2) and channels == 3 else rows[..., order]


def write_compressed(message, image: np.ndarray, stamp: float, frame: str = "", quality=90):
    """Fills a CompressedImage with uint8[H, W, 3] RGB as JPEG and returns it."""
    import cv2

    image = _checked_picture(image)
    _, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    message.format = "jpeg"
    message.data = array.array("B", coded.tobytes())
    _write_header(message, stamp, frame)
    return message


def read_compressed(message) -> np.ndarray:
    """The picture of a CompressedImage (JPEG or PNG) as uint8[H, W, 3] RGB."""
    import cv2

    data = np.frombuffer(message.data, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise MessageError(f"compressed image: {len(data)} bytes that are no {message.format!r}")
    return np.ascontiguousarray(image[..., ::-1])


def _checked_picture(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise MessageError(f"image: expected uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
    return np.ascontiguousarray(image)


# numbers with names ---------------------------------------------------------------------
def write_named(
    message,
    names: Sequence[str],
    values: np.ndarray,
    stamp: float,
    effort: Sequence[float] = (),
    frame: str = "",
):
    """Fills a JointState with positions (and `effort`, of which `executed` uses the first)."""
    if len(names) != len(values):
        raise MessageError(f"expected a value for each of {', '.join(names)}, got {len(values)}")
    message.name = list(names)
    message.position = doubles(values)
    message.effort = doubles(effort)
    _write_header(message, stamp, frame)
    return message


def read_named(message, names: Sequence[str], field: str = "position") -> np.ndarray:
    """Values f64[len(names)] of a JointState in the order asked for, matched by name.

    Joints that were not asked for are ignored: arms publish more than they are asked.
    """
    values = getattr(message, field)
    place = {name: i for i, name in enumerate(message.name)}
    missing = [name for name in names if name not in place]
    if missing:
        raise MessageError(f"expected {', '.join(names)}; {', '.join(missing)} not in message")
    if len(values) != len(message.name) or len(place) != len(message.name):
        raise MessageError(
            f"{field}: {len(values)} values for {len(message.name)} names, {len(place)} of which "
            "differ"
        )
    return np.array([values[place[name]] for name in names], np.float64)


def doubles(values) -> array.array:
    """What rclpy takes for a float64[] without a copy of each number."""
    return array.array("d", np.ascontiguousarray(values, np.float64).tobytes())


# poses ----------------------------------------------------------------------------------
def write_pose(
    message, position: np.ndarray, quaternion: np.ndarray, stamp: float, frame: str = ""
):
    """Fills a PoseStamped with a position [m] and a unit quaternion wxyz, and returns it."""
    pose = message.pose
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in position)
    w, x, y, z = (float(v) for v in quaternion)
    pose.orientation.x, pose.orientation.y = x, y
    pose.orientation.z, pose.orientation.w = z, w
    _write_header(message, stamp, frame)
    return message


def read_pose(message) -> dict[str, float]:
    """The robot.POSE_FIELDS of a PoseStamped. The quaternion is brought to unit length, w >= 0."""
    at, turned = message.pose.position, message.pose.orientation
    quaternion = np.array([turned.w, turned.x, turned.y, turned.z], np.float64)
    length = np.linalg.norm(quaternion)
    if not 0.5 < length < 2:  # an all-zero message of a driver that has not measured yet, or NaN
        raise MessageError(f"pose: expected a unit quaternion, got wxyz {quaternion.tolist()}")
    w, x, y, z = quaternion / length * (1 if quaternion[0] >= 0 else -1)
    return dict(x=at.x, y=at.y, z=at.z, qw=w, qx=x, qy=y, qz=z) | read_axes(w, x, y, z)


def read_axes(w: float, x: float, y: float, z: float) -> dict[str, float]:
    """The first two axes of a rotation, from its unit quaternion: `xy` is y of the x axis."""
    return {
        **dict(xx=1 - 2 * (y * y + z * z), xy=2 * (x * y + w * z), xz=2 * (x * z - w * y)),
        **dict(yx=2 * (x * y - w * z), yy=1 - 2 * (x * x + z * z), yz=2 * (y * z + w * x)),
    }


# chunks ---------------------------------------------------------------------------------
def write_chunk(message, names: Sequence[str], chunk: np.ndarray, stamp: float, hz: float):
    """Fills a JointTrajectory: row i of actions [H, A], raw spec units, is for `stamp + i / hz`."""
    from trajectory_msgs.msg import JointTrajectoryPoint

    if chunk.ndim != 2 or chunk.shape[1] != len(names):
        raise MessageError(f"chunk: expected [H, {len(names)}], got {list(chunk.shape)}")
    message.joint_names = list(names)
    message.points = []
    for i, row in enumerate(chunk):
        point = JointTrajectoryPoint(positions=doubles(row))
        write_seconds(point.time_from_start, i / hz)
        message.points.append(point)
    _write_header(message, stamp)
    return message


def read_chunk(message, names: Sequence[str]) -> Chunk:
    """A chunk with its columns in the order of `names`, whatever the order in the message.

    It must name each of them once and nothing else: what is meant for another robot is not for
    this one. Without points it is the wish to hold.
    """
    got = list(message.joint_names)
    if sorted(got) != sorted(names):
        raise MessageError(f"chunk: expected {', '.join(names)}; got {', '.join(got) or 'none'}")
    if not len(message.points):
        return Chunk(seconds(message.header.stamp), np.zeros(0), np.zeros((0, len(got))))
    rows = [np.asarray(point.positions, np.float64) for point in message.points]
    wrong = {len(row) for row in rows} - {len(got)}
    if wrong:
        raise MessageError(f"chunk: expected {len(got)} positions a point, got {sorted(wrong)}")
    offsets = np.array([seconds(point.time_from_start) for point in message.points])
    if offsets[0] < 0 or (np.diff(offsets) <= 0).any():
        raise MessageError("chunk: expected time_from_start >= 0 that increases")
    actions = np.stack(rows)[:, [got.index(name) for name in names]]
    return Chunk(seconds(message.header.stamp), offsets, actions)


def _write_header(message, stamp: float, frame: str = "") -> None:
    write_seconds(message.header.stamp, stamp)
    message.header.frame_id = frame
