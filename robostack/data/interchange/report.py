"""What became of an import or export: what came, what did not and why, and what was found out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


class FormatError(ValueError):
    """A data set that cannot be read at all, or not be written in a format."""


class BadEpisode(ValueError):
    """One episode that cannot be taken over; the others can."""

    def __init__(self, field: str, what: str):
        super().__init__(f"{field}: {what}")
        self.field, self.what = field, what


def require_cameras(path: Path, wanted: Sequence[str], there: Collection[str]) -> None:
    """Raise FormatError naming cameras that a data set does not have."""
    if odd := [name for name in wanted if name not in there]:
        raise FormatError(
            f"{path}: no camera {', '.join(odd)}; it has {', '.join(there) or 'none'}"
        )


@dataclass(frozen=True)
class Problem:
    """Why an episode was left out."""

    episode: str  # its name where it came from
    field: str
    what: str

    def __str__(self) -> str:
        return f"{self.episode}: {self.field}: {self.what}"


@dataclass(frozen=True)
class Convention:
    """What numbers say about a convention, and how sure that is."""

    name: str  # e.g. "gripper" or "action"
    declared: str  # by the spec or the user; "" where nobody said
    found: str  # "" where the data do not tell
    sure: float  # 0 to 1
    evidence: str  # in words
    usual: str = ""  # here, where nobody says otherwise

    @property
    def contradicted(self) -> bool:
        """Whether what was declared is not what was found, and that is sure enough to say so."""
        return bool(self.declared) and self._differs(self.declared)

    @property
    def unusual(self) -> bool:
        """The same of what is usual here, where nobody declared anything: not wrong, but to be
        known."""
        return bool(self.usual and not self.declared) and self._differs(self.usual)

    def _differs(self, told: str) -> bool:
        sure = bool(self.found and self.sure >= 0.9)
        return sure and self.found.lower() not in told.lower()

    def __str__(self) -> str:
        said = f"declared {self.declared!r}, " if self.declared else ""
        if self.unusual:
            said = f"nobody said and {self.usual!r} is usual here, "
        found = f"found {self.found!r}, {self.sure:.0%} sure" if self.found else "cannot tell"
        loud = "CONTRADICTION: " if self.contradicted else ""
        return f"{loud}{self.name}: {said}{found} ({self.evidence})"


@dataclass
class Report:
    """Grows while episodes are taken over."""

    source: str
    format: str
    episodes: int = 0
    left_out: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was decided, lost or could not be had
    conventions: list[Convention] = field(default_factory=list)
    psnr: dict[str, float] = field(default_factory=dict)  # [dB] of the worst picture of a camera

    def note(self, text: str) -> None:
        """Once, however often it is said."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def fine(self) -> bool:
        """Whether everything came and nothing contradicts what was declared."""
        doubts = any(convention.contradicted for convention in self.conventions)
        return bool(self.episodes) and not self.left_out and not doubts

    def lines(self) -> list[str]:
        """For a person."""
        rows = [f"{self.episodes} episodes of {self.source} ({self.format})"]
        rows += [f"  left out  {problem}" for problem in self.left_out]
        rows += [f"  note      {text}" for text in self.notes]
        rows += [f"  {'checked' if c.found else 'unchecked':<9} {c}" for c in self.conventions]
        rows += [
            f"  pictures  {name}: {worst:.1f} dB PSNR or better"
            for name, worst in self.psnr.items()
            if worst != float("inf")
        ]
        return rows

    def to_dict(self) -> dict:
        found = asdict(self)
        found["psnr"] = {n: (None if p == float("inf") else p) for n, p in self.psnr.items()}
        for row, convention in zip(found["conventions"], self.conventions):
            row["contradicted"] = convention.contradicted
        return found
