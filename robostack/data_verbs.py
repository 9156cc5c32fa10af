"""The verbs about stores of episodes: `robostack data ...`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robostack import page
from robostack.verb import Verb, config_of

STORE = "the new store"


def _does(name: str, *ends: str) -> Callable[[Any, argparse.Namespace], dict | int]:
    """A function of curating.py, which is imported only when it is used; where it writes one file,
    what the name of that ends with."""

    def act(config: Any, args: argparse.Namespace) -> dict | int:
        from robostack import curating

        if ends:
            _require_name(args.out, ends)
        return getattr(curating, name)(config, args)

    return act


def _require_name(out: Path, ends: tuple[str, ...]) -> None:
    """Raise ValueError for a name of another kind of file, and for one of something that is there,
    unless it is a page of ours: that is made anew."""
    if out.suffix not in ends:
        raise ValueError(f"--out {out}: expected a name that ends in {' or '.join(ends)}")
    page.require_ours(out)


DATA: dict[str, Verb] = {
    "data inspect": Verb(
        "a page to look through episodes: pictures, lengths, outcomes, what is suspicious",
        "robostack data inspect --data runs/demos --out runs/demos.html\n"
        "robostack data inspect --data runs/demos --out runs/failures.html only=failures "
        "episodes=200",
        config_of("contact_sheet", "InspectConfig"),
        _does("inspect", ".html"),
        needs=("--data",),
        takes=("--reward",),
        out="the page (.html)",
        forces=False,
    ),
    "data play": Verb(
        "one episode: its films and curves on a page, or for rerun (.rrd)",
        "robostack data play --data runs/demos --out runs/play.html --episode 000003\n"
        "robostack data play --data runs/demos --out runs/play.rrd",
        config_of("episode_page", "PlayConfig"),
        _does("play", ".html", ".rrd"),
        needs=("--data",),
        takes=("--ids",),
        out="the page (.html), or a recording for rerun (.rrd)",
        forces=False,
    ),
    "data validate": Verb(
        "read every byte and audit every episode; exit 1 where something is wrong",
        "robostack data validate --data runs/demos\n"
        "robostack data validate --data runs/demos --data runs/tries severity=error frozen=1\n"
        "robostack data validate --data runs/mine --reward runs/success severity=warning",
        config_of("curating", "ValidateConfig"),
        _does("validate"),
        needs=("--stores",),
        takes=("--reward",),
        out=None,
    ),
    "data stats": Verb(
        "counts, hours, success by instruction, quantiles of states and actions",
        "robostack data stats --data runs/demos",
        None,
        _does("stats"),
        needs=("--stores",),
        out=None,
    ),
    "data merge": Verb(
        "one store out of several of the same robot",
        "robostack data merge --data runs/monday --data runs/tuesday --out runs/both "
        "duplicates=drop\n"
        "robostack data merge --data runs/tries --out runs/good only=successes",
        config_of("data.curate", "MergeConfig"),
        _does("merge"),
        needs=("--stores",),
        out=STORE,
        forces=False,
    ),
    "data split": Verb(
        "several stores out of one, by chance, instruction or outcome; tries of a group stay "
        "together",
        "robostack data split --data runs/demos --out runs/parts parts='{train: 0.8, test: 0.2}'\n"
        "robostack data split --data runs/tries --out runs/by-outcome by=success",
        config_of("data.curate", "SplitConfig"),
        _does("split"),
        needs=("--data",),
        out="the folder of the new stores",
        forces=False,
    ),
    "data trim": Verb(
        "a store of shorter episodes: idle beginnings and ends cut, or steps that you name",
        "robostack data trim --data runs/demos auto=true\n"
        "robostack data trim --data runs/demos --out runs/trimmed auto=true\n"
        "robostack data trim --data runs/demos --out runs/trimmed start=5 stop=-3 "
        "--episode 000004",
        config_of("data.curate", "TrimConfig"),
        _does("trim"),
        needs=("--data",),
        takes=("--ids",),
        out="the new store; without it, only what would be cut is told",
        needs_out=False,
        forces=False,
    ),
    "data relabel": Verb(
        "a store of the same episodes with another instruction or outcome, by you or a detector",
        "robostack data relabel --data runs/demos --out runs/renamed task='lift the cube'\n"
        "robostack data relabel --data runs/tries --out runs/judged --reward runs/success "
        "threshold=0.5",
        config_of("data.curate", "RelabelConfig"),
        _does("relabel"),
        needs=("--data",),
        takes=("--ids", "--reward", "--exam", "--strict"),
        out=STORE,
        forces=False,
    ),
    "data import": Verb(
        "a store out of a LeRobotDataset v3, robomimic or robosuite HDF5, or ROS 2 bags",
        "robostack data import lerobot/pusht --out runs/pusht\n"
        "robostack data import low_dim.hdf5 --out runs/can hz=20 cameras='[agentview]'\n"
        "robostack data import demo.hdf5 --out runs/lift replay=true env.task=Lift\n"
        "robostack data import so101 --out runs/so101 "
        "conventions='{angles: degrees, gripper: +1 opens}'\n"
        "robostack data import bags/monday --out runs/monday\n"
        "robostack data import theirs.mcap --out runs/theirs robot=configs/robot/so101.yaml",
        config_of("curating", "ImportCommand"),
        _does("bring"),
        takes=("--source",),
        out=STORE,
        forces=False,
        words="source",
    ),
    "data export": Verb(
        "a LeRobotDataset v3 or robomimic HDF5 out of a store",
        "robostack data export --data runs/demos --out lerobot/demos\n"
        "robostack data export --data runs/demos --out lerobot/exact codec=lossless\n"
        "robostack data export --data runs/demos --out demos.hdf5",
        config_of("curating", "ExportCommand"),
        _does("send"),
        needs=("--data",),
        out="the new folder, or file (.hdf5)",
        forces=False,
    ),
}
