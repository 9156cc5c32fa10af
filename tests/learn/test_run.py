"""Run folders refuse to be overwritten by accident; the learner refuses to be poisoned."""

import json

import pytest
import torch
from torch import nn

from robostack.data.holding import LOCK, Hold
from robostack.data.store import StoreError
from robostack.learn.learner import Average, Learner
from robostack.learn.run import Run, RunError, finished, generator, rng


def run(path, config=None, **options):
    return Run(
        path, "train", {"lr": 0.1, "inner": {"steps": 3}} if config is None else config, **options
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


def test_a_run_is_finished_once_its_summary_is_there(path):
    opened = run(path)
    assert finished(path) is None
    summary = opened.finish({"loss": 0.5})
    assert finished(path) == summary and summary["loss"] == 0.5 and summary["seconds"] >= 0


def test_a_finished_run_is_refused_reused_or_replaced(path):
    run(path).finish({"loss": 0.5})
    with pytest.raises(RunError, match="finished run.*--force"):
        run(path)
    assert run(path, existing="reuse").done["loss"] == 0.5
    assert run(path, existing="replace").done is None and finished(path) is None


def test_an_unfinished_run_with_the_same_settings_is_gone_on_with(path):
    run(path).log(0, {"loss": 1.0})
    assert run(path).done is None
    assert (path / "metrics.jsonl").is_file()


def test_a_folder_that_another_process_writes_is_refused_and_left_as_it_is(path):
    run(path).log(0, {"loss": 1.0})
    run(path)  # an interrupted one of this process makes way
    run(path).abandon()
    hold = Hold(path)
    before = {p.name: p.read_bytes() for p in path.iterdir()}
    for existing in ("refuse", "reuse", "replace"):
        with pytest.raises(StoreError, match="another process"):
            run(path, existing=existing)
    assert {p.name: p.read_bytes() for p in path.iterdir()} == before
    hold.release()
    run(path, existing="replace").finish({})
    assert {p.name for p in path.iterdir()} == {"run.json", "summary.json"}
    assert run(path, existing="reuse").done is not None and not (path / LOCK).exists()


def test_what_a_person_demonstrated_into_a_run_is_never_replaced(path):
    run(path).finish({})
    (path / "session.json").write_text("{}")
    with pytest.raises(RunError, match="demonstrations of a person"):
        run(path, existing="replace")
    assert finished(path) is not None


@pytest.mark.parametrize("existing", ["refuse", "reuse"])
def test_other_settings_are_refused_and_the_changed_one_named(path, existing):
    run(path)
    with pytest.raises(RunError, match="inner.steps was 3, is 4"):
        run(path, {"lr": 0.1, "inner": {"steps": 4}}, existing=existing)
    with pytest.raises(RunError, match="seed was 0, is 1"):
        run(path, seed=1, existing=existing)
    with pytest.raises(RunError, match="verb was train, is test"):
        Run(path, "test", {"lr": 0.1, "inner": {"steps": 3}}, existing=existing)
    newer = {"lr": 0.1, "inner": {"steps": 3, "heat": 2}}  # of a version that knows more
    with pytest.raises(RunError, match="inner.heat was no key of the version that began, is 2"):
        run(path, newer, existing=existing)
    newer["inner"]["heat"] = None
    assert run(path, newer, existing=existing).done is None


@pytest.mark.parametrize("existing", ["refuse", "reuse", "replace"])
def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path, existing):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="not a run"):
        run(tmp_path, existing=existing)
    assert (tmp_path / "thesis.txt").is_file() and not (tmp_path / "run.json").exists()


def test_what_a_run_was_made_with_is_written_down(path):
    run(path, seed=7)
    about = json.loads((path / "run.json").read_text())
    assert about["seed"] == 7 and about["config"]["lr"] == 0.1
    assert {"verb", "version", "command", "git"} <= about.keys()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_metric_that_is_no_number_stops_the_run_and_is_not_written(path, bad):
    opened = run(path)
    opened.log(0, {"loss": 1.0})
    with pytest.raises(FloatingPointError, match="loss became .* at step 1"):
        opened.log(1, {"loss": bad})
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 1


def learner():
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.zero_()
    return model, Learner(model, lr=0.1, steps=10, warmup=0, decay=0.9)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_loss_that_is_no_number_raises_and_leaves_the_weights_untouched(bad):
    model, taught = learner()
    with pytest.raises(FloatingPointError, match="untouched"):
        taught.step((model(torch.ones(1, 2)) * bad).sum())
    assert torch.equal(model.weight, torch.ones(1, 2)) and taught.step_count == 0


def test_a_gradient_that_is_no_number_raises_and_leaves_the_weights_untouched():
    model, taught = learner()
    zero = (model(torch.ones(1, 2)) - 2).sum()  # 0, whose root is 0 with an infinite slope
    with pytest.raises(FloatingPointError):
        taught.step(zero.abs().sqrt())
    assert torch.equal(model.weight, torch.ones(1, 2))


def test_the_average_lags_behind_the_weights():
    model, taught = learner()
    for _ in range(3):
        taught.step(model(torch.ones(1, 2)).sum())
    last = model.weight.clone()
    taught.use_average()
    assert (last < model.weight).all() and (model.weight < 1).all()


def test_the_average_is_young_at_first_and_later_as_old_as_its_decay():
    weight = nn.Parameter(torch.zeros(1))
    average, shares = Average([weight], decay=0.5), []
    for _ in range(5):
        before = average.values[0].item()
        weight.data += 1
        average.step([weight])
        shares.append((average.values[0].item() - before) / (weight.item() - before))
    assert shares == pytest.approx([1, 2 ** (-2 / 3), 0.5, 0.5, 0.5])  # of the newest weights


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_the_average_is_that_of_diffusers_to_the_bit(decay):
    from diffusers.training_utils import EMAModel

    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.zeros(64))
    ours = Average([weight], decay)
    theirs = EMAModel([weight], decay=decay, use_ema_warmup=True, power=2 / 3)
    for _ in range(300):
        weight.data += torch.randn(64, generator=generator)
        ours.step([weight])
        theirs.step([weight])
    assert torch.equal(ours.values[0], theirs.shadow_params[0])


def test_a_long_gradient_is_cut_to_the_limit():
    model, taught = learner()
    norm = taught.step(1e6 * model(torch.ones(1, 2)).sum())["grad_norm"]
    left = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert norm > 1e6 and float(left) == pytest.approx(1, rel=1e-4)


def test_frozen_parameters_stay():
    model = nn.Linear(2, 1)
    model.bias.requires_grad_(False)
    bias, weight = model.bias.clone(), model.weight.clone()
    Learner(model, 0.1, 10, 0, 0.9).step(model(torch.ones(1, 2)).sum())
    assert torch.equal(model.bias, bias) and not torch.equal(model.weight, weight)


def test_draws_are_functions_of_their_key_alone():
    def draw(*key):
        return torch.randn(4, generator=generator(*key)).tolist()

    assert draw(0, 1) == draw(0, 1)
    assert len({tuple(draw(a, b)) for a in range(9) for b in range(9)}) == 81
    assert rng(3, 4).random() == rng(3, 4).random() != rng(4, 3).random()
