"""A run is a folder. It counts as finished once summary.json exists, which is written last.

run.json          verb, config, seed, what it was made from, code version, the command that made it
metrics.jsonl     one line a logged step
tensorboard/ ...  the same for dashboards that were asked for (robostack.learn.tracking)
policy/           the result (robostack.policy.vla)
resume.*          what an interrupted run needs to go on; removed when finished
summary.json      results and seconds
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

import numpy as np
from tqdm import tqdm

import robostack
from robostack.data.holding import LOCK, Hold
from robostack.learn import processes
from robostack.learn.tracking import LEFT, Tracker, asked, open_trackers

if TYPE_CHECKING:
    import torch

Existing = Literal["refuse", "replace", "reuse"]
ALONE = (
    "collect",
    "cases",
    "evaluate",
    "train reward",
    "train guide",
    "train rl",
)  # verbs of one process


_HOLDS: WeakValueDictionary[str, Hold] = WeakValueDictionary()  # of this process, by folder


class RunError(RuntimeError):
    """A run folder that may not be written, or that is not what was expected."""


class Run:
    """One stage's folder. An unfinished run of the same verb, config and seed is resumed. So that
    it is of the same inputs, too, `made_from` has their fingerprints by name; they are compared
    where the run that goes on knew its own.

    `existing` says what happens to a finished one: it is refused, replaced, or re-used, and then
    `done` holds its summary and nothing may be written.

    Of several processes that train together, all open the same folder and only the main one writes.
    Anybody else's is refused with StoreError as long as that one is at it, `replace` included.
    """

    def __init__(
        self,
        path: str | Path,
        verb: str,
        config: dict,
        seed: int = 0,
        existing: Existing = "refuse",
        made_from: dict[str, str] | None = None,
    ):
        if verb in ALONE and processes.count() > 1:
            raise RunError(f"{verb} is done by one process; start it without a launcher")
        if _tracked(verb):
            asked()  # says what is wrong with it before anything is made or removed
        processes.join()
        self.path, self.verb = Path(path), verb
        self.started = time.monotonic()
        self._trackers: list[Tracker] = []
        self._hold: Hold | None = None  # of the folder, where this process writes it
        about = {"verb": verb, "config": config, "seed": seed}
        if made_from:
            about["made_from"] = made_from
        replace = existing == "replace" and self.path.exists()
        self.done = None if replace else finished(self.path)
        self._require(about, existing, replace)
        processes.wait()  # until nobody looks any more
        if processes.main():
            self._open(about, replace)
        processes.wait()

    def _require(self, about: dict, existing: Existing, replace: bool) -> None:
        """Raise RunError unless the folder may be written, or re-used."""
        is_run = (self.path / "run.json").exists()
        if not is_run and self.path.exists() and set(os.listdir(self.path)) - {LOCK}:
            problem = (
                "is not a run; it is not replaced"
                if replace
                else ("exists, is not empty and is not a run")
            )
            raise RunError(f"{self.path} {problem}")
        if replace and (self.path / "session.json").exists():
            raise RunError(
                f"{self.path} holds demonstrations of a person, which --force does not remove; "
                "give another --out"
            )
        if self.done is not None and existing == "refuse":
            raise RunError(f"{self.path} is a finished run; use --force to replace it")
        if is_run and not replace:
            before = json.loads((self.path / "run.json").read_text())
            now = {k: v for k, v in about.items() if k in before}  # older ones know less
            changed = _differences(before, json.loads(json.dumps(now)))
            if changed:
                raise RunError(
                    f"{self.path} was made with other settings: {'; '.join(changed)}. "
                    "Use the same ones, another --out, or --force to replace it"
                )

    def _open(self, about: dict, replace: bool) -> None:
        if self.done is not None:  # nothing is written
            return
        self.path.mkdir(parents=True, exist_ok=True)
        self._hold = _held(self.path)
        for each in self.path.iterdir() if replace else ():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            elif each.name != LOCK:
                each.unlink()
        if not (self.path / "run.json").exists():
            about |= {"command": sys.argv, "version": robostack.__version__, "git": code_version()}
            write_json(self.path / "run.json", about)
        try:
            self._trackers = open_trackers(self.path) if _tracked(self.verb) else []
        except ValueError:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Leave no trace of a run whose settings turned out impossible before anything was done."""
        for tracker in self._trackers:
            tracker.close()
        self._trackers = []
        if self._hold is not None:
            self._hold.release()
            if not {file.name for file in self.path.iterdir()} - {"run.json", *LEFT}:
                shutil.rmtree(self.path)

    def log(self, step: int, metrics: dict[str, float], at: int | None = None) -> None:
        """Append one line of metrics. Raises FloatingPointError if one is not a number.

        `step` counts updates; `at` is where dashboards draw the line, if not there: they want a
        number that rises from line to line, even where nothing was updated.
        """
        for name, value in metrics.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise FloatingPointError(
                    f"{self.verb}: {name} became {value} at step {step}; nothing is saved from "
                    "here on. Lower the learning rate, or look for broken episodes in the data"
                )
        if not processes.main():
            return
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        for tracker in self._trackers:
            tracker.log(step if at is None else at, metrics)

    def steps(self, first: int, total: int, label: str) -> Iterator[int]:
        """`range(first, total)` behind a progress bar with the time left."""
        yield from progress(range(first, total), label, total, first)

    def finish(self, summary: dict[str, Any]) -> dict[str, Any]:
        summary = {**summary, "seconds": round(self.seconds(), 1)}
        processes.wait()  # for whoever still reads what is removed now
        if processes.main():
            for leftover in self.path.glob("resume.*"):
                leftover.unlink()
            write_json(self.path / "summary.json", summary)
        if self._hold is not None:
            self._hold.release()
        for tracker in self._trackers:
            tracker.close()
        processes.wait()
        return summary

    def seconds(self) -> float:
        """Of work on this run, earlier interrupted sessions included."""
        state = self.path / "resume.json"
        before = json.loads(state.read_text())["seconds"] if state.is_file() else 0.0
        return before + time.monotonic() - self.started


def _tracked(verb: str) -> bool:
    """Whether its runs have anything to draw on a dashboard."""
    return verb.startswith("train ")


def _held(folder: Path) -> Hold:
    """The folder for this process, of whose own runs the latest counts: an earlier one that was
    interrupted makes way."""
    key = str(folder.resolve())
    if (before := _HOLDS.get(key)) is not None:
        before.release()
    _HOLDS[key] = hold = Hold(folder)
    return hold


def progress(items: Iterable, label: str, total: int | None, first: int = 0) -> Iterator:
    """A bar that names the stage, and the time left where the total is known; in a log file, a
    line every half minute."""
    terminal = sys.stderr.isatty()
    yield from tqdm(
        items,
        desc=label,
        total=total,
        initial=first,
        leave=False,
        disable=not processes.main(),
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 30,
        maxinterval=10 if terminal else 60,
    )


def _differences(before: Any, now: Any, key: str = "") -> list[str]:
    """Readable list of what differs between two settings; keys only in `before` do not count."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            row
            for name, value in now.items()
            for row in _differences(
                before.get(name, None if value is None else "no key of the version that began"),
                value,
                f"{key}.{name}" if key else name,
            )
        ]
    return [] if before == now else [f"{key} was {before}, is {now}"]


def finished(path: str | Path) -> dict[str, Any] | None:
    """The summary of a finished run, or None."""
    file = Path(path) / "summary.json"
    return json.loads(file.read_text()) if file.is_file() else None


def write_json(path: Path, value: Any) -> None:
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(value, indent=1, default=_plain) + "\n")
    partial.replace(path)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def code_version() -> str:
    """What git calls the code that runs; "" outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except OSError:
        return ""
    return done.stdout.strip()


def trim(path: Path, end: int, name: str = "step") -> None:
    """Drop the lines of metrics from `end` on, to which a run goes back."""
    if processes.main() and path.is_file():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)[name] < end]
        path.write_text("".join(f"{line}\n" for line in lines))


def generator(*key: int) -> torch.Generator:
    """A torch generator that is a function of `key` alone."""
    import torch  # here, because who keeps a run need not be learning anything

    seed = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(seed[0]) << 32 | int(seed[1]))


def rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)
