"""Probabilities that mean what they say."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def platt(logits: Tensor, label: Tensor) -> Tensor:
    """Slope, kept positive, and offset that make the logits' probabilities fit the labels. A small
    pull towards (1, 0) keeps perfectly separated ones finite."""
    raw = torch.zeros(2, device=logits.device, requires_grad=True)  # log slope, offset
    optimizer = torch.optim.LBFGS([raw], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(raw[0].exp() * logits + raw[1], label)
        loss = loss + 1e-3 * raw.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return torch.stack([raw[0].exp(), raw[1]]).detach()
