"""What a client of a policy server asks for, checked against the robot that the policy is for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from robostack.policy.wire import WireError, decode_jpeg, require_size, short
from robostack.types import Observation, RobotSpec

NEEDED = ("state", "prompt")  # keys of an observation beside its cameras
OPTIONAL = ("stamp", "previous", "delay")
RESET = "reset"


@dataclass(frozen=True)
class Request:
    """What a client asks for: a chunk for this observation."""

    observation: Observation
    stamp: float | None  # [s] on the client's clock; None: it gave none
    previous: np.ndarray | None  # f32[M, A] it executes from this observation on, else
    delay: int  # of them, those that are executed before the answer can arrive


def require_servable(spec: RobotSpec) -> None:
    """Raise ValueError where a camera could not be told from another key."""
    reserved = (*NEEDED, *OPTIONAL, RESET)
    for name in spec.cameras:
        if "/" in name or not name or name in reserved:
            raise ValueError(
                f"camera {name!r} cannot be served: its name must be none of "
                f"{', '.join(reserved)} and hold no slash"
            )


def read_request(message: dict, spec: RobotSpec) -> Request:
    """The request in a message. Raises WireError saying what was expected and what came.

    One rule for every form: maps may be nested, what counts of a key is the part behind its last
    slash, and that part must be a camera, `state` or `prompt` (all needed, each once) or `stamp`,
    `previous`, `delay` (optional). So {"images": {"top": ...}, "state": ...} and openpi's
    {"observation/top": ..., "observation/state": ...} are the same.
    """
    needed = (*spec.cameras, *NEEDED)
    found: dict[str, Any] = {}
    came = [key for key, _ in _leaves(message)]
    told = f"expected {', '.join(needed)}, got {', '.join(map(short, came[:12])) or 'nothing'}"
    for key, value in _leaves(message):
        name = key.rpartition("/")[2]
        if name not in needed and name not in OPTIONAL:
            raise WireError(f"observation: unknown key {short(key)}; {told}")
        if name in found:
            raise WireError(f"observation: {name} came twice; {told}")
        found[name] = value
    missing = [name for name in needed if name not in found]
    if missing:
        raise WireError(f"observation: {', '.join(missing)} missing; {told}")
    stamp, previous = found.get("stamp"), found.get("previous")
    if stamp is not None:
        stamp = _number("stamp", stamp)
    if previous is not None:
        previous = _floats("previous", previous, (None, spec.action_dim))
    if not isinstance(found["prompt"], str):
        raise WireError(f"prompt: expected text, got {type(found['prompt']).__name__}")
    observation = Observation(
        images={name: _image(name, found[name], size) for name, size in spec.cameras.items()},
        state=_floats("state", found["state"], (spec.state_dim,)),
        task=found["prompt"],
        stamp=0.0 if stamp is None else stamp,
    )
    return Request(observation, stamp, previous, _delay(found.get("delay", 0), previous))


def _leaves(message: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in message.items():
        if not isinstance(key, str):
            raise WireError(f"observation: keys must be text, got {short(key)}")
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _image(name: str, value: Any, size: tuple[int, int]) -> np.ndarray:
    if isinstance(value, bytes):
        return decode_jpeg(value, size, name)
    if not isinstance(value, np.ndarray):
        raise WireError(f"{name}: expected uint8[H, W, 3] or a JPEG, got {type(value).__name__}")
    if value.dtype != np.uint8:
        raise WireError(f"{name}: expected uint8 from 0 to 255, got {value.dtype}")
    if value.ndim != 3 or value.shape[2] != 3:
        raise WireError(f"{name}: expected uint8[H, W, 3], got uint8{list(value.shape)}")
    require_size(name, value.shape[:2], size)
    return value


def _floats(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    want = f"f32[{', '.join('M' if size is None else str(size) for size in shape)}]"
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        got = getattr(value, "dtype", type(value).__name__)
        raise WireError(f"{name}: expected {want}, got {got}")
    fits = len(value.shape) == len(shape)
    if not fits or any(g != w if w is not None else g < 1 for w, g in zip(shape, value.shape)):
        raise WireError(f"{name}: expected {want}, got {value.dtype}{list(value.shape)}")
    with np.errstate(over="ignore"):
        array = value.astype(np.float32)  # a copy too: the frame is read-only
    if not np.isfinite(array).all():
        raise WireError(f"{name}: not finite (as 32-bit floats)")
    return array


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise WireError(f"{name}: expected a finite number, got {short(value)}")
    return float(value)


def _delay(value: Any, previous: np.ndarray | None) -> int:
    most = 0 if previous is None else len(previous)
    if type(value) is not int or not 0 <= value <= most:
        raise WireError(
            f"delay: expected 0 to {most}, the actions in `previous`, got {short(value)}"
        )
    return value
