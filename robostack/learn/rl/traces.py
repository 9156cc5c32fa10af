"""What the sampler drew in a rollout, found again from its seed.

A rollout keeps what was seen and done, not the noise behind it: policy, observations and seed
determine that. Played again, all chunks of an episode are sampled in one batch; that they are the
ones that were executed is checked, so a rollout of another policy can not be learned from.

Of a chunk those actions count that were executed (as in pi_RL's release): what was drawn for the
others is noise to a gradient. What it did to the executed ones, in the sampler's steps after the
stochastic one, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from robostack.data.chunks import ChunkData
from robostack.device import device
from robostack.policy import flow
from robostack.policy.vla import VLA

TOLERANCE = 2e-3  # of the range of an action: another machine rounds otherwise


@dataclass(frozen=True)
class Acting:
    """How the policy acts in rollouts, `once` and with nothing that chooses or steers."""

    execute: int = 8  # actions of a chunk before the next look
    steps: int = 5  # of the flow sampler
    level: float = 0.5  # noise of its stochastic step


@dataclass(frozen=True)
class Traces:
    """The chunks of some episodes: where they began, and the stochastic step of each."""

    rows: np.ndarray  # i64[C] in the data
    episode: np.ndarray  # i64[C]
    start: np.ndarray  # i64[C], observation of its episode
    step: flow.Transition  # of C samples

    def __len__(self) -> int:
        return len(self.rows)


@torch.no_grad()
def retrace(
    vla: VLA, data: ChunkData, episodes: Sequence[int], seeds: Sequence[int], acting: Acting
) -> Traces:
    """Of `episodes` (indices in `data`), whose policy was reset with `seeds`.

    Raises ValueError for an episode that is not this policy's.
    """
    vla.eval()
    found, rows, which, begun = [], [], [], []
    for index, seed in zip(episodes, seeds, strict=True):
        starts = np.arange(0, len(data.episodes[index]), acting.execute)
        where = data.row(index, 0) + starts
        executed = np.minimum(acting.execute, len(data.episodes[index]) - starts)
        chunk, step = _replay(vla, data, where, executed, seed, acting)
        _require_same(chunk, data, index, starts, acting)
        found.append(step)
        rows.append(where)
        which.append(np.full(len(starts), index))
        begun.append(starts)
    names = ("before", "after", "time", "log_prob", "valid")
    whole = {name: torch.cat([getattr(step, name) for step in found]) for name in names}
    return Traces(*map(np.concatenate, (rows, which, begun)), replace(found[0], **whole))


def _replay(
    vla: VLA, data: ChunkData, rows: np.ndarray, executed: np.ndarray, seed: int, acting: Acting
) -> tuple[np.ndarray, flow.Transition]:
    """Chunks f32[C, H, A] in raw units, and their stochastic steps, of which the first `executed`
    i64[C] actions count. Draws are in the order of `ChunkRunner`, chunk by chunk."""
    generator = torch.Generator().manual_seed(seed)
    noise, at, jitter = [], [], []
    for _ in rows:
        noise.append(vla.noise(1, generator))
        at.append(torch.randint(acting.steps - 1, (), generator=generator))
        jitter.append(torch.randn(noise[0].shape, generator=generator).to(noise[0]))
    batch = data.batch(rows).to(device())
    prefix, state = vla.expert.memory(vla.encode(batch)), vla.normalize_state(batch.state)
    valid = torch.from_numpy(np.arange(vla.config.horizon) < executed[:, None])
    drawn = torch.stack(at).to(device()), torch.cat(jitter), valid.to(device())
    x, step = flow.integrate_once(
        lambda x, t: vla.expert(prefix, state, x, t),
        torch.cat(noise),
        acting.steps,
        acting.level,
        *drawn,
    )
    return vla.spec.clip(vla.normalize_action.inverse(x).cpu().numpy()), step


def _require_same(
    chunk: np.ndarray, data: ChunkData, index: int, starts: np.ndarray, acting: Acting
) -> None:
    episode, spec = data.episodes[index], data.spec
    span = np.subtract(spec.action_high, spec.action_low)
    for own, start in zip(chunk, starts):
        done = episode.actions[start : start + acting.execute]
        off = float((np.abs(own[: len(done)] - done) / span).max())
        if off > TOLERANCE:
            raise ValueError(
                f"the rollout of seed {episode.seed} is not this policy's: at step {start} it did "
                f"something else by {off:.2g} of the actions' range; it can not be learned from "
                "by its likelihood (was the run folder's policy changed?)"
            )
