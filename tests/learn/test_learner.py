"""One update and the next: schedules, pieces, precision, interruptions."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import SPEC, make_episode, tiny_vla
from safetensors.torch import load_file
from torch import nn

from robostack.augment import AugmentConfig
from robostack.learn import bc
from robostack.learn.learner import Learner
from robostack.learn.run import Run, RunError
from robostack.learn.spread import Compute

CONFIG = bc.BCConfig(
    tiny_vla().config, steps=6, batch=4, draws=2, warmup=1, average=0.9, log_every=1, save_every=3
)
EPISODES = [make_episode(seed, steps=8) for seed in range(3)]


def train(run, config=CONFIG, start=None):
    return bc.train(config, SPEC, EPISODES, run, start=start)


def losses(run):
    return [json.loads(r)["loss"] for r in (run.path / "metrics.jsonl").read_text().splitlines()]


def apart(a, b):
    """Largest difference of two models' weights."""
    own = b.state_dict()
    return max(float((v - own[k]).abs().max()) for k, v in a.state_dict().items())


def frozen():
    vla = tiny_vla()
    vla.backbone.requires_grad_(False)
    return vla


def slope(model):
    return model(torch.ones(1, 2)).sum()


def learner(warmup=0, **options):
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    return model, Learner(model, 0.1, 10, warmup, **{"decay": 0.9, **options})


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_rates_warm_up_and_then_follow_their_schedule(schedule):
    model, taught = learner(warmup=2, schedule=schedule)
    found = [taught.step(slope(model))["lr"] for _ in range(10)]
    left = np.linspace(1, 0, 9)  # of what follows the warm-up
    falls = {"cosine": (1 - np.cos(np.pi * left)) / 2, "linear": left, "constant": left**0}
    assert np.allclose(found, [0.05, *(0.1 * falls[schedule])])


def test_without_a_gradient_only_the_weight_decay_is_left():
    model, taught = learner(schedule="constant", weight_decay=0.5)
    before = model.weight.clone()
    taught.step(0 * slope(model))
    assert torch.allclose(model.weight, before * (1 - 0.1 * 0.5))


def test_without_an_average_the_last_weights_are_the_result():
    model, taught = learner(decay=0.0)
    for _ in range(3):
        taught.step(slope(model))
    last = model.weight.clone()
    assert torch.equal(taught.trained().weight, last)


def test_a_part_can_have_a_learning_rate_of_its_own():
    """Adam's first step is as long as the rate in every weight, whatever the gradient."""
    model = nn.ModuleDict({"backbone": nn.Linear(2, 1), "head": nn.Linear(2, 1)})
    before = {n: p.clone() for n, p in model.named_parameters()}
    taught = Learner(model, 0.1, 10, 0, 0, rates={"backbone": 0.01}, weight_decay=0.0)
    metrics = taught.step(slope(model["backbone"]) + slope(model["head"]))
    assert metrics["lr"] == pytest.approx(0.1, rel=0.05)
    for name, parameter in model.named_parameters():
        moved = (before[name] - parameter).abs().detach()
        wanted = 0.01 if name.startswith("backbone.") else 0.1
        assert torch.allclose(moved, torch.full_like(moved, wanted), rtol=1e-4), name


def test_a_learning_rate_for_what_is_frozen_is_an_error(new_run):
    with pytest.raises(ValueError, match="backbone.*nothing to train"):
        train(new_run("a"), replace(CONFIG, backbone_lr=1e-5), frozen())


def test_the_mean_of_equal_pieces_gives_the_gradient_of_the_whole():
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    grads = []
    for pieces in (1, 4):
        model, taught = learner(compute=Compute(accumulate=pieces))
        parts = taught.parts(8)
        metrics = taught.step(taught(lambda m, p: m(x[p]).square().mean(), p) for p in parts)
        grads.append([metrics["loss"], metrics["grad_norm"], *model.weight.grad.flatten()])
    assert np.allclose(*grads, rtol=1e-5)


def test_a_batch_in_pieces_teaches_what_the_whole_does(new_run):
    policies = [
        train(new_run(f"{n}"), replace(CONFIG, compute=Compute(accumulate=n))) for n in (1, 2)
    ]
    assert apart(*policies) < 1e-5 < apart(policies[0], tiny_vla())


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_parts_of_all_processes_are_the_batch(processes, monkeypatch):
    _, taught = learner(compute=Compute(accumulate=2))
    monkeypatch.setenv("WORLD_SIZE", f"{processes}")
    rows = []
    for rank in range(processes):
        monkeypatch.setenv("RANK", f"{rank}")
        parts = taught.parts(12)
        assert len(parts) == 2
        rows += [i for part in parts for i in range(12)[part]]
    assert rows == list(range(12))


def test_a_batch_that_cannot_be_parted_is_refused_and_its_multiple_named(new_run):
    with pytest.raises(ValueError, match="batch=4: expected a multiple of 3"):
        train(new_run("a"), replace(CONFIG, compute=Compute(accumulate=3)))
    with pytest.raises(ValueError, match="accumulate: expected 1 or more"):
        Compute(accumulate=0)


def test_half_precision_is_that_of_the_passes_and_not_of_the_weights(new_run):
    runs = [new_run(name) for name in ("whole", "half")]
    train(runs[0])
    trained = train(runs[1], replace(CONFIG, compute=Compute("bfloat16")))
    assert all(p.dtype == torch.float32 for p in trained.parameters())
    exact, rounded = losses(runs[0]), losses(runs[1])
    assert exact != rounded and np.allclose(exact[:2], rounded[:2], rtol=2e-2)


def test_weights_that_come_in_half_precision_are_trained_in_full():
    """A step of 1e-4 would leave every weight of 1 where it is in bfloat16."""
    model = nn.Linear(2, 1).bfloat16()
    nn.init.ones_(model.weight)
    taught = Learner(model, 1e-4, 10, 0, 0.0)
    taught.step(slope(model))
    assert (model.weight < 1).all() and model.weight.dtype == torch.float32


@pytest.mark.filterwarnings("error:.*lr_scheduler")
@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "linear"},
        {"average": 0.0},
        {"compute": Compute(accumulate=2)},
        {"compute": Compute("bfloat16")},
        {"backbone_lr": 1e-4, "weight_decay": 0.1},
        {"tokens": 0.1, "max_delay": 2, "augment": AugmentConfig(rotate=5, brightness=0.1)},
    ],
    ids=str,
)
def test_resumed_training_ends_at_the_very_weights_of_uninterrupted_training(
    changes, new_run, stop_before, weights
):
    config = replace(CONFIG, **changes)
    whole = train(new_run("whole"), config)
    go_on = stop_before(5)
    with pytest.raises(KeyboardInterrupt):
        train(new_run("cut"), config)
    go_on()
    assert weights(train(new_run("cut"), config)) == weights(whole)


def test_frozen_weights_are_not_saved_at_every_checkpoint_and_training_goes_on_all_the_same(
    new_run, stop_before, weights
):
    whole = train(new_run("whole"), start=frozen())
    go_on = stop_before(5)
    with pytest.raises(KeyboardInterrupt):
        train(new_run("cut"), start=frozen())
    saved = load_file(new_run("cut").path / "resume.3.safetensors")
    assert [k for k in saved if k.startswith("model.normalize_")]
    assert not [k for k in saved if k.startswith("model.backbone.")]
    trained = sum(p.numel() for p in whole.parameters() if p.requires_grad)
    assert sum(v.numel() for v in saved.values()) < 4.1 * trained  # weights, average, two moments
    go_on()
    assert weights(train(new_run("cut"), start=frozen())) == weights(whole)


def test_what_needs_one_process_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for verb in ("collect", "train rl"):
        with pytest.raises(RunError, match=f"{verb} is done by one process"):
            Run(tmp_path / "a", verb, {})
    assert not (tmp_path / "a").exists()
