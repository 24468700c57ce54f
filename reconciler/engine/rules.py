"""What decides beside the desired state: whether the host file is still the one that a loop began with."""

from collections.abc import Callable
from dataclasses import replace

from reconciler.model.event import Event, EventKind
from reconciler.model.ledger import Ledger
from reconciler.model.names import ENSEMBLE
from reconciler.model.problem import ReconcilerError

_CHANGED = "the host file has changed since this began, which goes on with the old one; restart the watch"


class Rules:
    """The rules of a loop, which are read once; another host file is only in force after a restart."""

    def __init__(self, digest: Callable[[], str]) -> None:
        """`digest`: of the host file, of overrides and of the environment, as they are at this moment."""
        self._digest = digest
        self.began = digest()
        self._changed = self._told = False

    def kept(self, ledger: Ledger) -> Ledger:
        """The ledger that says by which rules it is kept."""
        return ledger if ledger.rules == self.began else replace(ledger, rules=self.began)

    def news(self, now: float, revision: str) -> tuple[Event, ...]:
        """That they have changed, where that has not been told."""
        self._changed = not self._same()
        if self._told or not self._changed:
            return ()
        return (
            Event(
                at=now,
                kind=EventKind.DRIFTED,
                subject=ENSEMBLE,
                text=_CHANGED,
                reference="other-rules",
                revision=revision,
            ),
        )

    def told(self) -> None:
        """What there was to tell at the last look has been saved."""
        self._told = self._changed

    def stand(self) -> bool:
        """Whether they are as they were at the last look; cheap."""
        return self._same() is not self._changed

    def _same(self) -> bool:
        try:
            return self._digest() == self.began
        except (ReconcilerError, OSError):
            return False  # one that is gone or refused is another one, and ends nothing that runs
