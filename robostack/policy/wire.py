"""The messages between a policy server and its clients.

A binary websocket frame is one msgpack map. An array in it is a map of its own with byte-string
keys: `__ndarray__` true, `data` in C order, `dtype` such as "<f4", and `shape`. openpi's clients
speak this, and talk to our server unchanged. A text frame is one line saying what was wrong.

    server, first  {"protocol", "robostack", "policy", "fingerprint", "spec", "horizon", "steps",
                   "level", "accepts"}
    client         an observation, see `robostack.policy.request`, or {"reset": seed}
    server         {"actions": f32[H, A], "stamp", "step_s", "seed", "server_timing": {... [ms]}},
                   or {"reset": seed}

Row i of `actions` is meant for the instant stamp + i * step_s, where `stamp` is the observation's
own, given back. So a client knows which rows are late by its own clock, and the clocks of two
machines are never compared.

Everything here distrusts what it reads: sizes are compared before anything is allocated, and the
only error is WireError, of one line.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

try:
    import msgpack
    import websockets  # noqa: F401  here, so that one message names everything that is missing
    from PIL import Image
except ModuleNotFoundError as missing:
    raise RuntimeError(
        f"serving a policy needs {missing.name}, which is not installed: "
        "pip install 'robostack[serve]'"
    ) from None

PROTOCOL = 1
DTYPES = {f"{order}{kind}{size}" for order in "<>" for kind in "iuf" for size in (2, 4, 8)}
DTYPES |= {"|b1", "|i1", "|u1"}
ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"
MAX_DIMS, MAX_CONTAINERS, MAX_LENGTH, MAX_TEXT = 8, 256, 1024, 1 << 16


class WireError(ValueError):
    """A message that is damaged, or is not what the receiver expects."""


def pack(message: dict) -> bytes:
    """Raises WireError for arrays of other than numbers and booleans."""
    return msgpack.packb(message, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.str in DTYPES:
        return {
            ARRAY: True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic) and value.dtype.str in DTYPES:
        return value.item()
    raise WireError(f"cannot send {getattr(value, 'dtype', type(value).__name__)}")


def unpack(data: bytes) -> dict:
    """The map in a frame; its arrays share the frame's memory and are read-only.

    Limits: containers nested or not, their length, texts; an array's shape must fit its data.
    """
    opened = 0

    def count(container: Any) -> Any:
        nonlocal opened
        opened += 1
        if opened > MAX_CONTAINERS:  # a byte of msgpack can cost 70 in memory
            raise WireError(f"message: more than {MAX_CONTAINERS} maps and lists")
        return _revive(container) if isinstance(container, dict) else container

    try:
        message = msgpack.unpackb(
            data,
            object_hook=count,
            list_hook=count,
            max_str_len=MAX_TEXT,
            max_bin_len=len(data),
            max_array_len=MAX_LENGTH,
            max_map_len=MAX_LENGTH,
            max_ext_len=0,
        )
    except WireError:
        raise
    except Exception as error:  # msgpack documents no base class of what it raises
        raise WireError(f"message: not msgpack, or beyond its limits ({short(error)})") from None
    if not isinstance(message, dict):
        raise WireError(f"message: expected a map, got {type(message).__name__}")
    return message


def _revive(found: dict) -> Any:
    if SCALAR in found:
        value = found.get(b"data")
        if not isinstance(value, (bool, int, float)):
            raise WireError(f"scalar: expected a number, got {type(value).__name__}")
        return value
    if ARRAY not in found:
        return found
    data, dtype, shape = (found.get(key) for key in (b"data", b"dtype", b"shape"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WireError(
            f"array: dtype {short(dtype)} is not accepted; integers, floats of up to 64 bits and "
            "booleans are"
        )
    if not isinstance(data, bytes) or not isinstance(shape, list) or len(shape) > MAX_DIMS:
        raise WireError(f"array: expected bytes and a shape of at most {MAX_DIMS} sizes")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise WireError(f"array: expected sizes of 0 or more, got {short(shape)}")
    kind = np.dtype(dtype)
    full = math.prod(max(size, 1) for size in shape)  # of an empty array too: numpy counts so
    if math.prod(shape) * kind.itemsize != len(data) or full > 1 << 31:
        raise WireError(f"array: {dtype} of shape {short(shape)} does not fit {len(data)} bytes")
    return np.ndarray(shape, kind, data)


def short(value: Any) -> str:
    """A value that somebody sent, for one line of an error message."""
    if isinstance(value, list):
        return f"[{', '.join(map(short, value[:8]))}{', ...' if len(value) > 8 else ''}]"
    if not isinstance(value, (str, bool, int, float, BaseException, type(None))):
        return type(value).__name__  # it may be megabytes
    text = " ".join(str(value)[:200].split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """uint8[H, W, 3] RGB at `quality` 1 to 100."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def decode_jpeg(data: bytes, size: tuple[int, int], name: str) -> np.ndarray:
    """uint8[H, W, 3] RGB of a baseline JPEG of that size, which its header must promise before
    anything is decoded: a few bytes can stand for gigabytes, and a progressive file for hours."""
    if len(data) > 3 * size[0] * size[1] + 4096:
        raise WireError(f"{name}: a JPEG of {len(data)} bytes is larger than the raw picture")
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            require_size(name, (image.height, image.width), size)
            if image.format != "JPEG" or image.mode != "RGB" or "progressive" in image.info:
                raise WireError(f"{name}: expected a baseline RGB JPEG, got {image.mode}")
            return np.asarray(image)
    except WireError:
        raise
    except Exception:  # damaged files make Pillow raise nearly anything
        raise WireError(f"{name}: the bytes are no JPEG, or it is damaged") from None


def require_size(name: str, got: tuple[int, ...], want: tuple[int, int]) -> None:
    """Raise WireError naming both sizes (height, width) [px]."""
    if tuple(got) != tuple(want):
        raise WireError(
            f"{name}: expected a picture of {want[0]} x {want[1]} (height x width), got "
            f"{' x '.join(map(str, got))}; the server does not resize"
        )
