"""What is said of candidates: terms, whether they are known, how far they spread, which of them say
nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from robostack.prefer.compare import Candidate

OUTCOME = "outcome"  # the environment's own verdict, as a term like any other
RANK = ".rank"  # what follows a reward's name in the term of what it thinks of a chunk beforehand
# spread of a term up to which it has nothing to say: of a change of something in [0, 1], and of a
# rank, which has no unit, as a share of its largest
SAME, SAME_RANK = 1e-4, 1e-6


def judged(
    groups: dict[str, list[Candidate]], terms: list[str]
) -> tuple[dict[str, list[Candidate]], dict[str, list[str]]]:
    """Candidates of which all terms are numbers; by term, which others there are. Raises ValueError
    for a term that was never told."""
    known: dict[str, list[Candidate]] = {name: [] for name in groups}
    unknown: dict[str, list[str]] = {}
    for group, tries in sorted(groups.items()):
        for candidate in sorted(tries, key=lambda c: c.name):
            if untold := sorted(set(terms) - set(candidate.gains)):
                have = ", ".join(sorted(candidate.gains))
                raise ValueError(f"no scores for term {untold[0]!r}; there are: {have}")
            missing = [name for name in terms if not np.isfinite(candidate.gains[name])]
            for name in missing:
                unknown.setdefault(name, []).append(f"episode {candidate.clip.episode} of {group}")
            if not missing:
                known[group].append(candidate)
    return known, unknown


def why_none(unknown: dict[str, list[str]]) -> str:
    """Why nothing can be compared."""
    if not unknown:
        return "no two tries started from the same state; collect with by=branch"
    told = "; ".join(f"{name} of {len(tries)}, {tries[0]} first" for name, tries in unknown.items())
    return (
        "no two tries from the same state are left without those of which a term is not known: "
        f"{told}. Score them again, say how they ended (data relabel), or leave it out of weights"
    )


def spread(term: str, groups: dict[str, list[Candidate]]) -> float:
    """Standard deviation within groups."""
    centred = [
        c.gains[term] - np.mean([d.gains[term] for d in tries])
        for tries in groups.values()
        for c in tries
    ]
    return float(np.std(centred))


def silent(term: str, spread: float, groups: dict[str, list[Candidate]]) -> bool:
    """Whether it is the same for all tries of a state: to divide by what rounding leaves of its
    spread would make it say something."""
    if not term.endswith(RANK):
        return spread <= SAME
    largest = max(abs(c.gains[term]) for tries in groups.values() for c in tries)
    return spread <= SAME_RANK * largest
