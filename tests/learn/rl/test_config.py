"""What cannot be, or would do nothing, is refused before anything runs."""

from dataclasses import replace

import pytest

from robostack.augment import AugmentConfig
from robostack.learn import rl
from robostack.learn.learner import Compute
from robostack.learn.rl.config import PAID, SUCCESS_ALONE, TRAINING, NFTConfig, RLPDConfig

NAN, INFINITE = float("nan"), float("inf")
IMPOSSIBLE = {
    "iterations": [0],
    "episodes": [0],
    "updates": [0],
    "batch": [0],
    "draws": [0],
    "critic_batch": [0, -1],
    "critic_updates": [-1],
    "warmup": [-1],
    "refresh": [-1],
    "first_seed": [-1],
    "shaping": [-0.5, NAN, INFINITE],
    "lr": [0, -1e-3, NAN, INFINITE],
    "temperature": [0, -0.1, NAN],
    "time_constant": [0, -1, NAN, INFINITE],
    "trace": [-0.1, 5, NAN],
    "average": [-0.1, 1, 1.5, NAN],
}


@pytest.mark.parametrize(
    "name, value", [(n, v) for n, values in IMPOSSIBLE.items() for v in values]
)
def test_a_number_that_cannot_be_is_refused(name, value):
    with pytest.raises(ValueError, match=f"^rl: {name}={value:g}: expected "):
        rl.RLConfig(**{name: value})


def test_numbers_at_their_limits_are_accepted():
    limits = dict(iterations=1, critic_batch=1, trace=1, average=0.999)
    rl.RLConfig(**limits, **dict.fromkeys(("critic_updates", "warmup", "refresh", "shaping"), 0))
    rl.RLConfig(trace=0, average=0)


def test_so_it_is_with_those_of_an_algorithm_s_own():
    with pytest.raises(ValueError, match="rlpd: lr=0: expected a number above 0"):
        RLPDConfig(lr=0)
    with pytest.raises(ValueError, match="nft: expected beta > 0 and trust of 0 or more"):
        NFTConfig(trust=NAN)


CHANGED = {
    "naive": True,
    "gate": True,
    "curiosity": rl.CuriosityConfig(weight=0.1),
    "lr": 1e-3,
    "batch": 8,
    "average": 0.5,
    "draws": 1,
    "freeze": True,
    "warmup": 0,
    "compute": Compute(precision="bfloat16"),
}


def config(algorithm, **changes):
    return replace(rl.RLConfig(episodes=64, algorithm=algorithm), **changes)


@pytest.mark.parametrize("algorithm", ["awr", *SUCCESS_ALONE, "ppo", "rlpd"])
@pytest.mark.parametrize("name", CHANGED)
def test_what_would_have_no_effect_is_refused_and_only_that(algorithm, name):
    idle = algorithm in SUCCESS_ALONE and name in PAID
    if not (idle or (algorithm == "rlpd" and name in TRAINING)):
        config(algorithm, **{name: CHANGED[name]})
        return
    told = "looks at success alone" if idle else "leaves the policy as it is"
    with pytest.raises(ValueError, match=f"rl: {name}=.*: {algorithm} {told}; expected ") as error:
        config(algorithm, **{name: CHANGED[name]})
    if idle:
        assert str(error.value).endswith("or awr, ppo or rlpd")
    elif name in ("lr", "batch", "average"):
        assert str(error.value).endswith(
            f"{getattr(rl.RLConfig(), name)}, and rlpd.{name} in its place"
        )


def test_bare_success_may_be_asked_of_what_looks_at_nothing_else():
    for algorithm in SUCCESS_ALONE:
        config(algorithm, shaping=0.0, augment=AugmentConfig(shift=0))


def test_a_count_of_episodes_that_cannot_be_grouped_is_told_with_one_that_can():
    with pytest.raises(ValueError, match="episodes=60: .* group.tries=8, .*: 64, for instance"):
        rl.RLConfig(algorithm="grpo")
    rl.RLConfig(algorithm="grpo", episodes=64)
