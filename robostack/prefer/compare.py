"""Candidates that began at one state become preferences, and the preferences a data card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np

from robostack.prefer import terms
from robostack.prefer.terms import OUTCOME
from robostack.types import Clip, Preference


@dataclass(frozen=True)
class PreferConfig:
    """How candidates are compared, and which comparisons become preferences."""

    weights: dict[str, float] = field(default_factory=lambda: {OUTCOME: 1.0})  # of the terms
    keep: float = 1.0  # share of comparisons, those of largest margin, that become preferences
    certain: float = 1.0  # share of comparisons, those whose terms agree most, that are considered
    apart: float = 0.02  # least root mean square difference of two clips, in ranges of the actions
    tie: float = 0.0  # comparisons with a margin up to this are kept as ties; 0: none are
    pairs: int = 2  # comparisons a state, at most
    source: Literal["tries", "demonstrations", "people"] = "tries"  # that began at one state; or
    # chunks of a policy at demonstrated states, beside what was done there; or tries by answers
    states: int = 4  # of a demonstration, source=demonstrations
    candidates: int = 8  # chunks at each of them, the demonstrated one included
    horizon: int = 8  # actions of a chunk
    clip: int = -1  # actions of a try that are learned from; -1: all, 0: its first chunk
    shuffle: bool = False  # control: which of the two was better is decided by a coin

    def __post_init__(self) -> None:
        for name in ("keep", "certain"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a share from 0 to 1")
        if self.states < 1 or self.candidates < 2:
            raise ValueError(
                f"states={self.states}, candidates={self.candidates}: expected 1 or more, 2 or more"
            )
        if self.pairs < 1 or self.horizon < 1 or self.clip < -1:
            raise ValueError(
                f"pairs={self.pairs}, horizon={self.horizon}, clip={self.clip}: expected 1 or "
                "more, 1 or more, and -1 or more"
            )
        if not (self.apart >= 0 and self.tie >= 0):
            raise ValueError(f"apart={self.apart}, tie={self.tie}: expected 0 or more")
        bad = {n: w for n, w in self.weights.items() if not (np.isfinite(w) and w >= 0)}
        if bad or not any(self.weights.values()):
            raise ValueError(f"weights: expected some above 0 and none below, got {self.weights}")

    @property
    def terms(self) -> list[str]:
        """Those that are weighed."""
        return [name for name, weight in self.weights.items() if weight > 0]

    def end(self, length: int) -> int:
        """Where the clip of a try of so many actions ends."""
        return length if self.clip < 0 else min(length, self.clip or self.horizon)


@dataclass(frozen=True)
class Candidate:
    """Something that could be done at the state of its group, and what rewards say of it."""

    clip: Clip
    gains: dict[str, float]  # by term, higher is better
    success: bool | None  # of what was done; None: it was never executed
    chunk: np.ndarray = field(compare=False, repr=False)  # its actions f32[T, A], in their ranges

    @property
    def name(self) -> tuple:
        return self.clip.episode, self.clip.start, self.clip.stop, self.clip.chunk or ()


@dataclass(frozen=True)
class Comparison:
    better: Candidate
    worse: Candidate
    margin: float
    uncertainty: float
    group: str


def build(
    groups: dict[str, list[Candidate]], config: PreferConfig, seed: int
) -> tuple[list[Preference], dict]:
    """Preferences and their data card. Deterministic given `seed`.

    Tries of which a term is not known are left out. Every term is divided by its spread within
    groups, so that weights compare like with like. In each group the best is compared with the
    worst, the second best with the second worst, ... Near-duplicates are dropped, then the least
    certain, then the smallest margins; where some are equal, a draw decides which.
    """
    groups, unknown = terms.judged(groups, config.terms)
    groups = {name: tries for name, tries in groups.items() if len(tries) > 1}
    if not groups:
        raise ValueError(terms.why_none(unknown))
    spreads = {name: terms.spread(name, groups) for name in config.terms}
    silent = {n: spread for n, spread in spreads.items() if terms.silent(n, spread, groups)}
    weights = {n: config.weights[n] / s for n, s in spreads.items() if n not in silent}
    if config.certain < 1 and len(weights) == 1:
        raise ValueError(
            f"certain={config.certain}: expected 1, as {', '.join(weights)} alone has a say and "
            "cannot disagree with itself; keep=... leaves out small margins"
        )
    found = [
        c for name, tries in sorted(groups.items()) for c in _pair(name, tries, weights, config)
    ]
    apart = [c for c in found if _distance(c) >= config.apart]
    ties = [c for c in apart if c.margin <= config.tie] if config.tie else []
    decided = [c for c in apart if c.margin > max(config.tie, 1e-9)]
    if not decided:
        why = _why_nothing(len(found), len(apart), config, silent)
        raise ValueError(f"nothing to prefer: {why}")
    lot = np.random.default_rng([seed, 1])
    sure = _first(config.certain, decided, lambda c: c.uncertainty / c.margin, lot)
    kept = _first(config.keep, sure, lambda c: -c.margin, lot)
    kept = sorted(kept, key=lambda c: (-c.margin, c.group, c.better.name))
    rng = np.random.default_rng(seed)
    chosen = [_preference(c, weights, config.shuffle and rng.random() < 0.5) for c in kept]
    chosen += [_preference(c, weights, False, tie=True) for c in ties]
    outcomes = {c.clip: c.success for tries in groups.values() for c in tries}
    card = {
        "groups": len(groups),
        "tries": sum(map(len, groups.values())),
        "comparisons": len(found),
        "duplicates": len(found) - len(apart),
        "undecided": len(apart) - len(decided) - len(ties),
        "uncertain": len(decided) - len(sure),
        "small": len(sure) - len(kept),
        "unknown": unknown,
        **summary(chosen, outcomes),
        "term_spread": spreads,
        "silent": sorted(silent),
        "config": asdict(config),
        "seed": seed,
    }
    return chosen, card


def _first(
    share: float,
    comparisons: list[Comparison],
    key: Callable[[Comparison], float],
    lot: np.random.Generator,
) -> list[Comparison]:
    """The share that comes first by `key`, at least one; of equals, those that `lot` draws."""
    drawn = [comparisons[k] for k in lot.permutation(len(comparisons))]
    return sorted(drawn, key=key)[: max(1, round(share * len(drawn)))]


def _why_nothing(
    comparisons: int, apart: int, config: PreferConfig, silent: dict[str, float]
) -> str:
    if comparisons and not apart:
        return f"all {comparisons} comparisons are of clips less than apart={config.apart} apart"
    why = "all tries from the same state are equally good"
    if any(silent.values()):
        small = ", ".join(f"{n} by {spread:.2g}" for n, spread in silent.items() if spread)
        why += f"; within states {small} is no more than rounding"
    if config.terms == [OUTCOME]:
        why += (
            ": in none did one succeed and another fail. Try more often or wider "
            "(branch.tries, branch.spread), or weigh a reward, too (weights)"
        )
    return why


def _pair(
    group: str, tries: list[Candidate], weights: dict[str, float], config: PreferConfig
) -> list[Comparison]:
    total = {c.name: sum(w * c.gains[n] for n, w in weights.items()) for c in tries}
    ranked = sorted(tries, key=lambda c: (-total[c.name], c.name))
    found = []
    for better, worse in list(zip(ranked, ranked[::-1]))[: min(config.pairs, len(tries) // 2)]:
        margin = total[better.name] - total[worse.name]
        parts = [w * (better.gains[n] - worse.gains[n]) for n, w in weights.items()]
        found.append(Comparison(better, worse, float(margin), spread_of(parts), group))
    return found


def spread_of(parts: list[float]) -> float:
    """How much terms disagree on a margin that is their sum: the standard deviation of a sum of as
    many draws from them; 0 for a single term."""
    return float(np.std(parts) * len(parts) ** 0.5) if len(parts) > 1 else 0.0


def _distance(comparison: Comparison) -> float:
    first, second = comparison.better.chunk, comparison.worse.chunk
    steps = min(len(first), len(second))
    return float(np.sqrt(np.square(first[:steps] - second[:steps]).mean()))


def _preference(
    c: Comparison, weights: dict[str, float], flipped: bool, tie: bool = False
) -> Preference:
    better, worse = (c.worse, c.better) if flipped else (c.better, c.worse)
    told = {n: better.gains[n] - worse.gains[n] for n in weights}
    margin = 0.0 if tie else c.margin
    return Preference(better.clip, worse.clip, margin, told, c.group, tie, c.uncertainty)


def summary(pairs: list[Preference], outcomes: dict[Clip, bool | None]) -> dict:
    """What a data card says of any preferences, however they were made."""
    decided = [p for p in pairs if not p.tie]
    known = [(outcomes.get(p.chosen), outcomes.get(p.rejected)) for p in decided]
    differ = [a for a, b in known if None not in (a, b) and a != b]
    names = sorted({name for p in decided for name in p.terms})
    return {
        "preferences": len(pairs),
        "ties": len(pairs) - len(decided),
        "margin_quantiles": np.quantile(
            [p.margin for p in decided], [0, 0.25, 0.5, 0.75, 1]
        ).tolist(),
        "decided_by_success": len(differ),
        "chosen_succeeded": sum(differ),
        "term_agrees": {
            n: float(np.mean([p.terms[n] > 0 for p in decided if n in p.terms])) for n in names
        },
    }
