"""Results of a batch, from rows and pictures that are made up."""

import csv
import html
import json
import re

import cv2
import numpy as np
import pytest

from robostack import results
from robostack.evaluate import mcnemar, paired_bootstrap, wilson
from robostack.ledger import Cell, Ledger
from robostack.results import COLUMNS, TILE, Gallery

FILM = np.zeros((3, 16, 16, 3), np.uint8)


def row(cell, seed, success=True, error="", **changes):
    fields = dict(policy=cell.policy, task=cell.task, condition=cell.condition, seed=seed)
    fields |= dict(success=None if error else success, steps=10 + seed, seconds=3.0)
    fields |= dict(act_seconds=1.0, act_ms=None if error else 2.0, attempts=1, error=error)
    return fields | {"fingerprint": "1"} | changes


def filled(folder, outcomes, seeds=None):
    """A ledger of {cell: [True, False or the text of an error]}."""
    longest = max(map(len, outcomes.values()))
    ledger = Ledger(folder, list(outcomes), range(seeds or longest))
    for cell, marks in outcomes.items():
        for seed, mark in enumerate(marks):
            broken = mark if isinstance(mark, str) else ""
            ledger.add(cell, row(cell, seed, mark is True, broken))
    return ledger


def written(folder, ledger, gallery=None, earlier=None):
    found = results.summarise(ledger, earlier or {}) | {"warnings": ["look <here>"]}
    results.write(folder, found, ledger, gallery or Gallery(folder, 6))
    return found, (folder / "index.html").read_text()


A, B = Cell("a", "Lift"), Cell("b", "Lift")


def test_a_cell_counts_by_hand(tmp_path):
    ledger = filled(tmp_path, {A: [True, False, True, "it broke", False]})
    [cell] = results.summarise(ledger, {})["cells"]
    assert (cell["episodes"], cell["successes"], cell["success_rate"]) == (4, 2, 0.5)
    assert cell["ci95"] == list(wilson(2, 4)) and cell["errors"] == 1
    assert cell["steps_to_success"] == 11  # median of 10 and 12
    assert cell["chunk_latency_ms"] == 2.0
    assert cell["steps_per_second"] == pytest.approx(np.median([10, 11, 12, 14]) / (3 - 1))


def test_the_page_tells_stops_where_there_was_a_judge_and_only_there(tmp_path):
    judged, plain = tmp_path / "judged", tmp_path / "plain"
    judged.mkdir(), plain.mkdir()
    ledger = Ledger(judged, [A], range(4))
    for seed, marks in enumerate([(True, True), (False, True), (False, False), (False, False)]):
        ledger.add(A, row(A, seed, marks[0], stopped=marks[1]))
    page = written(judged, ledger)[1]
    assert "stops: right, wrong, never" in page and ">1, 1, 2<" in page
    assert "stops:" not in written(plain, filled(plain, {A: [True]}))[1]


def test_a_cell_that_was_never_played_says_nothing_about_its_rate(tmp_path):
    [cell] = results.summarise(Ledger(tmp_path, [A], range(3)), {})["cells"]
    assert cell["episodes"] == 0 and cell["ci95"] == [0.0, 1.0]
    assert cell["steps_to_success"] is cell["chunk_latency_ms"] is cell["steps_per_second"] is None


def test_the_others_are_compared_with_the_first_on_the_starts_that_both_have(tmp_path):
    marks = {A: [True, False, False, "it broke"], B: [True, True, False, True]}
    [found] = results.summarise(filled(tmp_path, marks), {})["comparisons"]
    first, second = np.array([1, 0, 0], bool), np.array([1, 1, 0], bool)
    difference, low, high = paired_bootstrap(first, second)
    assert (found["baseline"], found["policy"], found["episodes"]) == ("a", "b", 3)
    assert (found["gained"], found["lost"]) == (1, 0)
    assert (found["difference"], found["ci95"]) == (difference, [low, high])
    assert found["mcnemar_p"] == mcnemar(first, second)


def test_several_tasks_are_compared_one_by_one_and_together(tmp_path):
    marks = {A: [True, False], B: [True, True]}
    marks |= {Cell("a", "Stack"): [True, True], Cell("b", "Stack"): [False, False]}
    rows = {c["task"]: c for c in results.summarise(filled(tmp_path, marks), {})["comparisons"]}
    assert {task: (c["gained"], c["lost"]) for task, c in rows.items()} == {
        "all": (1, 2),
        "Lift": (1, 0),
        "Stack": (0, 2),
    }
    assert rows["all"]["episodes"] == 4


def test_everybody_is_the_control_of_itself_under_a_perturbation(tmp_path):
    dark = Cell("a", "Lift", "light 1")
    found = results.summarise(filled(tmp_path, {A: [True, True], dark: [False, True]}), {})
    [comparison] = found["comparisons"]
    assert (comparison["baseline"], comparison["policy"]) == ("a", "a")
    assert comparison["condition"] == "light 1" and comparison["lost"] == 1
    assert [p["condition"] for p in found["policies"]] == ["none", "light 1"]


def test_an_earlier_evaluation_takes_the_place_of_the_baseline(tmp_path):
    old = {Cell("old:x", "Lift"): [row(A, 1, True), row(A, 0, False), row(A, 9, True)]}
    ledger = filled(tmp_path, {A: [True, True], B: [False, False]})
    rows = results.summarise(ledger, old)["comparisons"]
    assert [(c["baseline"], c["policy"], c["episodes"]) for c in rows] == [
        ("old:x", "a", 2),
        ("old:x", "b", 2),
    ]
    assert [(c["gained"], c["lost"]) for c in rows] == [(1, 0), (0, 1)]


def test_the_same_failure_is_told_once_with_how_often_it_happened(tmp_path):
    ledger = filled(tmp_path, {A: ["it broke", True, "it broke"], B: ["it broke", "no", True]})
    found, page = written(tmp_path, ledger)
    assert found["failures"] == [
        {"what": "it broke", "episodes": 3, "cells": ["a on Lift", "b on Lift"]},
        {"what": "no", "episodes": 1, "cells": ["b on Lift"]},
    ]
    assert page.count("it broke") == 1 and "3 episodes of a on Lift, b on Lift" in page


def test_the_table_of_episodes_reads_back_as_it_was(tmp_path):
    quoted = 'it "broke", at\nthe second line'
    filled_with = {Cell("a,b", "Lift"): [True, quoted, False], B: [False, False, True]}
    ledger = filled(tmp_path, filled_with)
    written(tmp_path, ledger)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = {"True": True, "False": False}
    read = [(r["policy"], int(r["seed"]), told.get(r["success"], r["error"])) for r in rows]
    assert read == [
        (cell.policy, seed, mark)
        for cell, marks in filled_with.items()
        for seed, mark in enumerate(marks)
    ]
    assert [int(r["steps"]) for r in rows] == [10, 11, 12] * 2


def test_what_is_said_is_json(tmp_path):
    found, _ = written(tmp_path, filled(tmp_path, {A: [True, "it broke"]}))
    text = (tmp_path / "results.json").read_text()
    assert json.loads(text) == found and "NaN" not in text


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a&b", "$\\foo$", "it's", "[/red]"])
def test_names_are_shown_and_never_obeyed(name, tmp_path):
    cell = Cell(name, "Lift")
    ledger = filled(tmp_path, {cell: [True, False, f"{name} broke"], B: [True, True, True]})
    ledger.complain(f"{name} has no camera", B)
    gallery = Gallery(tmp_path, 6)
    gallery.add(cell, 0, True, FILM)
    _, page = written(tmp_path, ledger, gallery)
    assert "<script" not in page and html.escape(name) in page
    assert "look &lt;here&gt;" in page and "<here>" not in page
    [video] = re.findall(r"src='(videos/[^']*)'", page)
    assert (tmp_path / video).is_file()


def test_all_failures_are_filmed_up_to_a_cap_and_the_first_two_successes(tmp_path):
    gallery = Gallery(tmp_path, failures=3)
    for seed in range(10):
        gallery.add(A, seed, seed % 2 == 0, FILM)
    names = [path.stem for path in gallery.videos(A)]
    assert names == [
        *("a--Lift--failure-1", "a--Lift--failure-3", "a--Lift--failure-5"),
        *("a--Lift--success-0", "a--Lift--success-2"),
    ]
    assert len(list((tmp_path / "ends").iterdir())) == COLUMNS


def test_films_are_wanted_until_nothing_of_another_episode_would_be_kept(tmp_path):
    gallery, wanted = Gallery(tmp_path, failures=3), []
    for seed in range(COLUMNS + 4):
        wanted.append(gallery.wants(A))
        gallery.add(A, seed, seed % 2 == 0, FILM)
    assert wanted == [True] * COLUMNS + [False] * 4
    assert not Gallery(tmp_path, failures=3).wants(A) and gallery.wants(B)
    for seed in range(COLUMNS + 4):
        gallery.add(B, seed, True, FILM)
    assert gallery.wants(B)  # its first failure may come yet


def test_a_gallery_that_goes_on_does_not_begin_to_count_anew(tmp_path):
    for seed in range(4):
        Gallery(tmp_path, failures=2).add(A, seed, False, FILM)
    assert len(Gallery(tmp_path, 2).videos(A)) == 2


def test_a_cap_of_none_films_no_failure(tmp_path):
    gallery = Gallery(tmp_path, failures=0)
    gallery.add(A, 0, False, FILM)
    assert gallery.videos(A) == []


def test_videos_are_in_the_order_of_their_seeds(tmp_path):
    gallery = Gallery(tmp_path, failures=6)
    for seed in (100, 9, 99_999, 100_000):
        gallery.add(A, seed, False, FILM)
    seeds = [int(path.stem.rpartition("-")[2]) for path in gallery.videos(A)]
    assert seeds == [9, 100, 99_999, 100_000]


def test_policies_whose_names_look_alike_keep_their_own_videos(tmp_path):
    gallery = Gallery(tmp_path, failures=6)
    alike = [Cell(name, "Lift") for name in ("a/b", "a-b", "a b")]
    for cell in alike:
        gallery.add(cell, 7, False, FILM)
    videos = [path for cell in alike for path in gallery.videos(cell)]
    assert len(set(videos)) == 3 and all(path.stat().st_size > 0 for path in videos)


def test_the_grid_has_a_row_a_cell_and_outlives_a_damaged_picture(tmp_path):
    gallery = Gallery(tmp_path, failures=1)
    assert gallery.grid([A, B]) is None
    for cell, success in ((A, True), (B, False)):
        gallery.add(cell, 0, success, FILM)
        gallery.add(cell, 1, success, FILM)
    (tmp_path / "ends" / "a--Lift--end-0.png").write_bytes(b"")
    grid = cv2.imread(str(gallery.grid([A, Cell("never", "Lift"), B])))
    assert grid.shape == (2 * TILE, COLUMNS * TILE, 3)
    green, red = grid[2, TILE // 2, ::-1].astype(int), grid[TILE + 2, TILE // 2, ::-1].astype(int)
    assert green[1] > green[0] and red[0] > red[1]
