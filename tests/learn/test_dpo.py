"""Preference learning: closed forms at the start, and a reference that nothing moves."""

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import make_episode

from robostack.augment import AugmentConfig
from robostack.learn import dpo, processes
from robostack.learn.pairs import Flows, PairData, PairError, encode, flows
from robostack.learn.run import generator, rng
from robostack.learn.trials import Trials
from robostack.types import Clip, Preference

DRAWS = 4
CONFIG = dpo.DPOConfig(steps=6, batch=4, draws=2, warmup=1, lr=1e-3, log_every=1, save_every=3)
TRIES = {f"{i}": make_episode(i, steps=8) for i in range(6)}
PAIRS = [
    Preference(Clip(f"{2 * i}", 0, 4), Clip(f"{2 * i + 1}", 0, 4), 1.0, {}, f"{i}")
    for i in range(3)
]


@pytest.fixture
def shared(vla):
    """Everything that policy and reference, chosen and rejected have in common."""
    data = PairData(vla.spec, 4, PAIRS, TRIES)
    return data.lesson(vla, np.arange(3), np.ones(3), 1, DRAWS, rng(0), generator(0))


def both(vla, lesson):
    return flows(vla, lesson, encode(vla, lesson))


def errors(vla, lesson):
    return [side.error for side in both(vla, lesson)]


def test_at_the_reference_the_loss_is_log_two_and_nothing_has_drifted(vla, shared):
    found = errors(vla, shared)
    loss, metrics = dpo.dpo_loss(*found, *found, beta=50.0)
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-6)
    assert metrics["accuracy"] == 0  # a margin of zero is no agreement
    assert metrics["chosen_drift"] == metrics["rejected_drift"] == 0


def test_the_loss_by_hand():
    chosen, rejected, ref = torch.tensor([0.9, 1.1]), torch.tensor([1.2, 1.0]), torch.ones(2)
    loss, metrics = dpo.dpo_loss(chosen, rejected, ref, ref, beta=10.0)  # margins +3 and -1
    wanted = (math.log1p(math.exp(-3)) + math.log1p(math.exp(1))) / 2
    assert float(loss) == pytest.approx(wanted, rel=1e-5) and metrics["accuracy"] == 0.5
    assert metrics["rejected_drift"] == pytest.approx(0.1)


def test_swapping_chosen_and_rejected_flips_the_sign_of_the_margin():
    a, b, ref_a, ref_b = torch.rand(4, 1)

    def margin(*errors):
        loss, _ = dpo.dpo_loss(*errors, beta=3.0)
        return -math.log(math.expm1(float(loss)))  # softplus undone

    there, back = margin(a, b, ref_a, ref_b), margin(b, a, ref_b, ref_a)
    assert there == pytest.approx(-back, abs=1e-5) and abs(there) > 1e-3


def test_a_label_of_one_half_wants_a_margin_of_zero_and_one_of_zero_the_opposite():
    ref = torch.ones(1)

    def loss(margin, label):
        chosen = ref - margin / 10.0
        return float(dpo.dpo_loss(chosen, ref, ref, ref, 10.0, label)[0])

    assert min((0.0, 1.0, -1.0), key=lambda m: loss(m, 0.5)) == 0.0
    assert loss(1.5, 0.0) == pytest.approx(loss(-1.5, 1.0), abs=1e-6)
    # the cross-entropy of p is least where the margin is its log-odds
    assert loss(math.log(0.8 / 0.2), 0.8) < min(loss(1.2, 0.8), loss(1.6, 0.8))


def test_labels_are_what_margins_temperature_smoothing_and_ties_say():
    clips = Clip("0", 0, 4), Clip("1", 0, 4)
    pairs = [Preference(*clips, 2.0, {}, "g"), Preference(*clips, 0.0, {}, "g", tie=True)]
    assert dpo.labels(pairs, 0.0, 0.0).tolist() == [1.0, 0.5]
    soft = dpo.labels(pairs, 1.0, 0.0)
    assert soft == pytest.approx([1 / (1 + math.exp(-2)), 0.5])
    assert dpo.labels(pairs, 0.0, 0.1) == pytest.approx([0.9, 0.5])


@pytest.mark.parametrize("seed", range(5))
def test_the_first_step_lowers_the_error_of_the_chosen_and_raises_that_of_the_rejected(
    vla, shared, seed
):
    torch.manual_seed(seed)
    for p in vla.parameters():
        p.data += 0.02 * torch.randn_like(p)
    shared.chosen.chunk = torch.rand_like(shared.chosen.chunk)
    shared.rejected.chunk = -torch.rand_like(shared.chosen.chunk)
    found = errors(vla, shared)
    ref = [e.detach() for e in found]
    dpo.dpo_loss(*found, *ref, beta=50.0)[0].backward()
    with torch.no_grad():
        for p in vla.parameters():
            if p.grad is not None:
                p -= 1e-5 * p.grad
        after = errors(vla, shared)
    assert after[0].mean() < ref[0].mean() and after[1].mean() > ref[1].mean()


def sides(seed, alike):
    """Both sides of a linear model of velocities, v = x W with one W for both, each pair alone."""
    random = torch.Generator().manual_seed(seed)
    x = [torch.randn(1, 6, 4, 3, generator=random) for _ in range(2)]
    x[1] = alike * x[0] + (1 - alike) * x[1]
    weight = torch.randn(3, 3, generator=random, requires_grad=True)
    wanted = [torch.randn(1, 6, 4, 3, generator=random)]
    # the rejected error is the larger one, of much the same kind
    residual = 1.5 * (x[0] @ weight.detach() - wanted[0])
    other = residual + torch.randn(1, 6, 4, 3, generator=random)
    wanted.append(x[1] @ weight.detach() - other)

    def flow_of(k):
        velocity, share = x[k] @ weight, torch.full((1, 6, 4, 1), 1 / 24)
        squared = (velocity - wanted[k]).square().mean(-1, keepdim=True)
        return Flows(velocity, wanted[k], share, (share * squared).sum((1, 2, 3)))

    return weight, flow_of


def winner_rises(share):
    """In how many of 200 first steps of DPO the error of the chosen rises."""
    count = 0
    for seed in range(200):
        weight, flow_of = sides(seed, alike=0.9)
        chosen, rejected = flow_of(0), flow_of(1)
        factor = dpo.safeguard(chosen, rejected, share) if share else torch.ones(1)
        (gradient,) = torch.autograd.grad((chosen.error - factor * rejected.error).sum(), weight)
        before = float(chosen.error.detach())
        weight.data -= 1e-4 * gradient
        count += float(flow_of(0).error.detach()) > before
    return count


def test_the_safeguard_keeps_rejecting_from_raising_the_error_of_the_chosen():
    """Where both sides move alike, as they do for one observation and shared noise."""
    assert winner_rises(0.0) > 100
    assert winner_rises(0.5) == 0


def test_the_safeguard_leaves_alone_what_pulls_apart_anyway():
    weight, flow_of = sides(0, alike=1.0)
    chosen = flow_of(0)
    opposite = replace(chosen, target=2 * chosen.velocity.detach() - chosen.target)
    assert dpo.safeguard(chosen, opposite, 0.5) == 1  # raising one lowers the other
    assert dpo.safeguard(chosen, chosen, 0.5) == pytest.approx(0.5)  # the very same error
    assert dpo.safeguard(chosen, chosen, 0.9) == pytest.approx(0.1)


def test_identical_chunks_have_exactly_zero_margin_whatever_the_policy(vla, shared):
    """Noise and time are shared, so what is equal cancels."""
    same = replace(shared, rejected=shared.chosen)
    ref = errors(vla, same)
    with torch.no_grad():
        for p in vla.parameters():
            p += 0.1 * torch.randn_like(p)
    chosen, rejected = errors(vla, same)
    assert torch.equal(chosen, rejected) and not torch.allclose(chosen, ref[0])
    assert torch.equal((chosen - ref[0]) - (rejected - ref[1]), torch.zeros(3))


def swapped(lesson):
    return replace(lesson, chosen=lesson.rejected, rejected=lesson.chosen)


@pytest.mark.parametrize("objective", ["dpo", "rwr"])
def test_which_side_of_a_tie_is_called_chosen_changes_nothing(vla, shared, objective):
    reference = dpo.frozen_copy(vla)
    with torch.no_grad():
        for p in vla.parameters():
            p += 0.1 * torch.randn_like(p)
    config = replace(CONFIG, objective=objective)
    ties, found = replace(shared, label=torch.full((3,), 0.5)), []
    for lesson in (ties, swapped(ties)):
        loss, metrics = dpo.preference_loss(vla, reference, lesson, config)
        wanted = list(vla.expert.parameters())
        slopes = torch.autograd.grad(loss, wanted, allow_unused=True)
        length = float(sum(s.square().sum() for s in slopes if s is not None))
        told = metrics["dpo"], metrics["accuracy"], metrics["chosen_drift"]
        found.append([float(loss.detach()), length, *told])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][3:] == [0.5, 0.0]  # nothing was decided


def test_metrics_are_of_decided_pairs():
    chosen, ref, label = torch.tensor([0.9, 1.5]), torch.ones(2), torch.tensor([1.0, 0.5])
    _, metrics = dpo.dpo_loss(chosen, ref, ref, ref, beta=10.0, label=label)
    assert metrics["accuracy"] == 1 and metrics["chosen_drift"] == pytest.approx(-0.1)


def test_a_tie_beside_a_decided_pair_is_not_cloned(vla, shared):
    one = replace(shared, label=torch.tensor([1.0, 0.5, 1.0]))
    reference = dpo.frozen_copy(vla)
    with_anchor, without = (
        float(dpo.preference_loss(vla, reference, one, replace(CONFIG, anchor=a))[0].detach())
        for a in (1.0, 0.0)
    )
    wanted = errors(vla, one)[0].detach()[[0, 2]].sum() / 3
    assert with_anchor - without == pytest.approx(float(wanted), rel=1e-4)


def test_reward_weighted_regression_with_hard_labels_clones_winners_alone(vla, shared):
    config = replace(CONFIG, objective="rwr")
    loss, _ = dpo.preference_loss(vla, dpo.frozen_copy(vla), shared, config)
    assert torch.allclose(loss, errors(vla, shared)[0].mean())
    even = replace(shared, label=torch.full((3,), 0.5))
    loss, _ = dpo.preference_loss(vla, dpo.frozen_copy(vla), even, config)
    assert torch.allclose(loss, torch.cat(errors(vla, shared)).mean())


def test_the_frozen_copy_shares_what_is_not_trained_and_nothing_else(vla):
    vla.backbone.requires_grad_(False)
    reference = dpo.frozen_copy(vla)
    own, other = dict(vla.named_parameters()), dict(reference.named_parameters())
    shared = {name for name in own if own[name] is other[name]}
    assert shared == {name for name in own if name.startswith("backbone.")}
    assert not any(p.requires_grad for p in other.values())
    assert all(torch.equal(own[name], other[name]) for name in own)


def test_a_frozen_backbone_looks_once_for_policy_and_reference(vla, shared, monkeypatch):
    looks = []
    encode_one = type(vla).encode
    monkeypatch.setattr(type(vla), "encode", lambda v, b: looks.append(v) or encode_one(v, b))
    dpo.preference_loss(vla, dpo.frozen_copy(vla), shared, CONFIG)
    trained = len(looks)
    vla.backbone.requires_grad_(False)
    dpo.preference_loss(vla, dpo.frozen_copy(vla), shared, CONFIG)
    assert (trained, len(looks) - trained) == (4, 2)  # two observations a pair here


def test_freezing_leaves_the_backbone_as_it_was_and_teaches_the_rest(vla, new_run):
    trained = train(vla, new_run("a"), replace(CONFIG, freeze=True))
    moved = {
        name
        for name, weight in trained.state_dict().items()
        if not torch.equal(weight, vla.state_dict()[name])
    }
    assert moved and not any(name.startswith("backbone.") for name in moved)
    asked = [[p.requires_grad for p in policy.parameters()] for policy in (trained, vla)]
    assert asked[0] == asked[1]  # by whoever trains it next


@pytest.mark.parametrize(
    "wrong",
    [
        {"beta": 0.0},
        {"beta": math.inf},
        {"smoothing": 0.5},
        {"safeguard": 1.0},
        {"windows": 0},
        {"anchor": -1.0},
        {"anchor": math.nan},
        {"rehearsal": -5.0},
        {"average": 2.0},
        {"warmup": -3},
        {"temperature": math.inf},
        {"lr": 0.0},
        {"check_every": -1},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(CONFIG, **wrong)


def test_ties_alone_teach_nothing_and_are_refused(vla, new_run):
    ties = [replace(p, margin=0.0, tie=True) for p in PAIRS]
    with pytest.raises(PairError, match="ties"):
        dpo.train(CONFIG, vla, ties, TRIES, list(TRIES.values())[:2], new_run("a"))


def test_a_policy_that_drifts_from_what_was_chosen_ends_training(vla, new_run):
    run = new_run("a")
    config = replace(CONFIG, steps=60, lr=3e-2, anchor=0.0, rehearsal=0.0, safeguard=0.0)
    dpo.train(replace(config, most_drift=0.05), vla, PAIRS, TRIES, list(TRIES.values())[:2], run)
    assert "stayed 0.05 above" in json.loads((run.path / "summary.json").read_text())["ended"]
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) < 60


def test_how_long_it_has_drifted_outlives_an_interruption(vla, new_run, stop_before):
    def drifting(run):
        loose = replace(CONFIG, steps=60, lr=3e-2, anchor=0.0, rehearsal=0.0, safeguard=0.0)
        dpo.train(replace(loose, most_drift=0.05), vla, PAIRS, TRIES, list(TRIES.values())[:2], run)
        return (run.path / "metrics.jsonl").read_text().splitlines()

    whole = drifting(new_run("whole"))
    go_on = stop_before(len(whole) - 2)
    with pytest.raises(KeyboardInterrupt):
        drifting(new_run("cut"))
    go_on()
    assert drifting(new_run("cut")) == whole


def tried(vla, run, rates, **changes):
    """Trains with trials that come out as `rates`; returns the policy and what was tried."""
    seen, rates = [], iter(rates)

    def check(folder):
        seen.append(hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest())
        return next(rates)

    config = replace(CONFIG, steps=8, check_every=2, **changes)
    demos = list(TRIES.values())[:2]
    return dpo.train(config, vla, PAIRS, TRIES, demos, run, check=check), seen


def test_the_best_policy_that_was_tried_is_the_result(vla, new_run):
    run = new_run("a")
    _, seen = tried(vla, run, [0.3, 0.6, 0.5, 0.6], patience=5)
    kept = hashlib.sha256((run.path / "policy" / "weights.safetensors").read_bytes()).hexdigest()
    assert len(set(seen)) == 4 and kept == seen[1]
    assert json.loads((run.path / "summary.json").read_text())["trials"] == {
        "1": 0.3,
        "3": 0.6,
        "5": 0.5,
        "7": 0.6,
    }


def test_trials_that_get_no_better_end_training(vla, new_run):
    run = new_run("a")
    _, seen = tried(vla, run, [0.6, 0.5, 0.6, 1.0], patience=2)
    assert len(seen) == 3
    assert "no better in the last 2 trials" in (run.path / "summary.json").read_text()


def test_trying_a_policy_changes_nothing_of_its_training(vla, new_run, weights):
    plain = dpo.train(
        replace(CONFIG, steps=8), vla, PAIRS, TRIES, list(TRIES.values())[:2], new_run("plain")
    )
    watched, _ = tried(vla, new_run("tried"), [0.1, 0.2, 0.3, 0.4])
    assert weights(watched) == weights(plain)


def test_several_processes_are_told_that_one_tries_policies(vla, new_run, monkeypatch):
    run = new_run("a")
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(ValueError, match="tried by one process"):
        Trials(run, lambda folder: 1.0, 2, 2)


def test_trials_are_not_held_again_after_an_interruption(vla, new_run, stop_before, weights):
    whole, all_seen = tried(vla, new_run("whole"), [0.1, 0.5, 0.3, 0.2], patience=5)
    go_on = stop_before(6)
    with pytest.raises(KeyboardInterrupt):
        tried(vla, new_run("cut"), [0.1, 0.5], patience=5)
    go_on()
    again, seen = tried(vla, new_run("cut"), [0.3, 0.2], patience=5)
    assert weights(again) == weights(whole) and seen == all_seen[2:]


def train(vla, run, config=CONFIG):
    return dpo.train(config, vla, PAIRS, TRIES, list(TRIES.values())[:2], run)


def fingerprint(vla, shared):
    """Of weights and of outputs."""
    with torch.no_grad():
        arrays = [*errors(vla, shared), *vla.state_dict().values()]
    return hashlib.sha256(b"".join(a.numpy().tobytes() for a in arrays)).hexdigest()


def test_training_moves_the_policy_and_neither_the_start_nor_the_reference(
    vla, shared, new_run, monkeypatch
):
    before, run, kept = fingerprint(vla, shared), new_run("a"), []
    frozen = dpo.frozen_copy
    monkeypatch.setattr(dpo, "frozen_copy", lambda vla: kept.append(frozen(vla)) or kept[-1])
    trained = train(vla, run)
    assert fingerprint(vla, shared) == before != fingerprint(trained, shared)
    assert [fingerprint(reference, shared) for reference in kept] == [before]
    first = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[0])
    assert first["dpo"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["chosen_drift"] == pytest.approx(0, abs=1e-6)


def test_training_takes_the_errors_of_rejected_and_chosen_apart(vla, new_run):
    """Which a reference that followed the policy would not let happen: the margin would stay 0."""
    run = new_run("long")
    train(vla, run, replace(CONFIG, steps=40, lr=3e-3, augment=AugmentConfig(shift=0)))
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert np.mean([row["dpo"] for row in rows[-5:]]) < 0.6
    assert rows[-1]["rejected_drift"] > rows[-1]["chosen_drift"]


def test_resumed_training_ends_at_the_very_weights_of_uninterrupted_training(
    vla, new_run, stop_before, weights
):
    whole = train(vla, new_run("whole"))
    go_on = stop_before(5)
    with pytest.raises(KeyboardInterrupt):
        train(vla, new_run("cut"))
    go_on()
    assert weights(train(vla, new_run("cut"))) == weights(whole)
