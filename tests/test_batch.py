"""Batch evaluation: the real simulator, in tiny: what is played, what is kept, what is said."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from fakes import SPEC, tiny_size
from serving import serving

from robostack import batch, stages
from robostack.batch import Batch, BatchConfig, contestant, contestants, passed
from robostack.cli import FAILED, OK, main
from robostack.data.store import Store
from robostack.learn.run import RunError, finished
from robostack.ledger import read_rows
from robostack.policy.checkpoint import fingerprint
from robostack.policy.vla import VLA
from robostack.pool import DIED, Outcome, Pool
from robostack.sim import arena, worker
from robostack.sim import env as sim_env
from robostack.sim.env import EnvConfig

BLIND = EnvConfig(task="Lift", render="none", horizon=5)
SEEING = EnvConfig(task="Lift", render="lean", pixels=16, horizon=5)
TIMING = ("seconds", "act_seconds", "act_ms")


@pytest.fixture(autouse=True)
def in_this_process(opened, monkeypatch):
    """One worker, here: starting a process takes seconds."""
    monkeypatch.setattr(batch, "open_pool", lambda make, *_, **__: Pool(make, 1))
    monkeypatch.setattr(sim_env, "make_env", opened)


@pytest.fixture(scope="module")
def policy(opened, tmp_path_factory):
    """A folder with a policy of random weights that fits BLIND."""
    import torch

    torch.manual_seed(0)
    size = tiny_size(layers=1)
    folder = tmp_path_factory.mktemp("trained") / "bc"
    VLA(size, opened(BLIND).spec).save(folder)
    return folder


RUNNER = worker.RunnerConfig(execute=4, steps=1)


def evaluation(out, policies=("random",), env=BLIND, workers=1, config=(), **how):
    settings = dict(episodes=3, env=env, runner=RUNNER) | dict(config)
    return Batch(
        BatchConfig(**settings), contestants(list(map(str, policies))), out, workers, **how
    )


def evaluate(out, *args, **kwargs):
    return evaluation(out, *args, **kwargs).play()


def rows(folder):
    """Episodes without what depends on the clock."""
    return [{k: v for k, v in row.items() if k not in TIMING} for row in read_rows(folder)]


def interrupt(folder, keep, half=""):
    """Make a finished evaluation look like one that was killed after `keep` episodes."""
    (folder / "summary.json").unlink()
    path = folder / "episodes.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:keep]) + half)


# what is played ---------------------------------------------------------------------------------


def test_every_policy_plays_every_start_once(tmp_path, policy):
    found = evaluate(tmp_path / "e", ("expert", "random", policy))
    played = [(row["policy"], row["seed"]) for row in rows(tmp_path / "e")]
    assert played == [(p, 100_000 + n) for p in ("expert", "random", "bc") for n in range(3)]
    assert all(row["steps"] == 5 and row["error"] == "" for row in rows(tmp_path / "e"))
    assert [c["policy"] for c in found["comparisons"]] == ["random", "bc"]
    assert found["problems"] == found["failures"] == [] and passed(found, 0.0)
    assert (tmp_path / "e" / "index.html").is_file()
    assert finished(tmp_path / "e") == json.loads(json.dumps(found))


def test_the_same_seeds_are_the_same_episodes(tmp_path, policy):
    for name in "ab":
        evaluate(tmp_path / name, ("random", policy))
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_a_served_policy_plays_the_very_episodes_of_its_folder(tmp_path, policy):
    evaluate(tmp_path / "near", (policy,))
    with serving(VLA.load(policy), print_of_weights=fingerprint(policy), steps=1) as served:
        evaluate(tmp_path / "far", (f"bc={served.url}",))
        assert rows(tmp_path / "far") == rows(tmp_path / "near")
        other = {"runner": replace(RUNNER, steps=2)}
        found = evaluate(tmp_path / "other", (served.url,), config=other)
        assert "samples with steps=1" in found["problems"][0]["what"]
        cooler = {"runner": replace(RUNNER, temperature=0.5)}
        found = evaluate(tmp_path / "cooler", (served.url,), config=cooler)
        assert "temperature=0.5, give the same" in found["problems"][0]["what"]


def test_pictures_are_made_of_what_ended_and_none_where_none_are_wanted(tmp_path):
    evaluate(tmp_path / "e", env=SEEING)
    assert len(list((tmp_path / "e" / "videos").glob("*.webm"))) == 3
    assert (tmp_path / "e" / "grid.png").is_file()
    page = (tmp_path / "e" / "index.html").read_text()
    assert page.count("<video") == 3 and "grid.png" in page
    evaluate(tmp_path / "none", env=SEEING, config={"videos": 0})
    left = {path.name for path in (tmp_path / "none").iterdir()}
    assert not left & {"videos", "ends", "grid.png"}
    assert "<video" not in (tmp_path / "none" / "index.html").read_text()


def test_a_stage_plays_the_same_episodes_without_keeping_their_pictures(tmp_path, opened):
    VLA(tiny_size(layers=1), opened(SEEING).spec).save(tmp_path / "policy")
    config, kept = stages.EvaluateConfig(episodes=2, runner=RUNNER), {}
    with arena.Arena(SEEING, 1, lambda: worker.Worker(make=opened)) as place:
        for pictures in (True, False):
            out = tmp_path / f"{pictures}"
            stages.evaluate(place, config, tmp_path / "policy", out, pictures=pictures)
            kept[pictures] = [episode for _, episode in Store(out / "store").episodes()]
            again = stages.evaluate(
                place, config, tmp_path / "policy", out, pictures=pictures, existing="reuse"
            )
            assert again == finished(out)
    for seen, unseen in zip(*kept.values(), strict=True):
        assert seen.images and not unseen.images and not unseen.spec.cameras
        assert np.array_equal(seen.states, unseen.states) and seen.success == unseen.success
        assert np.array_equal(seen.actions, unseen.actions) and seen.seed == unseen.seed


def test_a_cell_ends_once_its_interval_is_narrow(tmp_path):
    config = {"episodes": 30, "early_stop": 0.25}  # none of 12 is the first: z2 / (12 + z2)
    found = evaluate(tmp_path / "e", config=config)
    assert len(rows(tmp_path / "e")) == 12
    assert found["cells"][0]["episodes"] == 12 and found["cells"][0]["stopped_early"]


# going on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", ["", '{"policy": "random", "task": "Li'])
def test_an_interrupted_evaluation_plays_only_what_is_missing(tmp_path, half):
    whole = evaluate(tmp_path / "e", ("expert", "random"))
    before, lines = rows(tmp_path / "e"), (tmp_path / "e" / "episodes.jsonl").read_text()
    interrupt(tmp_path / "e", 4, half)
    again = evaluate(tmp_path / "e", ("expert", "random"))
    after = (tmp_path / "e" / "episodes.jsonl").read_text()
    assert rows(tmp_path / "e") == before
    assert after.splitlines()[:4] == lines.splitlines()[:4]  # not played again, clock and all
    for key in ("policies", "comparisons"):
        assert again[key] == whole[key]


def test_a_finished_evaluation_is_refused_with_both_remedies(tmp_path):
    evaluate(tmp_path / "e")
    with pytest.raises(RunError, match="finished evaluation; --resume .*--force"):
        evaluation(tmp_path / "e")


def test_resume_adds_episodes_and_policies_to_a_finished_one(tmp_path, policy):
    evaluate(tmp_path / "e")
    before = rows(tmp_path / "e")
    more = {"config": {"episodes": 4}, "resume": True}
    found = evaluate(tmp_path / "e", ("random", policy), **more)
    assert rows(tmp_path / "e")[:3] == before and len(rows(tmp_path / "e")) == 8
    assert [cell["episodes"] for cell in found["cells"]] == [4, 4]
    evaluate(tmp_path / "e", ("random", policy), **more)  # nothing is left to be played
    assert len(rows(tmp_path / "e")) == 8


def test_fewer_episodes_than_were_played_count_the_first_only(tmp_path):
    evaluate(tmp_path / "e")
    found = evaluate(tmp_path / "e", config={"episodes": 2}, resume=True)
    assert found["cells"][0]["episodes"] == 2 and len(rows(tmp_path / "e")) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"env": replace(BLIND, horizon=6)}, "horizon was 5, is 6"),
        ({"config": {"first_seed": 5}}, "first_seed was 100000, is 5"),
        ({"config": {"noise": 0.1}}, "noise was 0.0, is 0.1"),
    ],
)
def test_what_would_mix_two_evaluations_is_refused_and_named(tmp_path, change, words):
    evaluate(tmp_path / "e")
    with pytest.raises(RunError, match=words):
        evaluation(tmp_path / "e", resume=True, **change)
    assert finished(tmp_path / "e")


def test_a_camera_that_is_taken_away_is_noticed_as_one_that_is_added(tmp_path):
    seeing = replace(SEEING, cameras={"agentview": 16})
    evaluation(tmp_path / "e", env=seeing)
    with pytest.raises(RunError, match="cameras was"):
        evaluation(tmp_path / "e", env=SEEING)


def test_other_weights_under_the_same_name_are_refused(tmp_path, policy):
    evaluate(tmp_path / "e", (f"mine={policy}",))
    with pytest.raises(RunError, match="another policy called mine"):
        evaluation(tmp_path / "e", ("mine=random",), resume=True)


def test_force_begins_anew(tmp_path):
    evaluate(tmp_path / "e", config={"episodes": 2})
    evaluate(tmp_path / "e", config={"first_seed": 5}, replace=True)
    assert [row["seed"] for row in rows(tmp_path / "e")] == [5, 6, 7]


def test_a_run_of_another_kind_is_never_replaced(tmp_path):
    (tmp_path / "run.json").write_text('{"verb": "train bc"}')
    (tmp_path / "summary.json").write_text("{}")
    for how in ({}, {"resume": True}, {"replace": True}):
        with pytest.raises(RunError, match="is a run of `robostack train bc`"):
            evaluation(tmp_path, **how)


def test_a_damaged_folder_is_refused_in_words(tmp_path):
    (tmp_path / "run.json").write_text('{"verb')
    with pytest.raises(RunError, match="run.json is damaged; use another --out"):
        evaluation(tmp_path)


def test_a_refused_command_leaves_a_finished_evaluation_finished(tmp_path):
    evaluate(tmp_path / "e")
    with pytest.raises(ValueError, match="workers: expected 1 or more"):
        evaluation(tmp_path / "e", workers=-2, resume=True)
    with pytest.raises(ValueError, match="--resume goes on and --force starts anew"):
        evaluation(tmp_path / "e", resume=True, replace=True)
    assert finished(tmp_path / "e")


# against an earlier evaluation ------------------------------------------------------------------


def test_an_earlier_evaluation_is_compared_with_start_by_start(tmp_path, policy):
    evaluate(tmp_path / "old")
    found = evaluate(tmp_path / "new", (policy,), against=tmp_path / "old")
    [comparison] = found["comparisons"]
    assert (comparison["baseline"], comparison["policy"]) == ("old:random", "bc")
    assert comparison["episodes"] == 3 and found["warnings"] == []


def test_nothing_to_compare_with_is_said(tmp_path):
    evaluate(tmp_path / "old")
    late = evaluate(tmp_path / "a", config={"first_seed": 7}, against=tmp_path / "old")
    assert late["comparisons"] == [] and "on Lift" in late["warnings"][0]
    assert "other starts" in late["warnings"][0]
    other = evaluation(tmp_path / "b", env=replace(BLIND, task="Stack"), against=tmp_path / "old")
    assert "other tasks" in other.warnings()[0]


# what goes wrong --------------------------------------------------------------------------------


def test_a_policy_of_another_robot_is_said_once_and_the_rest_is_played(tmp_path, vla, capsys):
    vla.save(tmp_path / "other")
    found = evaluate(tmp_path / "e", (tmp_path / "other", "random"))
    [problem] = found["problems"]
    assert problem["cells"] == ["other on Lift"] and "the environment" in problem["what"]
    assert [row["policy"] for row in rows(tmp_path / "e")] == ["random"] * 3
    said = capsys.readouterr().err
    assert said.count("not played: other on Lift") == 1 and "Traceback" not in said
    assert not passed(found, 0.0)
    assert "Not played" in (tmp_path / "e" / "index.html").read_text()


def test_a_task_without_an_expert_is_said_once(tmp_path, capsys):
    found = evaluate(tmp_path / "e", ("expert",), env=replace(BLIND, task="Wipe"))
    assert "no scripted expert" in found["problems"][0]["what"]
    assert capsys.readouterr().err.count("no scripted expert") == 1


def test_a_longer_chunk_than_the_policys_is_said_once(tmp_path, policy):
    config = {"runner": worker.RunnerConfig(execute=5)}
    found = evaluate(tmp_path / "e", (policy,), config=config)
    assert "expected 1 to 4" in found["problems"][0]["what"] and rows(tmp_path / "e") == []


def test_an_episode_that_breaks_is_told_kept_apart_and_played_again(tmp_path, monkeypatch, capsys):
    whole = arena.rollout

    def breaks(env, policy, seed, **more):
        if seed in (100_001, 100_002):
            raise FloatingPointError("the simulation became unstable")
        return whole(env, policy, seed, **more)

    monkeypatch.setattr(arena, "rollout", breaks)
    found = evaluate(tmp_path / "e")
    assert (found["cells"][0]["episodes"], found["cells"][0]["errors"]) == (1, 2)
    what = "FloatingPointError: the simulation became unstable"
    assert found["failures"] == [{"what": what, "episodes": 2, "cells": ["random on Lift"]}]
    said = capsys.readouterr().err
    assert said.count(f"failed: 2 episodes of random on Lift: {what}") == 1
    assert "Traceback" not in said and not passed(found, 0.0)

    monkeypatch.setattr(arena, "rollout", whole)
    found = evaluate(tmp_path / "e", resume=True)
    assert found["failures"] == [] and passed(found, 0.0)
    assert found["cells"][0]["episodes"] == 3 and found["cells"][0]["rerun"] == 2
    assert [row["seed"] for row in rows(tmp_path / "e")][3:] == [100_001, 100_002]


def test_memory_that_ran_out_once_does_not_condemn_the_cell(tmp_path, opened, monkeypatch):
    times = []

    def greedy(config):
        times.append(config)
        if len(times) == 1:
            raise MemoryError("cannot allocate")
        return opened(config)

    monkeypatch.setattr(sim_env, "make_env", greedy)
    found = evaluate(tmp_path / "e")
    assert found["problems"] == [] and found["cells"][0]["episodes"] == 2
    assert found["failures"][0]["what"] == "MemoryError: cannot allocate"


class Doomed(Pool):
    """Loses its worker in every episode of one policy."""

    def outcomes(self, function, jobs, retries=1):
        for (trial,) in jobs:
            if trial.policy == "expert":
                yield Outcome(None, "a worker died with signal 11", DIED, 2)
            else:
                yield from super().outcomes(function, [(trial,)], retries)


def test_a_cell_that_only_kills_workers_is_given_up_after_a_while(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(batch, "open_pool", lambda make, *_, **__: Doomed(make, 1))
    found = evaluate(tmp_path / "e", ("expert", "random"), config={"episodes": 8})
    assert [p["cells"] for p in found["problems"]] == [["expert on Lift"]]
    assert [cell["errors"] for cell in found["cells"]] == [batch.HOPELESS, 0]
    assert found["cells"][1]["episodes"] == 8
    said = capsys.readouterr().err
    assert "not played: expert on Lift: given up: its first 5 episodes" in said
    assert said.count("failed: 5 episodes of expert on Lift: a worker died with signal 11") == 1


def test_a_policy_of_another_rendering_is_warned_of(tmp_path, policy):
    spec = replace(VLA.read_card(policy).spec, conventions={"render": "classic"})
    VLA(tiny_size(layers=1), spec).save(tmp_path)
    [warning] = evaluation(tmp_path / "e", (f"bc={tmp_path}",)).warnings()
    assert "bc was trained on classic pictures" in warning and "env.render=classic" in warning


def test_a_policy_that_is_asked_for_what_it_never_learned_is_warned_of(tmp_path, policy):
    vla = VLA(tiny_size(layers=1), VLA.read_card(policy).spec)
    vla.instructions = frozenset({"stack the cubes", "lift"})
    vla.save(tmp_path)
    [warning] = evaluation(tmp_path / "e", (f"bc={tmp_path}",)).warnings()
    asks = "never 'lift the red cube', which Lift asks"
    assert warning == f"bc learned 'lift' and 1 more, and {asks}"
    many = {"tasks": ["tabletop/pick", "Lift", "Stack"]}  # of which the first asks what it draws
    [warning] = evaluation(tmp_path / "many", (f"bc={tmp_path}",), config=many).warnings()
    assert warning == f"bc learned 'lift' and 1 more, and {asks}, nor what is asked in 1 more"
    vla.instructions |= {"lift the red cube"}
    vla.save(tmp_path)
    assert not evaluation(tmp_path / "knows", (f"bc={tmp_path}",)).warnings()
    vla.instructions = frozenset(map(str, range(1001)))  # too many to tell: nobody knows
    vla.save(tmp_path)
    assert not evaluation(tmp_path / "many", (f"bc={tmp_path}",)).warnings()


def test_a_policy_brings_its_cameras_unless_others_are_asked_for(tmp_path):
    spec = replace(SPEC, cameras={"frontview": (24, 24)})
    VLA(tiny_size(layers=1), spec).save(tmp_path)
    own = evaluation(tmp_path / "a", (tmp_path, "random"), env=SEEING).envs
    assert [env.cameras for env in own.values()] == [{"frontview": 24}, {}]
    asked = replace(SEEING, cameras={"agentview": 16})
    envs = evaluation(tmp_path / "b", (tmp_path, "random"), env=asked).envs
    assert [env.cameras for env in envs.values()] == [{"agentview": 16}] * 2
    sized = replace(SEEING, cameras={}, pixels=32)
    with pytest.raises(ValueError, match=r"pixels=32: .* sees \{frontview: 24\}"):
        evaluation(tmp_path / "c", (tmp_path,), env=sized)
    (env,) = evaluation(tmp_path / "d", (tmp_path,), env=replace(sized, pixels=24)).envs.values()
    assert env.cameras == {"frontview": 24}


def test_what_is_required_is_said_where_it_is_missed(capsys):
    found = {"problems": [], "cells": [{"errors": 0}], "policies": []}
    for name, won in (("good", 9), ("bad", 3)):
        rate = {"success_rate": won / 10, "successes": won, "episodes": 10}
        found["policies"].append({"policy": name, "condition": "none", **rate})
    dark = {"policy": "good", "condition": "light 1", "success_rate": 0.0}
    found["policies"].append(dark)  # what is required is required of the unperturbed
    assert passed(found, 0.3) and capsys.readouterr().err == ""
    assert not passed(found, 0.5)
    assert capsys.readouterr().err == "bad: 3 of 10 is below --require 0.5\n"


# names ------------------------------------------------------------------------------------------


def test_policies_are_called_what_the_user_says_or_what_their_folder_is_called(tmp_path, policy):
    names = ("expert", "x=random", str(policy), f"mine={policy}", f"{policy.parent}")
    assert [contestant(name).label for name in names[:4]] == ["expert", "x", "bc", "mine"]
    odd = tmp_path / "lr=0.1"
    odd.mkdir()
    for file in policy.iterdir():
        (odd / file.name).write_bytes(file.read_bytes())
    assert contestant(str(odd)).label == "lr=0.1"
    assert contestant(f"slow={odd}").label == "slow"
    assert contestant(f"slow={odd}").source == str(odd)


@pytest.mark.parametrize("texts", [["expert", "expert"], ["a=expert", "b=random", "a=random"]])
def test_two_of_the_same_name_are_refused_with_a_remedy_that_works(texts):
    with pytest.raises(ValueError, match="two policies are called") as refused:
        contestants(texts)
    remedy = str(refused.value).rpartition("--policy ")[2]
    assert [c.source for c in contestants([remedy, "random"])] == ["expert", "random"]


def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path, monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setattr(Console, "is_terminal", property(lambda self: True))
    evaluate(tmp_path / "e", ("[/b]:cat:=random",))
    assert "[/b]:cat:" in capsys.readouterr().err


def test_a_gallery_cannot_confuse_two_policies(tmp_path):
    evaluate(tmp_path / "e", ("a/b=random", "a-b=random"), env=SEEING, config={"episodes": 2})
    assert len(list((tmp_path / "e" / "videos").glob("*.webm"))) == 4


# the command line -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "Lfit"], ["Lfit", "did you mean Lift"]),
        (["--suite", "metaworld-mt5"], ["did you mean metaworld-mt50"]),
        (["--policy", "expert"], ["two policies are called expert", "--policy first=expert"]),
        (["--policy", "expret"], ["expret holds no policy", "neither `expert` nor `random`"]),
        (["--policy", "mine="], ["'mine=' holds no policy"]),
        (["--episodes", "0"], ["episodes", "1 or more"]),
        (["--episodes", "some"], ["episodes", "some"]),
        (["--workers", "-1"], ["workers", "1 or more"]),
        (["--early-stop", "5"], ["early_stop", "0 to 1"]),
        (["--require", "70"], ["require", "0 to 1"]),
        (["--perturb", "lihgt=1"], ["lihgt", "light"]),
        (["--perturb", "light=much"], ["light", "much"]),
        (["--perturb", "light=1"], ["render=none"]),
        (["env.perturb.sensor=1"], ["use --perturb"]),
        (["videos=-1"], ["videos", "0 or more"]),
        (["first_seed=-1"], ["first_seed", "0 or more"]),
        (["noise=2"], ["noise"]),
        (["runner.steps=0"], ["runner", "1 or more"]),
        (["--against", "{tmp}/nowhere"], ["is no evaluation"]),
        (["--resume", "--force"], ["use one of them"]),
    ],
)
def test_mistakes_get_one_clear_line_and_leave_nothing_behind(arguments, words, tmp_path, capsys):
    command = ["evaluate", "--policy", "expert", "--out", str(tmp_path / "e"), "env.render=none"]
    assert main([*command, *(part.format(tmp=tmp_path) for part in arguments)]) != OK
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(word in said for word in words), said
    assert not (tmp_path / "e").exists()


def test_a_missed_requirement_is_exit_code_one_and_a_line(tmp_path, capsys):
    command = ["evaluate", "--policy", "random", "--out", str(tmp_path / "e"), "--episodes", "2"]
    command += ["env.render=none", "env.horizon=5", "--require", "0.5"]
    assert main(command) == FAILED
    said = capsys.readouterr()
    assert "random: 0 of 2 is below --require 0.5" in said.err
    assert json.loads(said.out)["policies"][0]["episodes"] == 2


# processes --------------------------------------------------------------------------------------


def wait_for(truth, seconds=120):
    until = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.02)


def lines(folder):
    path = folder / "episodes.jsonl"
    return path.read_text().count("\n") if path.is_file() else 0


class Murderous(Pool):
    """Kills one of its workers after two results, while it plays."""

    def outcomes(self, *args, **kwargs):
        for number, outcome in enumerate(super().outcomes(*args, **kwargs)):
            yield outcome
            if number == 1:
                os.kill(self._workers[0].process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_neither_two_workers_nor_the_death_of_one_change_an_episode(tmp_path, policy, monkeypatch):
    few = {"config": {"episodes": 14, "early_stop": 0.25}, "env": replace(BLIND, horizon=40)}
    calm = evaluate(tmp_path / "calm", ("random", policy), **few)
    monkeypatch.setattr(
        batch,
        "open_pool",
        lambda make, env, workers, *_, **__: Murderous(make, workers, isolate=True),
    )
    found = evaluate(tmp_path / "e", ("random", policy), workers=2, **few)
    for cells in (calm["cells"], found["cells"]):
        assert [cell["episodes"] for cell in cells] == [12, 12]
    assert found["failures"] == [] and not any(cell["errors"] for cell in found["cells"])
    assert sum(row["attempts"] > 1 for row in rows(tmp_path / "e")) == 1
    assert sum(cell["rerun"] for cell in found["cells"]) == 1

    def without_attempts(folder):
        return [row | {"attempts": 1} for row in rows(folder)]

    assert without_attempts(tmp_path / "e") == without_attempts(tmp_path / "calm")


@pytest.mark.slow
def test_the_same_command_goes_on_where_it_was_killed(tmp_path, capsys):
    command = ["--policy", "expert", "--policy", "random", "--out", str(tmp_path / "e")]
    command += ["--workers", "1", "--episodes", "20", "env.render=none", "env.horizon=40"]
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "robostack.sim.batch_eval", *command],
        stderr=log,
        stdout=log,
        start_new_session=True,
    )
    wait_for(lambda: lines(tmp_path / "e") >= 3 or process.poll() is not None)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert not (tmp_path / "e" / "summary.json").exists()
    time.sleep(1)
    before = lines(tmp_path / "e")
    assert 3 <= before < 40
    kept = (tmp_path / "e" / "episodes.jsonl").read_text().splitlines()[:before]
    assert main(["evaluate", *command]) == OK
    after = (tmp_path / "e" / "episodes.jsonl").read_text().splitlines()
    assert after[:before] == kept and len(after) == 40
    assert json.loads(capsys.readouterr().out)["policies"][0]["episodes"] == 20
