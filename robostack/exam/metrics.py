"""What an exam measures, as functions of arrays, and how sure each number is.

Statistics take `weights` f64[D, N], how often each of N episodes counts in each of D draws, and
give f64[D], so that one function serves the number itself (all weights 1) and its interval.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

DONE = 0.95  # potential from which a task counts as complete (Robo-Dopamine, arXiv 2512.23703)
BINS = 10  # of the reliability diagram

Statistic = Callable[[np.ndarray], np.ndarray]


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks f64[N] from 0 on; equal values share the mean of theirs."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[group]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation in [-1, 1] of f[N] and f[N]: Pearson's, of their ranks (Spearman 1904).

    0 where one of them is constant: it orders nothing.
    """
    a, b = (ranks(np.asarray(x)) for x in (first, second))
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def value_order(potential: np.ndarray) -> float:
    """VOC: rank correlation of a potential f[T+1] with time; 1 where it never falls or rests.

    As in GVL (arXiv 2411.04549) and Robo-Dopamine (2512.23703), on every observation. 0 for a
    constant.
    """
    return spearman(potential, np.arange(len(potential)))


def toggling(potential: np.ndarray) -> float:
    """Mean absolute second difference of f[T+1]: 0 for a straight line, 2 for 0 1 0 1 ..."""
    return float(np.abs(np.diff(potential, 2)).mean()) if len(potential) > 2 else 0.0


def signs(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """f64[M, N] of f[M] and f[N]: 1 where `high` is above `low`, -1 below, 0 where equal."""
    return np.sign(np.subtract.outer(np.asarray(high, float), np.asarray(low, float)))


def ordering(values: np.ndarray, classes: np.ndarray, tasks: np.ndarray) -> Statistic:
    """How far values f[N] order the outcome classes i[N], in [-1, 1]: of all pairs of the same task
    and different class, the share in the right order minus the share in the wrong one.

    Kendall's concordance over ordered classes, that is Somers' D of the value given the class
    (Somers 1962). With two classes it is 2 AUC - 1.
    """
    values, classes = np.asarray(values, float), np.asarray(classes)
    blocks = []
    for task in np.unique(tasks):
        for low, high in _pairs_of(np.unique(classes[tasks == task])):
            above, below = ((tasks == task) & (classes == c) for c in (high, low))
            above, below = np.flatnonzero(above), np.flatnonzero(below)
            blocks.append((above, below, signs(values[above], values[below])))

    def statistic(weights: np.ndarray) -> np.ndarray:
        right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
        for above, below, sign in blocks:
            right += ((weights[:, above] @ sign) * weights[:, below]).sum(1)
            pairs += weights[:, above].sum(1) * weights[:, below].sum(1)
        return _share(right, pairs)

    return statistic


def tau_b(values: np.ndarray, classes: np.ndarray, tasks: np.ndarray) -> Statistic:
    """Kendall's tau-b (1945) of values f[N] and outcome classes i[N], over the pairs of all tasks:

        (right - wrong) / sqrt(pairs of different class * pairs of different value)

    Pairs of one class and different value count below the line: with several episodes a class it
    stays below 1 however good the order is, with three equally large ones at sqrt(2 / 3) = 0.82.
    """
    values, classes = np.asarray(values, float), np.asarray(classes)
    members = [np.flatnonzero(tasks == task) for task in np.unique(tasks)]
    blocks = [(m, signs(values[m], values[m]), signs(classes[m], classes[m])) for m in members]

    def statistic(weights: np.ndarray) -> np.ndarray:
        sums = np.zeros((3, len(weights)))
        for m, value, kind in blocks:
            for total, part in zip(sums, (value * kind, value**2, kind**2)):
                total += ((weights[:, m] @ part) * weights[:, m]).sum(1)
        return _share(sums[0], np.sqrt(sums[1] * sums[2]))

    return statistic


def _pairs_of(classes: np.ndarray) -> list[tuple]:
    return [(low, high) for i, low in enumerate(classes) for high in classes[i + 1 :]]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, nan where a draw has nothing to count."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def area(values: np.ndarray, positive: np.ndarray, tasks: np.ndarray | None = None) -> Statistic:
    """ROC-AUC of f[N] for bool[N], ties half; of pairs within a task, where tasks are given."""
    tasks = np.zeros(len(values), int) if tasks is None else tasks
    order = ordering(values, np.asarray(positive).astype(int), tasks)
    return lambda weights: 0.5 + 0.5 * order(weights)


def mean_of(values: np.ndarray) -> Statistic:
    values = np.asarray(values, float)
    return lambda weights: _share(weights @ values, weights.sum(1))


def ratio(part: np.ndarray, whole: np.ndarray) -> Statistic:
    """Sum of f[N] over sum of f[N]: precision and recall."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return lambda weights: _share(weights @ part, weights @ whole)


def brier(probability: np.ndarray, outcome: np.ndarray) -> Statistic:
    """Mean squared difference of probability f[N] and outcome bool[N] (Brier 1950); 0 is best, and
    0.25 is what always saying 1/2 gives."""
    return mean_of((np.asarray(probability, float) - outcome) ** 2)


def reliability(
    probability: np.ndarray, outcome: np.ndarray, weights: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mass, mean probability and mean outcome of each bin, f64[D, bins] each.

    Bins hold equal shares of the weight. Equal probabilities stay together, so the order of the
    episodes does not matter.
    """
    level, group = np.unique(np.asarray(probability, float), return_inverse=True)
    member = np.zeros((len(group), len(level)))
    member[np.arange(len(group)), group] = 1.0
    mass = weights @ member
    won = weights @ (member * np.asarray(outcome, float)[:, None])
    total = mass.sum(1, keepdims=True)
    middle = (np.cumsum(mass, 1) - mass / 2) / np.maximum(total, 1e-12)
    place = np.minimum((middle * bins).astype(int), bins - 1)
    sums = []
    for part in (mass, mass * level, won):
        flat = place + bins * np.arange(len(mass))[:, None]
        found = np.bincount(flat.ravel(), part.ravel(), minlength=bins * len(mass))
        sums.append(found.reshape(len(mass), bins))
    mass, said, was = sums
    safe = np.maximum(mass, 1e-12)
    return mass / np.maximum(total, 1e-12), said / safe, was / safe


def calibration_error(probability: np.ndarray, outcome: np.ndarray, bins: int = BINS) -> Statistic:
    """Expected calibration error over bins of equal mass: the mean distance between what was said
    and how often it was so (Naeini et al. 2015; equal mass after Nguyen and O'Connor 2015)."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        mass, said, was = reliability(probability, outcome, weights, bins)
        return (mass * np.abs(said - was)).sum(1)

    return statistic


def ratings_error(
    groups: list[tuple[np.ndarray, np.ndarray]], flat: float, bins: int = BINS
) -> Statistic:
    """Expected calibration error of ratings f[N] read as log-odds (Bradley and Terry 1952), over
    groups of (rating, truth): of the pairs of a group that truly differ by more than `flat`,
    sigmoid(their difference) against how often the higher one is the better. Bins are of equal
    width, from 1/2 on; the weights are of groups.
    """
    table = np.zeros((3, len(groups), bins))  # pairs, what was said, what was so
    for g, (rating, truth) in enumerate(groups):
        i, j = np.triu_indices(len(rating), 1)
        ahead, truly = rating[i] - rating[j], truth[i] - truth[j]
        ahead, truly = ahead[np.abs(truly) > flat], truly[np.abs(truly) > flat]
        chance = 1 / (1 + np.exp(-np.abs(ahead)))
        right = (1 + np.sign(ahead * truly)) / 2  # a tie is drawn for
        place = np.minimum((2 * bins * (chance - 0.5)).astype(int), bins - 1)
        for row, value in zip(table, (np.ones_like(chance), chance, right)):
            row[g] = np.bincount(place, value, minlength=bins)

    def statistic(weights: np.ndarray) -> np.ndarray:
        pairs, said, was = (weights @ part for part in table)
        return _share(np.abs(said - was).sum(1), pairs.sum(1))

    return statistic


def accuracy(said: np.ndarray, outcome: np.ndarray) -> Statistic:
    """Share of bool[N] that are right."""
    return mean_of(np.asarray(said, bool) == np.asarray(outcome, bool))


def balanced_accuracy(said: np.ndarray, outcome: np.ndarray) -> Statistic:
    """Mean of the accuracy on positives and on negatives: 1/2 for who always says the same."""
    said, outcome = np.asarray(said, bool), np.asarray(outcome, bool)
    found = ratio(said & outcome, outcome), ratio(~said & ~outcome, ~outcome)
    return lambda weights: 0.5 * (found[0](weights) + found[1](weights))


def top_hit(score: np.ndarray, truth: np.ndarray) -> float:
    """Chance that the highest of f[N] is one of the truly best; a tie at the top is drawn from."""
    best = truth >= truth.max()
    return float(best[score >= score.max()].mean())


def bootstrap(
    statistic: Statistic, strata: np.ndarray, draws: int, seed: int
) -> tuple[float, float, float]:
    """The statistic of N episodes and its 95 % percentile interval (Efron 1979).

    Episodes are drawn anew within each stratum of i[N], so no draw lacks an outcome that the data
    have. Draws for which the statistic says nan do not count.
    """
    value = float(statistic(np.ones((1, len(strata))))[0])
    rng = np.random.default_rng(seed)
    weights = np.empty((draws, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        share = np.full(len(members), 1 / len(members))
        weights[:, members] = rng.multinomial(len(members), share, draws)
    drawn = statistic(weights)
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (value, value)
    return value, float(low), float(high)
