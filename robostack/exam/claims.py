"""What a complete exam of a reward is, and what one lacks.

A complete exam found every number that has an aim and that a reward of its kind claims, on five or
more starts that nothing in the reward was trained on. Numbers count by the aims of `AIMS`: an exam
may ask for more, but who asks for less has examined nothing.
"""

from __future__ import annotations

from robostack.exam.gate import met
from robostack.exam.trials import AIMS, TRIALS
from robostack.protocols import Reward
from robostack.rewards.deviation import Deviation
from robostack.rewards.noisy import NoisyReward
from robostack.rewards.saved import SavedReward, starts_of
from robostack.rewards.success import SuccessDetector

LEAST = 5  # starts of an exam
KINDS: dict[type, tuple[str, ...]] = {  # that claim less than to know how far a task has come
    SuccessDetector: (
        *("judged", "frozen_drift", "blank_drift", "auc", "hover_gap", "stop_precision"),
    ),
    Deviation: ("judged", "kendall", "within_spearman"),
    NoisyReward: ("judged", "within_spearman"),
}
WORDS = ("instruction_gap", "voc_instruction")  # asked where there are several instructions


def claims(reward: Reward, several: bool) -> tuple[str, ...]:
    """The numbers that a complete exam of a reward has; `several` instructions or one."""
    known = next((numbers for kind, numbers in KINDS.items() if isinstance(reward, kind)), None)
    numbers = tuple(AIMS) if known is None else known
    able = {"within_spearman": "rank", "stop_precision": "stops"}
    return tuple(
        name
        for name in numbers
        if (several or name not in WORDS)
        and (name not in able or callable(getattr(reward, able[name], None)))
    )


def trained_on(reward: Reward) -> set[tuple[str, int]] | None:
    """(instruction, seed) of the starts that a reward learned from; none for one of somebody's own,
    None where nobody wrote them down."""
    if not isinstance(reward, SavedReward):
        return set()
    found = starts_of(reward)
    return None if found is None else {(task, seed) for task in found for seed in found[task]}


def lacks(reward: Reward, result: dict) -> list[str]:
    """What is wrong with a reward by the results of its exam, and with that exam."""
    try:
        held = {(task, seed) for task, seeds in result["starts"].items() for seed in seeds}
        numbers, aims = result["numbers"], result["aims"]
    except (KeyError, AttributeError, TypeError):
        return ["its exam is of an earlier version and does not say on which starts; hold it again"]
    learned = trained_on(reward)
    tasks = {task for task, _ in held}, {task for task, _ in learned or ()}
    claimed = claims(reward, max(map(len, tasks)) > 1)
    wrong = _missed(numbers, aims, claimed)
    absent = [name for name in claimed if name not in numbers]
    if absent:
        wrong.append(f"its exam lacks {', '.join(absent)}{_why(absent, result)}")
    if len(held) < LEAST:
        wrong.append(f"its exam rests on {len(held)} starts, expected {LEAST} or more")
    if learned is None:
        wrong.append("nobody knows on which starts it was trained; train it again")
    elif shared := len(held & learned):
        wrong.append(f"it was trained on {shared} of the {len(held)} starts of its exam")
    return wrong


def _missed(numbers: dict, aims: dict, claimed: tuple[str, ...]) -> list[str]:
    """Numbers out of the built-in bounds, and those out of bounds that the exam itself set."""
    values = {name: number["value"] for name, number in numbers.items()}
    missed = [n for n in claimed if n in values and not met(values[n], AIMS[n])]
    own = [n for n, aim in aims.items() if aim["met"] is False and (n in claimed or n not in AIMS)]
    missed = list(dict.fromkeys([*missed, *own]))
    if not missed:
        return []
    said = ", ".join(f"{name} {values[name]:.2f}" for name in missed)
    return [f"it missed {len(missed)} aims of its exam: {said}"]


def _why(absent: list[str], result: dict) -> str:
    """What the trials of these numbers said, in brackets."""
    trials = [name for name, trial in TRIALS.items() if set(absent) & set(trial.finds)]
    reasons = [result["not_applicable"].get(name, "") for name in trials]
    unheld = [name for name in trials if name not in result["trials"]]
    told = [f"trials not held: {', '.join(unheld)}"] if unheld else []
    told += dict.fromkeys(reason for reason in reasons if reason)
    return f" ({'; '.join(told[:3])})" if told else ""
