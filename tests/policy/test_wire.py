"""Messages: what is packed comes back, and what nobody should send costs one line of text."""

import io
import struct
import tracemalloc

import msgpack
import numpy as np
import pytest
from fakes import SPEC, make_episode
from PIL import Image

from robostack.policy.request import Request, read_request, require_servable
from robostack.policy.wire import WireError, decode_jpeg, encode_jpeg, pack, unpack
from robostack.types import RobotSpec

SEEN = make_episode(0).observation(0)
GOOD = {"images": {"top": SEEN.images["top"]}, "state": SEEN.state, "prompt": "lift"}


def raw_array(dtype, shape, data):
    return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}


def refusal(data):
    """What is said of the bytes of a message, and the most memory [bytes] that took."""
    tracemalloc.start()
    try:
        with pytest.raises(WireError) as error:
            read_request(unpack(data), SPEC)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text, peak


ARRAYS = [
    np.arange(12).reshape(3, 4).astype(kind)
    for kind in ("u1", "i1", "<u2", "<i8", "<f2", "<f4", ">f4", ">i4", "?")
] + [
    np.zeros((0, 3), np.float32),
    np.array(2.5),
    np.arange(24.0).reshape(2, 3, 4)[:, ::2].T,
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.str}{a.shape}")
def test_unpacking_inverts_packing(array):
    back = unpack(pack({"deep": {"x": array}}))["deep"]["x"]
    assert back.dtype == array.dtype and back.shape == array.shape and (back == array).all()


def test_scalars_of_numpy_arrive_as_numbers():
    assert unpack(pack({"a": np.float32(0.1), "b": np.int64(-3), "c": np.True_})) == {
        "a": float(np.float32(0.1)),
        "b": -3,
        "c": True,
    }
    sent = {b"__npgeneric__": True, b"data": 7, b"dtype": "<i8"}  # as openpi's clients do
    assert unpack(msgpack.packb({"a": sent})) == {"a": 7}


def test_the_coding_is_that_of_openpi():
    theirs = pytest.importorskip("openpi_client.msgpack_numpy")
    for array in ARRAYS:
        assert np.array_equal(theirs.unpackb(pack({"x": array}))["x"], array)
        assert np.array_equal(unpack(theirs.packb({"x": array}))["x"], array)


@pytest.mark.parametrize("value", [np.array([{}]), np.zeros(2, complex), object(), np.void(b"ab")])
def test_only_numbers_can_be_packed(value):
    with pytest.raises(WireError, match="cannot send"):
        pack({"x": value})


@pytest.mark.parametrize(
    "dtype", ["|O", "V8", "|V8", "<c16", "<U4", "<M8[s]", "<f16", "i4,i4", "9i4", "f4", 4, None]
)
def test_other_dtypes_are_refused(dtype):
    text, _ = refusal(msgpack.packb({"state": raw_array(dtype, [1], bytes(8))}))
    assert "dtype" in text and "not accepted" in text


@pytest.mark.parametrize(
    "shape",
    [[-1], [-3, -1], [2], [4], [2**60], [2**32, 2**32], [0, 2**60], [3.0], [True, 3], [1] * 9]
    + [3, None, [[3]], "3", [2**62, 4, 0]],
)
def test_a_shape_that_does_not_fit_its_data_is_refused_before_anything_is_allocated(shape):
    text, peak = refusal(msgpack.packb({"state": raw_array("<f4", shape, bytes(12))}))
    assert text.startswith("array: ") and peak < 1e6


BOMBS = {
    "a list of 4 billion": b"\xdd\xff\xff\xff\xff",
    "a map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "4 GB of bytes": b"\xc6\xff\xff\xff\xff",
    "4 GB of text": b"\xdb\xff\xff\xff\xff",
    "lists of lists of many": b"\xdc\x04\x00" * 100_000,
    "a deep list": b"\x91" * 100_000 + b"\xc0",
    "a deep map": b"\x81\xa1a" * 100_000 + b"\xc0",
    "many empty maps": (b"\xdc\x04\x00" + b"\x80" * 1024) * 1000,
    "an extension": b"\xc7\x08\x05" + bytes(8),
    "a timestamp": b"\xd6\xff" + bytes(4),
    "a key that is no text": b"\x81\x93\x01\x02\x03\x01",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_few_bytes_cannot_make_the_server_allocate_much(name):
    text, peak = refusal(b"\x81\xa1x" + BOMBS[name])
    assert text.startswith(("message: ", "observation: ")) and peak < 2e7


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x93\x01\x02\x03", b"\xa4text", b"\xc1"])
def test_a_message_is_a_map(data):
    assert refusal(data)[0].startswith("message: ")


def test_damaged_messages_are_refused_or_mean_something_legal():
    """Truncated, flipped, spliced: nothing but WireError leaves, and what passes is a request."""
    rng = np.random.default_rng(0)
    whole = pack(GOOD | {"previous": np.zeros((2, 3), np.float32), "delay": 1, "stamp": 0.5})
    jpeg = pack(GOOD | {"images": {"top": encode_jpeg(SEEN.images["top"], 80)}})
    passed = 0
    for k in range(2000):
        data = bytearray((whole, jpeg)[k % 2])
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        if k % 5 == 0:
            data = data[: rng.integers(len(data))]
        if k % 7 == 0:
            at = rng.integers(len(data) + 1)
            data[at:at] = rng.bytes(rng.integers(1, 40))
        try:
            request = read_request(unpack(bytes(data)), SPEC)
        except WireError as error:
            assert "\n" not in str(error)
            continue
        passed += 1
        assert isinstance(request, Request) and np.isfinite(request.observation.state).all()
        assert request.observation.images["top"].shape == (16, 16, 3)
    assert 100 < passed < 1900  # flips within a picture mean another picture


FORMS = [
    GOOD,
    {"observation/top": GOOD["images"]["top"], "observation/state": GOOD["state"], "prompt": ""},
    {"observation/images/top": GOOD["images"]["top"], "state": GOOD["state"], "prompt": ""},
    {"observation": {"image": GOOD["images"], "state": GOOD["state"]}, "prompt": ""},
    GOOD | {"state": GOOD["state"].astype(np.float64)},
    GOOD | {"state": GOOD["state"].astype(">f8"), "stamp": 3},
]


@pytest.mark.parametrize("form", range(len(FORMS)))
def test_every_form_of_an_observation_means_the_same(form):
    request = read_request(unpack(pack(FORMS[form])), SPEC)
    seen = request.observation
    assert np.array_equal(seen.images["top"], SEEN.images["top"])
    assert np.array_equal(seen.state, SEEN.state) and seen.state.dtype == np.float32
    assert request.previous is None and request.delay == 0
    assert request.stamp == FORMS[form].get("stamp")


def image(*shape, dtype=np.uint8):
    return {"images": {"top": np.zeros(shape, dtype)}}


WRONG = {
    "expected a picture of 16 x 16 .* got 20 x 16": image(20, 16, 3),
    "expected uint8 from 0 to 255, got float32": image(16, 16, 3, dtype=np.float32),
    r"expected uint8\[H, W, 3\], got uint8\[3, 16, 16\]": image(3, 16, 16),
    "top: expected uint8.* or a JPEG, got list": {"images": {"top": [[[0]]]}},
    "unknown key images/front; expected top, state, prompt, got images/front, state": {
        "images": {"front": GOOD["images"]["top"]}
    },
    "unknown key joints": {"joints": np.zeros(3)},
    "state came twice": {"observation/state": GOOD["state"]},
    r"state: expected f32\[3\], got float32\[4\]": {"state": np.zeros(4, np.float32)},
    r"state: expected f32\[3\], got float32\[1, 3\]": {"state": np.zeros((1, 3), np.float32)},
    r"state: expected f32\[3\], got list": {"state": [0.0, 0.0, 0.0]},
    r"state: expected f32\[3\], got bool": {"state": np.zeros(3, bool)},
    "state: not finite": {"state": np.array([0, np.nan, 0])},
    r"state: not finite \(as 32": {"state": np.array([0, 1e300, 0])},
    "prompt: expected text, got int": {"prompt": 3},
    "stamp: expected a finite number, got inf": {"stamp": float("inf")},
    "stamp: expected a finite number, got True": {"stamp": True},
    r"previous: expected f32\[M, 3\], got float32\[2, 4\]": {"previous": np.zeros((2, 4), "f4")},
    r"previous: expected f32\[M, 3\], got float32\[0, 3\]": {"previous": np.zeros((0, 3), "f4")},
    "previous: not finite": {"previous": np.full((1, 3), np.inf, "f4")},
    "delay: expected 0 to 0, .*got 1": {"delay": 1},
    "delay: expected 0 to 2, .*got 3": {"previous": np.zeros((2, 3), "f4"), "delay": 3},
    "delay: expected 0 to 2, .*got 1.0": {"previous": np.zeros((2, 3), "f4"), "delay": 1.0},
}


@pytest.mark.parametrize("told", WRONG)
def test_a_wrong_observation_is_told_what_was_expected_and_what_came(told):
    with pytest.raises(WireError, match=told):
        read_request(unpack(pack(GOOD | WRONG[told])), SPEC)


@pytest.mark.parametrize("name", ["images", "state", "prompt"])
def test_a_missing_part_is_named(name):
    rest = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(WireError, match="missing; expected top, state, prompt, got "):
        read_request(rest, SPEC)


@pytest.mark.parametrize("name", ["state", "delay", "left/wrist", ""])
def test_a_camera_that_could_be_taken_for_another_key_cannot_be_served(name):
    fields = dict(robot="r", state_names=(), action_names=("a",), action_low=(0.0,))
    spec = RobotSpec(**fields, action_high=(1.0,), cameras={name: (4, 4)}, control_hz=1.0)
    with pytest.raises(ValueError, match="cannot be served"):
        require_servable(spec)


PICTURE = np.asarray(Image.linear_gradient("L").resize((32, 16)).convert("RGB"))  # 16 high, 32 wide
JPEG = encode_jpeg(PICTURE, 90)


def as_jpeg(picture, **options):
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def test_a_jpeg_is_nearly_the_picture_and_never_turned():
    turned = Image.Exif()
    turned[0x0112] = 6  # "rotate by 90 degrees to show"
    for data in (JPEG, as_jpeg(Image.fromarray(PICTURE), quality=90, exif=turned)):
        back = decode_jpeg(data, (16, 32), "top")
        assert back.dtype == np.uint8
        assert np.abs(back.astype(int) - PICTURE).mean() < 2


def test_better_quality_is_a_smaller_error_in_more_bytes():
    noisy = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    files = [encode_jpeg(noisy, quality) for quality in (10, 50, 95)]
    errors = [np.abs(decode_jpeg(f, (16, 32), "top") - noisy.astype(int)).mean() for f in files]
    assert errors == sorted(errors, reverse=True)
    assert [len(f) for f in files] == sorted(map(len, files))


def test_a_jpeg_bomb_is_refused_by_its_header_alone():
    at = JPEG.index(b"\xff\xc0") + 5  # height and width in the frame header
    for side, told in ((9_000, "of 16 x 32 .* got 9000 x 9000"), (60_000, "top: ")):
        bomb = JPEG[:at] + struct.pack(">HH", side, side) + JPEG[at + 4 :]
        for data in (bomb, bomb[: JPEG.index(b"\xff\xda") + 20]):  # with and without content
            with pytest.raises(WireError, match=told):
                decode_jpeg(data, (16, 32), "top")


@pytest.mark.parametrize(
    "data",
    [
        JPEG[: len(JPEG) // 2],
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        as_jpeg(Image.fromarray(PICTURE).convert("L")),
        as_jpeg(Image.fromarray(PICTURE).convert("CMYK")),
        as_jpeg(Image.fromarray(PICTURE), progressive=True),
        JPEG + bytes(10_000),
    ],
)
def test_bytes_that_are_no_whole_plain_jpeg_are_refused(data):
    with pytest.raises(WireError, match="^top: "):
        decode_jpeg(data, (16, 32), "top")
