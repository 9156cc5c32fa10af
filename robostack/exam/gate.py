"""A gate: the numbers that a reward must reach before anybody learns from it.

    progress: {voc: {min: 0.9}, voc_shuffled: {min: -0.2, max: 0.2}}
    "*": {kendall: {min: 0.6}}

Rewards by name; `*` stands for all that have the number.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from robostack.exam.trials import AIMS, MEANINGS, close

BOUNDS = ("min", "max")
ALL = "*"
Bounds = dict[str, dict[str, float]]  # number -> {"min", "max"}


class GateError(ValueError):
    """A gate that says nothing, or what nobody measures."""


def bounds(raw: Any, where: str) -> Bounds:
    """Checked thresholds of one reward. Raises GateError, naming what there is."""
    if not isinstance(raw, dict) or not raw:
        raise GateError(f"{where}: expected numbers and their bounds, got {raw!r}")
    for number, limits in raw.items():
        if number not in MEANINGS:
            raise GateError(f"{where}: unknown number {number!r}{close(number, MEANINGS)}")
        if not isinstance(limits, dict) or not limits:
            raise GateError(f"{where}.{number}: expected min, max or both, got {limits!r}")
        for bound, value in limits.items():
            if bound not in BOUNDS:
                raise GateError(f"{where}.{number}: unknown bound {bound!r}{close(bound, BOUNDS)}")
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise GateError(f"{where}.{number}.{bound}: expected a number, got {value!r}")
            if not math.isfinite(value):
                raise GateError(f"{where}.{number}.{bound}: expected a finite number")
        if limits.get("min", -math.inf) > limits.get("max", math.inf):
            raise GateError(f"{where}.{number}: min {limits['min']} is above max {limits['max']}")
    return raw


def read(path: str | Path) -> dict[str, Bounds]:
    """A gate from a YAML or JSON file. Raises GateError."""
    path = Path(path)
    if not path.is_file():
        raise GateError(f"gate {path} does not exist")
    try:
        raw = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise GateError(f"gate {path} is neither YAML nor JSON: {error}") from None
    if not isinstance(raw, dict) or not raw:
        raise GateError(f"gate {path}: expected rewards and their numbers, got {raw!r}")
    return {str(name): bounds(value, f"gate {path}: {name}") for name, value in raw.items()}


def met(value: float, limits: dict[str, float]) -> bool:
    """Whether a number is within its bounds; one that is no number never is."""
    return limits.get("min", -math.inf) <= value <= limits.get("max", math.inf)


def judged(numbers: dict[str, dict], aims: Bounds) -> dict[str, dict]:
    """Each aim with "value" and "met": None of both where the number was not found."""
    found = {}
    for name, limits in aims.items():
        value = numbers[name]["value"] if name in numbers else None
        found[name] = {**limits, "value": value}
        found[name]["met"] = None if value is None else met(value, limits)
    return found


def aims(config: Bounds) -> Bounds:
    """The aims of an exam: the built-in ones, and over them those of its config."""
    return {**AIMS, **(bounds(config, "aims") if config else {})}


def passed(exam: dict, gate: dict[str, Bounds]) -> list[str]:
    """What is wrong, a sentence a violated row; empty if the gate is passed.

    A number that a reward was gated by and that the exam did not find is wrong, too. Raises
    GateError for a reward that did not sit the exam.
    """
    rewards, wrong = exam["rewards"], []
    for name, rows in gate.items():
        if name != ALL and name not in rewards:
            raise GateError(f"the gate names {name!r}, which sat no exam{close(name, rewards)}")
        for number, limits in rows.items():
            asked = list(rewards) if name == ALL else [name]
            having = [r for r in asked if number in rewards[r]["numbers"]]
            if not having:
                wrong.append(f"{name}: {number} was not measured{_why(rewards, asked)}")
            for reward in having:
                value = rewards[reward]["numbers"][number]["value"]
                if not met(value, limits):
                    wanted = " and ".join(f"{b} {limits[b]:g}" for b in BOUNDS if b in limits)
                    wrong.append(f"{reward}: {number} is {value:.3f}, expected {wanted}")
    return wrong


def _why(rewards: dict, asked: list[str]) -> str:
    reasons = {w for r in asked for w in rewards[r]["not_applicable"].values()}
    return f" ({'; '.join(sorted(reasons)[:3])})" if reasons else ""
