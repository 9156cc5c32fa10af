"""A VLA as a Policy: it samples a chunk and hands out its first actions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from robostack.data.chunks import Batch
from robostack.policy import rtc
from robostack.policy.vla import VLA, Guide
from robostack.types import Observation

Steer = Callable[[Observation], Guide]  # what bends the velocity field at an observation
Score = Callable[[Observation, np.ndarray], np.ndarray]  # f32[N, H, A] -> f32[N], higher is better


def observation_batch(observation: Observation, chunk_shape: tuple[int, int]) -> Batch:
    """A batch of one observation; its chunk is empty, for sampling only."""
    return Batch(
        images={n: torch.from_numpy(i.copy())[None] for n, i in observation.images.items()},
        state=torch.from_numpy(observation.state)[None],
        tasks=[observation.task],
        chunk=torch.zeros(1, *chunk_shape),
        valid=torch.ones(1, chunk_shape[0], dtype=torch.bool),
    )


class ChunkRunner:
    """Samples a chunk every `execute` steps and executes it open loop in between.

    `level` > 0 samples the flow's SDE: same distribution in theory, more varied tries in practice.
    `temperature` scales the noise that chunks begin with: below 1 they are nearer to what the
    policy thinks likeliest, and less of the demonstrators' own noise is in them (as Glow samples,
    arXiv 1807.03039).
    With `once` a single step of the sampler is stochastic, drawn anew for each chunk, so that its
    likelihood is that of this step (`robostack.learn.rl.traces`).

    `delay` > 0 lets time pass while a chunk is computed, in lockstep: the first `delay` actions
    after an observation are still the old chunk's. `rtc` is how the new one takes that into
    account (`robostack.policy.rtc`), `beta` bounds its guidance.

    `steer` guides every chunk, by a reward's gradient for instance (`robostack.policy.guidance`).

    With `candidates` > 1 so many chunks are sampled from one encoding and the best by `score`, a
    `ChunkReward.rank` for instance, is taken.
    """

    def __init__(
        self,
        vla: VLA,
        execute: int = 8,
        steps: int = 5,
        level: float = 0.0,
        rtc: rtc.Realtime = "none",
        delay: int = 0,
        beta: float = 5.0,
        candidates: int = 1,
        score: Score | None = None,
        steer: Steer | None = None,
        once: bool = False,
        temperature: float = 1.0,
    ):
        horizon = vla.config.horizon
        if not 1 <= execute <= horizon:
            raise ValueError(f"execute: expected 1 to {horizon} (the chunk), got {execute}")
        if not 0 <= delay <= min(execute, horizon - execute):
            raise ValueError(
                f"delay={delay}: expected 0 to {min(execute, horizon - execute)}, so that the old "
                f"chunk of {horizon} lasts until the new one is there (execute={execute})"
            )
        _require_mode(rtc, level, beta)
        if once and (level <= 0 or steps < 2):
            raise ValueError(
                f"once=True with level={level:g}, steps={steps}: a stochastic step needs a level "
                "above 0 and 2 steps or more"
            )
        require_temperature(temperature)
        if candidates < 1 or (candidates > 1) != (score is not None):
            raise ValueError(f"candidates={candidates}: expected 1, or more and a score")
        self.vla, self.execute, self.steps, self.level = vla.eval(), execute, steps, level
        self.rtc, self.delay, self.beta = rtc, delay, beta
        if steer is not None and rtc in ("guided", "identity"):
            raise ValueError(f"rtc={rtc} steers the sampler itself; without it, or with clamped")
        self.candidates, self.score, self.steer, self.once = candidates, score, steer, once
        self.temperature = temperature
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._ahead: np.ndarray | None = None  # what of the last chunk was not executed

    def act(self, observation: Observation) -> np.ndarray:
        """The first chunk of a try is waited for; later ones begin `delay` actions late."""
        if self.delay == 0:
            return self.plan(observation)[: self.execute]
        chunk = self.plan(observation, self._ahead, 0 if self._ahead is None else self.delay)
        if self._ahead is not None:
            chunk[: self.delay] = self._ahead[: self.delay]
        self._ahead = chunk[self.execute :]
        return chunk[: self.execute]

    def plan(
        self, observation: Observation, previous: np.ndarray | None = None, delay: int = 0
    ) -> np.ndarray:
        """A whole chunk f32[H, A] for an observation.

        `previous` f32[M, A] is what the robot will execute from this observation on if nothing new
        comes, of which the first `delay` rows cannot be changed any more. It is clipped to the
        spec's bounds, as the chunk is. Without real-time chunking (rtc="none") neither has an
        effect.
        """
        previous = None if previous is None else self._checked(previous)
        start, guide = self._realtime(previous, delay)
        if self.steer is not None:
            guide = _both(self.steer(observation), guide)
        chunks = self._sample(observation, self.candidates, start, guide)
        if self.rtc == "clamped" and previous is not None:
            chunks[:, :delay] = previous[:delay]  # free of the rounding of normalisation
        best = 0
        if self.score is not None:
            scores = np.asarray(self.score(observation, chunks))
            if scores.shape != (self.candidates,) or not np.isfinite(scores).all():
                raise ValueError(f"score: expected {self.candidates} finite numbers, got {scores}")
            best = int(scores.argmax())
        return chunks[best]

    def propose(self, observation: Observation, count: int) -> np.ndarray:
        """`count` chunks f32[N, H, A] for one observation, which is encoded once."""
        return self._sample(observation, count)

    def _checked(self, previous: np.ndarray) -> np.ndarray:
        spec = self.vla.spec
        if previous.ndim != 2 or previous.shape[1] != spec.action_dim:
            raise ValueError(
                f"previous: expected f32[M, {spec.action_dim}], got {list(previous.shape)}"
            )
        if not np.isfinite(previous).all():
            raise ValueError("previous: the actions are not finite")
        return spec.clip(previous)

    def _realtime(
        self, previous: np.ndarray | None, delay: int
    ) -> tuple[Tensor | None, Guide | None]:
        """Actions to begin with, normalised, and the guide that holds a chunk to them."""
        if previous is None:
            if delay:
                raise ValueError(f"delay={delay} needs the previous actions")
            return None, None
        horizon = self.vla.config.horizon
        overlap = min(len(previous), horizon)
        if not 0 <= delay <= overlap:
            raise ValueError(f"delay={delay}: expected 0 to {overlap}, the previous actions")
        if self.rtc == "none" or overlap == 0:
            return None, None
        device = self.vla.normalize_action.low.device
        raw = torch.from_numpy(previous[:overlap]).to(device)
        target = torch.zeros(horizon, raw.shape[1], device=device)
        target[:overlap] = self.vla.normalize_action(raw)
        if self.rtc == "clamped":
            return target[:delay], rtc.Clamped(delay)
        weights = rtc.soft_mask(horizon, delay, overlap).to(device)
        jacobian = "true" if self.rtc == "guided" else "identity"
        return None, rtc.Guided(target, weights, self.beta, jacobian)

    @torch.no_grad()  # not inference_mode: guidance differentiates inside
    def _sample(
        self,
        observation: Observation,
        count: int,
        start: Tensor | None = None,
        guide: Guide | None = None,
    ) -> np.ndarray:
        vla = self.vla
        shape = (vla.config.horizon, vla.spec.action_dim)
        batch = observation_batch(observation, shape).to(vla.normalize_action.low.device)
        prefix = vla.encode(batch).repeat(count)
        batch.state = batch.state.repeat(count, 1)
        noise = self.temperature * vla.noise(count, self._generator)
        if start is not None:
            noise[:, : len(start)] = start
        at = None
        if self.once:
            at = int(torch.randint(self.steps - 1, (), generator=self._generator))
        drawn = self.level, self._generator, prefix, guide
        chunks = vla.sample(batch, noise, self.steps, *drawn, at=at)
        if not torch.isfinite(chunks).all():
            raise FloatingPointError("the policy produced actions that are not finite")
        return vla.spec.clip(chunks.cpu().numpy())


def require_temperature(temperature: float) -> None:
    """Raises ValueError for one that no noise can have."""
    if not 0 <= temperature < float("inf"):
        raise ValueError(
            f"temperature={temperature:g}: expected 0 (always the same chunk) or more; 1 is what "
            "was trained"
        )


def _require_mode(mode: str, level: float, beta: float) -> None:
    rtc.require_beta(beta)
    if mode not in rtc.MODES:
        raise ValueError(f"rtc: expected one of {', '.join(rtc.MODES)}, got {mode!r}")
    if mode != "none" and level > 0:
        raise ValueError(f"rtc={mode} needs level=0: the SDE would blur what is to be kept")


def _both(steer: Guide, guide: Guide | None) -> Guide:
    """First steered, then what real-time chunking holds still."""
    return steer if guide is None else lambda velocity: guide(steer(velocity))
