"""Where a running loop has its desired state from: one that is fixed, or one that is followed as it is edited."""

from collections.abc import Callable
from typing import Final, Protocol

from reconciler.model.desired import Desired
from reconciler.model.names import source_subject
from reconciler.model.plan import Blocked
from reconciler.model.problem import InvalidDocument, ReconcilerError

QUIET: Final = 0.25
"""Seconds in which an edit must not change again: a file that is being written can be valid with fewer models (D11)."""

Guard = Callable[[Desired], tuple[str, str] | None]
"""Reference and sentence of what stands against taking a revision without a person; None: nothing does."""


class Declared(Protocol):
    """The desired state of the moment."""

    @property
    def problem(self) -> Blocked | None:
        """Why the newest revision is not in force."""
        ...

    @property
    def look_again(self) -> float | None:
        """When a newer revision may be taken, seconds since the epoch; None where there is none to wait for."""
        ...

    def read(self, now: float) -> Desired:
        """The revision that is in force."""
        ...

    def accept(self, revision: str) -> None:
        """A person wants exactly this revision, whatever a guard says."""
        ...


class Fixed:
    """Read once, by a command that ends."""

    problem: Blocked | None = None
    look_again: float | None = None

    def __init__(self, desired: Desired) -> None:
        self._desired = desired

    def read(self, now: float) -> Desired:
        """What it was given."""
        return self._desired

    def accept(self, revision: str) -> None:
        """There is no other revision."""


class Followed:
    """Read at every tick; the last good revision stays in force until a newer one is quiet, valid and harmless."""

    def __init__(self, first: Desired, read: Callable[[], Desired], guard: Guard) -> None:
        self._good = first
        self._read = read
        self._guard = guard
        self._seen: tuple[str, float] | None = None
        """What was found that is not in force yet, and since when it has been the same."""
        self._accepted: str | None = None
        self.problem: Blocked | None = None
        self.look_again: float | None = None

    def accept(self, revision: str) -> None:
        """Take this revision when it is next seen, without waiting and without a guard, once."""
        self._accepted = revision

    def read(self, now: float) -> Desired:
        """The revision that is in force; `problem` says why it is not the newest."""
        self.look_again = None
        found: Desired | ReconcilerError
        try:
            found = self._read()
        except ReconcilerError as error:
            found = error
        if isinstance(found, Desired) and found.revision in (self._good.revision, self._accepted):
            return self._take(found)
        said = found.revision if isinstance(found, Desired) else f"{found.reference}: {found.message}"
        if self._seen is None or self._seen[0] != said:
            self._seen = said, now
        if now < self._seen[1] + QUIET:
            self.look_again = self._seen[1] + QUIET
        elif not isinstance(found, Desired):
            self.problem = _refused(found)
        elif (why := self._guard(found)) is not None:
            self.problem = _paused(*why)
        else:
            return self._take(found)
        return self._good

    def _take(self, found: Desired) -> Desired:
        if found.revision == self._accepted:
            self._accepted = None
        if found.revision != self._good.revision:
            self._good = found
        self._seen, self.problem = None, None
        return self._good


def _refused(error: ReconcilerError) -> Blocked:
    first = (
        next((p for p in error.problems if p.severity == "error"), None) if isinstance(error, InvalidDocument) else None
    )
    detail = f": {first.located(error.file)}" if isinstance(error, InvalidDocument) and first is not None else ""
    return Blocked(
        subject=source_subject("worktree"),
        reference=error.reference,
        reason=f"{error.message}{detail}",
        hint=error.hint,
    )


def _paused(reference: str, sentence: str) -> Blocked:
    return Blocked(
        subject=source_subject("worktree"),
        reference=reference,
        reason=f"{sentence}; the last good state stays in force",
        hint="say `reconciler apply` if that is meant, or mend the file",
    )
