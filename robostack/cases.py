"""Scripted episodes of every outcome for several tasks and looks: what rewards are trained on and
examined by. The scripts are robostack.sim.cases'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from robostack.config import to_dict
from robostack.data.store import Store
from robostack.learn.run import Existing, Run
from robostack.pool import PATIENCE
from robostack.rewards.keypoints.camera import CALIBRATION
from robostack.sim.arena import Arena
from robostack.sim.cases import KINDS, CaseConfig
from robostack.sim.catalog import TASKS, listing, require
from robostack.sim.env import EnvConfig
from robostack.stages import gather
from robostack.types import Episode

SCRIPTED = ("robosuite", "tabletop")  # families whose experts can be interrupted and misled
SHIFTED = ("success", "near miss", "failure")  # what is played again under other looks


def scripted(task: str) -> bool:
    """Whether a task has scripts of every outcome."""
    return TASKS[task].expert and TASKS[task].family in SCRIPTED


@dataclass(frozen=True)
class CasesCommand:
    """Which tasks, how many starts, and under which looks they are played again."""

    tasks: tuple[str, ...] = ("Lift", "Stack", "PickPlaceCan", "tabletop/pick")
    seeds: int = 20  # start states a task
    first_seed: int = 300_000  # apart from those that policies and rewards are trained on
    shifts: dict[str, float] = field(
        default_factory=lambda: {"camera": 0.5, "light": 1.0, "distractors": 1.0}
    )  # axis -> strength, see `robostack tasks`; {}: none
    cases: CaseConfig = field(default_factory=CaseConfig)
    env: EnvConfig = field(default_factory=EnvConfig)  # its task and perturb are set by the above

    def __post_init__(self) -> None:
        if self.seeds < 1 or not self.tasks:
            raise ValueError(f"seeds={self.seeds}, tasks={self.tasks}: expected 1 or more of both")
        for task in self.tasks:
            require("task", task, TASKS, listing())
            if not scripted(task):
                able = [name for name in TASKS if scripted(name)]
                raise ValueError(f"{task} has no scripted cases; these have: {', '.join(able)}")
        for axis, strength in self.shifts.items():  # an unknown one is refused by EnvConfig
            self.place(self.tasks[0], axis, strength)

    def place(self, task: str, axis: str = "", strength: float = 0.0) -> EnvConfig:
        changed = {"task": task, "perturb": {axis: strength} if axis else {}}
        return EnvConfig(**{**vars(self.env), **changed})

    def stores(self) -> Iterator[tuple[str, str, EnvConfig, CaseConfig]]:
        """(folder, shift, environment, what is played) of every store."""
        kinds = tuple(kind for kind in SHIFTED if kind in self.cases.kinds)
        again = CaseConfig(**{**vars(self.cases), "kinds": kinds}) if kinds else None
        for task in self.tasks:
            name = task.replace("/", "-")
            yield f"{name}/plain", "", self.place(task), self.cases
            for axis, strength in self.shifts.items():
                if again is not None:
                    yield f"{name}/{axis}", axis, self.place(task, axis, strength), again


def make(
    config: CasesCommand,
    out: Path,
    workers: int | str = 0,
    existing: Existing = "refuse",
    patience: float = PATIENCE,
) -> dict:
    """Stores of cases under `out`; an interrupted run goes on. Returns the run's summary."""
    with Arena(config.env, workers, patience=patience) as arena:
        return make_in(arena, config, out, existing)


def make_in(arena: Arena, config: CasesCommand, out: Path, existing: Existing = "refuse") -> dict:
    """The same, by the workers of an arena that is there."""
    run = Run(out, "cases", to_dict(config), config.first_seed, existing)
    if run.done:
        return run.done
    seeds = list(range(config.first_seed, config.first_seed + config.seeds))
    stores = []
    for folder, shift, env, cases in config.stores():

        def produce(missing: list[int], env=env, cases=cases, folder=folder) -> Iterator[Episode]:
            return arena.cases(env, cases, missing, f"cases {folder}")

        store = gather(run.path / folder, seeds, produce)
        arena.calibrate(env, run.path / folder / CALIBRATION)
        stores.append(_entry(folder, shift, env.task, store))
    return run.finish({"stores": stores})


def _entry(folder: str, shift: str, task: str, store: Store | None) -> dict:
    labels = Counter(store.attributes(i)["label"] for i in store.ids()) if store else {}
    kinds = {kind: labels[kind] for kind in KINDS if kind in labels}
    return {"path": folder, "task": task, "shift": shift, "episodes": kinds}
