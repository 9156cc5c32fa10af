"""What a session of collecting is doing, and what each key means at the moment. No clock, no robot,
no screen: `now` is an argument, and the orders that it returns are carried out by `loop`.

    ready --start--> recording --stop, success, failure, the task's end--> review
    review --keep, success, failure--> ready with the next start
    review, recording --discard--> ready with the next start; --redo--> with the same one
    ready --undo--> review of what was decided last
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from robostack.collecting.saving import elsewhere
from robostack.collecting.shelves import Decided, Shelves
from robostack.collecting.words import MB, WORDS, Order, SessionConfig, State
from robostack.data.audit import Finding, audit
from robostack.data.store import StoreError
from robostack.types import Episode


class Session:
    """One person and one robot. `second` is another opinion of a recording. Raises StoreError like
    `Shelves`."""

    def __init__(
        self,
        config: SessionConfig,
        shelves: Shelves,
        now: float,
        second: Callable[[Episode], list[Finding]] = lambda episode: [],
    ):
        self.config, self.shelves, self._second = config, shelves, second
        self.seed = shelves.next_seed(config.first_seed)
        self.message = ""
        self.findings: list[Finding] = []
        self._decided = shelves.decided()  # by earlier sessions, too; the last is taken back first
        self._saved = ""  # id among the pending of what is reviewed
        self._unsaved: Episode | None = None  # what no disk has taken yet
        self._said: bool | None = None  # the operator's word on the present recording
        self._after = ""  # a decision that was made before the recording had ended
        self._sure = ""  # a word that counts when it is said again
        self.state: State = "ready"
        self._turn("ready", now)
        self._resume(now)

    def _resume(self, now: float) -> None:
        """Begin with what an earlier session left undecided."""
        if self._reviewed_next(now):
            self.message = "an earlier session left this one undecided"
        elif self.full:
            self._turn("over", now)
        self._tell(self.message)

    def _reviewed_next(self, now: float) -> bool:
        """Review what else is undecided, if anything is; what cannot be read is set aside."""
        while waiting := self.shelves.pending.ids():
            try:
                episode = self.shelves.pending.read(waiting[-1])
            except (StoreError, ValueError) as error:
                self.shelves.set_aside("pending", waiting[-1], str(error))
                continue
            self._saved = waiting[-1]
            self._review(episode, now)
            return True
        return False

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

    def receive(self, episode: Episode) -> None:
        """From here on the session brings it to a disk, whatever happens."""
        self._unsaved, self._saved = episode, ""

    def stopped(self, episode: Episode | None, why: str, now: float) -> Order:
        """The recording has ended; one without an action is None. Raises what the disk raises where
        review=alone: nobody is there to mend it."""
        if episode is None:
            self._turn("ready", now)
            self.message = f"nothing was recorded{': ' * bool(why)}{why}"
            return "reset"
        if self._said is not None:
            episode = replace(episode, success=self._said)
        self.receive(episode)
        trouble = self._save()  # before anything else can go wrong
        self._review(episode, now)
        self.message = trouble or why
        if self._after and not trouble:
            return self._decide(self._after, now)
        self._after = ""
        return ""

    def _save(self) -> str:
        """Put what is reviewed on the disk. Why it cannot be, in words: then it stays in memory for
        another try."""
        if self._unsaved is None:
            return ""
        try:
            self._saved = self.shelves.put(self._unsaved)
        except Exception as error:  # whatever a disk makes of it, the recording must outlive it
            if self.config.review == "alone":
                raise
            what = str(error).rstrip(".") or type(error).__name__
            return f"NOT SAVED: {what}. Until then it is in memory: free some or mend it, say keep"
        self._unsaved = None
        return ""

    def leave(self) -> str:
        """At the end, however it came: what no disk has taken yet goes to this one, or to another.
        Says where it is; "" where there was nothing."""
        if self._unsaved is None:
            return ""
        try:
            self.shelves.put(self._unsaved)
            where = "the last recording waits to be decided in the next session"
        except Exception as error:  # whatever a disk makes of it
            where = f"the last recording could not be written ({error}). " + self._elsewhere()
        self._unsaved = None
        return where

    def _elsewhere(self) -> str:
        try:
            found = elsewhere(self._unsaved)
        except Exception as error:
            return f"No other disk takes it, either ({error}); it is lost"
        return (
            f"It is safe in {found}; `robostack data merge --data {self.shelves.out} --data "
            f"{found} --out NEW` puts it with the others"
        )

    @property
    def unsaved(self) -> bool:
        """Whether the reviewed recording is in memory only, because the disk did not take it."""
        return self._unsaved is not None

    def _do(self, word: str, now: float) -> Order:
        sure, self._sure = self._sure == word, ""
        if word == "quit":
            trouble = self._save()
            if trouble and not sure:
                return self._ask(word, f"{trouble}. Quitting writes it to another disk, if any")
            self._turn("over", now)
            return ""
        if self.state == "ready":
            return self._undo(now) if word == "undo" else self._start(now)
        if self.state == "recording":
            if word in ("success", "failure"):
                self._said = word == "success"
            self._after = word if word in ("redo", "discard") else ""
            return "end"
        if trouble := self._save():
            self.message = trouble
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
        except (OSError, StoreError, ValueError) as error:
            if self.config.review == "alone":
                raise
            self.message = f"NOT DECIDED: {error}; the recording is safe, say it again later"
            return ""
        self._decided.append((shelf, number))
        if word != "redo":
            self.seed = self.shelves.next_seed(self.config.first_seed)
        if self._reviewed_next(now):
            self._tell("")
            return ""
        self._turn("over" if self.full else "ready", now)
        self._tell(f"{'kept as' if shelf == 'store' else 'in the trash as'} {number}")
        return "reset"

    def _tell(self, message: str) -> None:
        """Show a message, and what was set aside meanwhile."""
        self.message = "; ".join(filter(None, (message, *self.shelves.aside)))
        self.shelves.aside.clear()

    def _shelve(self, word: str) -> tuple[Decided, str]:
        """Move what is reviewed to where it belongs: shelf, id."""
        if word in ("discard", "redo"):
            return "trash", self.shelves.discard(self._saved)
        success = {"success": True, "failure": False}.get(word, self.success)
        return "store", self.shelves.keep(self._saved, success)

    def _undo(self, now: float) -> Order:
        shelf, number = self._decided[-1]
        try:
            self.shelves.reopen(shelf, number)
        except (OSError, StoreError) as error:
            self.message = f"NOT UNDONE: {error}"
            return ""
        self._decided.pop()
        if self._reviewed_next(now):
            self._tell(f"{'kept' if shelf == 'store' else 'discarded'} before: decide again")
        else:
            self._tell("")
        return ""

    def _review(self, episode: Episode, now: float) -> None:
        self._turn("review", now)
        self.success: bool | None = episode.success
        self.steps, self.seed = len(episode), episode.seed
        try:
            self.findings = audit(episode, self.config.audit, self.shelves.store.spec)
            self.findings += self._second(episode)
        except Exception as error:  # a look at a recording must not end the session it is of
            what = f"it cannot be audited ({type(error).__name__}: {error})"
            self.findings = [Finding("audit", "error", "episode", 0, self.steps + 1, what)]

    def _turn(self, state: State, now: float) -> None:
        self.state, self._since = state, now
        self.message = self._sure = ""
        if state in ("ready", "recording", "over"):
            self.findings, self.success, self.steps = [], None, 0
            self._saved, self._said, self._after = "", None, ""
