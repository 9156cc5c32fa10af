"""How messages travel: a shared memory segment that pictures fit into (configs/dds/fastdds.xml).

`prepare` must run before rclpy is initialised in a process; `robostack.real.nodes.node` calls it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from robostack.real.paths import find

PROFILE = "configs/dds/fastdds.xml"
MEMORY = Path("/dev/shm")
SEGMENT = 32 << 20  # [bytes] of it that every participant takes, see PROFILE
VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # 2.x, 3.x


class TransportError(ValueError):
    """The environment names a profile that is not there."""


def exports() -> dict[str, str]:
    """The environment variables that make a process use our profile."""
    return dict.fromkeys(VARIABLES, str(find(PROFILE)))


def prepare() -> dict[str, str]:
    """Set the variables that the user has not; returns those that were set.

    Raises TransportError where a profile file is named that does not exist, which Fast DDS would
    pass over.
    """
    theirs = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    for name, path in theirs.items():
        if not Path(path).is_file():
            raise TransportError(f"{name}={path}: there is no such file; unset it to use ours")
    if theirs:
        return {}
    os.environ.update(exports())
    if warning := too_small(MEMORY):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    return exports()


def too_small(memory: Path) -> str:
    """What to tell of shared memory that has no room for a few nodes; "" where it has."""
    if not memory.is_dir():
        return f"there is no {memory}: pictures travel over the network stack, and some are lost"
    free = shutil.disk_usage(memory).free
    if free >= 8 * SEGMENT:
        return ""
    return (
        f"{memory} has {free >> 20} MB left and each node takes {SEGMENT >> 20}; pictures may be "
        "lost. Containers get 64 MB unless started with --shm-size=1g or --ipc=host; "
        "`fastdds shm clean` removes what crashed nodes left behind"
    )
