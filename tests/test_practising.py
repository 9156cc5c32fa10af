"""`robostack train rl` on real physics and pixels, tiny, by each algorithm; its page; mistakes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fakes import SPEC, make_episode

from robostack import practising, rl_report
from robostack.cli import FAILED, OK, USAGE, main
from robostack.data.store import Store
from robostack.exam.results import Trust
from robostack.learn import rl
from robostack.learn.run import finished
from robostack.policy.checkpoint import EDITS
from robostack.policy.vla import VLA
from robostack.protocols import Scores
from robostack.rewards.saved import RewardError
from robostack.rewards.success import SuccessDetector
from robostack.sim.worker import RunnerConfig

ENV = ["env.cameras={agentview: 32}", "env.horizon=60"]
TINY = [
    *ENV,
    "weights={keypoints: 1}",
    *("rl.iterations=2", "rl.episodes=2", "rl.updates=2"),
    *("rl.critic_updates=2", "rl.group.tries=2", "rl.group.least=0", "rl.group.most=1"),
    *("rl.rlpd.batch=8", "rl.rlpd.critics=2", "rl.rlpd.width=8", "rl.rlpd.proposals=2"),
]


FEW = ["rl.batch=4", "rl.draws=2"]  # not of rlpd, which has a batch of its own


@pytest.fixture(scope="module")
def cloned(tmp_path_factory):
    """Folder with demonstrations and a policy of a few steps."""
    folder = tmp_path_factory.mktemp("practising")
    size = ["policy.small={width: 32, layers: 1, heads: 2}", "policy.expert={width: 32}"]
    demos, bc = str(folder / "demos"), str(folder / "bc")
    assert main(["collect", "--out", demos, *ENV, "seeds=2", "--workers", "1"]) == OK
    steps = ["steps=2", "batch=4", "draws=2"]
    assert main(["train", "bc", "--data", demos, "--out", bc, *steps, *size]) == OK
    return folder


def practise(cloned, out, *words, reward="keypoints"):
    given = ["--policy", str(cloned / "bc"), "--demos", str(cloned / "demos"), "--reward", reward]
    few = [] if "rl.algorithm=rlpd" in words else FEW
    return main(["train", "rl", *given, "--out", str(out), "--workers", "1", *TINY, *few, *words])


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["awr", "grpo", "rlpd"])  # the rest: tests/learn/rl
def test_algorithms_practise_in_the_simulator(cloned, tmp_path, algorithm):
    out = tmp_path / algorithm
    explore = [] if algorithm in rl.LIKELIHOOD else ["runner.explore=0.1"]
    words = [f"rl.algorithm={algorithm}", "check=true", "trials.episodes=1", *explore]
    assert practise(cloned, out, *words) == OK
    summary = finished(out)
    assert summary["rollouts"] == 4 and len(summary["checks"]) == 3
    assert len({e.seed for _, e in Store(out / "store").episodes()}) == (
        2 if algorithm == "grpo" else 4
    )
    page = (out / "report.html").read_text()
    assert page.count("<svg") >= 1 and "data:video/webm;base64," in page and "hacked" in page
    assert "What went wrong" in page and "and going on" not in page
    assert ("groups that told nothing" in page) == (algorithm == "grpo")
    assert (out / "policy" / EDITS).is_dir() == (algorithm == "rlpd")
    played = ["evaluate", "--policy", str(out), "--out", str(tmp_path / "e"), "--episodes", "1"]
    assert main([*played, "--workers", "1", "videos=0", *ENV]) == OK


@pytest.mark.slow
def test_rollouts_that_a_program_rescues_are_told_apart_and_counted(cloned, tmp_path):
    out = tmp_path / "rl"
    assert practise(cloned, out, "rl.assist.rescue=4") == OK
    for policy in (cloned / "bc", out):
        assert VLA.read_card(policy / "policy").instructions == {"lift the red cube"}
    sources = [e.source for _, e in Store(out / "store").episodes()]
    assert sources == ["led"] * 4  # what two steps of cloning made knows nothing
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [(row["led"], row["assist"], row["interventions"]) for row in rows] == [(2, 0, 0)] * 2
    page = (out / "report.html").read_text()
    assert "At first 0% of the hand's motion were led" in page
    assert "2 rollouts had help, at last 2" in page and "rollouts with help" in page


@pytest.mark.slow
def test_stopped_in_its_first_iteration_it_has_a_page_that_says_so(cloned, tmp_path, capsys):
    """And one while it goes on."""
    out, stop = tmp_path / "rl", ["rl.alarms.stop=true", "rl.alarms.velocity=0.5"]
    assert practise(cloned, out, *stop) == OK
    assert "2 of 4 rollouts, of the newest 2 0% [0%, 66%] succeeded" in capsys.readouterr().err
    assert finished(out)["stopped"]["iteration"] == 1
    page = (out / rl_report.PAGE).read_text()
    assert "<b>Stopped in iteration 1</b>: velocity is" in page and "raised no alarm" in page
    assert "<b>1</b>" in page  # the reading, above its limit
    (out / "summary.json").unlink()
    rl_report.write(out)
    assert "2 rollouts of 4, <b>and going on</b>" in (out / rl_report.PAGE).read_text()


def test_updates_of_the_page_are_counted_and_not_rounded():
    rows = [{"rollouts": 30, "updates": 1234}, {"rollouts": 60}]
    page = rl_report._trouble(rows, {"updates": 10_000})
    assert ">1234<" in page and ">10000<" in page


@pytest.mark.slow
def test_a_policy_with_edits_acts_but_is_not_trained_on_without_them(cloned, tmp_path, capsys):
    assert practise(cloned, tmp_path / "rl", "rl.algorithm=rlpd") == OK
    again = ["--start", str(tmp_path / "rl"), "--data", str(cloned / "demos"), "steps=2"]
    assert main(["train", "bc", *again, "--out", str(tmp_path / "bc")]) == FAILED
    assert "clone its rollouts (collect, train bc)" in capsys.readouterr().err
    assert not (tmp_path / "bc").exists()
    more = ["collect", "--policy", str(tmp_path / "rl"), "--out", str(tmp_path / "more"), *ENV]
    assert main([*more, "by=policy", "seeds=1", "--workers", "1"]) == OK
    wrong = ["runner.execute=4", "by=policy", "seeds=1", "--workers", "1"]
    assert main([*more[:-4], "--out", str(tmp_path / "wrong"), *ENV, *wrong]) == FAILED
    assert "expected runner.execute=8" in capsys.readouterr().err


def test_a_gate_and_pessimism_count_in_what_is_paid():
    class Says:
        def __init__(self, name, potential, confidence):
            self.name, self.said = name, (potential, confidence)

        def explain(self, episode):
            return Scores(*(np.full(len(episode) + 1, value, np.float32) for value in self.said))

        def fingerprint(self):
            return self.name

    says = {"high": Says("high", 0.9, 0.1), "low": Says("low", 0.5, 1.0)}
    weights = dict.fromkeys(says, 1.0)

    def paid(**changes):
        config = practising.TrainRLConfig(weights=weights, **changes)
        return practising.Judges(says, config, Trust()).score(make_episode(0)).potential[0]

    assert paid() == pytest.approx(0.7)
    assert paid(pessimism=0.5) == pytest.approx(0.7 - 0.5 * 0.2)
    assert paid(gate=0.5) == pytest.approx((0.1 * 0.9 + 0.5) / 1.1)
    with pytest.raises(ValueError, match="gate=2, .*: expected a confidence"):
        practising.TrainRLConfig(gate=2)


def test_practice_by_a_reward_that_goes_on_learning_is_nothing_for_the_strict(tmp_path):
    detector = SuccessDetector(SPEC)
    config = practising.TrainRLConfig(weights={"success": 1.0})
    with pytest.raises(RewardError, match="--strict: success has not sat an exam"):
        practising.Judges({"success": detector}, config, Trust(strict=True))

    class Trusting(Trust):
        def require(self, rewards):
            pass

    practising.Judges({"success": detector}, config, Trusting(strict=True))
    config = replace(config, rl=replace(config.rl, refresh=2))
    with pytest.raises(RewardError, match="rl.refresh=2 has success go on learning.*expected 0"):
        practising.Judges({"success": detector}, config, Trusting(strict=True))


@pytest.mark.slow
def test_learned_rewards_go_on_learning_from_the_rollouts(cloned, tmp_path, capsys):
    kind = ["kind=success", "steps=2", "eye.side=16", "eye.width=8"]
    data = ["--data", str(cloned / "demos"), "--out", str(tmp_path / "success")]
    assert main(["train", "reward", *data, *kind]) == OK
    words = ["weights={success: 1}", "rl.refresh=1", "refresh_steps=2", "rl.iterations=3"]
    assert practise(cloned, tmp_path / "rl", *words, reward=str(tmp_path / "success")) == OK
    made = sorted((tmp_path / "rl" / "rewards").glob("*/success/summary.json"))
    prints = [json.loads(path.read_text())["fingerprint"] for path in made]
    assert [path.parents[1].name for path in made] == ["001", "002"] and len(set(prints)) == 2
    said = capsys.readouterr().err
    assert said.count("warning: success has not sat an exam") == 1  # before, and after each
    about = json.loads((made[1].parent / "run.json").read_text())
    assert about["config"]["start"].endswith("001/success/reward")


MISTAKES = [
    (["rl.algorithm=ppo", "runner.explore=0.1"], "needs the likelihood of what was drawn"),
    (["rl.algorithm=grpo", "runner.temperature=0.5"], "needs the likelihood of what was drawn"),
    (["rl.algorithm=ppo", "runner.level=0"], "expected runner.level above 0"),
    (["rl.algorithm=grpo", "rl.episodes=3"], "expected a multiple of group.tries=2"),
    (["rl.algorithm=reinforce"], "awr, filtered, ppo, grpo, nft, rlpd"),
    (["rl.refresh=2"], "expected 0, or rewards that can learn"),
    (["rl.rlpd.reach=2"], "expected reach and average above 0 up to 1"),
    (["rl.clip.low=1.5"], "expected 0 < low < 1"),
    (["rl.algorithm=grpo", "rl.assist.share=0.5"], "expected 0, or awr, filtered or rlpd"),
    (["rl.algorithm=nft", "rl.assist.rescue=9"], "assist.rescue=9: nft learns from what the pol"),
    (["rl.assist.share=2"], "expected share, easy and less from 0 to 1"),
    (["rl.curiosity.weight=-1"], "expected a weight of 0 or more"),
    (["check=true", "trials.first_seed=50003"], "rollouts from 50000 to 50003: expected none of"),
    (
        ["rl.algorithm=rlpd", "check=true", "runner.execute=4", "trials.runner.execute=6"],
        "trials.runner.execute=6: rlpd learns to edit chunks of which as many",
    ),
    (["rl.temperature=0"], "rl: temperature=0: expected a number above 0"),
    (["rl.algorithm=nft", "rl.naive=true"], "nft looks at success alone; expected False, or awr"),
    (["rl.algorithm=rlpd", "rl.lr=0.1"], "expected 0.0003, and rlpd.lr in its place"),
]


@pytest.mark.parametrize("words,told", MISTAKES)
def test_mistakes_get_one_clear_line_and_leave_nothing_behind(
    cloned, tmp_path, capsys, words, told
):
    assert practise(cloned, tmp_path / "rl", *words) in (FAILED, USAGE)
    assert told in capsys.readouterr().err
    assert not (tmp_path / "rl").exists()


def test_trials_execute_what_rollouts_do_unless_they_are_told_otherwise():
    acting = {"execute": 4, "steps": 3, "temperature": 0.5}
    config = practising.TrainRLConfig(runner=RunnerConfig(**acting, level=0.5))
    assert config.trying().runner == RunnerConfig(**acting)
    own = RunnerConfig(execute=2)
    other = replace(config, trials=replace(config.trials, runner=own))
    assert other.trying() == other.trials


def test_likelihoods_want_one_stochastic_step_and_the_rest_of_the_runner_as_it_is():
    config = practising.TrainRLConfig()
    assert config.way() == config.runner
    ppo = replace(config, rl=replace(config.rl, algorithm="ppo"))
    assert ppo.way() == RunnerConfig(level=0.5, once=True)
    with pytest.raises(ValueError, match="nothing else of the runner"):
        replace(ppo, runner=RunnerConfig(level=0.5, delay=1)).way()
