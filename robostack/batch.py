"""Batch evaluation: policies x tasks x conditions x seeds, over workers that may die, resumable.

<out>/run.json         settings, command, code version
<out>/episodes.jsonl   one line an episode, appended as it ends: what a resumed run goes on from
<out>/results.json     cells, comparisons, problems; results.csv the episodes as a table
<out>/index.html       the same to look at, with videos/ and grid.png
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robostack import results
from robostack.board import Board
from robostack.config import to_dict
from robostack.learn.run import Run, RunError, finished
from robostack.ledger import CONTROL, Cell, Ledger, earlier
from robostack.policy.checkpoint import CheckpointError, fingerprint
from robostack.policy.vla import VLA
from robostack.pool import DIED, PATIENCE, Outcome
from robostack.results import Gallery
from robostack.sim.arena import (
    EXPERT,
    RANDOM,
    Played,
    Trial,
    open_pool,
    play,
    profile_warning,
    unheard,
    worker_count,
)
from robostack.sim.catalog import resolve
from robostack.sim.env import EnvConfig
from robostack.sim.worker import REMOTE, RunnerConfig, Unplayable
from robostack.types import RobotSpec
from robostack.worlds import make_worker

VERB = "evaluate"
HOPELESS = 5  # first episodes of a cell that cost their workers' lives, before it is given up


@dataclass(frozen=True)
class BatchConfig:
    """On which tasks and starts, and how policies are run."""

    suite: str = ""  # of robostack.sim.catalog.SUITES; "": `tasks`
    tasks: tuple[str, ...] = ()  # (): the task of `env`
    episodes: int = 100  # of each policy on each task
    first_seed: int = 100_000  # apart from every seed that is trained on
    env: EnvConfig = field(default_factory=EnvConfig)
    runner: RunnerConfig = field(default_factory=RunnerConfig)
    noise: float = 0.0  # of the policy `expert`
    perturb: dict[str, float] = field(default_factory=dict)  # axis -> strength, each on its own
    early_stop: float = 0.0  # end a cell once its 95 % interval is narrower; 0: never
    require: float = 0.0  # every policy's success rate, else the command fails
    videos: int = 6  # failures filmed of each cell, at most; 0: no pictures at all

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"episodes={self.episodes}: expected 1 or more")
        for name in ("first_seed", "videos"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.env.perturb:
            raise ValueError(
                "env.perturb: an evaluation sets it itself; use --perturb axis=strength, which is "
                "compared with the unperturbed"
            )
        if self.env.real and (self.suite or self.tasks or self.perturb):
            raise ValueError(
                f"env.real={self.env.real}: a robot does one thing, env.task='what to do'; suite, "
                "tasks and perturb are for simulations"
            )
        if not 0 <= self.noise < 1:
            raise ValueError(f"noise: expected a standard deviation in [0, 1), got {self.noise}")
        for name in ("early_stop", "require"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Contestant:
    """A policy under the name that the tables give it."""

    label: str
    source: str  # EXPERT, RANDOM, an address or a folder
    fingerprint: str  # changes with the weights
    cameras: dict[str, int] | None = None  # it was trained with
    render: str = ""  # profile it was trained on
    instructions: frozenset[str] | None = None  # that it learned from, where that is known


def contestant(text: str) -> Contestant:
    """`expert`, `random`, a policy folder, a run that holds one, a server's address, or `name=` and
    any of these.

    Raises CheckpointError where there is no policy, RemoteError where no server answers.
    """
    label, sign, source = text.partition("=")
    if not sign or Path(text).is_dir():  # folders may be called lr=0.1
        label, source = "", text
    if source in (EXPERT, RANDOM):
        return Contestant(label or source, source, source)
    if source.startswith(REMOTE):
        from robostack.policy.client import RemotePolicy  # it needs the extra `serve`

        with RemotePolicy(source) as remote:
            return _trained(
                label or source.partition("://")[2], source, remote.fingerprint, remote.spec
            )
    run = Path(source)
    if not source or not run.exists():
        raise CheckpointError(
            f"{source or repr(text)} holds no policy: there is no such folder, and it is neither "
            f"`{EXPERT}` nor `{RANDOM}` nor the address of a server (ws://...)"
        )
    folder = run / "policy" if (run / "policy").is_dir() else run
    card, source = VLA.read_card(folder), str(folder.resolve())
    found = _trained(label or run.resolve().name, source, fingerprint(folder), card.spec)
    return dataclasses.replace(found, instructions=card.instructions)


def _trained(label: str, source: str, digest: str, spec: RobotSpec) -> Contestant:
    cameras = {name: size[0] for name, size in spec.cameras.items()}
    return Contestant(label, source, digest, cameras, spec.conventions.get("render", ""))


def contestants(texts: list[str]) -> list[Contestant]:
    found = [contestant(text) for text in texts]
    labels = [c.label for c in found]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        source = next(c.source for c in found if c.label == twice[0])
        raise ValueError(
            f"two policies are called {twice[0]}; give each a name of its own, as in "
            f"--policy first={source}"
        )
    return found


def default_out(config: BatchConfig, policies: list[Contestant]) -> Path:
    """Where the results go if the user does not say: the same for the same question."""
    what = [config.suite, *config.tasks] if config.suite or config.tasks else [config.env.task]
    name = "-".join([*filter(None, what), *(policy.label for policy in policies)])
    return Path("runs/evaluate") / "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


class Batch:
    """One evaluation in the folder `out`."""

    def __init__(
        self,
        config: BatchConfig,
        policies: list[Contestant],
        out: Path,
        workers: int | str = 0,
        against: Path | None = None,
        resume: bool = False,
        replace: bool = False,
        patience: float = PATIENCE,
    ):
        self.config, self.out = config, Path(out)
        self.policies = {policy.label: policy for policy in policies}
        self.tasks = resolve(config.suite, config.tasks) or [config.env.task]
        self.conditions = {CONTROL: {}} | {f"{a} {s:g}": {a: s} for a, s in config.perturb.items()}
        cells = [
            Cell(label, task, condition)
            for task in self.tasks
            for condition in self.conditions
            for label in self.policies
        ]
        self.envs = {cell: self._env(cell) for cell in cells}  # raises before any work
        self.earlier = earlier(against) if against else {}
        if not isinstance(workers, str):
            worker_count(config.env, workers)  # raises before any work
        self.workers, self.patience = workers, patience
        if resume and replace:
            raise ValueError("--resume goes on and --force starts anew; use one of them")
        verb = _verb(self.out)
        if verb not in ("", VERB):  # a policy in training is lost more easily than made
            raise RunError(f"{self.out} is a run of `robostack {verb}`; use another --out")
        if finished(self.out) is not None and not (resume or replace):
            raise RunError(
                f"{self.out} is a finished evaluation; --resume goes on with it (more episodes, "
                "tasks or policies), --force replaces it"
            )
        same = ("first_seed", "runner", "noise", "env")  # the rest may change and go on
        settings = {k: v for k, v in to_dict(config).items() if k in same}
        for name in ("cameras", "perturb"):  # as text, so that one that is taken away counts too
            settings["env"][name] = json.dumps(settings["env"][name], sort_keys=True)
        existing = "replace" if replace else "reuse" if resume else "refuse"
        self.run = Run(self.out, VERB, settings, config.first_seed, existing)
        seeds = range(config.first_seed, config.first_seed + config.episodes)
        self.ledger = Ledger(self.out, cells, seeds, config.early_stop)
        self.ledger.read({policy.label: policy.fingerprint for policy in policies})

    def _env(self, cell: Cell) -> EnvConfig:
        """A trained policy brings its cameras, unless the user names some. Raises ValueError for a
        size of pictures that would be nobody's."""
        env = dataclasses.replace(
            self.config.env, task=cell.task, perturb=self.conditions[cell.condition]
        )
        policy = self.policies[cell.policy]
        if not policy.cameras or env.cameras:
            return env
        idle = all(other.cameras for other in self.policies.values())
        asked = idle and env.pixels != EnvConfig().pixels
        if asked and set(policy.cameras.values()) != {env.pixels}:
            seen = ", ".join(f"{name}: {size}" for name, size in policy.cameras.items())
            raise ValueError(
                f"env.pixels={env.pixels}: {policy.label} sees {{{seen}}}, and pixels are for "
                "policies that bring no cameras; leave it out, or name env.cameras"
            )
        return dataclasses.replace(env, cameras=policy.cameras)

    def warnings(self) -> list[str]:
        """What a user should know of the policies before trusting the numbers."""
        render = self.config.env.render
        told = [profile_warning(p.label, p.render, render) for p in self.policies.values()]
        what = self.tasks, self.config.env.real
        told += [unheard(p.label, p.instructions, *what) for p in self.policies.values()]
        found = [text for text in told if text]
        starts = {(cell.task, row["seed"]) for cell, rows in self.earlier.items() for row in rows}
        tasks = {task for task, _ in starts}
        apart = [t for t in self.tasks if not any((t, s) in starts for s in self.ledger.seeds)]
        if self.earlier and apart:
            why = "starts" if tasks.intersection(apart) else "tasks"
            found.append(
                f"nothing to compare on {', '.join(apart)}: the earlier evaluation played other "
                f"{why}"
            )
        return found

    def _trials(self, asked: list[tuple[Cell, int]], gallery: Gallery) -> Iterator[tuple[Trial]]:
        """Trials still to be played; each is noted in `asked`."""
        config = self.config
        films = config.videos > 0 and config.env.render != "none"
        for cell, seed in self.ledger.missing():
            asked.append((cell, seed))
            source, film = self.policies[cell.policy].source, films and gallery.wants(cell)
            yield (Trial(source, self.envs[cell], config.runner, config.noise, seed, film),)

    def play(self) -> dict:
        """Play what is missing; returns what results.json holds."""
        (self.out / "summary.json").unlink(missing_ok=True)  # going on: not finished any more
        gallery, ledger = Gallery(self.out, self.config.videos), self.ledger
        asked: list[tuple[Cell, int]] = []
        died: Counter[Cell] = Counter()
        missing = sum(1 for _ in ledger.missing())
        how = {"isolate": True, "patience": self.patience}
        with (
            open_pool(make_worker, self.config.env, self.workers, missing, **how) as pool,
            Board(ledger, self.warnings()) as board,
        ):
            for outcome in pool.outcomes(play, self._trials(asked, gallery)):
                cell, seed = asked.pop(0)
                if outcome.kind == Unplayable.__name__:
                    ledger.complain(outcome.error.split("\n\n")[0].partition(": ")[2], cell)
                elif not (ledger.stuck(cell) or ledger.counted(cell)[1]):  # else it was under way
                    ledger.add(cell, self._row(cell, seed, outcome))
                    died[cell] += outcome.kind == DIED
                    if len(ledger.rows[cell]) == died[cell] == HOPELESS:
                        ledger.complain(
                            f"given up: its first {HOPELESS} episodes all killed their workers",
                            cell,
                        )
                    if outcome.value is not None and outcome.value.film is not None:
                        gallery.add(cell, seed, outcome.value.success, outcome.value.film)
                board.update()
        found = results.summarise(ledger, self.earlier)
        found |= {"warnings": self.warnings(), "settings": to_dict(self.config)}
        results.write(self.out, found, ledger, gallery)
        return self.run.finish(found)

    def _row(self, cell: Cell, seed: int, outcome: Outcome) -> dict:
        played: Played | None = outcome.value
        return {
            **dataclasses.asdict(cell),
            "seed": seed,
            "success": played.success if played else None,
            **({"stopped": played.stopped} if played and played.stopped is not None else {}),
            "steps": played.steps if played else 0,
            "seconds": round(played.seconds, 3) if played else 0.0,
            "act_seconds": round(sum(played.act_ms) / 1e3, 4) if played else 0.0,
            "act_ms": round(float(np.median(played.act_ms)), 3) if played else None,
            "attempts": outcome.attempts + self.ledger.failed.get((cell, seed), 0),
            "error": outcome.error.split("\n\n")[0],
            "fingerprint": self.policies[cell.policy].fingerprint,
        }


def _verb(folder: Path) -> str:
    """What made the run in a folder; "" where there is none."""
    about = folder / "run.json"
    try:
        return json.loads(about.read_text())["verb"] if about.is_file() else ""
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{about} is damaged; use another --out") from None


def passed(found: dict, require: float) -> bool:
    """Whether everything could be played and every policy reaches the required success rate;
    says which do not."""
    control = [p for p in found["policies"] if p["condition"] == CONTROL]
    below = [policy for policy in control if policy["success_rate"] < require]
    for policy in below:
        rate = f"{policy['successes']} of {policy['episodes']}"
        print(f"{policy['policy']}: {rate} is below --require {require:g}", file=sys.stderr)
    if found["problems"] or any(cell["errors"] for cell in found["cells"]):
        return False
    return not below
