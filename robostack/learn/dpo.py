"""Direct preference optimisation of a flow policy (Flow-DPO, 2501.13918; NORA-1.5, 2511.14659).

With e(a) the flow error of a clip, d = e_theta - e_ref its drift from a frozen reference and
p the probability that what is called chosen is the better one,

    m = -beta (d_chosen - d_rejected)
    loss = p softplus(-m) + (1 - p) softplus(m) + anchor e_theta(chosen) + rehearsal e_theta(demo)

Policy and reference share windows, noise and time, chosen and rejected noise and time alone: each
draws windows from all of its clip, and what they see differs after the first action. Single chunks
from one observation share that, too. What is shared cancels in the difference, which is what makes
a few hundred pairs enough. Errors are means over actions, so clips of different lengths compare.
What keeps the margin from growing by both errors growing, the usual failure of diffusion DPO, is
the anchor, which ties do not have, and the safeguard of Diffusion-SDPO (2511.03317).

`objective=rwr` is reward-weighted regression (2501.13918) on the same pairs: both clips are cloned,
p and 1 - p times as much. With hard labels it clones winners and nothing else.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robostack.augment import AugmentConfig, augment
from robostack.data.chunks import Windows, windows_of
from robostack.device import device
from robostack.learn import bc, processes
from robostack.learn.bc import Lesson
from robostack.learn.learner import Compute, Learner, resumed
from robostack.learn.pairs import Flows, PairData, PairError, PairLesson, encode, flows
from robostack.learn.run import Run, generator, rng
from robostack.learn.trials import Check, Drift, Trials
from robostack.policy.vla import VLA
from robostack.types import Episode, Preference


@dataclass(frozen=True)
class DPOConfig:
    """Preference learning from an existing policy."""

    objective: Literal["dpo", "rwr"] = "dpo"
    steps: int = 600
    batch: int = 16  # pairs a step
    windows: int = 2  # chunks that are looked at of a clip of several
    draws: int = 4  # noises and times per chunk
    lr: float = 3e-4
    freeze: bool = False  # leave the backbone as it is: it then looks once for policy and reference
    warmup: int = 20
    average: float = 0.99
    beta: float = 50.0  # on the mean, not the sum, over steps and dims of a chunk
    temperature: float = 0.0  # of labels: p = sigmoid(margin / temperature); 0: chosen is better
    smoothing: float = 0.0  # chance that a label is wrong
    safeguard: float = 0.5  # share of the chosen error's descent that stays, see `safeguard`
    anchor: float = 1.0
    rehearsal: float = 1.0  # cloning on demonstrations alongside
    most_drift: float = 0.0  # end once the chosen error stays so far above the reference's; 0: off
    check_every: int = 0  # steps between trials of the policy, whose best is kept; 0: no trials
    patience: int = 2  # trials without a better one after which training ends
    compute: Compute = field(default_factory=Compute)
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # of the images
    log_every: int = 10
    save_every: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "windows", "draws", "patience", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")
        for name in ("check_every", "warmup", "temperature", "anchor", "rehearsal", "most_drift"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number of 0 or more")
        for name in ("beta", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number above 0")
        if not 0 <= self.average <= 1:
            raise ValueError(f"average={self.average}: expected 0 to 1")
        if not (0 <= self.smoothing < 0.5 and 0 <= self.safeguard < 1):
            raise ValueError(
                "expected smoothing from 0 to below 0.5 and safeguard from 0 to below 1, got "
                f"{self.smoothing} and {self.safeguard}"
            )


def labels(pairs: Iterable[Preference], temperature: float, smoothing: float) -> np.ndarray:
    """How likely each chosen clip is the better one, f32[N]; of ties, one half. Raises PairError
    where all are ties."""
    found = []
    for pair in pairs:
        sure = 1.0
        if temperature:
            sure = 1 / (1 + math.exp(-min(pair.margin / temperature, 50.0)))
        sure = 0.5 if pair.tie else sure
        found.append(smoothing + (1 - 2 * smoothing) * sure)
    wanted = np.array(found, np.float32)
    if (wanted == 0.5).all():
        raise PairError("all pairs are ties; nothing is better than anything")
    return wanted


def of_decided(values: Tensor, label: Tensor | float, none: float) -> float:
    """Mean of f32[B] over pairs that are no ties, in which either side may be called chosen; `none`
    where all are."""
    label = torch.as_tensor(label, device=values.device).expand_as(values)
    counted = values.detach()[label != 0.5]
    return float(counted.mean()) if len(counted) else none


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    label: Tensor | float = 1.0,
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy between `label` f32[B] and sigmoid(-beta ((chosen - ref_chosen) - (rejected -
    ref_rejected))), the mean over B pairs.

    The arguments are flow errors f32[B]. At theta = ref it is log 2 whatever the pairs.
    """
    margin = -beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    loss = (label * F.softplus(-margin) + (1 - label) * F.softplus(margin)).mean()
    return loss, {
        "dpo": float(loss.detach()),
        "accuracy": of_decided((margin > 0).float(), label, 0.5),
        "chosen_drift": of_decided(chosen - ref_chosen, label, 0.0),
        "rejected_drift": of_decided(rejected - ref_rejected, label, 0.0),
    }


@torch.no_grad()
def safeguard(chosen: Flows, rejected: Flows, share: float) -> Tensor:
    """Factors f32[B] in [0, 1] for the gradient of each pair's rejected error.

    To first order, and were the velocities themselves what is moved, alike on both sides, raising
    the rejected error would take back no more than 1 - `share` of the descent of the chosen one
    (Diffusion-SDPO, arXiv 2511.03317, section 4; there one factor a batch, here one a pair). What
    moves are weights, and in these more than that may be taken back of single pairs.
    """
    down = chosen.weight * (chosen.velocity - chosen.target)
    up = rejected.weight * (rejected.velocity - rejected.target)
    against = (down * up).sum((1, 2, 3))
    room = (1 - share) * down.square().sum((1, 2, 3)) / against.clamp(min=1e-12)
    return torch.where(against <= 0, torch.ones_like(room), room.clamp(max=1))


def preference_loss(
    vla: VLA, reference: VLA, lesson: PairLesson, config: DPOConfig
) -> tuple[Tensor, dict[str, float]]:
    """The objective on pairs, its anchor included, and what is worth a line of it."""
    prefixes = encode(vla, lesson)
    chosen, rejected = flows(vla, lesson, prefixes)
    with torch.no_grad():
        if any(p.requires_grad for p in vla.backbone.parameters()):
            prefixes = encode(reference, lesson)
        before, before_rejected = flows(reference, lesson, prefixes)
    decided = lesson.label != 0.5  # of a tie nothing is cloned, nor guarded: its sides are equals
    factor = torch.ones_like(lesson.label)
    if config.safeguard and config.objective == "dpo":
        guarded = safeguard(chosen, rejected, config.safeguard)
        factor = torch.where(decided, guarded, factor)
    lost = rejected.error.detach() + factor * (rejected.error - rejected.error.detach())
    preferred, metrics = dpo_loss(
        chosen.error, lost, before.error, before_rejected.error, config.beta, lesson.label
    )
    length = [side.velocity.detach().norm(dim=(-2, -1)).mean() for side in (chosen, before)]
    metrics["velocity_ratio"] = float(length[0] / length[1])
    if config.objective == "rwr":
        weighed = lesson.label * chosen.error + (1 - lesson.label) * rejected.error
        return weighed.mean(), metrics
    metrics["safeguard"] = float(factor.mean())
    return preferred + config.anchor * (decided * chosen.error).mean(), metrics


def loss(
    vla: VLA, reference: VLA, lesson: PairLesson, demo: Lesson, config: DPOConfig
) -> tuple[Tensor, dict[str, float]]:
    """The objective on pairs, and cloning of demonstrations."""
    preferred, metrics = preference_loss(vla, reference, lesson, config)
    if not config.rehearsal:
        return preferred, metrics
    cloned, _ = bc.loss(vla, demo)
    return preferred + config.rehearsal * cloned, metrics


def frozen_copy(vla: VLA) -> VLA:
    """The policy as it is now, for ever. What is not trained is shared, not copied: of a model
    with adapters only these exist twice."""
    fixed = [p for p in vla.parameters() if not p.requires_grad]
    same = {id(p): p for p in [*fixed, *vla.buffers()]}
    return copy.deepcopy(vla, same).eval().requires_grad_(False)


def train(
    config: DPOConfig,
    start: VLA,
    pairs: list[Preference],
    tries: dict[str, Episode],
    demonstrations: Windows | Iterable[Episode],
    run: Run,
    seed: int = 0,
    label: str = "train dpo",
    check: Check | None = None,
) -> VLA:
    """Improve `start` on `pairs`, which refer to episodes of `tries`; returns a new policy: the
    last, or with `check`, a success rate of the policy in a folder, the best of those tried.

    Raises PairError naming a pair that cannot be learned from.
    """
    torch.manual_seed(seed)
    vla = copy.deepcopy(start).to(device())
    if config.freeze:
        vla.backbone.requires_grad_(False)
    reference = frozen_copy(vla)
    data = PairData(vla.spec, vla.config.horizon, pairs, tries)
    wanted = labels(pairs, config.temperature, config.smoothing)
    demos = windows_of(vla.spec, vla.config.horizon, demonstrations)
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
    drift, ended = Drift(config.most_drift, resumed(run).get("drifted", 0)), ""
    trials = Trials(run, check, config.check_every, config.patience)
    for step in run.steps(learner.resume(run), config.steps, label):
        random, draws = rng(seed, step), generator(seed, step)
        pick = random.choice(len(pairs), config.batch)
        lesson = data.lesson(
            vla, pick, wanted[pick], config.windows, config.draws, random, draws
        ).augment(config.augment, random)
        demo = demos.batch(random.choice(demo_rows, config.batch)).to(device())
        demo = Lesson.draw(vla, augment(demo, config.augment, random), config.draws, draws)
        metrics = learner.step(
            learner(loss, reference, lesson.part(p), demo.part(p), config) for p in parts
        )
        if trials.due(step, config.steps - 1):
            with learner.averaged() as tried:
                metrics["success"] = trials.hold(tried, step)
        if step % config.log_every == 0 or step == config.steps - 1 or "success" in metrics:
            run.log(step, metrics)
        if trials.over:
            ended = f"no better in the last {config.patience} trials"
            break
        if drift.far(metrics):
            ended = f"the chosen error stayed {config.most_drift} above the reference's"
            break
        if (step + 1) % config.save_every == 0:
            learner.save(run, drifted=drift.over)
    vla = learner.trained()
    if trials.success:
        vla = VLA.load(run.path / "best").to(device())
    for mine, before in zip(vla.parameters(), start.parameters(), strict=True):
        mine.requires_grad_(before.requires_grad)  # the next to train it may want the backbone
    if processes.main():
        vla.save(run.path / "policy")
    tried = {"trials": trials.success} if trials.success else {}
    run.finish({"pairs": len(pairs), "ended": ended, **metrics, **tried})
    return vla
