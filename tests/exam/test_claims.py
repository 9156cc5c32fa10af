"""Who has sat a complete exam is trusted; who has not is told what is lacking."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from examinees import LEFT, RIGHT, Clock, Deaf, Oracle, write_examination
from fakes import SPEC, make_episode

from robostack.exam.claims import AIMS, claims
from robostack.exam.results import Trust, doubts
from robostack.exam.sit import sit
from robostack.learn import reward as learning
from robostack.learn.run import Run
from robostack.rewards.keypoints import KeypointAffordance
from robostack.rewards.load import load_reward
from robostack.rewards.saved import RewardError, SavedReward, noted
from robostack.rewards.success import SuccessDetector


@pytest.fixture(scope="module", autouse=True)
def unseen():
    """No exam here makes its page: nobody looks at it, and it takes longer than the exam."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robostack.exam.card.write", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """Five starts of two requests."""
    return write_examination(tmp_path_factory.mktemp("five") / "held_out", range(5), (), count=3)


@pytest.fixture(scope="module")
def passed(five, tmp_path_factory):
    """The folder of an oracle's complete exam."""
    from robostack.exam.sheet import ExamConfig

    out = tmp_path_factory.mktemp("passed")
    sit({"oracle": Oracle()}, [five], out, ExamConfig(draws=20, repeats=1))
    return out


def told(reward, data, out, config):
    sit({reward.name: reward}, [data], out, config)
    return "".join(doubts({reward.name: reward}, [out]))


def test_a_complete_exam_that_was_passed_leaves_no_doubt(passed):
    assert doubts({"oracle": Oracle()}, [passed]) == []
    Trust((passed,), strict=True).require({"oracle": Oracle()})
    about = json.loads((passed / "exam.json").read_text())
    assert about["starts"] == {LEFT: [0, 1, 2, 3, 4], RIGHT: [0, 1, 2, 3, 4]}
    assert [s["episodes"] for s in about["stores"]] == [5 * 8, 5 * 8]


def test_an_exam_of_one_trial_is_not_one(five, tmp_path, config):
    said = told(Clock(), five, tmp_path, replace(config, trials=("steadiness",)))
    assert "its exam lacks judged, voc, voc_reversed" in said
    assert "trials not held: coverage, order, still" in said


def test_what_the_data_could_not_tell_is_doubted_with_the_reason(tmp_path, config):
    short = ("success", "near miss", "failure")
    data = write_examination(tmp_path / "data", range(5), (), short, count=3)
    said = told(Oracle(), data, tmp_path / "out", config)
    assert said == "oracle: its exam lacks hover_gap (no hover episode)"


def test_aims_that_were_loosened_count_as_they_were(five, tmp_path, config):
    loose = {"voc_reversed": {"max": 1.0}, "starc": {"max": -0.5}}
    said = told(Clock(), five, tmp_path, replace(config, aims=loose))
    assert "voc_reversed 1.00" in said and "starc" in said  # one of its own counts, too


def test_few_starts_are_too_few(little, tmp_path, config):
    assert "rests on 2 starts, expected 5 or more" in told(Oracle(), little, tmp_path, config)


def test_an_exam_of_an_earlier_version_is_known_for_one(passed, tmp_path):
    old = json.loads((passed / "exam.json").read_text())
    for key in ("starts", "trials", "stores"):
        del old[key]
    (tmp_path / "exam.json").write_text(json.dumps(old))
    (said,) = doubts({"oracle": Oracle()}, [tmp_path])
    assert "of an earlier version" in said and "hold it again" in said
    assert doubts({"oracle": Oracle()}, [tmp_path, passed]) == []  # the best of several counts


def test_a_doubt_is_told_once_and_refused_where_one_is_strict(passed, capsys):
    trust = Trust((passed,))
    for _ in range(2):
        trust.require({"oracle": Oracle(), "deaf": Deaf()})
    assert capsys.readouterr().err.count("warning: deaf has not sat an exam") == 1
    with pytest.raises(RewardError, match="--strict: deaf has not sat"):
        Trust((passed,), strict=True).require({"oracle": Oracle(), "deaf": Deaf()})


def test_a_kind_is_asked_for_what_it_claims_and_a_name_is_no_excuse():
    detector = SuccessDetector(SPEC)
    assert "voc" not in claims(detector, False) and "auc" in claims(detector, False)
    mine = SimpleNamespace(name="success")
    able = {"within_spearman", "stop_precision"}  # of who ranks, and of who stops
    words = {"instruction_gap", "voc_instruction"}
    assert set(claims(mine, True)) == set(AIMS) - able
    assert set(claims(mine, False)) == set(AIMS) - able - words
    assert able <= set(claims(Oracle(), False))


class Seen(Oracle, SavedReward):
    """An oracle that learned."""

    restore = None


def test_starts_that_a_reward_was_trained_on_are_not_held_out(five, tmp_path, config):
    seen = Seen()
    assert "nobody knows on which starts it was trained" in told(seen, five, tmp_path, config)
    seen.learned_from = {LEFT: [3, 4, 5], "elsewhere": [0, 1]}
    (said,) = doubts({"oracle": seen}, [tmp_path])
    assert said == "oracle: it was trained on 2 of the 10 starts of its exam"
    seen.learned_from = {LEFT: [5, 6]}
    assert doubts({"oracle": seen}, [tmp_path]) == []
    part = Seen()
    part.learned_from = {RIGHT: [0]}
    seen.parts = lambda: {"part": part}
    assert "trained on 1 of the 10" in doubts({"oracle": seen}, [tmp_path])[0]


def test_training_writes_down_where_its_episodes_started(tmp_path):
    episodes = [make_episode(seed, task=task) for seed, task in ((4, LEFT), (4, LEFT), (2, RIGHT))]
    starts = {}
    assert len(list(noted(episodes, starts))) == 3 and starts == {LEFT: [4], RIGHT: [2]}
    config = learning.RewardConfig(kind="keypoints")
    learning.make(config, episodes, [], Run(tmp_path / "run", "train reward", {}))
    found = load_reward(tmp_path / "run")
    assert isinstance(found, KeypointAffordance) and found.learned_from == {}
