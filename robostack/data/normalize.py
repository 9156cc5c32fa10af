"""Per-dimension scaling to about [-1, 1] and its inverse. Statistics travel with the policy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Normalizer(nn.Module):
    """y = 2 (x - low) / (high - low) - 1 with low, high the 1 % and 99 % quantiles.

    A dimension that hardly moves (a constant, an unused axis) is only shifted: dividing by its
    spread would turn sensor noise into a signal.
    """

    low: Tensor  # f32[D]
    high: Tensor  # f32[D]

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("low", -torch.ones(dim))
        self.register_buffer("high", torch.ones(dim))

    def fit(self, rows: np.ndarray, smallest: float = 1e-3) -> None:
        """Take the quantiles of rows f32[M, D]."""
        if not np.isfinite(rows).all():
            raise ValueError("normalisation statistics: the data holds values that are not finite")
        low, high = np.quantile(rows, [0.01, 0.99], axis=0)
        middle, still = (low + high) / 2, high - low < smallest
        self.low.copy_(torch.from_numpy(np.where(still, middle - 1, low)))
        self.high.copy_(torch.from_numpy(np.where(still, middle + 1, high)))

    def forward(self, x: Tensor) -> Tensor:
        return 2 * (x - self.low) / (self.high - self.low) - 1

    def inverse(self, y: Tensor) -> Tensor:
        return (y + 1) / 2 * (self.high - self.low) + self.low
