"""What a session of collecting is doing, and what each key means at the moment. No clock, no robot,
no screen: `now` is an argument, and the orders that it returns are carried out by `loop`.

    ready --start--> recording --stop, success, failure, the task's end--> review
    review --keep, success, failure--> ready with the next start
    review, recording --discard--> ready with the next start; --redo--> with the same one
    ready --undo--> review of what was decided last
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from robostack.collecting.shelves import Shelves
from robostack.data.audit import AuditConfig, Finding, audit
from robostack.data.store import StoreError
from robostack.types import Episode

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
    audit: AuditConfig = AuditConfig()

    def __post_init__(self) -> None:
        if min(self.episodes, self.spare_mb) < 0 or self.decide_after < 0:
            raise ValueError(
                f"episodes={self.episodes}, spare_mb={self.spare_mb}, "
                f"decide_after={self.decide_after}: expected 0 or more"
            )


class Session:
    """One person and one robot. Raises StoreError like `Shelves`."""

    def __init__(self, config: SessionConfig, shelves: Shelves, now: float):
        self.config, self.shelves = config, shelves
        self.seed = shelves.next_seed(config.first_seed)
        self.message = ""
        self.findings: list[Finding] = []
        self._decided: list[tuple[Literal["store", "trash"], str, int]] = []  # shelf, id, seed
        self._saved = ""  # id among the pending of what is reviewed
        self._unsaved: Episode | None = None  # the disk was full
        self._said: bool | None = None  # the operator's word on the present recording
        self._after = ""  # a decision that was made before the recording had ended
        self._sure = ""  # a word that counts when it is said again
        self.state: State = "ready"
        self._turn("ready", now)
        self._resume(now)

    def _resume(self, now: float) -> None:
        """Begin with what an earlier session left undecided."""
        if waiting := self.shelves.pending.ids():
            self._saved = waiting[-1]
            self._review(self.shelves.pending.read(self._saved), now)
            self.message = "an earlier session left this one undecided"
        elif self.full:
            self._turn("over", now)

    # what can be seen ------------------------------------------------------------------------
    @property
    def kept(self) -> int:
        return len(self.shelves.store)

    @property
    def full(self) -> bool:
        """Whether as many are kept as were asked for."""
        return 0 < self.config.episodes <= self.kept

    @property
    def clean(self) -> bool:
        """Whether the reviewed recording succeeded and nothing about it is suspicious."""
        serious = any(f.severity != "note" for f in self.findings)
        return self.success is True and not serious and self._unsaved is None

    def seconds(self, now: float) -> float:
        """In the present state."""
        return now - self._since

    def words(self) -> tuple[str, ...]:
        """What can be said now."""
        return tuple(w for w in WORDS[self.state] if w != "undo" or self._decided)

    # what happens ----------------------------------------------------------------------------
    def hear(self, words: Iterable[str], now: float) -> Order:
        """One press of a key, which may mean several words: the first that makes sense now."""
        word = next((w for w in words if w in self.words()), "")
        return self._do(word, now) if word else ""

    def tick(self, now: float) -> Order:
        """What goes on by itself."""
        config, waited = self.config, self.seconds(now)
        if self.state == "ready" and 0 <= config.start_after <= waited:
            return self._do("start", now)
        decides = self.state == "review" and config.review != "ask" and not self.unsaved
        if decides and waited >= config.decide_after:
            if self.clean:
                return self._decide("keep", now)
            if config.review == "alone":
                return self._decide("discard", now)
        return ""

    def stopped(self, episode: Episode | None, why: str, now: float) -> Order:
        """The recording has ended; one without an action is None. Raises StoreError where the disk
        is full and review=alone: nobody is there to free some of it."""
        if episode is None:
            self._turn("ready", now)
            self.message = "nothing was recorded"
            return "reset"
        if self._said is not None:
            episode = replace(episode, success=self._said)
        self._unsaved, self._saved = episode, ""
        self._review(episode, now)
        self.message = why
        self._save()
        if self._after and self._unsaved is None:
            return self._decide(self._after, now)
        self._after = ""
        return ""

    def _save(self) -> None:
        """Put what is reviewed on the disk; what does not fit stays in memory for another try."""
        if self._unsaved is None:
            return
        try:
            self._saved = self.shelves.put(self._unsaved)
            self._unsaved = None
        except StoreError as error:
            if self.config.review == "alone":
                raise
            self.message = f"NOT SAVED: {error} Until then it is kept in memory: free some, then "
            self.message += "say keep."

    @property
    def unsaved(self) -> bool:
        """Whether the reviewed recording is in memory only, because the disk is full."""
        return self._unsaved is not None

    def _do(self, word: str, now: float) -> Order:
        sure, self._sure = self._sure == word, ""
        if word == "quit":
            if self.unsaved and not sure:
                return self._ask(word, "the disk is full: this recording would be lost")
            self._turn("over", now)
            return ""
        if self.state == "ready":
            return self._undo(now) if word == "undo" else self._start(now)
        if self.state == "recording":
            if word in ("success", "failure"):
                self._said = word == "success"
            self._after = word if word in ("redo", "discard") else ""
            return "end"
        self._save()
        if self.unsaved:
            return ""
        if word == "keep" and not self.clean and not sure:
            return self._ask(word, self._doubt())
        return self._decide(word, now)

    def _ask(self, word: str, why: str) -> Order:
        self._sure = word
        self.message = f"{why}; {word} again if you mean it"
        return ""

    def _doubt(self) -> str:
        serious = sum(f.severity != "note" for f in self.findings)
        if self.success is None:
            return "nobody said whether it succeeded (success and failure say so, and keep it)"
        if self.success is False:
            return "it did not succeed (success says that it did, failure keeps it as one)"
        return f"{serious} thing{'s look' if serious > 1 else ' looks'} wrong with it"

    def _start(self, now: float) -> Order:
        free = self.shelves.free() // MB
        if free < self.config.spare_mb:
            self._turn("ready", now)
            self.message = f"{free} MB of the disk are free, spare_mb={self.config.spare_mb}"
            return ""
        self._turn("recording", now)
        return "begin"

    def _decide(self, word: str, now: float) -> Order:
        try:
            shelf, number = self._shelve(word)
        except OSError as error:
            if self.config.review == "alone":
                raise
            self.message = f"NOT DECIDED: {error}; the recording is safe, say it again later"
            return ""
        self._decided.append((shelf, number, self.seed))
        if word != "redo":
            self.seed = self.shelves.next_seed(self.config.first_seed)
        if waiting := self.shelves.pending.ids():
            self._saved = waiting[-1]
            self._review(self.shelves.pending.read(self._saved), now)
            return ""
        self._turn("over" if self.full else "ready", now)
        self.message = f"{'kept as' if shelf == 'store' else 'in the trash as'} {number}"
        return "reset"

    def _shelve(self, word: str) -> tuple[Literal["store", "trash"], str]:
        """Move what is reviewed to where it belongs: shelf, id."""
        if word in ("discard", "redo"):
            return "trash", self.shelves.discard(self._saved)
        success = {"success": True, "failure": False}.get(word, self.success)
        return "store", self.shelves.keep(self._saved, success)

    def _undo(self, now: float) -> Order:
        shelf, number, seed = self._decided.pop()
        self._saved, self.seed = self.shelves.reopen(shelf, number), seed
        self._review(self.shelves.pending.read(self._saved), now)
        self.message = f"{'kept' if shelf == 'store' else 'discarded'} before: decide again"
        return ""

    def _review(self, episode: Episode, now: float) -> None:
        self._turn("review", now)
        self.success: bool | None = episode.success
        self.steps, self.seed = len(episode), episode.seed
        self.findings = audit(episode, self.config.audit, self.shelves.store.spec)

    def _turn(self, state: State, now: float) -> None:
        self.state, self._since = state, now
        self.message = self._sure = ""
        if state in ("ready", "recording", "over"):
            self.findings, self.success, self.steps = [], None, 0
            self._saved, self._unsaved, self._said, self._after = "", None, None, ""


def counts(findings: Sequence[Finding]) -> str:
    """Such as "1 error, 2 notes"; "" for none."""
    found = [(n, sum(f.severity == n for f in findings)) for n in ("error", "warning", "note")]
    return ", ".join(f"{many} {name}{'s' * (many > 1)}" for name, many in found if many)
