"""Behaviour cloning: interrupted or not, the weights are the same to the last bit."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import SPEC, make_episode, tiny_vla

from robostack import stages
from robostack.data.chunks import ChunkData
from robostack.data.store import Store
from robostack.learn import bc
from robostack.learn.run import Run, RunError, finished, generator
from robostack.policy import flow
from robostack.policy.checkpoint import CheckpointError
from robostack.policy.vla import VLA

CONFIG = bc.BCConfig(
    tiny_vla().config, steps=6, batch=4, draws=2, warmup=1, average=0.9, log_every=1, save_every=3
)
EPISODES = [make_episode(seed, steps=8) for seed in range(3)]


def train(run, config=CONFIG, **options):
    return bc.train(config, SPEC, EPISODES, run, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Policy and metrics of training that nothing interrupted."""
    run = Run(tmp_path_factory.mktemp("bc") / "whole", "test", {"lr": 1})
    return train(run), (run.path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_resumed_training_ends_at_the_very_weights_of_uninterrupted_training(
    whole, stop, new_run, stop_before, weights
):
    go_on = stop_before(stop)
    with pytest.raises(KeyboardInterrupt):
        train(new_run("cut"))
    go_on()
    run = new_run("cut")
    assert weights(train(run)) == weights(whole[0])
    assert (run.path / "metrics.jsonl").read_text() == whole[1]
    assert not list(run.path.glob("resume.*")) and finished(run.path)


def test_a_run_cut_between_its_last_update_and_its_end_can_be_finished(
    whole, new_run, weights, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VLA, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(new_run("cut"))
    assert weights(train(new_run("cut"))) == weights(whole[0])


def test_training_twice_gives_the_same_and_another_seed_another(whole, new_run, weights):
    assert weights(train(new_run("again"))) == weights(whole[0])
    assert weights(train(new_run("other"), seed=1)) != weights(whole[0])


def test_what_is_saved_is_what_is_returned(new_run, weights):
    run = new_run("a")
    assert weights(train(run)) == weights(VLA.load(run.path / "policy"))


def test_the_loss_falls_on_data_that_can_be_learned(new_run):
    run = new_run("long")
    steady = [replace(e, actions=np.tile(np.float32([0.5, -0.5, 1]), (8, 1))) for e in EPISODES]
    config = replace(CONFIG, steps=60, batch=8, lr=3e-3, save_every=1000)
    bc.train(config, SPEC, steady, run)
    rows = [json.loads(r)["loss"] for r in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert np.mean(rows[-10:]) < 0.8 * np.mean(rows[:5])


def test_openings_are_all_that_is_seen_for_their_share_of_the_steps():
    data = ChunkData(SPEC, CONFIG.policy.horizon, EPISODES)
    rows, config = (data.openings(), data.rows()), replace(CONFIG, openings=0.5)
    assert rows[0].tolist() == [data.row(k, 0) for k in range(len(EPISODES))]
    early, late = (
        np.concatenate([bc._pick(rows, config, seed, step)[0] for seed in range(20)])
        for step in (2, 3)
    )
    assert set(early) == set(rows[0]) and set(late) == set(rows[1])


def test_with_openings_alone_nothing_after_the_first_chunk_changes_a_weight(new_run, weights):
    other = [replace(e, actions=e.actions.copy(), states=e.states.copy()) for e in EPISODES]
    for episode in other:
        episode.actions[CONFIG.policy.horizon :] += 1
        episode.states[1:] += 1
    learned = {}
    for share in (1.0, 0.5):
        config = replace(CONFIG, openings=share)
        for name, episodes in (("as they are", EPISODES), ("changed", other)):
            run = new_run(f"{share} {name}")
            learned[share, name] = weights(bc.train(config, SPEC, episodes, run, start=tiny_vla()))
    assert learned[1.0, "as they are"] == learned[1.0, "changed"]
    assert learned[0.5, "as they are"] != learned[0.5, "changed"]


@pytest.mark.parametrize(
    "share, tasks, warned",
    [(0.5, ("a", "a"), True), (0.5, ("a", "b"), False), (0, ("a", "a"), False)],
)
def test_openings_of_one_instruction_are_told_to_be_none(share, tasks, warned, new_run, capsys):
    episodes = [replace(e, task=tasks[k % 2]) for k, e in enumerate(EPISODES)]
    bc.train(replace(CONFIG, openings=share, steps=1), SPEC, episodes, new_run("a"))
    assert ("have one instruction" in capsys.readouterr().err) == warned


def test_a_broken_policy_raises_before_anything_is_changed_or_saved(vla, new_run, weights):
    with torch.no_grad():
        vla.expert.action_out.bias[0] = torch.nan
    before, run = weights(vla), new_run("a")
    with pytest.raises(FloatingPointError, match="untouched"):
        train(run, start=vla)
    assert weights(vla) == before
    assert not (run.path / "policy").exists() and finished(run.path) is None


def test_going_on_from_a_policy_keeps_its_normalisation(vla, new_run):
    vla.normalize_action.fit(np.random.default_rng(0).normal(size=(500, 3)))
    low = vla.normalize_action.low.clone()
    assert torch.equal(train(new_run("a"), start=vla).normalize_action.low, low)


def test_several_draws_are_the_mean_of_flow_losses_that_share_an_encoding(vla, batch):
    lesson = bc.Lesson.draw(vla, batch, 3, generator(5))
    loss = vla(batch, lesson.noise, lesson.time, 3)
    draws = generator(5)
    time = flow.stratified_time(3, len(batch), draws)
    noise = vla.noise(len(batch) * 3, draws).reshape(len(batch), 3, 4, 3)
    single = torch.stack([vla.flow_loss(batch, noise[:, k], time[k]) for k in range(3)])
    assert torch.allclose(loss, single.mean(0), atol=1e-5)


def test_actions_that_are_given_are_clean_and_have_no_part_in_the_loss(vla, batch):
    """Whatever their noise, as it is scaled by a time of 0 and its velocity is not asked for."""
    lesson = bc.Lesson.draw(vla, batch, 3, generator(5), max_delay=2)
    given = lesson.time == 0
    first = given.cumsum(1)[:, -1]
    assert set(first.tolist()) == {0, 1, 2} and not (given & lesson.valid).any()
    before, _ = bc.loss(vla, lesson)
    lesson.noise = lesson.noise + given[:, :, None] * 7
    assert torch.equal(bc.loss(vla, lesson)[0], before)
    lesson.noise = lesson.noise + ~given[:, :, None] * 7
    assert not torch.allclose(bc.loss(vla, lesson)[0], before)


def test_a_part_of_a_lesson_has_the_losses_of_its_own_samples(vla, batch):
    lesson = bc.Lesson.draw(vla, batch, 3, generator(5), max_delay=2)
    parts = [bc.loss(vla, lesson.part(slice(k, k + 2)))[0] for k in (0, 2, 4)]
    assert torch.allclose(torch.stack(parts).mean(), bc.loss(vla, lesson)[0], atol=1e-5)


def test_a_policy_goes_on_with_another_robots_data_and_its_normalisation(new_run):
    size = replace(CONFIG.policy, expert=replace(CONFIG.policy.expert, state_dim=6, action_dim=5))
    first = train(new_run("a"), replace(CONFIG, policy=size))
    names = ("a", "b", "c", "d")
    other = replace(
        SPEC, robot="other", action_names=names, action_low=(-9.0,) * 4, action_high=(9.0,) * 4
    )
    rng = np.random.default_rng(0)
    episodes = [
        replace(e, spec=other, actions=rng.uniform(3, 7, (len(e), 4)).astype(np.float32))
        for e in EPISODES
    ]
    with pytest.raises(ValueError, match="do not fit together"):
        bc.train(CONFIG, SPEC, episodes, new_run("b"), start=first)
    run = new_run("c")
    moved = bc.train(replace(CONFIG, new_robot=True), other, episodes, run, start=first)
    assert moved.spec == VLA.load(run.path / "policy").spec == other
    assert (moved.normalize_action.low > 2.9).all() and (moved.normalize_action.high < 7.1).all()
    with pytest.raises(ValueError, match="name it with --start"):
        train(new_run("d"), replace(CONFIG, new_robot=True))


def test_an_insulated_backbone_that_nothing_would_train_is_refused(new_run):
    alone = replace(CONFIG, policy=replace(CONFIG.policy, insulate=True))
    with pytest.raises(ValueError, match="give tokens=0.1"):
        train(new_run("a"), alone)
    assert train(new_run("b"), replace(alone, tokens=0.1)).tokenizer is not None


def test_impossible_settings_leave_no_run_in_the_way_of_possible_ones(tmp_path, stop_before):
    store = Store.create(tmp_path / "store", SPEC)
    for episode in EPISODES:
        store.append(episode)
    out, data = tmp_path / "run", [tmp_path / "store"]
    absent = replace(CONFIG, policy=replace(CONFIG.policy, backbone="no/such"))
    expert = replace(CONFIG.policy.expert, heads=3)  # the backbone has 2
    uneven = replace(CONFIG, policy=replace(CONFIG.policy, expert=expert))
    for impossible, error in ((absent, CheckpointError), (uneven, ValueError)):
        with pytest.raises(error):
            stages.train_bc(impossible, data, out)
        assert not out.exists()
    go_on = stop_before(5)
    with pytest.raises(KeyboardInterrupt):
        stages.train_bc(CONFIG, data, out)
    go_on()
    with pytest.raises(RunError, match="other settings"):  # what was begun in earnest stays
        stages.train_bc(absent, data, out)
    assert (out / "resume.json").is_file()
    stages.train_bc(CONFIG, data, out)


@pytest.mark.parametrize("name", ["steps", "batch", "draws", "log_every", "save_every"])
def test_nothing_of_something_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name}=0: expected 1 or more"):
        replace(CONFIG, **{name: 0})
