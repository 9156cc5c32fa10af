"""Trials of outcome: does the end of an episode score as it ended?"""

from __future__ import annotations

import numpy as np

from robostack.exam.metrics import (
    DONE,
    Statistic,
    accuracy,
    area,
    balanced_accuracy,
    brier,
    calibration_error,
    mean_of,
    ordering,
    ratio,
    tau_b,
)
from robostack.exam.questions import PLAIN, STOPS
from robostack.exam.sheet import Case, NotApplicable, Number, Sheet, as_asked, codes


def whole(sheet: Sheet, shift: str = "") -> tuple[list[Case], np.ndarray, np.ndarray, np.ndarray]:
    """Cases of known outcome, their last potential f[N], class i[N] and task i[N]."""
    found = sheet.require(
        PLAIN, lambda c: c.shift == shift and c.outcome is not None, "episode of known outcome"
    )
    cases = [case for case, _ in found]
    final = np.array([phi[-1] for _, phi in found], float)
    outcome = np.array([case.outcome for case in cases])
    return cases, final, outcome, codes([case.task for case in cases])


def outcome_order(sheet: Sheet) -> dict[str, Number]:
    """How last potentials order failure < near miss or hover < success or recovery in a task."""
    _, final, outcome, task = whole(sheet)
    if not any(len(set(outcome[task == t])) > 1 for t in set(task)):
        raise NotApplicable("no task has episodes of different outcome")
    strata = codes(list(task), list(outcome))
    numbers = {"kendall": sheet.number(ordering(final, outcome, task), strata)}
    if np.ptp(final) > 0:
        numbers["kendall_tau_b"] = sheet.number(tau_b(final, outcome, task), strata)
    return numbers


def pairs(sheet: Sheet) -> dict[str, Number]:
    """How often a success gained more than another episode of its task, as preferences compare."""
    cases, finals, outcome, task = whole(sheet)
    gain = np.array([final - sheet.said[PLAIN, c.key][0] for c, final in zip(cases, finals)])
    won = outcome == 2
    if not any(len(set(won[task == t])) > 1 for t in set(task)):
        raise NotApplicable("no task has both successes and others")
    strata = codes(list(task), list(won))
    return {"pair_accuracy": sheet.number(area(gain, won, task), strata)}


def success(sheet: Sheet) -> dict[str, Number]:
    """The last potential as a detector of success and as its probability."""
    _, final, outcome, _ = whole(sheet)
    return _success(sheet, final, outcome == 2)


def success_area(sheet: Sheet, shift: str) -> Number | None:
    """ROC-AUC alone, on shifted data; None where all ended alike."""
    _, final, outcome, _ = whole(sheet, shift)
    won = outcome == 2
    if won.all() or not won.any():
        return None
    return sheet.number(area(final, won), won.astype(int))


def _success(sheet: Sheet, final: np.ndarray, won: np.ndarray) -> dict[str, Number]:
    strata, said = won.astype(int), final >= DONE
    statistics: dict[str, Statistic] = {
        "brier": brier(final, won),
        "calibration_error": calibration_error(final, won),
        "completion": accuracy(said, won),
    }
    if won.any() and not won.all():
        statistics["auc"] = area(final, won)
        statistics["completion_balanced"] = balanced_accuracy(said, won)
    return {name: sheet.number(statistic, strata) for name, statistic in statistics.items()}


def detector(sheet: Sheet) -> dict[str, Number]:
    """A declared success against the real one.

    The first True of an episode is a hit if it succeeds, no earlier than `early` steps before it
    does; every other one is a false stop. An episode succeeds when the simulator's truth is 1 for
    the first time, else with its last observation. Recall is of the successes that went on for
    `early` steps, if there are any: the others leave hardly a frame to be sure by.
    """
    found = sheet.require(STOPS, as_asked, "episode of known outcome")
    won = np.array([case.outcome == 2 for case, _ in found])
    long = won & [len(said) - 1 - _done(case) >= sheet.config.early for case, said in found]
    asked = long if long.any() else won
    stopped = np.array([said.any() for _, said in found])
    delay = np.array([said.argmax() - _done(case) for case, said in found])
    hit = stopped & won & (delay >= -sheet.config.early)
    numbers = {
        "false_stops": sheet.number(mean_of(100.0 * (stopped & ~hit)), won.astype(int)),
    }
    if stopped.any():
        numbers["stop_precision"] = sheet.number(ratio(hit, stopped), won.astype(int))
    if asked.any():
        numbers["stop_recall"] = sheet.number(ratio(hit & asked, asked), won + 1 * asked)
    if hit.any():
        numbers["stop_delay"] = sheet.mean(list(delay[hit]))
    return numbers


def _done(case: Case) -> int:
    """The observation at which an episode succeeds."""
    last = len(case.states) - 1
    if case.truth is None or not (case.truth >= 1).any():
        return last
    return int((case.truth >= 1).argmax())
