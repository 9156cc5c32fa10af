"""Metrics for other people's dashboards, beside metrics.jsonl, for whoever asks for them.

ROBOSTACK_TRACK=tensorboard robostack train rl ...     # event files in <run>/tensorboard
ROBOSTACK_TRACK=wandb robostack train bc ...           # a Weights & Biases run; both: a comma
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
from pathlib import Path
from typing import Any, ClassVar, Protocol

VARIABLE = "ROBOSTACK_TRACK"
BOARD, WANDB, ID = "tensorboard", "wandb", "wandb.id"
LEFT = (BOARD, WANDB, ID)  # in a run's folder, by the trackers


class Tracker(Protocol):
    def log(self, step: int, metrics: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    def __init__(self, run: Path):
        self._writer = _package(BOARD).SummaryWriter(run / BOARD)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a run may be killed

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """One run there for one folder here, however often it is interrupted: its id is in the folder.
    What is done again after an interruption has steps that are there already, and is not drawn
    twice. Raises ValueError where there is no login or no connection."""

    _open: ClassVar[dict[str, Any]] = {}  # of this process, by id

    def __init__(self, run: Path):
        wandb, file = _package(WANDB), run / ID
        if not file.is_file():
            file.write_text(secrets.token_hex(4))
        self.id = file.read_text()
        if self.id in self._open:  # interrupted in this very process, which nobody told wandb
            self._open.pop(self.id).finish()
        own = {"project": "robostack", "name": str(run), "dir": str(run), "id": self.id}
        try:  # a run of its own, even while one is open whose rewards this one teaches
            self._run = wandb.init(**own, resume="allow", reinit="create_new")
        except wandb.Error as error:
            raise ValueError(f"{VARIABLE}={WANDB}: {error}") from error
        self._open[self.id] = self._run

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def close(self) -> None:
        self._open.pop(self.id, None)
        self._run.finish()


KINDS = {BOARD: TensorBoard, WANDB: WeightsAndBiases}
PACKAGES = {  # module, and what to install for it
    BOARD: ("torch.utils.tensorboard", "'robostack[tensorboard]'"),
    WANDB: ("wandb", "wandb"),
}


def _package(name: str) -> Any:
    module, missing = PACKAGES[name]
    try:
        return importlib.import_module(module)
    except ImportError:
        text = f"{VARIABLE}={name}: it is not installed: pip install {missing}"
        raise ValueError(text) from None


def asked() -> list[str]:
    """Those that ROBOSTACK_TRACK names. Raises ValueError for one that is unknown or missing."""
    names = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    unknown = sorted(set(names) - set(KINDS))
    if unknown:
        raise ValueError(f"{VARIABLE}={','.join(unknown)}: expected {' or '.join(KINDS)}")
    for name in names:
        _package(name)
    return names


def open_trackers(run: Path) -> list[Tracker]:
    """Of those that are asked for, all or none."""
    with contextlib.ExitStack() as opened:
        trackers = [opened.enter_context(contextlib.closing(KINDS[n](run))) for n in asked()]
        opened.pop_all()
    return trackers
