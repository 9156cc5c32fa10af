"""Every task by name, which environment runs it, and the suites that are evaluated as a whole."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from dataclasses import dataclass

from robostack.sim import metaworld_tasks, tabletop, tasks


@dataclass(frozen=True)
class Entry:
    """One task: the family that it belongs to, what is asked, and whether an expert can do it."""

    family: str
    instruction: str
    expert: bool

    def environment(self) -> type:
        """Its class of environment, imported only now: a family may need an extra."""
        module, name = FAMILIES[self.family]
        return getattr(importlib.import_module(f"robostack.sim.{module}"), name)


DRAWN = "drawn at each reset"
FAMILIES = {
    "robosuite": ("robosuite_env", "RobosuiteEnv"),
    "tabletop": ("tabletop.env", "TabletopEnv"),
    "metaworld": ("metaworld_env", "MetaworldEnv"),
}

TASKS: dict[str, Entry] = {
    name: Entry("robosuite", task.instruction, task.expert is not None)
    for name, task in tasks.TASKS.items()
}
TASKS |= {name: Entry("tabletop", DRAWN, True) for name in tabletop.TASKS}
TASKS |= {
    metaworld_tasks.PREFIX + name: Entry("metaworld", instruction, True)
    for name, instruction in metaworld_tasks.INSTRUCTIONS.items()
}

SUITES: dict[str, list[str]] = {
    "robosuite": [name for name, task in TASKS.items() if task.family == "robosuite"],
    "robosuite-expert": [
        name for name, task in TASKS.items() if task.family == "robosuite" and task.expert
    ],
    "tabletop": [name for name, (_, held_out) in tabletop.TASKS.items() if not held_out],
    "tabletop-heldout": [name for name, (_, held_out) in tabletop.TASKS.items() if held_out],
    "metaworld-mt10": [metaworld_tasks.PREFIX + name for name in metaworld_tasks.MT10],
    "metaworld-mt50": [metaworld_tasks.PREFIX + name for name in metaworld_tasks.INSTRUCTIONS],
}


def instruction(task: str) -> str:
    """What a task asks for, or "" where that varies or nobody here knows the task."""
    told = TASKS[task].instruction if task in TASKS else ""
    return "" if told == DRAWN else told


def listing() -> str:
    """All tasks for a message, families that are long in one word."""
    words = []
    for family in FAMILIES:
        names = [name for name, task in TASKS.items() if task.family == family]
        many = len(names) > 20
        words.append(
            f"{names[0]} and {len(names) - 1} more of its family" if many else ", ".join(names)
        )
    return ", ".join(words)


def require(what: str, got: str, choices: Iterable[str], listed: str = "") -> None:
    """Raise ValueError unless `got` is one of `choices`, naming the ones that look like it."""
    choices = list(choices)
    if got in choices:
        return
    close = difflib.get_close_matches(got, choices, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    raise ValueError(f"unknown {what} {got!r}{hint} Valid: {listed or ', '.join(choices)}")


def resolve(suite: str, names: Iterable[str]) -> list[str]:
    """Tasks of a suite and tasks by name, each once, in that order. Raises ValueError for a suite
    or a task that does not exist."""
    found: list[str] = []
    if suite:
        require("suite", suite, SUITES)
        found += SUITES[suite]
    for name in names:
        require("task", name, TASKS, listing())
        found.append(name)
    return list(dict.fromkeys(found))
