"""What a person can ask of a loop, as a change of what is remembered."""

from dataclasses import replace
from enum import StrEnum

from reconciler.model.base import noun
from reconciler.model.ledger import Ledger, Suspension


class Asked(StrEnum):
    """The requests there are."""

    APPLY = "apply"
    """Bring the machine to the present desired state now."""
    STOP = "stop"
    START = "start"
    RETRY = "retry"


@noun
class Request:
    """One request."""

    do: Asked
    labels: tuple[str, ...] = ()
    reason: str = ""
    """Why a server is stopped."""
    force: bool = False
    """Stop it even while a gateway may still send it requests."""
    revision: str = ""
    """The desired state that a person has seen and wants, whatever a guard says."""

    def change(self, ledger: Ledger, now: float) -> Ledger:
        """The ledger after it."""
        match self.do:
            case Asked.APPLY:
                return ledger
            case Asked.STOP:
                new = {label: Suspension(since=now, reason=self.reason, force=self.force) for label in self.labels}
                return replace(ledger, suspensions={**ledger.suspensions, **new})
            case Asked.START:
                kept = {label: s for label, s in ledger.suspensions.items() if label not in self.labels}
                return replace(ledger, suspensions=kept)
            case Asked.RETRY:
                failed = {label: a for label, a in ledger.attempts.items() if label not in self.labels}
                return replace(ledger, attempts=failed)
