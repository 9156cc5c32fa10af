"""Where tensors live: decided here and nowhere else."""

from __future__ import annotations

import os

import torch


def device() -> torch.device:
    """ROBOSTACK_DEVICE if set, else the first CUDA device, else the CPU.

    Of several processes that train together, each has the CUDA device of its own number.
    """
    wanted = os.environ.get("ROBOSTACK_DEVICE")
    if not wanted:
        return _own(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        chosen = torch.device(wanted)
    except RuntimeError:
        raise ValueError(f"ROBOSTACK_DEVICE={wanted!r}: expected cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"ROBOSTACK_DEVICE={wanted!r}, but torch sees no CUDA device")
    return _own(chosen)


def _own(chosen: torch.device) -> torch.device:
    """The device of this process, where a launcher has started several."""
    if chosen.type != "cuda" or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return chosen
    number, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if chosen.index is not None or number >= there:
        raise ValueError(
            f"several processes need a CUDA device each: this is number {number}, torch sees "
            f"{there}, ROBOSTACK_DEVICE is {os.environ.get('ROBOSTACK_DEVICE', 'not set')}; start "
            "fewer processes, or set ROBOSTACK_DEVICE to cuda (each takes its own) or cpu"
        )
    return torch.device("cuda", number)
