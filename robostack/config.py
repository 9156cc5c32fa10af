"""Configuration: dataclass defaults < YAML file < command line. Unknown keys are errors."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


class ConfigError(ValueError):
    """A key that does not exist or a value of the wrong type."""


def read(cls: type[T], file: str | Path | None = None, overrides: list[str] | None = None) -> T:
    """An instance of the dataclass `cls`.

    `overrides` are `dotted.key=value` strings; values are YAML, so `lr=3e-4`, `betas=[0.9,0.95]`
    and `task=Lift` mean what they look like. Raises ConfigError, naming the valid keys.
    """
    values: dict[str, Any] = {}
    if file is not None:
        path = Path(file)
        if not path.is_file():
            raise ConfigError(f"config file {path} does not exist")
        try:
            loaded = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ConfigError(f"config file {path} is not YAML: {error}") from None
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(f"config file {path}: expected keys and values, got {loaded!r}")
        values = loaded or {}
    for override in overrides or []:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"override {override!r}: expected key=value")
        node = values
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"override {override!r}: {parent!r} is not a group of keys")
        node[leaf] = yaml.safe_load(text) if text else ""
    return build(cls, values)


def build(cls: type[T], values: dict[str, Any], prefix: str = "", base: T | None = None) -> T:
    """`cls(**values)` with every key and type checked, nested dataclasses included.

    Keys that are not named keep the value of `base`; without one, the defaults of `cls`.
    """
    base = cls() if base is None and _complete(cls) else base
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f" (did you mean {prefix}{close[0]}?)" if close else ""
            raise ConfigError(f"unknown key {prefix}{key}{hint}; valid keys: {', '.join(known)}")
        before = getattr(base, key, None)
        arguments[key] = _convert(value, hints[key], f"{prefix}{key}", before)
    try:
        return cls(**arguments) if base is None else dataclasses.replace(base, **arguments)
    except ConfigError as error:  # of several groups of one kind, which
        group = prefix.removesuffix(".")
        raise ConfigError(
            str(error) if str(error).startswith(group) else f"{group}: {error}"
        ) from None


def _complete(cls: type) -> bool:
    """Whether every field of a dataclass has a default."""
    missing = dataclasses.MISSING
    return all(
        f.default is not missing or f.default_factory is not missing
        for f in dataclasses.fields(cls)
    )


def _convert(value: Any, hint: Any, key: str, before: Any = None) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{key}: expected a group of keys, got {value!r}")
        return build(hint, value, prefix=f"{key}.", base=before)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _convert(value, next(a for a in args if a is not type(None)), key)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{key}: expected one of {', '.join(map(str, args))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{key}: expected a list, got {value!r}")
        if args[-1] is Ellipsis:
            return tuple(_convert(v, args[0], f"{key}[{i}]") for i, v in enumerate(value))
        if len(value) != len(args):
            raise ConfigError(f"{key}: expected {len(args)} values, got {len(value)}")
        return tuple(_convert(v, a, f"{key}[{i}]") for i, (v, a) in enumerate(zip(value, args)))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{key}: expected keys and values, got {value!r}")
        return {str(k): _convert(v, args[1], f"{key}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 3e-4 as a string
        try:
            return float(value)
        except ValueError:
            raise ConfigError(f"{key}: expected a number, got {value!r}") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{key}: expected {hint.__name__}, got {value!r}")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """Plain data of a config, as it is written into a run folder."""
    return dataclasses.asdict(config)
