"""A file of robosuite's or robomimic's demonstrations: opened, listed, and read field by field."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from robostack.data.interchange.report import BadEpisode, FormatError


def opened(path: Path) -> tuple[h5py.File, h5py.Group]:
    """A file and its demonstrations. Raises FormatError where there are none."""
    try:
        file = h5py.File(path, "r")
        data = file["data"]
    except (OSError, KeyError) as error:
        raise FormatError(f"{path} is not robosuite's or robomimic's HDF5 ({error})") from None
    if not isinstance(data, h5py.Group):
        raise FormatError(f"{path} is not robosuite's or robomimic's HDF5 (`data` is no group)")
    return file, data


def demonstrations(file: h5py.File, path: Path, mask: str) -> list[str]:
    """Their names, or those of a mask, in order. Raises FormatError where there are none."""
    names = sorted(file["data"], key=lambda n: (len(n), n))  # demo_2 before demo_10
    if mask:
        masks = file.get("mask", {})
        if mask not in masks:
            there = ", ".join(masks) or "none"
            raise FormatError(f"{path}: no mask {mask!r}; it has {there}")
        wanted = {n.decode() if isinstance(n, bytes) else str(n) for n in masks[mask][:]}
        names = [n for n in names if n in wanted]
    if not names:
        raise FormatError(f"{path} has no demonstration")
    return names


def env_args(data: h5py.Group, path: Path) -> dict:
    """The environment that a file tells of; {} where it tells of none. Raises FormatError."""
    text = data.attrs.get("env_args", "{}")
    try:
        told = json.loads(text)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{path}: attribute env_args of `data` is no JSON ({error})") from None
    if not isinstance(told, dict) or not isinstance(told.get("env_kwargs") or {}, dict):
        raise FormatError(f"{path}: attribute env_args of `data` is {text}, expected a mapping")
    return told


def array(demo: h5py.Group, key: str, dtype: type, last: bool = False) -> np.ndarray:
    """A field, or its last row alone; floats of any width, or integers, where floats are wanted.
    Raises BadEpisode."""
    if not isinstance(demo, h5py.Group):
        raise BadEpisode("demonstration", "is no group")
    try:
        if key not in demo:
            raise BadEpisode(key, "is missing")
        found = demo[key]
        if not isinstance(found, h5py.Dataset) or not found.ndim:
            raise BadEpisode(key, "holds no rows")
        kind = "same_kind" if np.issubdtype(dtype, np.floating) else "no"
        if not np.can_cast(found.dtype, dtype, kind):
            raise BadEpisode(key, f"{found.dtype}, expected {np.dtype(dtype)}")
        if last and not len(found):
            raise BadEpisode(key, "is empty")
        return (found[-1:] if last else found[:]).astype(dtype)
    except (OSError, KeyError, RuntimeError) as error:  # what HDF5 says of damage
        raise BadEpisode(key, f"is damaged ({error})") from None
