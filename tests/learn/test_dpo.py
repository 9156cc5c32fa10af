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
from robostack.data.chunks import ChunkData
from robostack.learn import dpo
from robostack.learn.run import generator
from robostack.policy import flow
from robostack.types import Preference

DRAWS = 4
CONFIG = dpo.DPOConfig(steps=6, batch=4, draws=2, warmup=1, lr=1e-3, log_every=1, save_every=3)
TRIES = {f"{i}": make_episode(i, steps=8) for i in range(6)}
PAIRS = [Preference((f"{2 * i}", 0), (f"{2 * i + 1}", 0), 1.0, {}, f"{i}") for i in range(3)]


@pytest.fixture
def shared(vla):
    """Everything that policy and reference, chosen and rejected have in common."""
    data = ChunkData(vla.spec, 4, TRIES.values())
    rows = [np.array([data.row(i, 0) for i in ids]) for ids in ((0, 2, 4), (1, 3, 5))]
    draws = generator(0)
    time = flow.stratified_time(DRAWS, 3, draws).T.reshape(-1)
    return *dpo.pair_batch(data, *rows), vla.noise(3 * DRAWS, draws), time, DRAWS


def test_at_the_reference_the_loss_is_log_two_and_nothing_has_drifted(vla, shared):
    errors = dpo.pair_errors(vla, *shared)
    loss, metrics = dpo.dpo_loss(*errors, *errors, beta=50.0)
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


@pytest.mark.parametrize("seed", range(5))
def test_the_first_step_lowers_the_error_of_the_chosen_and_raises_that_of_the_rejected(
    vla, shared, seed
):
    torch.manual_seed(seed)
    for p in vla.parameters():
        p.data += 0.02 * torch.randn_like(p)
    batch, rejected, *rest = shared
    batch.chunk, rejected = torch.rand_like(rejected), -torch.rand_like(rejected)
    errors = dpo.pair_errors(vla, batch, rejected, *rest)
    ref = [e.detach() for e in errors]
    dpo.dpo_loss(*errors, *ref, beta=50.0)[0].backward()
    with torch.no_grad():
        for p in vla.parameters():
            if p.grad is not None:
                p -= 1e-5 * p.grad
        after = dpo.pair_errors(vla, batch, rejected, *rest)
    assert after[0].mean() < ref[0].mean() and after[1].mean() > ref[1].mean()


def test_identical_chunks_have_exactly_zero_margin_whatever_the_policy(vla, shared):
    """Noise and time are shared, so what is equal cancels."""
    batch, _, _, *rest = shared
    ref = dpo.pair_errors(vla, batch, batch.chunk, batch.valid, *rest)
    with torch.no_grad():
        for p in vla.parameters():
            p += 0.1 * torch.randn_like(p)
    chosen, rejected = dpo.pair_errors(vla, batch, batch.chunk, batch.valid, *rest)
    assert torch.equal(chosen, rejected) and not torch.allclose(chosen, ref[0])
    assert torch.equal((chosen - ref[0]) - (rejected - ref[1]), torch.zeros(3))


def test_pair_errors_are_flow_losses_averaged_over_the_draws(vla, shared):
    batch, _, _, noise, time, draws = shared
    chosen, _ = dpo.pair_errors(vla, *shared)
    noise, time = noise.reshape(3, draws, 4, 3), time.reshape(3, draws)
    single = torch.stack([vla.flow_loss(batch, noise[:, k], time[:, k]) for k in range(draws)])
    assert torch.allclose(chosen, single.mean(0), atol=1e-5)


def test_both_chunks_of_a_pair_are_taken_at_the_observation_of_the_chosen(vla):
    data = ChunkData(vla.spec, 4, TRIES.values())
    a, b = np.array([data.row(0, 0)]), np.array([data.row(1, 0)])
    batch, rejected, _ = dpo.pair_batch(data, a, b)
    assert torch.equal(batch.images["top"], data.batch(a).images["top"])
    assert torch.equal(batch.chunk, data.batch(a).chunk)
    assert torch.equal(rejected, data.batch(b).chunk)


def train(vla, run, config=CONFIG):
    return dpo.train(config, vla, PAIRS, TRIES, list(TRIES.values())[:2], run)


def fingerprint(vla, shared):
    """Of weights and of outputs."""
    with torch.no_grad():
        arrays = [*dpo.pair_errors(vla, *shared), *vla.state_dict().values()]
    return hashlib.sha256(b"".join(a.numpy().tobytes() for a in arrays)).hexdigest()


def test_training_moves_the_policy_and_neither_the_start_nor_the_reference(vla, shared, new_run):
    before, run = fingerprint(vla, shared), new_run("a")
    trained = train(vla, run)
    assert fingerprint(vla, shared) == before != fingerprint(trained, shared)
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
