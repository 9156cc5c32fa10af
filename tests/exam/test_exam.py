"""Rewards with known virtues and faults sit the exam: each passes or fails as it ought to."""

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from examinees import (
    LEFT,
    RIGHT,
    ROOM,
    Backwards,
    Broken,
    Clock,
    Constant,
    Deaf,
    Examinee,
    HoverPayer,
    Oracle,
    make,
    walk,
    write_examination,
)
from fakes import swap

from robostack.data.store import Store
from robostack.exam.outcome import detector
from robostack.exam.results import doubts, find_results
from robostack.exam.sheet import Case, ExamConfig, ExamError, Sheet
from robostack.exam.sit import examined, sit
from robostack.testing import check_reward

KINDS = (Oracle, Constant, Clock, HoverPayer, Deaf, Backwards, Broken)


@pytest.fixture(scope="module")
def exam(data, tmp_path_factory):
    rewards = {kind.name: kind() for kind in KINDS}
    config = ExamConfig(draws=50, repeats=2)
    return examined(rewards, [data], tmp_path_factory.mktemp("exam"), config)[0]


def missed(exam, name):
    return {n for n, aim in exam["rewards"][name]["aims"].items() if aim["met"] is False}


def value(exam, name, number):
    return exam["rewards"][name]["numbers"][number]["value"]


def test_the_oracle_passes_every_aim(exam):
    aims = exam["rewards"]["oracle"]["aims"]
    assert all(aim["met"] is True for aim in aims.values()), aims
    assert value(exam, "oracle", "starc") == pytest.approx(0, abs=1e-6)
    assert value(exam, "oracle", "within_top1") == 1
    for number in ("stop_precision", "stop_recall"):
        assert value(exam, "oracle", number) == 1
    assert value(exam, "oracle", "false_stops") == value(exam, "oracle", "stop_delay") == 0
    assert exam["rewards"]["oracle"]["not_applicable"] == {}


def test_a_constant_orders_nothing(exam):
    assert {"voc", "voc_reversed", "auc", "kendall", "instruction_gap", "hover_gap"} <= missed(
        exam, "constant"
    )
    assert value(exam, "constant", "kendall") == 0 and value(exam, "constant", "auc") == 0.5


def test_a_clock_is_right_forwards_and_found_out_by_everything_else(exam):
    assert value(exam, "clock", "voc") == pytest.approx(1)
    found = missed(exam, "clock")
    assert {"voc_reversed", "voc_shuffled", "frozen_drift", "instruction_gap", "kendall"} <= found
    assert "hover_gap" in found and "voc" not in found
    assert value(exam, "clock", "voc_reversed") == pytest.approx(1)
    assert value(exam, "clock", "frozen_drift") == pytest.approx(1)


def test_who_rises_in_the_dark_is_found_out(exam):
    assert "blank_drift" in missed(exam, "clock") and "blank_drift" not in missed(exam, "oracle")
    assert value(exam, "clock", "blank_refused") == 0


def test_ranks_are_read_as_log_odds(exam):
    for name in ("oracle", "backwards"):
        assert 0 < value(exam, name, "within_calibration") < 1
    assert value(exam, "backwards", "within_calibration") > 0.5
    assert value(exam, "oracle", "within_calibration") < 0.5  # it is always right, and less sure


def test_a_reward_that_sees_an_episode_again_and_again_costs_more_while_it_goes_on(data, tmp_path):
    class Slow(Oracle):
        def judge(self, episode):
            time.sleep(0.0005 * (len(episode) + 1))
            return super().judge(episode)

    config = ExamConfig(draws=10, repeats=2, trials=("cost", "steadiness"))
    slow = examined({"slow": Slow()}, [data], tmp_path, config)[0]
    steps = len(walk(0, "success"))
    live = value(slow, "slow", "ms_live")
    assert live > 0.5 * steps / 2 and live > 3 * value(slow, "slow", "ms_a_frame")


def test_who_takes_close_for_done_fails_the_hover_test_only_where_it_matters(exam):
    assert "hover_gap" in missed(exam, "hover_payer")
    assert "voc_reversed" not in missed(exam, "hover_payer")
    oracle, payer = (value(exam, n, "hover_break_even") for n in ("oracle", "hover_payer"))
    assert payer > oracle


def test_who_does_not_listen_fails_the_words_and_not_the_order(exam):
    assert "instruction_gap" in missed(exam, "deaf") and "voc" not in missed(exam, "deaf")
    assert value(exam, "deaf", "instruction_gap") == 0
    assert value(exam, "deaf", "wrong_object_gap") == pytest.approx(0, abs=1e-6)
    assert value(exam, "oracle", "wrong_object_gap") > 0.8


def test_who_does_not_listen_rises_as_well_under_other_words(exam):
    assert value(exam, "deaf", "voc_instruction") == pytest.approx(1)
    assert value(exam, "oracle", "voc_instruction") == 0
    assert value(exam, "deaf", "instruction_top1") == 0
    assert value(exam, "oracle", "instruction_top1") == 1
    assert "voc_instruction" in missed(exam, "deaf") & missed(exam, "clock")


def test_every_task_has_numbers_of_its_own_and_the_words_a_matrix(exam):
    oracle, deaf = (exam["rewards"][name] for name in ("oracle", "deaf"))
    assert oracle["confusion"] == {
        "rows": [LEFT, RIGHT],
        "columns": ["as asked", LEFT, RIGHT],
        "table": [[1, 1, 0], [1, 0, 1]],
    }
    assert deaf["confusion"]["table"] == [[1, 1, 1], [1, 1, 1]]
    assert set(oracle["by_task"]) == {"Left", "Right"}
    for numbers in oracle["by_task"].values():
        assert numbers["kendall"]["value"] == 1 and numbers["instruction_gap"]["value"] == 1
    broken = exam["rewards"]["broken"]["by_task"]
    assert broken["Right"]["judged"]["value"] == 0 and "voc" not in broken["Right"]
    assert broken["Left"]["voc"]["value"] == pytest.approx(1)


def test_who_ranks_backwards_fails_within_a_state_and_nowhere_else(exam):
    assert missed(exam, "backwards") == {"within_spearman"}
    assert value(exam, "backwards", "within_spearman") == pytest.approx(-1)
    assert value(exam, "backwards", "gain_spearman") == pytest.approx(1)


def test_refusals_are_reported_for_every_store_and_for_what_could_not_be_asked(exam):
    result = exam["rewards"]["broken"]
    reasons = result["not_applicable"]
    assert "no program" in reasons["store Right/plain"]
    assert "no program" in reasons["store Right/camera"] and "store Left/plain" not in reasons
    assert "not finite" in reasons["store Left/plain, blank"]
    assert value(exam, "broken", "blank_drift") == 0 and value(exam, "broken", "blank_refused") == 1
    assert "instruction_gap" not in result["numbers"] and "wrong_object_gap" in result["numbers"]
    assert "`rank`" in reasons["chunks"] and "`stops`" in reasons["stops"]
    assert result["aims"]["within_spearman"]["met"] is None
    assert result["aims"]["judged"] == {"min": 1.0, "value": 0.5, "met": False}
    assert result["numbers"]["voc"]["n"] == 2  # the left alone


def test_every_number_has_an_interval_around_it_and_a_count(exam):
    for result in exam["rewards"].values():
        for name, number in result["numbers"].items():
            assert number["n"] >= 1 and number["low"] <= number["high"], name


def test_shifted_pictures_change_nothing_for_who_looks_at_states(exam):
    assert value(exam, "oracle", "change.camera") == 0
    assert value(exam, "oracle", "voc.camera") == pytest.approx(1)
    assert "change.light" not in exam["rewards"]["oracle"]["numbers"]


def test_the_naive_use_of_a_potential_pays_for_hovering_and_shaping_does_not(exam):
    assert value(exam, "oracle", "hover_break_even_naive") > 1
    assert value(exam, "oracle", "hover_break_even") < 0.8


def test_the_card_stands_alone_and_names_every_reward(little, tmp_path, config):
    hostile = Oracle()
    sit({"<script>": hostile}, [little], tmp_path, config)
    page = (tmp_path / "index.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "src='http" not in page and "<svg" in page and "data:image/png" in page
    assert "<h3>Task by task</h3>" in page and page.count("<td>Left<td>") == 1


def test_a_second_exam_asks_nothing_again_and_finds_the_same(little, tmp_path, config):
    reward, again = Oracle(), Oracle()
    first = examined({"oracle": reward}, [little], tmp_path, config)[0]
    assert reward.asked > 0
    assert examined({"oracle": again}, [little], tmp_path, config)[0] == first
    assert again.asked == 0


def test_the_card_is_drawn_anew_where_something_else_was_found_or_it_is_gone(
    little, tmp_path, config
):
    page, kept = tmp_path / "index.html", replace(config, trials=("order",))

    def drawn(reward):
        before = page.stat().st_mtime_ns if page.exists() else 0
        sit({"oracle": reward}, [little], tmp_path, kept)
        return page.stat().st_mtime_ns > before

    assert drawn(Oracle()) and not drawn(Oracle())
    text = page.read_text()
    page.unlink()
    assert drawn(Oracle()) and page.read_text() == text
    assert drawn(Oracle("2")) and page.read_text() != text


class Interrupted(Oracle):
    def score(self, episode):
        if self.asked == 5:
            raise KeyboardInterrupt
        return super().score(episode)


def test_an_interrupted_exam_goes_on_with_the_next_store(little, tmp_path, config):
    plain, fresh, rest = Interrupted(), Oracle(), Oracle()
    kept = replace(config, trials=("order", "outcome"))
    whole = examined({"oracle": fresh}, [little], tmp_path / "whole", kept)[0]
    with pytest.raises(KeyboardInterrupt):
        examined({"oracle": plain}, [little], tmp_path / "cut", kept)
    assert examined({"oracle": rest}, [little], tmp_path / "cut", kept)[0] == whole
    assert rest.asked < fresh.asked


def test_answers_of_another_reward_or_of_other_episodes_are_stale(tmp_path, config):
    held = write_examination(tmp_path / "data", range(1), (), ("success", "failure"), 0)
    out = tmp_path / "exam"
    kept = replace(config, trials=("outcome",))
    examined({"oracle": Oracle()}, [held], out, kept)
    other = Oracle("2")
    examined({"oracle": other}, [held], out, kept)
    assert other.asked == 4
    Store(held / "Left" / "plain").append(walk(9, "success"))
    more = Oracle()
    examined({"oracle": more}, [held], out, kept)
    assert more.asked == 3  # the left store, not the right one


def test_answers_about_what_an_episode_held_before_are_stale(tmp_path, config):
    held = write_examination(tmp_path / "data", range(1), (), ("success", "failure"), 0)
    kept = replace(config, trials=("outcome",))
    examined({"oracle": Oracle()}, [held], tmp_path / "exam", kept)
    left = Store(held / "Left" / "plain")
    for episode_id in left.ids():  # the same attributes, the same pictures: other states
        episode = left.read(episode_id)
        swap(left, episode_id, replace(episode, states=episode.states[::-1]))
    again = Oracle()
    found = examined({"oracle": again}, [held], tmp_path / "exam", kept)[0]
    assert again.asked == 2 and value(found, "oracle", "kendall") < 1


def test_a_damaged_file_of_answers_is_asked_again(little, tmp_path, config):
    kept = replace(config, trials=("order",))
    first = examined({"oracle": Oracle()}, [little], tmp_path, kept)[0]
    for path in (tmp_path / "answers").rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    assert examined({"oracle": Oracle()}, [little], tmp_path, kept)[0] == first


class AtHome(Oracle):
    def __init__(self, home, version="1"):
        super().__init__(version)
        self.home = home


def test_results_are_found_at_home_and_among_exams_unless_stale(little, tmp_path, config):
    home, out = tmp_path / "oracle", tmp_path / "exam"
    home.mkdir()
    assert find_results(AtHome(home), []) == (
        [],
        "oracle has not sat an exam; hold one with `robostack exam`",
    )
    exam = sit({"oracle": AtHome(home)}, [little], out, replace(config, trials=("order",)))
    (found,), why = find_results(AtHome(home), [])
    assert found["numbers"] == exam["rewards"]["oracle"]["numbers"] and why == ""
    assert find_results(AtHome(home, "2"), [out])[0] == []
    assert "stale" in find_results(AtHome(home, "2"), [])[1]
    assert find_results(Oracle(), [out])[0][0]["fingerprint"] == "oracle-1"
    clock = Clock()
    sit({"clock": clock}, [little], tmp_path / "clock", replace(config, trials=("order",)))
    (doubt,) = doubts({"clock": clock}, [tmp_path / "clock"])
    assert "voc_reversed" in doubt


def test_a_store_without_a_summary_is_examined_by_its_outcomes(tmp_path, config):
    store = Store.create(tmp_path / "rollouts", ROOM)
    for seed in range(3):
        for label, task in (("success", LEFT), ("failure", LEFT), ("success", RIGHT)):
            store.append(replace(walk(seed, label, task), label="", truth=None))
    exam = examined({"oracle": Oracle()}, [tmp_path / "rollouts"], tmp_path / "exam", config)[0]
    found = exam["rewards"]["oracle"]
    assert found["numbers"]["auc"]["value"] == found["numbers"]["kendall"]["value"] == 1
    assert "truth" in found["not_applicable"] and "shifted" in found["not_applicable"]["shifts"]
    assert "no hover" in found["not_applicable"]["hover"]


def test_a_quick_exam_asks_less(data, tmp_path, config):
    quick = replace(config, episodes=1, controls=1, trials=("order", "outcome"))
    few = Oracle()
    exam = examined({"oracle": few}, [data], tmp_path, quick)[0]
    assert exam["rewards"]["oracle"]["numbers"]["voc"]["n"] == 2
    assert few.asked == 2 * (5 + 8) + 2 * 5 + 2 * 2


def test_nothing_that_could_be_asked_is_an_error(little, tmp_path, config):
    class Mute(Examinee):
        name = "mute"

        def judge(self, episode):
            raise ValueError("the camera 'wrist' is missing")

    with pytest.raises(ExamError, match="nothing could be asked.*wrist"):
        sit({"mute": Mute()}, [little], tmp_path, config)


@pytest.mark.parametrize(
    "bad, message", [("outcom", "did you mean outcome"), ("zzz", "there are: coverage, ")]
)
def test_an_unknown_trial_is_refused_with_what_there_is(little, tmp_path, config, bad, message):
    with pytest.raises(ExamError, match=message):
        sit({"oracle": Oracle()}, [little], tmp_path, replace(config, trials=(bad,)))


def test_an_unknown_shift_is_refused(little, tmp_path, config):
    held = tmp_path / "data"
    shutil.copytree(little, held)
    summary = json.loads((held / "summary.json").read_text())
    summary["stores"][0]["shift"] = "lights"
    (held / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ExamError, match="did you mean light"):
        sit({"oracle": Oracle()}, [held], tmp_path / "out", config)


@pytest.mark.parametrize("field, bad", [("gamma", 1.0), ("draws", 0), ("controls", 0)])
def test_settings_out_of_range_are_refused(field, bad):
    with pytest.raises(ValueError, match=field):
        ExamConfig(**{field: bad})


def test_examinees_keep_the_contract_of_rewards():
    check_reward(Clock(), walk(0, "success"))
    assert np.ptp(Constant().score(walk(0, "success"))) == 0


def test_a_detector_is_asked_of_the_successes_that_go_on(config):
    """One that needs three done frames finds none of those that end at once, and misses nothing."""
    after = walk(0, "success")
    tail = [np.concatenate([c, np.repeat(c[-1:], 8, axis=0)]) for c in (after.states, after.truth)]
    after = make(0, tail[0].T, tail[1], LEFT, "after success")
    sheet = Sheet(config)
    for key, episode in {
        "ends": walk(1, "success"),
        "goes on": after,
        "lost": walk(2, "failure"),
    }.items():
        sheet.cases.append(Case.of(episode, key, "store", "", ""))
        done = episode.truth >= 1
        sheet.said["stops", f"store/{key}"] = np.convolve(done, np.ones(3))[: len(done)] >= 3
    numbers = {name: number["value"] for name, number in detector(sheet).items()}
    assert numbers == {"false_stops": 0, "stop_precision": 1, "stop_recall": 1, "stop_delay": 2}
