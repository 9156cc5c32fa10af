"""Direct preference optimisation of a flow policy (Flow-DPO, 2501.13918; NORA-1.5, 2511.14659).

With e(a) the flow error of a chunk and d = e_theta - e_ref its drift from a frozen reference,

    loss = softplus(beta (d_chosen - d_rejected)) + anchor e_theta(chosen) + rehearsal e_theta(demo)

Chosen and rejected, policy and reference share observation, noise and time: what they share cancels
in the difference, which is what makes a few hundred pairs enough. The anchor keeps the margin from
growing by both errors growing, the usual failure of diffusion DPO.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robostack.augment import AugmentConfig, augment
from robostack.data.chunks import Batch, ChunkData
from robostack.device import device
from robostack.learn import bc, processes
from robostack.learn.bc import Lesson
from robostack.learn.learner import Compute, Learner
from robostack.learn.run import Run, generator, rng
from robostack.policy.vla import VLA
from robostack.types import Episode, Preference


@dataclass(frozen=True)
class DPOConfig:
    """Preference learning from an existing policy."""

    steps: int = 200
    batch: int = 16  # pairs a step
    draws: int = 4  # noises and times per pair
    lr: float = 1e-4
    warmup: int = 20
    average: float = 0.99
    beta: float = 50.0  # on the mean, not the sum, over steps and dims of a chunk
    anchor: float = 1.0
    rehearsal: float = 1.0  # cloning on demonstrations alongside
    compute: Compute = field(default_factory=Compute)
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # of the images
    log_every: int = 10
    save_every: int = 200


def dpo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> tuple[Tensor, dict[str, float]]:
    """-log sigmoid(-beta ((chosen - ref_chosen) - (rejected - ref_rejected))), mean of f32[B].

    The arguments are flow errors. At theta = ref it is log 2 whatever the pairs.
    """
    margin = -beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    loss = F.softplus(-margin).mean()
    return loss, {
        "dpo": float(loss.detach()),
        "accuracy": float((margin > 0).float().mean()),
        "chosen_drift": float((chosen - ref_chosen).detach().mean()),
        "rejected_drift": float((rejected - ref_rejected).detach().mean()),
    }


def pair_batch(
    data: ChunkData, chosen: np.ndarray, rejected: np.ndarray
) -> tuple[Batch, Tensor, Tensor]:
    """The pairs' shared observation with the chosen chunk; the rejected chunk and its validity."""
    batch, other = data.batch(chosen), data.batch(rejected)
    return batch, other.chunk, other.valid


def pair_errors(
    vla: VLA, batch: Batch, rejected: Tensor, valid: Tensor, noise: Tensor, time: Tensor, draws: int
) -> tuple[Tensor, Tensor]:
    """Flow errors f32[B] of chosen and rejected chunks under the same noise and time.

    The observation is encoded once for both; `noise` f32[B * draws, H, A], `time` f32[B * draws].
    """
    count = len(batch)
    prefix = vla.encode(batch).repeat(draws)
    winner = batch.repeat(draws)
    loser = Batch(
        {},
        winner.state,
        winner.tasks,
        rejected.repeat_interleave(draws, 0),
        valid.repeat_interleave(draws, 0),
    )
    errors = [vla.flow_loss(b, noise, time, prefix) for b in (winner, loser)]
    return errors[0].reshape(count, draws).mean(1), errors[1].reshape(count, draws).mean(1)


def loss(
    vla: VLA,
    reference: VLA,
    lesson: Lesson,
    rejected: Tensor,
    valid: Tensor,
    demo: Lesson,
    config: DPOConfig,
) -> tuple[Tensor, dict[str, float]]:
    """All three terms, of a lesson on the chosen chunks and one on demonstrations."""
    shared = (lesson.batch, rejected, valid, lesson.noise, lesson.time, lesson.draws)
    error, error_rejected = pair_errors(vla, *shared)
    with torch.no_grad():
        ref, ref_rejected = pair_errors(reference, *shared)
    preferred, metrics = dpo_loss(error, error_rejected, ref, ref_rejected, config.beta)
    cloned, _ = bc.loss(vla, demo)
    return preferred + config.anchor * error.mean() + config.rehearsal * cloned, metrics


def train(
    config: DPOConfig,
    start: VLA,
    pairs: list[Preference],
    tries: dict[str, Episode],
    demonstrations: Iterable[Episode],
    run: Run,
    seed: int = 0,
    label: str = "train dpo",
) -> VLA:
    """Improve `start` on `pairs`, which refer to episodes of `tries`; returns a new policy."""
    torch.manual_seed(seed)
    reference = copy.deepcopy(start).to(device()).eval().requires_grad_(False)
    vla = copy.deepcopy(start).to(device())
    data = ChunkData(vla.spec, vla.config.horizon)
    used = sorted({ref[0] for p in pairs for ref in (p.chosen, p.rejected)})
    index = {name: data.add(tries[name]) for name in used}
    chosen = np.array([data.row(index[p.chosen[0]], p.chosen[1]) for p in pairs])
    rejected = np.array([data.row(index[p.rejected[0]], p.rejected[1]) for p in pairs])
    demos = ChunkData(vla.spec, vla.config.horizon, demonstrations)
    demo_rows = demos.rows()
    learner = Learner(
        vla.train(),
        config.lr,
        config.steps,
        config.warmup,
        config.average,
        compute=config.compute,
    )
    parts = learner.parts(config.batch)
    metrics: dict[str, float] = {}
    for step in run.steps(learner.resume(run), config.steps, label):
        random, draws = rng(seed, step), generator(seed, step)
        pick = random.choice(len(pairs), config.batch)
        batch, loser, valid = pair_batch(data, chosen[pick], rejected[pick])
        batch = augment(batch.to(device()), config.augment, random)
        lesson = Lesson.draw(vla, batch, config.draws, draws)
        demo = demos.batch(random.choice(demo_rows, config.batch)).to(device())
        demo = Lesson.draw(vla, augment(demo, config.augment, random), config.draws, draws)
        metrics = learner.step(
            learner(
                loss,
                reference,
                lesson.part(p),
                loser[p].to(device()),
                valid[p].to(device()),
                demo.part(p),
                config,
            )
            for p in parts
        )
        if step % config.log_every == 0 or step == config.steps - 1:
            run.log(step, metrics)
        if (step + 1) % config.save_every == 0:
            learner.save(run)
    vla = learner.trained()
    if processes.main():
        vla.save(run.path / "policy")
    run.finish({"pairs": len(pairs), **metrics})
    return vla
