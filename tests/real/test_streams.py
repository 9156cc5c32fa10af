"""What is interpolated is exact, what cannot be trusted is refused by name, live is offline."""

import math

import numpy as np
import pytest

from robostack.real.samples import FRAMES, slerp
from robostack.real.streams import Limits, StreamError, Streams

POSE = tuple(f"pose/{a}" for a in ("x", "y", "z", "qw", "qx", "qy", "qz"))
LONG = Limits(max_age=0.5, max_skew=0.5)


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)


def streams(*cameras, topics=None, limits=None, warn=lambda text: None):
    given = dict.fromkeys((*cameras, *(topics or {})), LONG) | (limits or {})
    return Streams(cameras, topics or {}, given, warn)


def turn(angle: float) -> np.ndarray:
    return np.array([math.cos(angle / 2), 0, 0, math.sin(angle / 2)])


def test_linear_motion_is_interpolated_exactly_to_the_pictures_instant():
    s = streams("top", topics={"joints": ("position/a", "position/b")})
    for i in range(20):
        t = 10 + 0.01 * i
        s.add_values("joints", {"position/a": 3 * t, "position/b": 1 - t}, t, t, t)
        if i == 10:
            s.add_image("top", picture(0), 10.0337, t, t)
    look = s.sample(10.19, 10.19)
    assert look.stamp == 10.0337
    assert look.values["joints"]["position/a"] == pytest.approx(3 * 10.0337, abs=1e-9)
    assert look.values["joints"]["position/b"] == pytest.approx(1 - 10.0337, abs=1e-9)
    assert look.skews == {"top": 0, "joints": 0}
    assert look.ages["top"] == pytest.approx(10.19 - 10.0337)


def test_a_steady_turn_is_interpolated_exactly_and_on_the_shorter_arc():
    s = streams("top", topics={"pose": POSE})
    for i, angle in enumerate((0.2, 0.8)):
        t = 1 + 0.1 * i
        sign = -1 if i else 1  # q and -q are one rotation
        values = dict(zip(POSE, [t, 0, 0, *(sign * turn(angle))]))
        s.add_values("pose", values, t, t, t)
    s.add_image("top", picture(0), 1.025, 1.12, 1.12)
    found = s.sample(1.12, 1.12).values["pose"]
    assert [found[f"pose/q{a}"] for a in "wxyz"] == pytest.approx(turn(0.35).tolist())
    assert found["pose/x"] == pytest.approx(1.025)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_slerp_keeps_its_ends_and_its_length(share):
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(size=(2, 4))
        q = slerp(a, b, share)
        assert np.linalg.norm(q) == pytest.approx(1)
        end = {0.0: a, 1.0: b}.get(share)
        if end is not None:
            assert abs(q @ end) == pytest.approx(np.linalg.norm(end))
    assert slerp(a, a, 0.5) == pytest.approx(a / np.linalg.norm(a))


def test_messages_that_carry_some_joints_only_are_put_together():
    s = streams(topics={"joints": ("position/arm", "position/finger")})
    s.add_values("joints", {"position/arm": 1.0, "position/other": 9.0}, 1.00, 1.0, 1.0)
    with pytest.raises(StreamError, match="joints: no message had position/finger yet"):
        s.sample(1.01, 1.01)
    s.add_values("joints", {"position/finger": 5.0}, 1.02, 1.02, 1.02)
    s.add_values("joints", {"position/arm": 3.0}, 1.04, 1.04, 1.04)
    assert s.sample(1.02, 1.04).values["joints"] == {"position/arm": 2.0, "position/finger": 5.0}


def test_cameras_of_one_shutter_are_paired_whichever_arrives_first():
    s = streams("left", "right")
    for i in range(3):
        s.add_image("left", picture(i), 1 + i / 30, 1 + i / 30, 1.0)
        if i < 2:  # the third one is still on its way
            s.add_image("right", picture(10 + i), 1 + i / 30, 1 + i / 30, 1.0)
    look = s.sample(1.07, 1.07)
    assert look.stamp == 1 + 1 / 30 and set(look.skews.values()) == {0.0}
    assert np.array_equal(look.images["left"], picture(1))


def test_nothing_of_the_future_is_used():
    s = streams("top", topics={"joints": ("position/a",)})
    for i in range(5):
        s.add_image("top", picture(i), 1 + 0.1 * i, 1 + 0.1 * i, 1.0)
        s.add_values("joints", {"position/a": float(i)}, 1 + 0.1 * i, 1 + 0.1 * i, 1.0)
    look = s.sample(1.25, 1.25)
    assert look.stamp == pytest.approx(1.2) and look.values["joints"]["position/a"] == 2


@pytest.mark.parametrize(
    "stream, trouble, now, heard, words",
    [
        ("top", "missing", 0.9, 0.9, "nothing has come yet"),
        ("top", "stale", 1.35, 1.0, "its newest sample is 0.350 s old, expected at most 0.2"),
        ("top", "stale", 1e9, 1.0, "use_sim_time"),
        ("top", "silent", 1.1, 3.0, "silent for 2.00 s, expected at most 1"),
        ("joints", "skewed", 1.0, 1.0, "0.150 s older than the pictures, expected at most 0.1"),
    ],
)
def test_what_cannot_be_trusted_is_refused_by_name(stream, trouble, now, heard, words):
    s = Streams(["top"], {"joints": ("position/a",)})
    s.add_values("joints", {"position/a": 1.0}, 0.85, 0.85, 1.0)
    s.add_image("top", picture(0), 1.0, 1.0, 1.0)
    with pytest.raises(StreamError, match=words) as caught:
        s.sample(now, heard)
    assert (caught.value.stream, caught.value.trouble) == (stream, trouble)


@pytest.mark.parametrize("moving, words", [(True, "same picture"), (False, "same stamp")])
def test_a_frozen_camera_is_found_out_and_recovers(moving, words):
    s = streams("top", limits={"top": Limits(max_age=0)})
    for i in range(20):
        t = 1 + 0.1 * i
        s.add_image("top", picture(0), t if moving else 1.0, t, t)
        if t < 1.45:
            s.sample(t, t)
    with pytest.raises(StreamError, match=f"top: frozen: the very {words} for 1.9"):
        s.sample(t, t)
    s.add_image("top", picture(1), t + 0.1, t + 0.1, t + 0.1)
    assert s.sample(t + 0.1, t + 0.1).stamp == t + 0.1
    off = streams("top", limits={"top": Limits(frozen=0, max_age=0.5)})
    for t in np.arange(1, 4, 0.1):
        off.add_image("top", picture(0), t, t, t)
        off.sample(t, t)


def test_impossible_stamps_become_the_time_of_arrival_and_one_warning_each():
    told = []
    s = streams("top", topics={"joints": ("position/a",)}, warn=told.append)
    for i in range(3):
        t = 5 + 0.1 * i
        s.add_image("top", picture(i), 0.0, t, t)
        s.add_values("joints", {"position/a": t}, t + 100, t, t)
    assert s.sample(5.25, 5.25).stamp == pytest.approx(5.2)
    assert len(told) == 2 and "top: has no stamps" in told[0]
    assert "joints: has stamps 100.000 s ahead" in told[1]


def test_values_that_are_not_finite_are_dropped_whole():
    told = []
    s = streams(topics={"joints": ("position/a", "position/b")}, warn=told.append)
    s.add_values("joints", {"position/a": 1.0, "position/b": 2.0}, 1.0, 1.0, 1.0)
    s.add_values("joints", {"position/a": 7.0, "position/b": math.nan}, 1.1, 1.1, 1.1)
    assert s.sample(1.1, 1.1).values["joints"] == {"position/a": 1.0, "position/b": 2.0}
    assert len(told) == 1


def test_a_clock_that_goes_back_clears_everything():
    told = []
    s = streams("top", topics={"joints": ("position/a",)}, warn=told.append)
    s.add_image("top", picture(0), 50.0, 50.0, 1.0)
    s.add_values("joints", {"position/a": 1.0}, 50.0, 50.0, 1.0)
    s.add_image("top", picture(1), 2.0, 2.0, 1.1)
    assert s.jumps == 1 and "went back by 48.00 s" in told[0]
    with pytest.raises(StreamError, match="joints: nothing has come yet"):
        s.sample(2.0, 1.1)


def test_a_device_that_begins_anew_is_believed():
    s = streams("top")
    s.add_image("top", picture(0), 50.0, 50.0, 1.0)
    s.add_image("top", picture(1), 49.0, 50.1, 1.1)  # its clock, not ours
    with pytest.raises(StreamError, match="top: its newest sample is 1.100 s old"):
        s.sample(50.1, 1.1)


def test_only_the_last_pictures_are_kept():
    s = streams("top")
    for i in range(100):
        s.add_image("top", picture(i), 1 + i / 1000, 1 + i / 1000, 1.0)
    assert len(s._cameras["top"].samples) == FRAMES


def test_unknown_names_are_errors_that_list_the_known_ones():
    s = streams("top", topics={"joints": ("position/a",)})
    with pytest.raises(ValueError, match="no stream 'side'; there are top"):
        s.add_image("side", picture(0), 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="limits of none {'side'}"):
        Streams(["top"], {}, {"side": Limits()})
    with pytest.raises(ValueError, match="pose/qw: a rotation needs pose/qx, pose/qy, pose/qz"):
        Streams([], {"pose": ("pose/qw",)})
    with pytest.raises(ValueError, match="max_age: expected 0"):
        Limits(max_age=-1)


def messages(seed: int):
    """Three seconds of jittery, reordered messages as they arrive: (arrival, add arguments)."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(90):
        t = 100 + i / 30
        for camera in ("top", "wrist"):
            late = rng.uniform(0.005, 0.04)
            found.append((t + late, "add_image", camera, picture(i), t))
    for i in range(300):
        t = 100 + i / 100
        values = {"position/a": math.sin(t), "position/b": math.cos(t)}
        found.append((t + rng.uniform(0.001, 0.02), "add_values", "joints", values, t))
    return sorted(found, key=lambda m: m[0])


def played(recorded, ticks):
    s = streams("top", "wrist", topics={"joints": ("position/a", "position/b")})
    looks, pending = [], list(recorded)
    for tick in ticks:
        while pending and pending[0][0] <= tick:
            arrival, kind, *given = pending.pop(0)
            getattr(s, kind)(*given, arrival, arrival)
        looks.append(s.sample(tick, tick))
    return looks


def test_played_from_a_recording_it_sees_what_it_saw_live():
    """Live, arrivals and ticks interleave as they come; the recording is in order of arrival."""
    ticks = np.arange(100.2, 102.9, 0.05)
    recorded = messages(0)
    s = streams("top", "wrist", topics={"joints": ("position/a", "position/b")})
    events = [*((m[0], m) for m in recorded), *((t, None) for t in ticks)]
    live = []
    for at, message in sorted(events, key=lambda e: e[0]):
        if message is None:
            live.append(s.sample(at, at))
        else:
            _, kind, *given = message
            getattr(s, kind)(*given, at, at)
    for one, other in zip(live, played(recorded, ticks), strict=True):
        assert one.stamp == other.stamp and one.values == other.values
        assert one.ages == other.ages
        assert all(np.array_equal(one.images[n], other.images[n]) for n in one.images)
        assert one.skews["top"] == one.skews["wrist"] == 0 and 0 <= one.skews["joints"] < 0.02
    between = [look for look in live if look.skews["joints"] == 0]
    error = [look.values["joints"]["position/a"] - math.sin(look.stamp) for look in between]
    assert len(between) > 40
    assert np.abs(error).max() < 2e-5  # of a line through samples 10 ms apart: h^2 / 8
