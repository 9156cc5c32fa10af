"""Several processes that train one model: which one writes, and which rows each one takes.

They are started by `accelerate launch` or `torchrun`, which tell each its place by environment
variables; accelerate's PartialState joins them. Without a launcher there is one process and nothing
here does anything; torch is only imported where there are several, because who keeps a run need not
be learning anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    return int(os.environ.get("RANK", 0))


def main() -> bool:
    """Whether this is the process that writes and reports."""
    return rank() == 0


def join() -> None:
    """Meet the others; returns once all are there."""
    if count() == 1:
        return
    import torch.distributed as dist

    from robostack.device import device

    if dist.is_initialized():
        return
    try:
        from accelerate import PartialState
    except ImportError:
        raise RuntimeError("training in several processes needs: pip install accelerate") from None
    PartialState(cpu=device().type == "cpu")
    if not main():  # one voice; errors still come from whoever meets them
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def wait() -> None:
    """Returns once every process has come this far."""
    if count() > 1:
        import torch.distributed as dist

        dist.barrier()


def mean(values: Sequence[float]) -> list[float]:
    """Each value averaged over the processes."""
    if count() == 1:
        return list(values)
    import torch
    import torch.distributed as dist

    from robostack.device import device

    total = torch.tensor(values, dtype=torch.float64, device=device())
    dist.all_reduce(total)
    return (total / count()).tolist()
