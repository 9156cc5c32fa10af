"""Every trial of the exam by name: what it asks, what it finds, and the aims."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from robostack.exam import choice, order, outcome
from robostack.exam.metrics import toggling, value_order
from robostack.exam.questions import ASKED, COST, LIVE, PLAIN, RANK, STOPS
from robostack.exam.sheet import Case, ExamError, NotApplicable, Number, Sheet, straight

SHIFTS = ("camera", "light", "distractors")


@dataclass(frozen=True)
class Trial:
    """One trial. `needs` names the variants (robostack.exam.questions) that it reads."""

    name: str
    needs: tuple[str, ...]
    run: Callable[[Sheet], dict[str, Number]]  # raises NotApplicable
    finds: dict[str, str]  # number -> what it means


def steadiness(sheet: Sheet) -> dict[str, Number]:
    found = sheet.require(PLAIN, lambda case: case.shift == "", "episode")
    return {"toggling": sheet.mean([toggling(phi) for _, phi in found])}


def coverage(sheet: Sheet) -> dict[str, Number]:
    keys = [(PLAIN, case.key) for case in sheet.cases]
    return {"judged": sheet.mean([float(key in sheet.said) for key in keys])}


def shifted(sheet: Sheet) -> dict[str, Number]:
    """VOC and AUC on shifted data, and how much the potential moves against the plain data."""
    plain = _matched(sheet, "")
    numbers: dict[str, Number] = {}
    for shift in SHIFTS:
        there = _matched(sheet, shift)
        if not there:
            continue
        orders = [value_order(phi) for (case, phi) in there.values() if straight(case)]
        if orders:
            numbers[f"voc.{shift}"] = sheet.mean(orders)
        found = outcome.success_area(sheet, shift)
        if found:
            numbers[f"auc.{shift}"] = found
        moved = [_moved(phi, plain[key][1]) for key, (_, phi) in there.items() if key in plain]
        if moved:
            numbers[f"change.{shift}"] = sheet.mean(moved)
    if not numbers:
        refused = [w for (_, key), w in sheet.refused.items() if _shift_of(sheet, key)]
        raise NotApplicable(refused[0] if refused else "the data have no shifted stores")
    return numbers


def _shift_of(sheet: Sheet, key: str) -> str:
    return next((case.shift for case in sheet.cases if case.key == key), "")


def _matched(sheet: Sheet, shift: str) -> dict[tuple, tuple[Case, np.ndarray]]:
    """Whole episodes of one shift by what they share with those of the others."""
    found: dict[tuple, tuple[Case, np.ndarray]] = {}
    for case, phi in sheet.answers(PLAIN, lambda c: c.shift == shift and c.outcome is not None):
        key = (case.task, case.seed, case.label)
        number = sum(known[:3] == key for known in found)
        found[(*key, number)] = case, phi
    return found


def _moved(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference; at the same share of the time, where lengths differ."""
    count = max(len(first), len(second))
    share = np.linspace(0, 1, count)
    a, b = (np.interp(share, np.linspace(0, 1, len(x)), x) for x in (first, second))
    return float(np.abs(a - b).mean())


TRIALS = {
    trial.name: trial
    for trial in (
        Trial("coverage", (PLAIN,), coverage, {"judged": "share of episodes that it judges"}),
        Trial(
            "order",
            (PLAIN, "reversed", "shuffled"),
            order.value_orders,
            {
                "voc": "rank correlation with time on successes",
                "voc_reversed": "the same, played backwards",
                "voc_shuffled": "the same, in random order",
            },
        ),
        Trial(
            "still",
            ("frozen",),
            order.still,
            {
                "voc_frozen": "rank correlation with time on one repeated observation",
                "frozen_drift": "rise over one repeated observation",
            },
        ),
        Trial(
            "unseen",
            ("blank",),
            order.unseen,
            {
                "blank_drift": "rise over black pictures and a state of zeros",
                "blank_refused": "share of those that the reward refuses to judge",
                "blank_final": "final potential of the others",
            },
        ),
        Trial(
            "instruction",
            (PLAIN, ASKED),
            order.instructions,
            {
                "instruction_gap": "final potential of successes minus that under other words",
                "instruction_gap_step": "the same, mean over the episode",
                "instruction_top1": "share of successes that end highest under their own words",
                "voc_instruction": "rank correlation with time under other words",
                "instruction_refused": "share of other words that the reward does not judge",
                "wrong_object_gap": "final potential of successes minus that of other deeds",
            },
        ),
        Trial(
            "outcome",
            (PLAIN,),
            outcome.outcome_order,
            {
                "kendall": "order of failure < near miss < success by the final potential, "
                "of pairs that differ (Somers' D)",
                "kendall_tau_b": "the same as tau-b, which stays below 1 where classes are shared",
            },
        ),
        Trial(
            "pairs",
            (PLAIN,),
            outcome.pairs,
            {"pair_accuracy": "pairs of a success and another one decided rightly, by gain"},
        ),
        Trial(
            "success",
            (PLAIN,),
            outcome.success,
            {
                "auc": "ROC-AUC of the final potential",
                "brier": "squared error of the final potential as a probability",
                "calibration_error": "expected calibration error, bins of equal mass",
                "completion": "accuracy of `final potential >= 0.95`",
                "completion_balanced": "the same, successes and others counting equally",
            },
        ),
        Trial(
            "stops",
            (STOPS,),
            outcome.detector,
            {
                "stop_precision": "declared successes that are ones",
                "stop_recall": "successes that are declared",
                "false_stops": "false declarations a hundred episodes",
                "stop_delay": "steps from success to its declaration",
            },
        ),
        Trial(
            "chunks",
            (RANK,),
            choice.chunks,
            {
                "within_spearman": "rank of chunks against what they led to, within a state",
                "within_top1": "share of states whose best chunk is ranked first",
                "within_chance": "the same for a random choice",
                "within_calibration": "error of sigmoid(difference of ranks) as the chance "
                "of being the better of two chunks",
            },
        ),
        Trial(
            "chunks afterwards",
            (PLAIN,),
            choice.outcomes_of_chunks,
            {
                "gain_spearman": "gain of the potential over a chunk against the true one",
                "gain_top1": "share of states whose best chunk gains most",
                "gain_chance": "the same for a random choice",
            },
        ),
        Trial(
            "truth",
            (PLAIN,),
            choice.truth_distance,
            {"starc": "STARC distance to the simulator's reward; 0 same, 1 opposite"},
        ),
        Trial(
            "hover",
            (PLAIN,),
            choice.hovering,
            {
                "hover_potential": "mean potential while hovering, second half",
                "hover_gap": "potential at success minus the highest of that",
                "hover_break_even": "chance from which trying beats hovering, shaped",
                "hover_break_even_naive": "the same if every step were paid the potential",
            },
        ),
        Trial("steadiness", (PLAIN,), steadiness, {"toggling": "mean second difference"}),
        Trial(
            "shifts",
            (PLAIN,),
            shifted,
            {
                f"{name}.{shift}": f"{meaning}, {shift} changed"
                for shift in SHIFTS
                for name, meaning in (
                    ("voc", "rank correlation with time"),
                    ("auc", "ROC-AUC"),
                    ("change", "mean absolute change of the potential"),
                )
            },
        ),
        Trial(
            "cost",
            (COST, LIVE),
            order.costs,
            {
                "ms_a_frame": "milliseconds an observation of a whole episode",
                "ms_live": "milliseconds an observation while the episode goes on",
            },
        ),
    )
}

MEANINGS = {name: text for trial in TRIALS.values() for name, text in trial.finds.items()}
AIMS: dict[str, dict[str, float]] = {
    "judged": {"min": 1.0},
    "voc": {"min": 0.95},
    "voc_reversed": {"max": -0.9},
    "voc_shuffled": {"min": -0.2, "max": 0.2},
    "frozen_drift": {"max": 0.1},
    "blank_drift": {"max": 0.1},
    "auc": {"min": 0.98},
    "kendall": {"min": 0.75},
    "within_spearman": {"min": 0.4},
    "instruction_gap": {"min": 0.3},
    "voc_instruction": {"max": 0.5},
    "completion": {"min": 0.93},
    "hover_gap": {"min": 0.1},
    "stop_precision": {"min": 0.95},
}


def chosen(names: Iterable[str]) -> list[Trial]:
    """Trials by name; all if none is named. Raises ExamError for a name that is none."""
    for name in names:
        if name not in TRIALS:
            raise ExamError(f"unknown trial {name!r}{close(name, TRIALS)}")
    return [TRIALS[name] for name in names] or list(TRIALS.values())


def close(name: str, known: Iterable[str]) -> str:
    """What may have been meant, and what there is, as the end of a message."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{hint}; there are: {', '.join(known)}"


def hold(sheet: Sheet, trials: list[Trial]) -> tuple[dict[str, Number], dict[str, str]]:
    """All numbers, and the reason of each trial that found none."""
    numbers: dict[str, Number] = {}
    reasons: dict[str, str] = {}
    for trial in trials:
        try:
            numbers |= trial.run(sheet)
        except NotApplicable as why:
            reasons[trial.name] = str(why)
    return numbers, reasons
