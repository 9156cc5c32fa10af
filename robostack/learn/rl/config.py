"""What can be chosen of online reinforcement learning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from robostack.alarms import Alarms
from robostack.assist import AssistConfig
from robostack.augment import AugmentConfig
from robostack.learn.learner import Compute

Algorithm = Literal["awr", "filtered", "ppo", "grpo", "nft", "rlpd"]
LIKELIHOOD = ("ppo", "grpo", "nft")  # learn from the one stochastic step of a chunk
SUCCESS_ALONE = ("filtered", "grpo", "nft")  # whatever else is paid
PAID = ("naive", "gate", "curiosity")  # settings that have no effect on those
TRAINING = ("lr", "batch", "average", "draws", "freeze", "warmup", "compute")  # nor on rlpd
NUMBERS = (  # of RLConfig: which settings, what fits, and how to say so
    (
        ("iterations", "episodes", "updates", "batch", "draws", "critic_batch"),
        lambda x: x >= 1,
        "1 or more",
    ),
    (
        ("warmup", "critic_updates", "refresh", "first_seed", "shaping"),
        lambda x: 0 <= x < math.inf,
        "0 or more",
    ),
    (("lr", "temperature", "time_constant"), lambda x: 0 < x < math.inf, "a number above 0"),
    (("trace",), lambda x: 0 <= x <= 1, "0 to 1"),
    (("average",), lambda x: 0 <= x < 1, "0 to below 1"),
)


@dataclass(frozen=True)
class ClipConfig:
    """Of the policy gradients, ppo and grpo; the last is nft's, too."""

    low: float = 0.2  # by which a ratio may fall, and
    high: float = 0.28  # rise, before nothing more is gained
    dual: float = 3.0  # ratio beyond which a bad chunk is pushed no further
    most_kl: float = 0.1  # KL from the policy that acted at which an iteration's updates end

    def __post_init__(self) -> None:
        if not (0 < self.low < 1 and self.high > 0 and self.dual > 1 and self.most_kl > 0):
            raise ValueError(f"clip: expected 0 < low < 1, high > 0, dual > 1, most_kl > 0: {self}")


@dataclass(frozen=True)
class GroupConfig:
    """Of grpo: tries of one start are compared with each other."""

    tries: int = 8
    least: float = 0.1  # share of successes in a group from which on it counts, as long as
    # failures are worth 0 (bank=0, or too little is remembered yet), and
    most: float = 0.9  # up to which it does, always
    bank: int = 64  # successes that failures are compared with; 0: a failure is worth 0
    partial: float = 0.6  # worth of a failure that looks like a success, below 1

    def __post_init__(self) -> None:
        if self.tries < 2 or not 0 <= self.least <= self.most <= 1:
            raise ValueError(
                f"group: expected 2 or more tries and 0 <= least <= most <= 1, got {self}"
            )
        if self.bank < 0 or not 0 <= self.partial < 1:
            raise ValueError(
                f"group: expected bank of 0 or more and partial from 0 to below 1, got {self}: "
                "a success must be worth more than any failure"
            )


@dataclass(frozen=True)
class NFTConfig:
    """Of nft: step-wise negative-aware fine-tuning."""

    beta: float = 1.0  # how far the two imagined policies lie to either side of the old one
    trust: float = 0.05  # weight of the squared distance from it

    def __post_init__(self) -> None:
        if not (self.beta > 0 and self.trust >= 0):
            raise ValueError(f"nft: expected beta > 0 and trust of 0 or more, got {self}")


@dataclass(frozen=True)
class RLPDConfig:
    """Of rlpd: the policy stays as it is, and small networks learn to choose among and to edit
    its chunks."""

    critics: int = 8  # of which two, drawn anew, make each target
    width: int = 256  # of their layers
    proposals: int = 4  # chunks of the policy that are chosen from, each also edited
    reach: float = (
        0.05  # of an edit, in half ranges of the actions, at each action of the chunk: of
    )
    # 8 actions of 5 cm it is 2 cm; the fingers are not edited
    lr: float = 3e-4
    average: float = 0.005  # by which target networks follow
    demonstrated: float = 0.5  # share of a batch that is demonstrations and successes
    batch: int = 128  # chunks an update

    def __post_init__(self) -> None:
        if self.critics < 2 or self.proposals < 1 or self.width < 8 or self.batch < 2:
            raise ValueError(
                f"rlpd: expected 2 or more critics, 1 or more proposals, a width of 8 or more and "
                f"a batch of 2 or more, got {self}"
            )
        if not 0 < self.lr < math.inf:
            raise ValueError(f"rlpd: lr={self.lr:g}: expected a number above 0")
        if not (0 < self.reach <= 1 and 0 <= self.demonstrated < 1 and 0 < self.average <= 1):
            raise ValueError(
                f"rlpd: expected reach and average above 0 up to 1 and demonstrated from 0 to "
                f"below 1, got {self}"
            )


@dataclass(frozen=True)
class CuriosityConfig:
    """A bonus for where the policy has not been, annealed to 0 (see curiosity.py)."""

    weight: float = 0.0  # of each step, in units of success, at first; 0: there is none

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"curiosity: expected a weight of 0 or more, got {self.weight}")


@dataclass(frozen=True)
class RLConfig:
    """Online fine-tuning from an existing policy."""

    algorithm: Algorithm = "awr"  # see docs/rl.md
    iterations: int = 6
    episodes: int = 60  # rollouts an iteration, each from a new start (grpo: tries of fewer)
    updates: int = 200  # policy updates an iteration
    batch: int = 32  # chunks an update
    draws: int = 4  # noises and times of a chunk: awr and filtered
    lr: float = 3e-4
    warmup: int = 20
    average: float = 0.99  # of the weights; ppo and grpo act as they learn, without one
    freeze: bool = False  # the backbone stays as it is
    temperature: float = 0.05  # awr: in units of success probability
    time_constant: float = 5.0  # [s] until a reward is worth 1/e, whatever the control rate
    trace: float = 0.95  # lambda of generalised advantage estimation
    shaping: float = 1.0  # weight of the potentials; 0 leaves bare success
    naive: bool = False  # control: potentials are paid as they rise, terminals and limits alike
    gate: bool = False  # pay for potentials only where they are sure (see `shaped_rewards`)
    critic_updates: int = 100
    critic_batch: int = 128
    constant_reward: bool = False  # control: success and potentials are ignored
    clip: ClipConfig = field(default_factory=ClipConfig)
    group: GroupConfig = field(default_factory=GroupConfig)
    nft: NFTConfig = field(default_factory=NFTConfig)
    rlpd: RLPDConfig = field(default_factory=RLPDConfig)
    curiosity: CuriosityConfig = field(default_factory=CuriosityConfig)
    assist: AssistConfig = field(default_factory=AssistConfig)  # not with likelihoods
    refresh: int = 0  # iterations after which learned rewards go on learning from all rollouts
    compute: Compute = field(default_factory=Compute)
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # of images: awr and filtered
    first_seed: int = 50_000  # of the environment, for rollouts
    keep: bool = False  # the policy of every iteration, in rollout-policy/
    alarms: Alarms = field(default_factory=Alarms)  # of reward hacking

    def __post_init__(self) -> None:
        for names, fits, wanted in NUMBERS:
            for name in names:
                if not fits(getattr(self, name)):
                    raise ValueError(f"rl: {name}={getattr(self, name):g}: expected {wanted}")
        self._require_effect()
        helped = {name: getattr(self.assist, name) for name in ("share", "rescue")}
        if any(helped.values()) and self.algorithm in LIKELIHOOD:
            told = ", ".join(f"assist.{name}={value:g}" for name, value in helped.items() if value)
            raise ValueError(
                f"rl: {told}: {self.algorithm} learns from what the policy drew, which a hand that "
                "leads does not leave as it is; expected 0, or awr, filtered or rlpd"
            )
        if self.algorithm == "grpo" and self.episodes % self.group.tries:
            raise ValueError(
                f"rl: episodes={self.episodes}: expected a multiple of group.tries="
                f"{self.group.tries}, so that every start is tried as often: "
                f"{-(-self.episodes // self.group.tries) * self.group.tries}, for instance"
            )

    def _require_effect(self) -> None:
        """Nobody shall look at what came of a setting that did nothing."""
        if self.algorithm in SUCCESS_ALONE:
            idle, why, instead = PAID, "looks at success alone", ", or awr, ppo or rlpd"
        elif self.algorithm == "rlpd":
            idle, why, instead = TRAINING, "leaves the policy as it is", ""
        else:
            return
        for name in idle:
            value, default = getattr(self, name), getattr(RLConfig(), name)
            if value != default:
                if hasattr(self.rlpd, name):
                    instead = f", and rlpd.{name} in its place"
                raise ValueError(
                    f"rl: {name}={value}: {self.algorithm} {why}; expected {default}{instead}"
                )
