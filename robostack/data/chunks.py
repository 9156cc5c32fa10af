"""Training data: columnar episodes in memory, and windows (observation, action chunk) of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robostack.types import Episode, RobotSpec


@dataclass
class Batch:
    """What a VLA is trained on; raw units, because normalising is the policy's own business."""

    images: dict[str, Tensor]  # camera -> uint8[B, H, W, 3] RGB
    state: Tensor  # f32[B, S]
    tasks: list[str]  # B instructions
    chunk: Tensor  # f32[B, H, A]
    valid: Tensor  # bool[B, H], False beyond the end of the episode

    def __len__(self) -> int:
        return len(self.state)

    def to(self, device: torch.device) -> Batch:
        return self._each(lambda tensor: tensor.to(device, non_blocking=tensor.is_pinned()))

    def pin_memory(self) -> Batch:
        """Where a GPU can fetch it while it computes; PyTorch's loader calls this."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        images = {name: change(image) for name, image in self.images.items()}
        rest = change(self.state), self.tasks, change(self.chunk), change(self.valid)
        return Batch(images, *rest)

    def part(self, rows: slice) -> Batch:
        """Some of its samples."""
        return Batch(
            {name: image[rows] for name, image in self.images.items()},
            self.state[rows],
            self.tasks[rows],
            self.chunk[rows],
            self.valid[rows],
        )

    def repeat(self, times: int) -> Batch:
        """Each sample `times` times in a row, without images: for use with a repeated prefix."""
        return Batch(
            {},
            self.state.repeat_interleave(times, 0),
            [task for task in self.tasks for _ in range(times)],
            self.chunk.repeat_interleave(times, 0),
            self.valid.repeat_interleave(times, 0),
        )


class Windows:
    """Windows of `horizon` actions over episodes: everything but where pictures come from.

    Rows of all episodes lie one below the other in columns, so a batch is one gather by index.
    """

    def __init__(self, spec: RobotSpec, horizon: int):
        self.spec, self.horizon = spec, horizon
        self._tasks: list[str] = []
        self._first: list[int] = []  # row of each episode's observation 0
        self._rows = 0
        self._columns: dict[str, np.ndarray] = {}

    def _append(self, rows: dict[str, np.ndarray], actions: np.ndarray, task: str) -> int:
        """Add an episode's columns; returns its index."""
        steps, n = len(actions), len(actions) + 1
        rows |= {
            "action": np.concatenate([actions, np.zeros_like(actions[:1])]),
            "left": np.arange(steps, -1, -1),  # actions left in the episode
            "episode": np.full(n, len(self._tasks)),
        }
        for name, data in rows.items():
            column = self._columns.get(name)
            if column is None or self._rows + n > len(column):  # grow geometrically
                size = max(2 * self._rows, self._rows + n, 256)
                larger = np.empty((size, *data.shape[1:]), data.dtype)
                if column is not None:
                    larger[: self._rows] = column[: self._rows]
                self._columns[name] = column = larger
            column[self._rows : self._rows + n] = data
        self._first.append(self._rows)
        self._rows += n
        self._tasks.append(task)
        return len(self._tasks) - 1

    @property
    def instructions(self) -> frozenset[str]:
        """What all the episodes were asked to do."""
        return frozenset(self._tasks)

    def row(self, episode: int, t: int) -> int:
        """The row of observation t of an episode."""
        return self._first[episode] + t

    def rows(self) -> np.ndarray:
        """Every row at which a window can begin (all observations but the last of an episode)."""
        if not self._tasks:
            raise ValueError("there are no episodes to take windows from")
        return np.flatnonzero(self._columns["left"][: self._rows] > 0)

    def openings(self) -> np.ndarray:
        """Of `rows`, those of first observations: before them nothing was done, so only the
        instruction can tell what will be."""
        rows = self.rows()
        return rows[np.isin(rows, self._first)]

    def column(self, name: str) -> np.ndarray:
        """All rows of one field: state, action, left or episode; `pictures` is for the images."""
        return self._columns[name][: self._rows]

    def chunks(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Actions f32[B, H, A] of the windows that begin at `rows` i64[B], and bool[B, H] which of
        them there are."""
        left = self._columns["left"][rows]
        steps = np.arange(self.horizon)
        # beyond the end the last action is repeated; `valid` keeps it out of the loss
        chunk = self._columns["action"][rows[:, None] + np.minimum(steps, left[:, None] - 1)]
        return chunk, steps < left[:, None]

    def pictures(self, camera: str, rows: np.ndarray) -> np.ndarray:
        """Pictures u8[B, H, W, 3] of one camera at `rows` i64[B]."""
        raise NotImplementedError

    def batch(self, rows: np.ndarray) -> Batch:
        """The windows that begin at `rows` i64[B]."""
        rows = np.asarray(rows)
        chunk, valid = self.chunks(rows)
        return Batch(
            images={
                name: torch.from_numpy(self.pictures(name, rows)) for name in self.spec.cameras
            },
            state=torch.from_numpy(self._columns["state"][rows]),
            tasks=[self._tasks[e] for e in self._columns["episode"][rows]],
            chunk=torch.from_numpy(chunk),
            valid=torch.from_numpy(valid),
        )


class ChunkData(Windows):
    """Windows over episodes that are kept whole in memory. Episodes can be added, which is what
    online learning does."""

    def __init__(self, spec: RobotSpec, horizon: int, episodes: Iterable[Episode] = ()):
        super().__init__(spec, horizon)
        self.episodes: list[Episode] = []
        for episode in episodes:
            self.add(episode)

    def add(self, episode: Episode) -> int:
        """Returns the episode's index."""
        self.spec.require_same(episode.spec, "the training data", "the episode")
        images = {f"image.{name}": frames for name, frames in episode.images.items()}
        self.episodes.append(episode)
        return self._append({"state": episode.states, **images}, episode.actions, episode.task)

    def pictures(self, camera: str, rows: np.ndarray) -> np.ndarray:
        return self._columns[f"image.{camera}"][rows]


def windows_of(spec: RobotSpec, horizon: int, data: Windows | Iterable[Episode]) -> Windows:
    """Episodes as windows in memory; windows as they are. Raises SpecMismatch for those of another
    robot, ValueError for those of another length."""
    if not isinstance(data, Windows):
        return ChunkData(spec, horizon, data)
    spec.require_same(data.spec, "the policy", "the training data")
    if data.horizon != horizon:
        raise ValueError(f"windows of {data.horizon} actions, expected {horizon}")
    return data
