"""What can be said in a session of collecting, and how one is set up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from robostack.data.audit import AuditConfig, Finding

State = Literal["ready", "recording", "review", "over"]
Order = Literal["", "reset", "begin", "end"]  # nothing, back to a start, record, stop recording
WORDS: dict[State, tuple[str, ...]] = {
    "ready": ("start", "undo", "quit"),
    "recording": ("success", "failure", "stop", "redo", "discard"),
    "review": ("keep", "success", "failure", "redo", "discard", "quit"),
    "over": (),
}
MB = 1 << 20


@dataclass(frozen=True)
class SessionConfig:
    """How much is collected, and what goes on without a key."""

    episodes: int = 20  # to keep, all sessions into this folder together; 0: until you stop
    first_seed: int = 0
    start_after: float = -1.0  # [s] in ready until recording begins by itself; below 0: never
    # ask: you decide; clean: what succeeded and raised no suspicion is kept by itself; alone: and
    # anything else goes to the trash
    review: Literal["ask", "clean", "alone"] = "ask"
    decide_after: float = 1.0  # [s] in review until it decides by itself
    spare_mb: int = 500  # of the disk that must be free to begin a recording
    detector: str = (
        ""  # a reward (folder, or file.py:Class) that is asked, too, whether it succeeded
    )
    threshold: float = 0.5  # it says so where its last potential is above
    audit: AuditConfig = AuditConfig()

    def __post_init__(self) -> None:
        if min(self.episodes, self.spare_mb) < 0 or self.decide_after < 0:
            raise ValueError(
                f"episodes={self.episodes}, spare_mb={self.spare_mb}, "
                f"decide_after={self.decide_after}: expected 0 or more"
            )


def counts(findings: Sequence[Finding]) -> str:
    """Such as "1 error, 2 notes"; "" for none."""
    found = [(n, sum(f.severity == n for f in findings)) for n in ("error", "warning", "note")]
    return ", ".join(f"{many} {name}{'s' * (many > 1)}" for name, many in found if many)
