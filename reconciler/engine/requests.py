"""What a person can ask of a loop, as a change of what is remembered."""

from collections.abc import Mapping
from dataclasses import field, replace
from enum import StrEnum

from reconciler.model.base import noun
from reconciler.model.ledger import Ledger, Suspension, Wish, forgiven
from reconciler.model.names import artifact_subject, server_subject
from reconciler.model.supply import SourceCheck
from reconciler.planning.backoff import afresh


class Asked(StrEnum):
    """The requests there are."""

    APPLY = "apply"
    """Bring the machine to the present desired state now."""
    STOP = "stop"
    START = "start"
    RETRY = "retry"
    OFFLOAD = "offload"
    RESTORE = "restore"


@noun
class Request:
    """One request."""

    do: Asked
    labels: tuple[str, ...] = ()
    """Labels; launch references where weights are to move."""
    reason: str = ""
    """Why a server is stopped."""
    force: bool = False
    """Stop it even while a gateway may still send it requests."""
    revision: str = ""
    """The desired state that a person has seen and wants, whatever a guard says."""

    sources: Mapping[str, SourceCheck] = field(default_factory=dict)
    """What the hub has said already, so that it is not asked again; never sent to another process."""

    def change(self, ledger: Ledger, now: float) -> Ledger:
        """The ledger after it."""
        match self.do:
            case Asked.APPLY:
                return replace(fresh := afresh(ledger), sources={**fresh.sources, **self.sources})
            case Asked.STOP:
                new = {label: Suspension(since=now, reason=self.reason, force=self.force) for label in self.labels}
                return replace(ledger, suspensions={**ledger.suspensions, **new})
            case Asked.OFFLOAD | Asked.RESTORE:
                wish = Wish.OFFLOAD if self.do is Asked.OFFLOAD else Wish.KEEP
                subjects = {artifact_subject(reference) for reference in self.labels}
                kept = {k: a for k, a in ledger.attempts.items() if k.partition(":")[2] not in subjects}
                wishes = {**ledger.wishes, **dict.fromkeys(self.labels, wish)}
                return replace(ledger, attempts=kept, wishes=wishes)
            case Asked.START:
                still = {label: s for label, s in ledger.suspensions.items() if label not in self.labels}
                return replace(ledger, suspensions=still)
            case Asked.RETRY:
                subjects = {server_subject(label) for label in self.labels}
                # Weights are not a label's own: whoever says retry wants everything tried that stood in the way.
                kept = {
                    k: a
                    for k, a in ledger.attempts.items()
                    if (subject := k.partition(":")[2]) not in subjects and not subject.startswith("artifact/")
                }
                asked = {reference: check for reference, check in ledger.sources.items() if not check.problem}
                # The deaths that were counted stay known, or the same ones would be counted again.
                clean = {k: forgiven(a) if k in self.labels else a for k, a in kept.items()}
                return replace(ledger, attempts=clean, sources=asked)
