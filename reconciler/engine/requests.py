"""What a person can ask of a loop, as a change of what is remembered."""

from dataclasses import replace
from enum import StrEnum

from reconciler.model.base import noun
from reconciler.model.ledger import Ledger, Suspension, forgiven
from reconciler.model.names import server_subject
from reconciler.planning.backoff import afresh


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
                return afresh(ledger)
            case Asked.STOP:
                new = {label: Suspension(since=now, reason=self.reason, force=self.force) for label in self.labels}
                return replace(ledger, suspensions={**ledger.suspensions, **new})
            case Asked.START:
                still = {label: s for label, s in ledger.suspensions.items() if label not in self.labels}
                return replace(ledger, suspensions=still)
            case Asked.RETRY:
                subjects = {server_subject(label) for label in self.labels}
                kept = {k: a for k, a in ledger.attempts.items() if k.partition(":")[2] not in subjects}
                # The deaths that were counted stay known, or the same ones would be counted again.
                clean = {k: forgiven(a) if k in self.labels else a for k, a in kept.items()}
                return replace(ledger, attempts=clean)
