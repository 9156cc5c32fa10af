"""Trials of order: does the potential follow what happens, or just the clock?"""

from __future__ import annotations

import numpy as np

from robostack.exam.metrics import mean_of, value_order
from robostack.exam.questions import ASKED, COST, LIVE, PLAIN
from robostack.exam.sheet import (
    Case,
    NotApplicable,
    Number,
    Sheet,
    as_asked,
    codes,
    succeeded,
)


def value_orders(sheet: Sheet) -> dict[str, Number]:
    """VOC of successes, and of the same reversed and shuffled."""
    numbers = {}
    for name, variant in (
        ("voc", PLAIN),
        ("voc_reversed", "reversed"),
        ("voc_shuffled", "shuffled"),
    ):
        found = sheet.require(variant, succeeded, "success")
        numbers[name] = sheet.mean([value_order(phi) for _, phi in found])
    return numbers


def still(sheet: Sheet) -> dict[str, Number]:
    """What a potential does while nothing happens."""
    found = sheet.require("frozen", succeeded, "success")
    return {
        "voc_frozen": sheet.mean([value_order(phi) for _, phi in found]),
        "frozen_drift": sheet.mean([phi[-1] - phi[0] for _, phi in found]),
    }


def unseen(sheet: Sheet) -> dict[str, Number]:
    """What a potential does while nothing can be seen. Who refuses to judge that pays nothing for
    it, which is as good as not to rise."""
    asked = [case for case in sheet.cases if succeeded(case)]
    refused = sum(("blank", case.key) in sheet.refused for case in asked)
    said = [phi for _, phi in sheet.answers("blank", succeeded)]
    if not refused and not said:
        raise NotApplicable("no success")
    numbers = {
        "blank_drift": sheet.mean([phi[-1] - phi[0] for phi in said] + [0.0] * refused),
        "blank_refused": sheet.mean([0.0] * len(said) + [1.0] * refused),
    }
    if said:
        numbers["blank_final"] = sheet.mean([phi[-1] for phi in said])
    return numbers


def other_words(sheet: Sheet, case: Case) -> list[tuple[str, np.ndarray]]:
    """Potentials of a case under each instruction that is not its own."""
    keys = [(words, (ASKED + words, case.key)) for words in sheet.instructions]
    return [(words, sheet.said[key]) for words, key in keys if key in sheet.said]


def instructions(sheet: Sheet) -> dict[str, Number]:
    """Potentials of successes under the right words against those under others.

    Other words may happen to be true of what was done (what is stacked has been lifted, too); that
    counts against a reward here, so compare rewards on the same data, and see the confusion matrix.
    """
    right = sheet.require(PLAIN, succeeded, "success")
    if not [words for words in sheet.instructions if any(words != c.asked for c, _ in right)]:
        raise NotApplicable("the data have one instruction only")
    final, along, refused, orders, highest = [], [], [], [], []
    for case, phi in right:
        others = [said for _, said in other_words(sheet, case)]
        keys = [(ASKED + words, case.key) for words in sheet.instructions]
        unsaid = sum(key in sheet.refused for key in keys)
        if others or unsaid:
            refused.append(unsaid / (unsaid + len(others)))
        if others:
            final.append(phi[-1] - np.mean([said[-1] for said in others]))
            along.append(np.mean([(phi - said).mean() for said in others]))
            orders.append(np.mean([value_order(said) for said in others]))
            highest.append(all(phi[-1] > said[-1] for said in others))
    numbers = {}
    if final:
        numbers["instruction_gap"] = sheet.mean(final)
        numbers["instruction_gap_step"] = sheet.mean(along)
        numbers["instruction_top1"] = sheet.mean(highest)
        numbers["voc_instruction"] = sheet.mean(orders)
        numbers["instruction_refused"] = sheet.mean(refused)
    astray = sheet.answers(PLAIN, lambda c: as_asked(c) and c.label == "wrong object")
    if astray:
        tasks = {case.task for case, _ in astray}
        pooled = [(c.asked, 1, phi[-1]) for c, phi in right if c.task in tasks]
        pooled += [(c.asked, 0, phi[-1]) for c, phi in astray]
        numbers["wrong_object_gap"] = _gap(sheet, pooled)
    if not numbers:
        reasons = [why for (variant, _), why in sheet.refused.items() if ASKED in variant]
        raise NotApplicable(reasons[0] if reasons else "no success was asked about in other words")
    return numbers


def _gap(sheet: Sheet, rows: list[tuple[str, int, float]]) -> Number:
    """Mean of rows marked 1 minus that of rows marked 0."""
    marks, values = np.array([r[1] for r in rows]), np.array([r[2] for r in rows])
    if not marks.any():
        raise NotApplicable("no success of the tasks in which something else was done")
    parts = [mean_of(np.where(marks == m, values, 0.0)) for m in (1, 0)]
    share = [mean_of(marks == m) for m in (1, 0)]
    return sheet.number(
        lambda w: parts[0](w) / share[0](w) - parts[1](w) / share[1](w), codes(list(marks))
    )


def confusion(sheet: Sheet) -> tuple[list[str], list[str], np.ndarray]:
    """Rows, columns and mean final potentials of successes: a row an instruction (or a task, where
    there are too many), the first column under its own words, then under each of the others."""
    right = sheet.answers(PLAIN, succeeded)
    many = len({case.asked for case, _ in right}) > sheet.config.instructions
    rows = sorted({case.task if many else case.asked for case, _ in right})
    rows = rows[: sheet.config.instructions]
    cells: dict[tuple[str, str], list[float]] = {}
    for case, phi in right:
        row = case.task if many else case.asked
        cells.setdefault((row, "as asked"), []).append(phi[-1])
        if case.asked in sheet.instructions:
            cells.setdefault((row, case.asked), []).append(phi[-1])
        for words, said in other_words(sheet, case):
            cells.setdefault((row, words), []).append(said[-1])
    columns = ["as asked", *sheet.instructions]
    table = [[np.mean(cells.get((r, c), [np.nan])) for c in columns] for r in rows]
    return rows, columns, np.array(table).reshape(len(rows), len(columns))


def costs(sheet: Sheet) -> dict[str, Number]:
    """Median time of an observation, and the fastest and slowest of the repetitions; the same of
    one that is judged as soon as it is there."""
    numbers = {}
    for name, variant in (("ms_a_frame", COST), ("ms_live", LIVE)):
        found = sheet.answers(variant, lambda case: True)
        if not found:
            continue
        _, taken = found[0]
        low, value, high = map(float, np.quantile(taken, [0, 0.5, 1]))
        numbers[name] = {"value": value, "low": low, "high": high, "n": len(taken)}
    if not numbers:
        sheet.require(COST, lambda case: True, "success that could be timed")
    return numbers
