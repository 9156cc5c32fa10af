"""What every algorithm must do: solve a line, learn nothing of nothing, survive interruptions."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import LineEnv

from robostack.augment import AugmentConfig
from robostack.data.store import Store
from robostack.learn import rl
from robostack.learn.learner import Compute
from robostack.learn.rl.config import TRAINING, ClipConfig, GroupConfig, NFTConfig, RLPDConfig
from robostack.learn.rl.loop import ALGORITHMS
from robostack.learn.run import finished
from robostack.policy.vla import VLA
from robostack.protocols import Scores
from robostack.rollout import STOPPED, hash_seed, rollout

from .conftest import ACTING, DEMOS, line_vla, outside, runner  # noqa: TID252

EVERY = sorted(ALGORITHMS)


def of(algorithm, config, **changes):
    """A config for an algorithm; rlpd takes none of what trains a policy."""
    if algorithm == "rlpd":
        changes |= {name: getattr(rl.RLConfig(), name) for name in TRAINING}
    return replace(config, algorithm=algorithm, **changes)


SMALL = rl.RLConfig(
    iterations=3,
    episodes=4,
    updates=2,
    batch=4,
    draws=2,
    warmup=1,
    lr=1e-3,
    critic_updates=2,
    critic_batch=8,
    average=0.5,
    group=GroupConfig(tries=2, least=0, most=1),
    rlpd=RLPDConfig(critics=3, width=8, proposals=2, batch=8),
)


@pytest.fixture
def vla():
    return line_vla()


def test_every_algorithm_is_named_in_the_config():
    from typing import get_args

    from robostack.learn.rl.config import Algorithm

    assert sorted(get_args(Algorithm)) == EVERY


@pytest.mark.parametrize("algorithm", EVERY)
def test_of_tries_that_nobody_judged_nothing_is_learned_without_a_critic(vla, algorithm, new_run):
    """In the second iteration nobody says how any went."""
    config = replace(of(algorithm, SMALL), iterations=2)
    starts = config.episodes // (config.group.tries if algorithm == "grpo" else 1)
    world, run = outside(config), new_run(algorithm)

    def unjudged(folder, seeds, tries, led):
        for episode in world.collect(folder, seeds, tries):
            late = episode.seed >= config.first_seed + starts
            yield replace(episode, success=None, terminated=False) if late else episode

    rl.train(config, vla, replace(world, collect=unjudged), DEMOS, run, 0, acting=ACTING)
    rows = [json.loads(row) for row in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["unjudged"] for row in rows] == [0, config.episodes]
    assert (rows[1].get("updates") == 0) == (algorithm in rl.LIKELIHOOD)


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "nft"])
def test_tries_in_which_somebody_intervened_are_counted_and_no_likelihood_is_asked_of_them(
    vla, algorithm, new_run, weights
):
    """Each first try of an iteration is an operator's; of the last iteration all are."""
    config = replace(SMALL, algorithm=algorithm, iterations=2)
    starts = config.episodes // (config.group.tries if algorithm == "grpo" else 1)
    world, last = outside(config), config.first_seed + (config.iterations - 1) * starts

    def taken(folder, seeds, tries, led):
        for k, episode in enumerate(world.collect(folder, seeds, tries)):
            if k == 0 or episode.seed >= last:
                changed = {"actions": -episode.actions, "source": "intervention"}
                episode = replace(episode, **changed)
            yield episode

    run = new_run(algorithm)
    rl.train(config, vla, replace(world, collect=taken), DEMOS, run, 0, acting=ACTING)
    rows = [json.loads(row) for row in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["interventions"] for row in rows] == [1, config.episodes]
    assert rows[-1]["updates"] == 0

    def cut(folder, seeds, tries, led):
        for episode in taken(folder, seeds, tries, led):
            if episode.seed >= last:
                raise KeyboardInterrupt
            yield episode

    again = new_run("cut")
    for collect in (cut, taken):
        with contextlib.suppress(KeyboardInterrupt):
            rl.train(config, vla, replace(world, collect=collect), DEMOS, again, 0, acting=ACTING)
    ends = [VLA.load(each.path / "policy") for each in (run, again)]
    assert weights(ends[0]) == weights(ends[1])


@pytest.mark.parametrize("algorithm", EVERY)
def test_an_interrupted_run_ends_at_the_same_policy(vla, algorithm, played, new_run, monkeypatch):
    """It is cut while the third iteration's rollouts are collected. So a run is a function of its
    seed, too."""
    config = of(algorithm, SMALL)
    _, whole = played(vla, config, "whole")
    world, asked = outside(config), []

    def collect(folder, seeds, tries, led):
        for episode in world.collect(folder, seeds, tries, led):
            asked.append(episode.seed)
            if len(asked) == 10:
                raise KeyboardInterrupt
            yield episode

    again = replace(world, collect=collect)
    with pytest.raises(KeyboardInterrupt):
        rl.train(config, vla, again, DEMOS, new_run("cut"), 0, acting=ACTING)
    rl.train(config, vla, again, DEMOS, new_run("cut"), 0, acting=ACTING)
    cut = whole.path.parent / "cut"
    for file in sorted((whole.path / "policy").rglob("*.safetensors")):
        same = cut / file.relative_to(whole.path)
        assert file.read_bytes() == same.read_bytes(), file.name
    rows = [(path / "metrics.jsonl").read_text() for path in (whole.path, cut)]
    assert rows[0] == rows[1]
    seeds = [[e.seed for _, e in Store(p / "store").episodes()] for p in (whole.path, cut)]
    assert seeds[0] == seeds[1] and len(seeds[0]) == 12


@pytest.mark.parametrize("algorithm", EVERY)
def test_tries_where_nothing_succeeds_are_counted_and_end_nothing(vla, algorithm, played):
    """No success, no potential: groups and advantages without spread."""
    config = of(algorithm, SMALL, shaping=0.0, iterations=2)
    _, run = played(vla, config, goal=99.0)
    rows = [json.loads(row) for row in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["rollout_success"] for row in rows] == [0, 0]
    assert finished(run.path)["rollouts"] == 8


@pytest.mark.parametrize("algorithm", ["awr", "ppo", "nft"])
def test_an_update_in_pieces_is_the_update_at_once(vla, algorithm, played, weights):
    config = replace(SMALL, algorithm=algorithm, iterations=1, updates=2, lr=1e-4)
    whole = played(vla, config, "whole")[0]
    pieces = played(vla, replace(config, compute=Compute(accumulate=2)), "pieces")[0]
    moved = 0.0
    for start, one, two in zip(vla.parameters(), whole.parameters(), pieces.parameters()):
        moved = max(moved, float((one - start).abs().max()))
        assert torch.allclose(one, two, atol=2e-5)
    assert moved > 5e-5


@pytest.mark.parametrize(
    "algorithm, begins", [("ppo", dict(ratio=1, kl=0)), ("nft", dict(moved=0))]
)
def test_in_half_precision_too_the_first_update_begins_at_the_policy_that_acted(
    vla, algorithm, begins, played
):
    compute = Compute(precision="bfloat16")
    config = replace(SMALL, algorithm=algorithm, iterations=1, updates=1, compute=compute)
    _, run = played(vla, config)
    row = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])
    assert {name: row[name] for name in begins} == begins


@pytest.mark.parametrize("spread, updates", [(0.2, 20), (0.1, 20), (0.018, 4), (0.001, 1)])
def test_ppo_makes_fewer_updates_of_advantages_that_are_small_in_units_of_success(
    vla, spread, updates, new_run
):
    """By an untaught critic they are minus the potentials: of half of the tries 0.5 + `spread`, of
    the others 0.5 - `spread`."""
    config = replace(SMALL, algorithm="ppo", iterations=1, updates=20, critic_updates=0, trace=1)
    config = replace(config, clip=ClipConfig(most_kl=1e3), time_constant=1e5)
    world = outside(config, goal=99.0)

    def stopped(folder, seeds, tries, led):
        for episode in world.collect(folder, seeds, tries):
            yield replace(episode, label=STOPPED)

    def score(episode):
        potential = np.full(len(episode) + 1, 0.5 + spread * (-1) ** episode.seed, np.float32)
        return Scores(potential, np.ones_like(potential))

    run, given = new_run("small"), replace(world, collect=stopped, score=score)
    rl.train(config, vla, given, DEMOS, run, 0, acting=ACTING)
    row = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["updates"] == updates


@pytest.mark.parametrize("algorithm", ["ppo", "nft"])
def test_an_iteration_ends_where_the_policy_has_gone_far_enough_from_what_acted(
    vla, algorithm, played, capsys
):
    for most, few in ((1e9, False), (1e-7, True)):
        config = replace(SMALL, algorithm=algorithm, iterations=1, updates=40, lr=1e-3)
        _, run = played(vla, replace(config, clip=ClipConfig(most_kl=most)), f"{most}")
        row = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])
        told = f"ended after {row['updates']} of 40 updates" in capsys.readouterr().err
        assert (row["updates"] < 4) == told == few and row["last_kl"] > 1e-7


@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_a_constant_reward_moves_no_weight(vla, algorithm, played, weights):
    config = replace(SMALL, algorithm=algorithm, constant_reward=True, iterations=2)
    trained, run = played(vla, config)
    assert weights(trained) == weights(vla)
    row = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["updates"] == 0


LINE = dict(horizon=6, goal=0.25)  # an undecided policy gets there in one of four tries
LEARNING = rl.RLConfig(
    iterations=8,
    episodes=16,
    updates=8,
    batch=32,
    draws=2,
    warmup=1,
    lr=2e-2,
    critic_updates=10,
    critic_batch=16,
    average=0.8,
    temperature=0.1,
    augment=AugmentConfig(shift=0),
    clip=ClipConfig(most_kl=0.3),
    group=GroupConfig(tries=4, bank=0),
    nft=NFTConfig(beta=1.0, trust=0.1),
    rlpd=RLPDConfig(critics=4, width=32, proposals=4, reach=0.5, average=0.03, lr=1e-3, batch=32),
)
OWN = {  # what comes to its aim sooner; seeds 0 to 4 of policy and training all do
    "awr": dict(iterations=4, updates=10, lr=1e-2),
    "filtered": dict(iterations=4, updates=10, lr=1e-2),
    "ppo": dict(iterations=6),
    "nft": dict(iterations=6, lr=1e-2),
    "rlpd": dict(iterations=4, updates=30),
}


def success(folder, algorithm):
    policy = runner(folder, algorithm)
    tries = [
        rollout(LineEnv(LINE["horizon"], goal=LINE["goal"]), policy, s, policy_seed=hash_seed(s, 7))
        for s in range(900, 940)
    ]
    return float(np.mean([e.success for e in tries]))


@pytest.fixture(scope="module")
def undecided(tmp_path_factory):
    """A policy whose velocity is 0, so that it does what it draws; where it is saved; and how often
    it succeeds, as those run it that need a likelihood, and as the others do."""
    vla, folder = line_vla(), tmp_path_factory.mktemp("undecided") / "policy"
    torch.nn.init.zeros_(vla.expert.action_out.weight)
    torch.nn.init.zeros_(vla.expert.action_out.bias)
    vla.save(folder)
    return vla, folder, {True: success(folder, "ppo"), False: success(folder, "awr")}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", EVERY)
def test_a_line_is_solved_within_128_rollouts(undecided, algorithm, played):
    vla, start, rates = undecided
    before = rates[algorithm in rl.LIKELIHOOD]
    demos = list(outside(LEARNING, **LINE).collect(start, list(range(4)), 1))
    config = of(algorithm, LEARNING, **OWN.get(algorithm, {}))
    _, run = played(vla, config, demos=demos, **LINE)
    after = success(run.path / "policy", algorithm)
    assert before < 0.4 and after > 0.8, (before, after)
