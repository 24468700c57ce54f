"""Where a running loop has its desired state from: one that is fixed, or a source that is followed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from reconciler.desired.canonical import canonical, digest, restored
from reconciler.model.base import noun
from reconciler.model.bundle import Bundle
from reconciler.model.desired import Desired
from reconciler.model.generation import Pin
from reconciler.model.ledger import Ledger
from reconciler.model.names import source_subject
from reconciler.model.plan import Blocked
from reconciler.model.problem import ExitCode, InvalidDocument, ReconcilerError
from reconciler.model.source import Doubt, Mode, Position, SourceRecord, shown, standing_against
from reconciler.ports.host import Source

QUIET: Final = 0.25
"""Seconds in which an edit must not change again: a file that is being written can be valid with fewer models (D11)."""
EDITING: Final = 5.0
"""Seconds for which an edit may lie there uncommitted before anything is said of it: most are about to be committed."""
_STAYS: Final = "the last good state stays in force"

Guard = Callable[[Desired, Ledger], tuple[str, str] | None]
"""Reference and sentence of what stands against taking a revision without a person; None: nothing does."""


@noun
class Reading:
    """The desired state of one tick."""

    desired: Desired
    record: SourceRecord | None = None
    """What is to be remembered of the source; None: nothing new."""
    pin: Pin | None = None
    """What was gone back to and is still in force."""
    problem: Blocked | None = None
    """Why the newest revision is not in force."""
    look_again: float | None = None
    """When a newer revision may be taken, seconds since the epoch; None where there is none to wait for."""
    glance_at: float | None = None
    """When something may have to be said of it that changes nothing, seconds since the epoch."""
    returns: bool = False
    """Whether an earlier generation may be brought back by itself: whoever reads has to keep it in force then."""
    enters: bool = True
    """Whether it is in force from now on; False: only a part of it is looked at, for a request about that."""


class Declared(Protocol):
    """The desired state of the moment."""

    def read(self, now: float, ledger: Ledger) -> Reading:
        """The revision that is in force, given what is remembered. Raises ReconcilerError where there is none."""
        ...

    def stands(self) -> bool:
        """Whether the source surely is where it was at the last reading; cheap."""
        ...


class Fixed:
    """Read once, by a command that ends."""

    def __init__(
        self, desired: Desired, record: SourceRecord | None = None, *, pinned: bool = False, enters: bool = True
    ) -> None:
        """`pinned`: what was gone back to stays in force after it; `enters`: as in `Reading`."""
        self._desired, self._record, self._pinned, self._enters = desired, record, pinned or not enters, enters

    def read(self, now: float, ledger: Ledger) -> Reading:
        """What it was given."""
        pin = ledger.pin if self._pinned else None
        return Reading(desired=self._desired, record=self._record, pin=pin, enters=self._enters)

    def stands(self) -> bool:
        """It always does."""
        return True


@noun
class Following:
    """What a source is followed with."""

    source: Source
    mode: Mode
    place: str
    """Absolute path of the desired file."""
    parse: Callable[[Bundle], Desired]
    """Raises InvalidDocument."""
    guard: Guard
    rules: str
    """Digest of what else decides, such as the host file."""
    kept: Callable[[str], bytes | None]
    """What the state directory keeps under a digest."""


class Followed:
    """Looked at in every tick; the last good revision stays in force until a newer one is valid and harmless.

    All that must outlive this process is in the ledger: it goes on where another one was killed.
    """

    def __init__(self, following: Following) -> None:
        self._with = following
        self._good: tuple[str, Desired] | None = None
        """The desired state in force, with the digest of its content."""
        self._parsed: tuple[str, Desired | ReconcilerError] | None = None
        self._doubt: tuple[tuple[str, str], Doubt | None] | None = None
        self._seen: tuple[str, float] | None = None
        """An edit that is not in force yet, and since when it has been the same."""
        self._edits: tuple[tuple[str, ...], float] = ((), 0.0)
        """What is not committed, and since when."""
        self._position: Position | None = None
        """Where the source was at the last reading; None where that could not be seen."""

    def read(self, now: float, ledger: Ledger) -> Reading:
        """The revision that is in force; `problem` says why it is not the newest. Raises ReconcilerError."""
        reading = self._read(now, ledger)
        edits, since = self._edits
        glance_at = since + EDITING if edits and now < since + EDITING else None
        return replace(reading, glance_at=glance_at, returns=True)

    def stands(self) -> bool:
        """Whether the source surely is where it was at the last reading."""
        try:
            return self._position is not None and self._with.source.position() == self._position
        except ReconcilerError:
            return False

    def _lying(self, position: Position, now: float) -> Position:
        """Without edits that somebody may be about to commit."""
        if position.uncommitted != self._edits[0]:
            self._edits = position.uncommitted, now
        return position if now >= self._edits[1] + EDITING else replace(position, uncommitted=())

    def _read(self, now: float, ledger: Ledger) -> Reading:
        good = self._in_force(ledger)
        self._position = None
        try:
            self._position = self._with.source.position()
            position = self._lying(self._position, now)
        except ReconcilerError as error:
            return self._stay(good, ledger, error, None, now)
        if position.reference:
            return self._paused(good, ledger, position)
        newest, record, pin = position.revision, self._record(ledger), ledger.pin
        accepted = record is not None and record.accepted == newest
        wanted = accepted or (record is not None and record.confirmed == newest)
        same = record is None or pin is not None or record.rules == self._with.rules
        known = pin.bad if pin is not None else record.revision if record is not None else ""
        if good is not None and newest == known and same and not wanted:
            self._seen = None
            refused = record is not None and record.refused == newest
            return self._kept(good, ledger, position) if refused else self._reading(good, ledger, position)
        if good is None and pin is not None and not wanted:
            raise ReconcilerError(
                "pin-lost",
                f"the content of generation {pin.number}, which is pinned, is not in the state directory any more; "
                "servers stay as they are",
                hint="decide by: reconciler apply, or reconciler rollback GENERATION",
                code=ExitCode.ENVIRONMENT,
            )
        found = self._judged(self._trusted(ledger), newest, accepted)
        if isinstance(found, ReconcilerError):
            return self._stay(good, ledger, found, position, now)
        content = digest(canonical(found))
        if good is not None and pin is not None and content in pin.left and not wanted:
            # A newer revision of what was left for good reason: a comment was mended, or something else.
            reading = self._reading(good, ledger, position, replace(pin, bad=newest))
            return replace(reading, record=self._taken(ledger, position, content)) if record is not None else reading
        if good is None or wanted or (wait := self._quiet(newest, now)) is None:
            tripped = None if wanted else self._with.guard(found, ledger)
            if tripped is not None:
                return self._guarded(good, ledger, position, *tripped)
            self._good, self._seen = (content, found), None
            return Reading(desired=found, record=self._taken(ledger, position, content))
        return replace(self._reading(good, ledger, position), look_again=wait)

    # ---------------------------------------------------------------------------------------------- the good one

    def _record(self, ledger: Ledger) -> SourceRecord | None:
        """What is remembered of this file; followed in another way, nothing of it waits for anybody any more."""
        record = self._before(ledger)
        if record is None or record.mode is self._with.mode:
            return record
        clean = replace(record, refused="", reference="", reason="", hint="", accepted="", confirmed="")
        return replace(clean, mode=self._with.mode)

    def _before(self, ledger: Ledger) -> SourceRecord | None:
        """What is remembered of this file, however it was followed."""
        record = ledger.source
        return record if record is not None and record.place == self._with.place else None

    def _trusted(self, ledger: Ledger) -> str:
        """The last commit that was taken, from which the newer ones are judged.

        What was refused when somebody went back is no ground to trust what comes after it, and neither is an `apply`
        of the saved file.
        """
        before = self._before(ledger)
        return before.commit if before is not None and self._with.mode is Mode.COMMIT else ""

    def _in_force(self, ledger: Ledger) -> Desired | None:
        """What holds until something newer is taken; None where nothing has been in force here."""
        before = self._before(ledger)
        content, revision = (before.content, before.revision) if before is not None else ("", "")
        if ledger.pin is not None:
            numbers = {g.number: g.latest for g in ledger.generations}
            content, revision = ledger.pin.content, numbers.get(ledger.pin.number, revision)
        if self._good is not None and self._good[0] == content:
            if self._good[1].revision != revision:
                self._good = content, replace(self._good[1], revision=revision)
            return self._good[1]
        if not content:
            return None
        text = self._with.kept(content)
        try:
            found = None if text is None else restored(text, revision)
        except ValueError:
            found = None  # damaged: as if nothing had been in force, and the guards decide
        self._good = None if found is None else (content, found)
        return found

    def _taken(self, ledger: Ledger, position: Position, content: str) -> SourceRecord:
        before = self._before(ledger)
        return SourceRecord(
            mode=self._with.mode,
            place=self._with.place,
            ref=position.ref,
            revision=position.revision,
            content=content,
            commit=position.revision if self._with.mode is Mode.COMMIT else before.commit if before is not None else "",
            rules=self._with.rules,
            uncommitted=position.uncommitted,
        )

    # --------------------------------------------------------------------------------------------- the newest one

    def _judged(self, known: str, newest: str, accepted: bool) -> Desired | ReconcilerError:
        """What a new revision says, or why it cannot be taken whatever runs here."""
        try:
            doubt = None if accepted else self._doubted(known, newest)
            if doubt is not None:
                return ReconcilerError(doubt.reference, doubt.reason, hint=doubt.hint, code=ExitCode.TRUST)
            if self._parsed is None or self._parsed[0] != newest:
                self._parsed = newest, self._parse(newest)
            return self._parsed[1]
        except ReconcilerError as error:
            return error  # of the moment: it is asked again

    def _doubted(self, known: str, newest: str) -> Doubt | None:
        if self._doubt is None or self._doubt[0] != (known, newest):
            self._doubt = (known, newest), self._with.source.doubt(known, newest)
        return self._doubt[1]

    def _parse(self, revision: str) -> Desired | ReconcilerError:
        """What stays true of a revision, however often it is read. Raises ReconcilerError for what may pass."""
        bundle = self._with.source.read(revision)
        try:
            return self._with.parse(bundle)
        except InvalidDocument as error:
            return error

    def _quiet(self, newest: str, now: float) -> float | None:
        """Until when an edit is left alone; None: it may be taken. A commit does not change any more."""
        if self._with.mode is Mode.COMMIT:
            return None
        if self._seen is None or self._seen[0] != newest or now < self._seen[1]:
            self._seen = newest, now  # a clock that was set back must not put it off
        end = self._seen[1] + QUIET
        return None if now >= end else end

    # ------------------------------------------------------------------------------------------------ not taken

    def _reading(self, good: Desired, ledger: Ledger, position: Position | None, pin: Pin | None = None) -> Reading:
        """What is in force stays, and nothing stands against anything."""
        record = self._record(ledger)
        if record is not None:
            uncommitted = record.uncommitted if position is None else position.uncommitted
            record = replace(record, refused="", reference="", reason="", hint="", uncommitted=uncommitted)
        return Reading(desired=good, record=record, pin=pin if pin is not None else ledger.pin)

    def _stay(
        self, good: Desired | None, ledger: Ledger, error: ReconcilerError, position: Position | None, now: float
    ) -> Reading:
        """What cannot be taken is said; one that may still be being written gets its quiet time first."""
        if good is None:
            raise error
        newest = position.revision if position is not None else ""
        if (wait := self._quiet(newest or f"{error.reference}: {error.message}", now)) is not None:
            return replace(self._kept(good, ledger, position), look_again=wait)
        first = None
        if isinstance(error, InvalidDocument):
            first = next((problem for problem in error.problems if problem.severity == "error"), None)
        detail = f": {first.located(error.file)}" if isinstance(error, InvalidDocument) and first is not None else ""
        said = newest and self._with.mode is Mode.COMMIT and shown(newest) not in error.message
        what = f"{shown(newest)}: " if said else ""
        return self._refused(good, ledger, position, error.reference, f"{what}{error.message}{detail}", error.hint)

    def _guarded(
        self, good: Desired | None, ledger: Ledger, position: Position, reference: str, sentence: str
    ) -> Reading:
        revision = position.revision
        way = f"say `reconciler accept {shown(revision)} --reason TEXT` if that is meant, or mend the file"
        if good is None:
            said = f"{sentence}; nothing was changed"
            raise ReconcilerError(
                reference, said, hint="say `reconciler apply` if that is meant, and then watch", code=ExitCode.BLOCKED
            )
        return self._refused(good, ledger, position, reference, f"{sentence}; {_STAYS}", way)

    def _paused(self, good: Desired | None, ledger: Ledger, position: Position) -> Reading:
        if good is None:
            said = f"{position.reason}; nothing was changed"
            raise ReconcilerError(position.reference, said, hint=position.hint, code=ExitCode.BLOCKED)
        reason = f"{position.reason}; {_STAYS}"
        reading = self._refused(good, ledger, position, position.reference, reason, position.hint)
        # What waits here waits for no `accept`: whoever has begun it ends it.
        record = replace(reading.record, refused="") if reading.record is not None else None
        return replace(reading, record=record)

    def _kept(self, good: Desired, ledger: Ledger, position: Position | None) -> Reading:
        """As it was, with what stood against the newest before."""
        record = self._record(ledger)
        problem = standing_against(record) if record is not None else None
        return replace(self._reading(good, ledger, position), record=record, problem=problem)

    def _refused(
        self, good: Desired, ledger: Ledger, position: Position | None, reference: str, reason: str, hint: str
    ) -> Reading:
        reading = self._reading(good, ledger, position)
        refused = position.revision if position is not None else ""
        record = reading.record
        if record is not None:
            record = replace(record, refused=refused, reference=reference, reason=reason, hint=hint)
        problem = Blocked(subject=source_subject(self._with.mode), reference=reference, reason=reason, hint=hint)
        return replace(reading, record=record, problem=problem)
