"""Metrics for other people's dashboards, beside metrics.jsonl, for whoever asks for them.

ROBOSTACK_TRACK=tensorboard robostack train rl ...     # event files in <run>/tensorboard
ROBOSTACK_TRACK=wandb robostack train bc ...           # a Weights & Biases run; both: a comma
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

VARIABLE = "ROBOSTACK_TRACK"


class Tracker(Protocol):
    def log(self, step: int, metrics: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    def __init__(self, run: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(
                f"{VARIABLE}=tensorboard: it is not installed: pip install 'robostack[tensorboard]'"
            ) from None
        self._writer = SummaryWriter(run / "tensorboard")

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a run may be killed

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    def __init__(self, run: Path):
        try:
            import wandb
        except ImportError:
            raise ValueError(f"{VARIABLE}=wandb: it is not installed: pip install wandb") from None
        self._run = wandb.init(project="robostack", name=str(run), dir=str(run), resume="allow")

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def close(self) -> None:
        self._run.finish()


KINDS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def open_trackers(run: Path) -> list[Tracker]:
    """Those that ROBOSTACK_TRACK names. Raises ValueError for one that is unknown or missing."""
    names = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    unknown = sorted(set(names) - set(KINDS))
    if unknown:
        raise ValueError(f"{VARIABLE}={','.join(unknown)}: expected {' or '.join(KINDS)}")
    return [KINDS[name](run) for name in names]
