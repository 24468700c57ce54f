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
    SUSPEND = "suspend"
    """Stop until a moment, after which it may run again."""
    START = "start"
    RETRY = "retry"
    OFFLOAD = "offload"
    RESTORE = "restore"
    ACCEPT = "accept"
    """Take exactly this revision of the source, whatever a guard says."""
    ROLLBACK = "rollback"
    """Go back to an earlier generation; `Engine.ask` makes the change."""


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
    until: float | None = None
    """When a suspension ends by itself, seconds since the epoch."""
    by: str = ""
    """Login name of who asks, for people; empty where it is not known."""
    revision: str = ""
    """The desired state that a person has seen and wants, whatever a guard says."""
    number: int = 0
    """Of the generation to go back to."""

    sources: Mapping[str, SourceCheck] = field(default_factory=dict)
    """What the hub has said already, so that it is not asked again; never sent to another process."""

    def change(self, ledger: Ledger, now: float) -> Ledger:
        """The ledger after it."""
        match self.do:
            case Asked.APPLY:
                fresh = confirmed(afresh(ledger), self.revision)
                return replace(fresh, sources={**fresh.sources, **self.sources})
            case Asked.ACCEPT:
                return released(ledger, self.revision, self.reason)
            case Asked.ROLLBACK:
                return ledger  # what is brought back is not in the ledger
            case Asked.STOP | Asked.SUSPEND:
                until = self.until if self.do is Asked.SUSPEND else None
                said = Suspension(since=now, reason=self.reason, until=until, force=self.force, by=self.by)
                return replace(ledger, suspensions={**ledger.suspensions, **dict.fromkeys(self.labels, said)})
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


def confirmed(ledger: Ledger, revision: str) -> Ledger:
    """The ledger once a person has seen the plan of this revision, and wants it; empty: of none."""
    if ledger.source is None:
        return ledger
    return replace(ledger, source=replace(ledger.source, confirmed=revision))


def released(ledger: Ledger, revision: str, because: str = "") -> Ledger:
    """The ledger with exactly this revision of the source released; empty: none."""
    if ledger.source is None:
        return ledger
    return replace(ledger, source=replace(ledger.source, accepted=revision, accepted_because=because))
