"""Trials of choice: what would somebody do who is paid by this reward?"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from robostack.exam import starc as distances
from robostack.exam.metrics import Statistic, ratings_error, spearman, top_hit
from robostack.exam.questions import PLAIN, RANK
from robostack.exam.sheet import TRY, Case, NotApplicable, Number, Sheet
from robostack.rewards.shaping import shaped_rewards

EPISODES = 200  # of a task that the distance to the truth is measured on, at most
FLAT = 1e-6  # tries whose truth differs by less are all the same


def _is_try(case: Case) -> bool:
    return case.label == TRY and case.group != "" and case.shift == ""


def groups(sheet: Sheet, variant: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(what the reward said of each try, what the simulator says) of groups of tries that differ.

    RANK: the chunk's rank. PLAIN: the gain of the potential over the try. Truth: its gain, a
    success counting as the whole way.
    """
    found = sheet.require(variant, _is_try, "group of tries from one state")
    tables: dict[tuple, list[tuple[float, float]]] = defaultdict(list)
    for case, said in found:
        if case.truth is None:
            raise NotApplicable("the tries carry no truth of the simulator")
        end = 1.0 if case.success else float(case.truth[-1])
        score = float(said[0]) if variant == RANK else float(said[-1] - said[0])
        tables[case.store, case.group].append((score, end - float(case.truth[0])))
    pairs = [tuple(np.array(rows).T) for rows in tables.values() if len(rows) > 1]
    pairs = [(said, truth) for said, truth in pairs if np.ptp(truth) > FLAT]
    if not pairs:
        raise NotApplicable("in no group of tries did the truth differ")
    return pairs


def _agreement(sheet: Sheet, variant: str, prefix: str) -> dict[str, Number]:
    found = groups(sheet, variant)
    return {
        f"{prefix}_spearman": sheet.mean([spearman(said, truth) for said, truth in found]),
        f"{prefix}_top1": sheet.mean([top_hit(said, truth) for said, truth in found]),
        f"{prefix}_chance": sheet.mean([np.mean(t >= t.max()) for _, t in found]),
    }


def chunks(sheet: Sheet) -> dict[str, Number]:
    """Chunks ranked before they are executed, within the state that they start from."""
    found = groups(sheet, RANK)
    error = sheet.number(ratings_error(found, FLAT), np.zeros(len(found), int))
    return {**_agreement(sheet, RANK, "within"), "within_calibration": error}


def outcomes_of_chunks(sheet: Sheet) -> dict[str, Number]:
    """The same chunks, judged after they were executed, by the gain of the potential."""
    return _agreement(sheet, PLAIN, "gain")


def truth_distance(sheet: Sheet) -> dict[str, Number]:
    """STARC distance between the potential and the simulator's dense reward, both read as rewards
    of the state that a step leads to; the mean over tasks."""
    found = sheet.require(PLAIN, lambda c: c.shift == "" and c.truth is not None, "truth")
    tasks: dict[str, list[tuple[Case, np.ndarray]]] = defaultdict(list)
    for case, phi in found:
        if len(tasks[case.task]) < EPISODES:
            tasks[case.task].append((case, phi))
    kept = [pair for pairs in tasks.values() for pair in pairs]
    strata = np.repeat(np.arange(len(tasks)), [len(pairs) for pairs in tasks.values()])
    statistics = [_distance(pairs, sheet) for pairs in tasks.values()]

    def statistic(weights: np.ndarray) -> np.ndarray:
        each = [found(weights[:, strata == i]) for i, found in enumerate(statistics)]
        return np.mean(each, axis=0)

    assert len(kept) == len(strata)
    return {"starc": sheet.number(statistic, strata)}


def _distance(pairs: list[tuple[Case, np.ndarray]], sheet: Sheet) -> Statistic:
    cases, gamma = [case for case, _ in pairs], sheet.config.gamma
    lengths = [len(case.states) for case in cases]
    seen = distances.features(_places(cases), seed=sheet.config.seed)
    last = np.cumsum(lengths) - 1
    now = np.delete(np.arange(len(seen)), last)  # all but the last observation of each
    ended = np.zeros(len(seen), bool)
    ended[last] = [case.terminated for case in cases]
    cuts = np.cumsum([n - 1 for n in lengths])[:-1]
    parts = []
    for values in ([phi for _, phi in pairs], [case.truth for case in cases]):
        rewards = np.concatenate([v[1:] for v in values]).astype(float)
        canonical = distances.levelled(rewards, seen[now], seen[now + 1], ended[now + 1], gamma)
        parts.append(np.split(canonical, cuts))
    return distances.distance_statistic(*parts)


def _places(cases: list[Case]) -> np.ndarray:
    """States, keypoints and instructions of all observations, f64[N, D]."""
    names = sorted(set.intersection(*(set(case.keypoints) for case in cases)))
    words = sorted({case.asked for case in cases})
    rows = []
    for case in cases:
        asked = np.tile([float(case.asked == w) for w in words], (len(case.states), 1))
        rows.append(np.hstack([case.states, *(case.keypoints[n] for n in names), asked]))
    places = np.concatenate(rows).astype(float)
    return np.where(np.isfinite(places), places, 0.0)  # a lost keypoint


def hovering(sheet: Sheet) -> dict[str, Number]:
    """Is it better to try, or to stay close until time is up?

    An attempt is the success of the same task (and start, where there is one): with chance p it
    ends so, else it fails for good at its last step. Against it stands the hover episode, cut by
    its time limit. The break-even p makes the discounted returns equal: above it, trying pays.
    With potential shaping (rewards.shaping.shaped_rewards) hovering is owed no more than the
    discounted potential that it holds when time is up; a learner that goes on from its value there
    gives even that back, and the break-even is 0. The naive use pays the potential every step.
    """
    found = sheet.require(PLAIN, lambda c: c.label == "hover" and c.shift == "", "hover episode")
    models = sheet.answers(PLAIN, lambda c: c.label == "success" and c.shift == "")
    if not {c.task for c, _ in found} & {c.task for c, _ in models}:
        raise NotApplicable("no success of a task with hover episodes")
    rows: dict[str, list[float]] = defaultdict(list)
    for case, phi in found:
        same = [(c, p) for c, p in models if c.task == case.task]
        close = [p for c, p in same if c.seed == case.seed] or [p for _, p in same]
        if not close:
            continue
        staying = phi[len(phi) // 2 :]
        rows["hover_potential"].append(staying.mean())
        rows["hover_gap"].append(np.mean([p[-1] for p in close]) - staying.max())
        for name, pay in (("hover_break_even", shaped), ("hover_break_even_naive", naive)):
            evens = [break_even(p, phi, pay, sheet.config.gamma) for p in close]
            rows[name].append(np.mean(evens))
    return {name: sheet.mean(values) for name, values in rows.items()}


def shaped(phi: np.ndarray, success: bool, terminated: bool, gamma: float) -> np.ndarray:
    """Shaping as learners use it, without what all tries from one state share, -Phi of it."""
    rewards = shaped_rewards(phi, success, terminated, gamma)
    rewards[0] += phi[0]
    return rewards


def naive(phi: np.ndarray, success: bool, terminated: bool, gamma: float) -> np.ndarray:
    """The potential of what each step leads to, and 1 for success; failing for good is worth 0."""
    rewards = phi[1:].astype(np.float64).copy()
    if terminated:
        rewards[-1] = phi[-1] + 1.0 if success else 0.0
    return rewards


def break_even(attempt: np.ndarray, hover: np.ndarray, pay, gamma: float) -> float:
    """The chance of success at which an attempt returns as much as hovering; above 1: never."""

    def worth(phi: np.ndarray, success: bool, terminated: bool) -> float:
        rewards = pay(phi, success, terminated, gamma)
        return float(gamma ** np.arange(len(rewards)) @ rewards)

    lost, won = worth(attempt, False, True), worth(attempt, True, True)
    return (worth(hover, False, False) - lost) / (won - lost)
