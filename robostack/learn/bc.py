"""Behaviour cloning: the mean of the flow loss over windows of demonstrations."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from robostack.augment import AugmentConfig, augment
from robostack.data.chunks import Batch, Windows, windows_of
from robostack.data.reading import Reading, batches
from robostack.device import device
from robostack.learn import processes
from robostack.learn.learner import Compute, Learner, Schedule
from robostack.learn.run import Run, generator, rng
from robostack.policy import flow, rtc
from robostack.policy.fast import FastTokenizer
from robostack.policy.vla import VLA, VLAConfig, parameter_count
from robostack.types import Episode, RobotSpec

FITTED = 20_000  # windows, at most, of which a tokenizer is made


@dataclass(frozen=True)
class BCConfig:
    """Cloning from scratch, or further on an existing policy."""

    policy: VLAConfig = field(default_factory=VLAConfig)  # ignored when a policy is given
    steps: int = 1200
    batch: int = 32  # observations a step, over all processes
    draws: int = 4  # noises and times per observation, which is encoded once
    lr: float = 5e-4
    backbone_lr: float | None = None  # of the backbone, if not lr; pretrained ones want less
    schedule: Schedule = "cosine"
    warmup: int = 50
    weight_decay: float = 1e-4
    clip: float = 1.0  # longest gradient
    average: float = 0.999  # decay of the weight average; 0: none, which saves its memory
    compute: Compute = field(default_factory=Compute)
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # of the images
    max_delay: int = 0  # up to so many first actions are given: real-time chunking, mode clamped
    openings: float = 0.0  # of the steps, the first so many see only demonstrations' first
    # observations: what is asked for is told by the words there, later by where the hand goes
    new_robot: bool = False  # the data are of another robot than the policy's: its weights go on,
    # its normalisation does not
    tokens: float = 0.0  # weight of action tokens (FAST) that the backbone predicts alongside
    reading: Reading = field(default_factory=Reading)  # no part of what is learned
    log_every: int = 20
    save_every: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "draws", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")
        if not 0 <= self.openings <= 1:
            raise ValueError(f"openings={self.openings}: expected a share of the steps, 0 to 1")
        if self.tokens < 0 or not self.clip > 0 or not 0 <= self.average < 1:
            raise ValueError(
                f"expected tokens of 0 or more, clip above 0 and average from 0 to below 1, got "
                f"{self.tokens}, {self.clip} and {self.average}"
            )


@dataclass
class Lesson:
    """A batch and the noises and times at which it is learned, `draws` in a row for each sample."""

    batch: Batch
    draws: int
    noise: Tensor  # f32[B * draws, H, A]
    time: Tensor  # f32[B * draws], or f32[B * draws, H] where first actions are given
    valid: Tensor  # bool[B * draws, H], False at given actions and beyond the end of the episode

    @classmethod
    def draw(
        cls, vla: VLA, batch: Batch, draws: int, random: torch.Generator, max_delay: int = 0
    ) -> Lesson:
        time = flow.stratified_time(draws, len(batch), random).T.reshape(-1).to(batch.state.device)
        noise = vla.noise(len(batch) * draws, random)
        valid = batch.valid.repeat_interleave(draws, 0)
        if max_delay:
            time, valid = rtc.clean_prefix(time, valid, max_delay, random)
        return cls(batch, draws, noise, time, valid)

    def part(self, rows: slice) -> Lesson:
        """Some of its samples."""
        drawn = slice(rows.start * self.draws, rows.stop * self.draws)
        drawings = self.noise[drawn], self.time[drawn], self.valid[drawn]
        return Lesson(self.batch.part(rows), self.draws, *drawings)


def loss(vla: VLA, lesson: Lesson, weight: float = 0.0) -> tuple[Tensor, dict[str, float]]:
    """Mean flow loss, and `weight` times the cross-entropy of the chunks' action tokens.

    That a backbone learns tokens while the expert learns the flow is pi0.5's (2504.16054) and
    NORA-1.5's (2511.14659), where tokens weigh 1 and the flow 10.
    """
    tokens = None
    if weight:
        tokens = vla.tokenizer.encode(vla.normalize_action(lesson.batch.chunk).cpu().numpy())
    told = vla(lesson.batch, lesson.noise, lesson.time, lesson.draws, tokens, lesson.valid)
    if tokens is None:
        return told.mean(), {}
    flows, entropy = (each.mean() for each in told)
    metrics = {"flow": float(flows.detach()), "tokens": float(entropy.detach())}
    return flows + weight * entropy, metrics


def fit_normalizers(vla: VLA, data: Windows) -> None:
    vla.normalize_state.fit(data.column("state"))
    vla.normalize_action.fit(data.column("action")[data.rows()])


def fit_tokens(vla: VLA, data: Windows, random: np.random.Generator) -> None:
    """Attach a tokenizer made of chunks of these demonstrations."""
    rows = data.rows()
    chunks, _ = data.chunks(random.choice(rows, min(len(rows), FITTED), replace=False))
    normal = vla.normalize_action(torch.from_numpy(chunks).to(device()))
    vla.attach_tokens(FastTokenizer.fit(normal.cpu().numpy()))


def policy_of(config: BCConfig, spec: RobotSpec, start: VLA | None) -> VLA:
    """The policy to train. Raises ValueError for settings under which it could not learn."""
    if start is None:
        if config.new_robot:
            raise ValueError("new_robot=true goes on from a policy: name it with --start")
        start = VLA(config.policy, spec)
    elif config.new_robot:
        start = start.for_robot(spec)
    if start.config.insulate and not config.tokens:
        raise ValueError(
            "policy.insulate=true keeps the expert's gradient from the backbone, so nothing would "
            "train it: give tokens=0.1, or policy.pretrained.train=frozen without insulate"
        )
    return start.to(device())


def learner_of(vla: VLA, config: BCConfig) -> Learner:
    return Learner(
        vla.train(),
        config.lr,
        config.steps,
        config.warmup,
        config.average,
        config.clip,
        schedule=config.schedule,
        weight_decay=config.weight_decay,
        rates={} if config.backbone_lr is None else {"backbone": config.backbone_lr},
        compute=config.compute,
    )


def train(
    config: BCConfig,
    spec: RobotSpec,
    episodes: Windows | Iterable[Episode],
    run: Run,
    seed: int = 0,
    start: VLA | None = None,
    label: str = "train bc",
) -> VLA:
    """Train, save into `run` and return the averaged policy.

    `start` goes on from a policy and keeps its normalisation, unless the data are of a
    `new_robot`; otherwise it begins from scratch.
    """
    torch.manual_seed(seed)
    vla = policy_of(config, spec, start)
    data = windows_of(spec, vla.config.horizon, episodes)
    vla.learns(data.instructions)
    if config.openings and len(data.instructions) == 1 and processes.main():
        print(
            f"warning: openings={config.openings:g}: all demonstrations have one instruction, so "
            "first observations alone teach nothing about words; expected 0",
            file=sys.stderr,
        )
    if start is None or config.new_robot:
        fit_normalizers(vla, data)
    if config.tokens and vla.tokenizer is None:
        fit_tokens(vla, data, rng(seed))
    learner = learner_of(vla, config)
    parts = learner.parts(config.batch)
    metrics: dict[str, float] = {}  # stays empty if all steps were done before an interruption
    first = learner.resume(run)
    rows = data.openings(), data.rows()
    picks = (_pick(rows, config, seed, step)[0] for step in range(first, config.steps))
    found = batches(data, picks, config.reading)
    for step, batch in zip(run.steps(first, config.steps, label), found):
        random, draws = _pick(rows, config, seed, step)[1], generator(seed, step)
        batch = augment(batch.to(device()), config.augment, random)
        lesson = Lesson.draw(vla, batch, config.draws, draws, config.max_delay)
        metrics = learner.step(learner(loss, lesson.part(p), config.tokens) for p in parts)
        if step % config.log_every == 0 or step == config.steps - 1:
            run.log(step, metrics)
        if (step + 1) % config.save_every == 0:
            learner.save(run)
    vla = learner.trained()
    if processes.main():
        vla.save(run.path / "policy")
    run.finish({"parameters": parameter_count(vla), **metrics})
    return vla


def _pick(
    rows: tuple[np.ndarray, np.ndarray], config: BCConfig, seed: int, step: int
) -> tuple[np.ndarray, np.random.Generator]:
    """The rows of a step's batch, of openings or of all `rows`, and the generator that the rest of
    the step draws from."""
    openings, every = rows
    random = rng(seed, step)
    seen = openings if step < config.openings * config.steps else every
    return random.choice(seen, config.batch), random
