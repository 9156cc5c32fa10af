"""The stages that learn from preferences: what they were made from is what they go on from."""

import json
from dataclasses import replace

import pytest
import torch
from fakes import SPEC, make_episode, tiny_vla

from robostack import preferring
from robostack.data.store import Store
from robostack.learn.dpo import DPOConfig
from robostack.learn.guide import GuideConfig
from robostack.learn.learner import Learner
from robostack.learn.run import RunError
from robostack.prefer import saved
from robostack.prefer.saved import PreferenceSet
from robostack.rewards.eye import EyeConfig
from robostack.types import Clip, Preference, SpecMismatch

SMALL = {"steps": 2, "batch": 2, "draws": 1, "warmup": 0}
DPO = DPOConfig(**SMALL)
GUIDE = GuideConfig(**SMALL, eye=EyeConfig(side=16, width=16))


@pytest.fixture
def home(tmp_path):
    """A store of four tries, a policy and two pairs."""
    store = Store.create(tmp_path / "store", SPEC)
    for seed in range(4):
        store.append(make_episode(seed))
    tiny_vla().save(tmp_path / "policy")
    write(tmp_path, [pair("000000", "000001"), pair("000003", "000002")])
    return tmp_path


def pair(chosen, rejected):
    return Preference(Clip(chosen, 0, 4), Clip(rejected, 0, 4), 1.0, {}, "g")


def write(home, pairs):
    store = Store(home / "store")
    digests = {i: saved.digest(e) for i, e in store.episodes()}
    saved.save(
        home / "pairs.jsonl",
        PreferenceSet(pairs, {"preferences": len(pairs)}, str(store.path), digests),
    )


def train(home, verb="dpo", **options):
    given = home / "policy", home / "pairs.jsonl", None
    if verb == "guide":
        return preferring.train_guide(GUIDE, *given, home / "out", **options)
    return preferring.train_dpo(DPO, *given, [home / "store"], home / "out", **options)


def swap_pairs(home):
    pairs = saved.load(home / "pairs.jsonl").pairs
    write(home, [replace(p, chosen=p.rejected, rejected=p.chosen) for p in pairs])


def change_policy(home):
    vla = tiny_vla()
    with torch.no_grad():
        vla.normalize_state.low += 1
    vla.save(home / "policy")


@pytest.mark.parametrize("verb", ["dpo", "guide"])
@pytest.mark.parametrize(("change", "what"), [(swap_pairs, "pairs"), (change_policy, "policy")])
def test_a_run_does_not_go_on_from_other_pairs_or_another_policy(
    home, monkeypatch, verb, change, what
):
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(home, verb)
        with pytest.raises(KeyboardInterrupt):  # the same ones are gone on from
            train(home, verb)
    change(home)
    with pytest.raises(RunError, match=f"made_from.{what} was"):
        train(home, verb)


def interrupted(learner, losses):
    raise KeyboardInterrupt


def test_a_run_of_a_version_that_did_not_know_what_it_was_made_from_is_still_reused(home):
    done = train(home)
    about = json.loads((home / "out" / "run.json").read_text())
    del about["made_from"]
    (home / "out" / "run.json").write_text(json.dumps(about))
    assert train(home, existing="reuse") == done


@pytest.mark.parametrize("verb", ["dpo", "guide"])
def test_a_policy_of_another_robot_than_the_pairs_is_named_beside_them(home, verb):
    vla = tiny_vla()
    vla.spec = replace(SPEC, control_hz=7.0)
    vla.save(home / "policy")
    with pytest.raises(SpecMismatch, match="policy .*policy and episode 000000 of .*pairs.jsonl"):
        train(home, verb)
    assert not (home / "out").exists()
