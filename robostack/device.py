"""Where tensors live: decided here and nowhere else."""

from __future__ import annotations

import os

import torch


def device() -> torch.device:
    """ROBOSTACK_DEVICE if set, else the first CUDA device, else the CPU."""
    wanted = os.environ.get("ROBOSTACK_DEVICE")
    if wanted:
        try:
            chosen = torch.device(wanted)
        except RuntimeError:
            raise ValueError(f"ROBOSTACK_DEVICE={wanted!r}: expected cpu, cuda or cuda:N") from None
        if chosen.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"ROBOSTACK_DEVICE={wanted!r}, but torch sees no CUDA device")
        return chosen
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
