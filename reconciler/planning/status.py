"""Sync and health per label, on two axes that are never merged."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from reconciler.model.base import noun
from reconciler.model.change import Change, Verdict
from reconciler.model.observed import Present
from reconciler.model.plan import Plan
from reconciler.model.view import Facts, View

from .diff import occupied

_Said = tuple[str, str]
"""Stable reference and sentence."""


_FAILED: Final = ("crash-loop", "held-permanent", "backing-off")


class Sync(StrEnum):
    """Whether what is observed is what is declared."""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class HealthStatus(StrEnum):
    """Whether it does its work."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    MISSING = "Missing"
    SUSPENDED = "Suspended"
    UNKNOWN = "Unknown"


@noun
class ServerStatus:
    """One label on both axes, with the reason in one sentence."""

    label: str
    sync: Sync
    health: HealthStatus
    port: int | None
    pid: int | None
    reference: str
    reason: str


def status(view: View, plan: Plan) -> tuple[ServerStatus, ...]:
    """One entry per subject of the changes, in their order."""
    reasons = {entry.subject: (entry.reference, entry.reason) for entry in plan.waiting}
    reasons |= {entry.subject: (entry.reference, entry.reason) for entry in reversed(plan.blocked)}
    return tuple(_status(view, change, reasons.get(change.subject)) for change in view.changes)


def _status(view: View, change: Change, said: _Said | None) -> ServerStatus:
    reference, reason = said or (change.reference, change.reason)
    if change.verdict is Verdict.SUSPENDED:
        drifts = tuple(_drifts(view.facts, change, said))
        reference = next((name for name, _ in drifts), change.reference)
        reason = "; ".join((change.reason, *(text for _, text in drifts)))
    live_port = change.live.port if change.live is not None and change.live.live else None
    target_port = change.target.port if change.target is not None else None
    return ServerStatus(
        label=change.label,
        sync=_sync(change, said is not None or reference != change.reference),
        health=HealthStatus.DEGRADED if _was_ended(change, reference) else _health(change),
        port=live_port if live_port is not None else target_port,
        pid=change.live.pid if change.live is not None and change.live.live else None,
        reference=reference,
        reason=reason,
    )


def _drifts(facts: Facts, change: Change, said: _Said | None) -> Iterator[_Said]:
    """What differs of a suspended label, beside that it does not run."""
    target, live = change.target, change.live
    runs = live is not None and live.live
    if runs:
        yield (said[0], f"it still runs: {said[1]}") if said is not None else ("still-running", "it still runs")
    elif said is not None:
        yield said
    elif target is not None and target.awaits is not None:
        yield target.awaits.reference, target.awaits.reason
    port = target.port if target is not None else None
    if not runs and port is not None and port not in facts.observed.holders():
        found = occupied(facts, port)
        if found is not None:
            yield found[1], found[2]


def _sync(change: Change, said: bool) -> Sync:
    match change.verdict:
        case Verdict.UNKNOWN:
            return Sync.UNKNOWN
        case Verdict.MATCHES | Verdict.ASLEEP:
            return Sync.SYNCED
        case Verdict.SUSPENDED:
            # A person has stopped it, which changes nothing about what is declared.
            wanted = change.target is not None and change.target.always
            return Sync.OUT_OF_SYNC if wanted or said else Sync.SYNCED
        case Verdict.CACHED:
            return Sync.OUT_OF_SYNC if said else Sync.SYNCED
        case (
            Verdict.STARTING
            | Verdict.MISSING
            | Verdict.CRASHED
            | Verdict.OUTDATED
            | Verdict.UNHEALTHY
            | Verdict.STUCK
            | Verdict.ORPHANED
            | Verdict.OCCUPIED
            | Verdict.EXTRANEOUS
            | Verdict.DEAD_RECORD
        ):
            return Sync.OUT_OF_SYNC


def _was_ended(change: Change, reference: str) -> bool:
    """Whether it is not there because it failed: a server that was of no use was ended, and its record is gone."""
    return change.verdict is Verdict.MISSING and reference in _FAILED


def _health(change: Change) -> HealthStatus:
    match change.verdict:
        case Verdict.UNKNOWN:
            return HealthStatus.UNKNOWN
        case Verdict.SUSPENDED | Verdict.ASLEEP:
            return HealthStatus.SUSPENDED
        case Verdict.MATCHES:
            return HealthStatus.HEALTHY
        case Verdict.CACHED:
            found = change.target.artifact if change.target is not None else None
            sound = isinstance(found, Present) and found.value.sound
            return HealthStatus.HEALTHY if sound else HealthStatus.MISSING
        case Verdict.MISSING | Verdict.OCCUPIED | Verdict.DEAD_RECORD:
            return HealthStatus.MISSING
        case Verdict.STARTING | Verdict.ORPHANED:
            return HealthStatus.PROGRESSING
        case Verdict.CRASHED | Verdict.UNHEALTHY | Verdict.STUCK:
            return HealthStatus.DEGRADED
        case Verdict.OUTDATED | Verdict.EXTRANEOUS:
            live = change.live
            return HealthStatus.HEALTHY if live is not None and live.serves else HealthStatus.PROGRESSING
