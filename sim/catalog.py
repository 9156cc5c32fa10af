"""Every task by name, which environment runs it, and the suites that are evaluated as a whole."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from robostack.sim import tasks


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


FAMILIES = {
    "robosuite": ("robosuite_env", "RobosuiteEnv"),
}

TASKS: dict[str, Entry] = {
    name: Entry("robosuite", task.instruction, task.expert is not None)
    for name, task in tasks.TASKS.items()
}

SUITES: dict[str, list[str]] = {
    "robosuite": [name for name, task in TASKS.items() if task.family == "robosuite"],
    "robosuite-expert": [
        name for name, task in TASKS.items() if task.family == "robosuite" and task.expert
    ],
}


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
