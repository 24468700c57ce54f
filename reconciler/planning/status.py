"""Sync and health per label, on two axes that are never merged."""

from enum import StrEnum

from reconciler.model.base import noun
from reconciler.model.change import Change, Verdict
from reconciler.model.observed import Health, Present, Standing
from reconciler.model.plan import Plan
from reconciler.model.view import View


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
    return tuple(_status(change, reasons.get(change.subject)) for change in view.changes)


def _status(change: Change, said: tuple[str, str] | None) -> ServerStatus:
    reference, reason = said or (change.reference, change.reason)
    live_port = change.live.port if change.live is not None and change.live.live else None
    target_port = change.target.port if change.target is not None else None
    return ServerStatus(
        label=change.label,
        sync=_sync(change, said is not None),
        health=_health(change),
        port=live_port if live_port is not None else target_port,
        pid=change.live.pid if change.live is not None and change.live.live else None,
        reference=reference,
        reason=reason,
    )


def _sync(change: Change, said: bool) -> Sync:
    match change.verdict:
        case Verdict.UNKNOWN:
            return Sync.UNKNOWN
        case Verdict.MATCHES | Verdict.ASLEEP | Verdict.SUSPENDED:
            return Sync.SYNCED
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
            serving = live is not None and live.standing is Standing.OURS and live.health is Health.SERVING
            return HealthStatus.HEALTHY if serving else HealthStatus.PROGRESSING
