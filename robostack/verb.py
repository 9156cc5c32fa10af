"""What a verb of the command line is, and the flags that verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATHS = {
    "--data": dict(help="episode store, or a run that holds one", metavar="DIR"),
    "--stores": dict(
        help="episode store, or a run that holds some; repeat for several",
        metavar="DIR",
        action="append",
        type=Path,
    ),
    "--demos": dict(help="store of demonstrations", metavar="DIR"),
    "--ids": dict(
        help="an episode's number; repeat for several", metavar="ID", action="append", default=[]
    ),
    "--source": dict(help="foreign data set: a folder or a file", metavar="PATH"),
    "--policy": dict(help="policy, or a run that holds one", metavar="DIR"),
    "--start": dict(help="policy, or reward, to go on from", metavar="DIR"),
    "--policies": dict(
        help="policy, or a run that holds one, or `expert` or `random`, or ws://HOST:PORT of a "
        "server, or NAME= and any of these; repeat for several: the first is the baseline",
        metavar="DIR",
        action="append",
        default=[],
    ),
    "--against": dict(help="an earlier evaluation to compare with", metavar="DIR"),
    "--preferences": dict(help="preference set (.jsonl)", metavar="FILE"),
    "--labels": dict(help="answers of people (.jsonl), of `robostack label`", metavar="FILE"),
    "--gate": dict(help="exit 1 below the thresholds in this file (YAML or JSON)", metavar="FILE"),
    "--calibrate": dict(help="show what a device tells, ask, write a mapping", action="store_true"),
    "--strict": dict(help="refuse rewards without a passed exam", action="store_true"),
    "--exam": dict(
        help="an exam that the rewards sat, where it is not in their folders; repeat for several",
        metavar="DIR",
        action="append",
        default=[],
        type=Path,
    ),
    "--service": dict(
        help="its name, and true or false of a switch", metavar="NAME", action="append", default=[]
    ),
    "--reward": dict(
        help="the folder of a reward, keypoints, deviation, or file.py:Class; repeat for several",
        metavar="NAME",
        action="append",
        default=[],
    ),
}

SEVERAL = {
    "--policies": "--policy",
    "--stores": "--data",
    "--ids": "--episode",
}  # what is given may be several


KEYS = {  # flag -> (key of the config, help); a repeated flag makes a list
    "suite": ("suite", "all tasks of a suite"),
    "task": ("tasks", "a task; repeat for several"),
    "episodes": ("episodes", "starts for each policy and task"),
    "early-stop": ("early_stop", "end once the 95 %% interval is narrower than this"),
    "require": ("require", "exit 1 if a policy's success rate is below this"),
    "perturb": ("perturb", "axis=strength, evaluated beside the unperturbed; repeat for several"),
}


@dataclass(frozen=True)
class Verb:
    """One sub-command: the dataclass that configures it and the function that does it."""

    summary: str
    example: str
    config: Callable[[], type] | None  # imported only when used: --help must be quick
    act: Callable[[Any, argparse.Namespace], dict | int]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    out: str | None = "the run folder"
    needs_out: bool = True
    keys: tuple[str, ...] = ()  # of the config that have a flag of their own, see KEYS
    resumes: bool = False  # whether a finished run can be gone on with
    forces: bool = True  # whether what is at `out` is only replaced with --force
    words: str = ""  # flag that bare words are values of, besides it


def config_of(module: str, name: str) -> Callable[[], type]:
    def load() -> type:
        import importlib

        return getattr(importlib.import_module(f"robostack.{module}"), name)

    return load
