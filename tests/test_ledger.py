"""The ledger of a batch: what is known, what is missing, and what ends a cell early."""

import json

import pytest

from robostack.evaluate import wilson
from robostack.learn.run import RunError
from robostack.ledger import LEAST, Cell, Ledger, earlier, read_rows, until_narrow

A, B = Cell("a", "Lift"), Cell("b", "Lift")
WEIGHTS = {"a": "1", "b": "1"}


def row(cell, seed, success=False, error="", **changes):
    fields = dict(policy=cell.policy, task=cell.task, condition=cell.condition, seed=seed)
    fields |= dict(success=None if error else success, steps=5, error=error, attempts=1)
    return fields | {"fingerprint": "1"} | changes


def ledger(folder, seeds=4, cells=(A, B), early_stop=0.0):
    made = Ledger(folder, list(cells), range(seeds), early_stop)
    made.read(WEIGHTS)
    return made


def test_what_is_missing_goes_cell_by_cell_in_the_order_of_the_seeds(tmp_path):
    book = ledger(tmp_path, seeds=2)
    assert list(book.missing()) == [(A, 0), (A, 1), (B, 0), (B, 1)]
    book.add(A, row(A, 1))
    assert list(book.missing()) == [(A, 0), (B, 0), (B, 1)]
    assert not book.over(A)


def test_what_was_written_is_known_to_the_next_session(tmp_path):
    book = ledger(tmp_path)
    for seed in (0, 1, 2, 3):
        book.add(A, row(A, seed, success=seed == 2))
    again = ledger(tmp_path)
    assert again.rows == book.rows and again.over(A)
    assert list(again.missing()) == [(B, seed) for seed in range(4)]


def test_half_a_last_line_is_forgotten_and_the_next_begins_a_line_of_its_own(tmp_path):
    book = ledger(tmp_path)
    book.add(A, row(A, 0))
    with book.path.open("a") as file:
        file.write(json.dumps(row(A, 1))[:25])
    again = ledger(tmp_path)
    assert next(again.missing()) == (A, 1)
    again.add(A, row(A, 1))
    assert [r["seed"] for r in read_rows(tmp_path)] == [0, 1]


def test_a_ledger_of_nothing_but_half_a_line_is_empty(tmp_path):
    (tmp_path / "episodes.jsonl").write_text('{"policy": "a", "ta')
    assert ledger(tmp_path).rows == {A: {}, B: {}}
    assert (tmp_path / "episodes.jsonl").read_text() == ""


def test_reading_an_evaluation_that_still_runs_leaves_it_alone(tmp_path):
    book = ledger(tmp_path)
    book.add(A, row(A, 0))
    with book.path.open("a") as file:
        file.write('{"policy": "a", "ta')
    before = book.path.read_bytes()
    assert len(earlier(tmp_path)) == 1 and book.path.read_bytes() == before


def test_a_damaged_line_is_named_with_the_remedy(tmp_path):
    book = ledger(tmp_path)
    book.add(A, row(A, 0))
    with book.path.open("a") as file:
        file.write("\0\0\0\n")
    book.add(A, row(A, 2))
    with pytest.raises(RunError, match="line 2 is damaged; delete it"):
        ledger(tmp_path)


def test_other_weights_under_the_same_name_are_refused_with_the_remedies(tmp_path):
    ledger(tmp_path).add(A, row(A, 0, fingerprint="2"))
    with pytest.raises(RunError, match="another policy called a; .*NAME=DIR.*--out.*--force"):
        ledger(tmp_path)
    assert ledger(tmp_path, cells=[B]).rows == {B: {}}  # who is not asked for may be anybody


def test_an_error_is_played_again_by_the_next_session_but_not_by_this_one(tmp_path):
    book = ledger(tmp_path, cells=[A])
    for seed in range(4):
        book.add(A, row(A, seed, error="it broke" if seed in (1, 3) else "", attempts=2))
    assert list(book.missing()) == [] and book.over(A)
    assert len(book.counted(A)[0]) == len(book.errors(A)) == 2
    assert book.failures() == {"it broke": [A, A]}
    again = ledger(tmp_path, cells=[A])
    assert list(again.missing()) == [(A, 1), (A, 3)] and not again.over(A)
    assert again.failed == {(A, 1): 2, (A, 3): 2}
    again.add(A, row(A, 1, success=True))
    assert [r["seed"] for r in again.counted(A)[0]] == [0, 1, 2]
    assert ledger(tmp_path, cells=[A]).rows[A][1]["success"]


def test_fewer_seeds_than_before_count_only_themselves(tmp_path):
    book = ledger(tmp_path, cells=[A])
    for seed in range(4):
        book.add(A, row(A, seed, error="it broke" if seed == 3 else ""))
    fewer = ledger(tmp_path, seeds=2, cells=[A])
    assert fewer.over(A) and len(fewer.counted(A)[0]) == 2 and fewer.errors(A) == []


def test_a_problem_is_noted_once_for_all_cells_that_share_it(tmp_path):
    book = ledger(tmp_path)
    for cell in (A, A, B):
        book.complain("no such camera", cell)
    assert book.problems == {"no such camera": [A, B]}
    assert book.over(A) and book.stuck(B) and list(book.missing()) == []


def test_a_problem_found_on_the_way_ends_its_cell_and_no_other(tmp_path):
    book = ledger(tmp_path)
    missing = book.missing()
    assert next(missing) == (A, 0)
    book.complain("no such camera", A)
    assert list(missing) == [(B, seed) for seed in range(4)]


@pytest.mark.parametrize("width", [0.05, 0.2, 0.3, 0.5])
def test_failures_alone_end_as_soon_as_their_interval_is_narrow(width):
    rows = [{"success": False}] * 200
    kept, early = until_narrow(rows, width)
    z2 = 1.959964**2  # the interval of none of n is [0, z2 / (n + z2)]
    assert early and len(kept) == max(LEAST, -int(-(z2 / width - z2) // 1))


def test_it_ends_at_the_first_narrow_interval_and_not_before():
    rows = [{"success": n % 3 == 0} for n in range(300)]
    kept, early = until_narrow(rows, 0.2)
    widths = []
    for n in range(1, len(kept) + 1):
        low, high = wilson(sum(r["success"] for r in rows[:n]), n)
        widths.append(high - low)
    assert early and widths[-1] <= 0.2 and all(width > 0.2 for width in widths[LEAST - 1 : -1])


def test_nothing_ends_early_unless_it_is_asked_for():
    rows = [{"success": True}] * 50
    assert until_narrow(rows, 0.0) == (rows, False)
    assert until_narrow(rows[: LEAST - 1], 1.0) == (rows[: LEAST - 1], False)
    assert until_narrow([], 0.5) == ([], False)


def test_the_end_does_not_depend_on_what_was_already_known(tmp_path):
    # seed 3 broke in an earlier session: what comes after must not end the cell without it
    whole = ledger(tmp_path / "whole", 40, [A], 0.3)
    for folder in ("whole", "holed"):
        (tmp_path / folder).mkdir()
    for _, seed in whole.missing():
        whole.add(A, row(A, seed))
    holed = ledger(tmp_path / "holed", 40, [A], 0.3)
    for seed in range(20):
        holed.add(A, row(A, seed, error="it broke" if seed == 3 else ""))
    again = ledger(tmp_path / "holed", 40, [A], 0.3)
    assert list(again.missing())[0] == (A, 3)
    again.add(A, row(A, 3))
    assert again.counted(A) == whole.counted(A) and list(again.missing()) == []


def test_names_of_cells_stay_apart_in_file_names():
    tasks, long = ("Lift", "tabletop/pick", "tabletop/pick-heldout"), "x" * 300
    names = ("a/b", "a-b", "a b", "a:b", "ä", "ö", "a", "a--Lift", "..", long, long + "y", "<b>")
    cells = [Cell(n, t, c) for n in names for t in tasks for c in ("none", "light 1", "light 0.1")]
    slugs = [cell.slug for cell in cells]
    assert len(set(slugs)) == len(cells) and all(len(slug) < 200 for slug in slugs)
    assert all(set(slug) & set("/ :<>*?[]") == set() and slug.isascii() for slug in slugs)
    assert Cell("bc", "Lift").slug == "bc--Lift"


def test_an_earlier_evaluation_is_named_after_its_folder(tmp_path, monkeypatch):
    folder = tmp_path / "old"
    folder.mkdir()
    book = ledger(folder)
    book.add(A, row(A, 0, success=True))
    book.add(A, row(A, 1, error="it broke"))
    rows = {Cell("old:a", "Lift"): [row(A, 0, success=True)]}
    assert earlier(folder) == rows
    monkeypatch.chdir(folder)
    assert earlier(".") == rows


def test_a_folder_that_is_no_evaluation_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no evaluation"):
        earlier(tmp_path)
