"""Everything that one look has found and decided, as one document."""

import shlex
from collections.abc import Iterable, Iterator
from typing import Final

from reconciler import __version__
from reconciler.model.base import noun, plain
from reconciler.model.change import Change
from reconciler.model.document import ReasonEntry
from reconciler.model.event import Event, EventKind
from reconciler.model.ledger import Ledger
from reconciler.model.names import server_subject
from reconciler.model.observed import Present, Unknown
from reconciler.model.plan import Blocked, InFlight, Waiting
from reconciler.model.source import Mode
from reconciler.model.status_document import (
    DifferenceEntry,
    GenerationEntry,
    JobEntry,
    MoveEntry,
    PendingPlan,
    PinEntry,
    ProofEntry,
    ReservationEntry,
    ServerEntry,
    SourceEntry,
    StatusDocument,
    StatusEvent,
    StatusMemory,
    SuspensionEntry,
)
from reconciler.model.view import Facts, View
from reconciler.planning import memory
from reconciler.planning.forecast import Forecast, memory_used
from reconciler.planning.plan import Decision
from reconciler.planning.status import HealthStatus, ServerStatus, Sync, status
from reconciler.surface.render import plan as render

from .agreement import gateways

SHOWN: Final = 50
"""How many events are shown."""
_LONGEST: Final = 120
"""Characters of a value that differs."""
_SEVERITY: Final = (
    HealthStatus.UNKNOWN,
    HealthStatus.DEGRADED,
    HealthStatus.MISSING,
    HealthStatus.PROGRESSING,
    HealthStatus.SUSPENDED,
    HealthStatus.HEALTHY,
)
"""The worst first, as Argo CD has it."""
_MOVES: Final = ("ensure", "convert", "offload", "restore")
_RESULTS: Final = (EventKind.SETTLED, EventKind.FAILED, EventKind.ROLLED_BACK)


@noun
class Seen:
    """What a status document is made from."""

    decision: Decision
    file: str
    """The desired file as a person would name it."""
    host: str
    """Name of the machine."""
    events: tuple[Event, ...] = ()
    """What has happened, oldest first."""
    forecast: Forecast | None = None
    """All that will be done; None where that was not asked for."""
    in_flight: tuple[InFlight, ...] = ()
    progress: tuple[Event, ...] = ()
    """How far long actions said they were."""
    steady: bool | None = None
    """Whether the loop has found nothing to do twice; None where no loop says it."""
    trouble: str = ""
    """Why the look after this one failed."""


def document(seen: Seen) -> StatusDocument:
    """The whole, newest first where things have an order in time."""
    view, plan = seen.decision.view, seen.decision.plan
    facts, ledger = view.facts, seen.decision.ledger
    statuses = status(view, plan)
    subjects = {change.subject for change in view.changes}
    agreement = gateways(view)
    recent = tuple(reversed(seen.events))
    return StatusDocument(
        tool_version=__version__,
        at=facts.now,
        host=seen.host,
        file=seen.file,
        trouble=seen.trouble,
        sync=_sync(statuses, all(gateway.matches for gateway in agreement)),
        health=next((h for h in _SEVERITY if any(s.health is h for s in statuses)), HealthStatus.HEALTHY),
        counts={str(h): n for h in _SEVERITY if (n := sum(s.health is h for s in statuses))},
        settled=plan.settled if seen.steady is None else seen.steady,
        source=_source(facts, ledger),
        generation=ledger.current or None,
        pin=_pin(ledger),
        suspensions=tuple(_suspensions(ledger, facts.now)),
        result=next((_event(event) for event in recent if event.kind in _RESULTS), None),
        servers=tuple(_server(view, change, s, plan.blocked) for change, s in zip(view.changes, statuses, strict=True)),
        blocked=tuple(_reason(blocked) for blocked in plan.blocked if blocked.subject not in subjects),
        waiting=tuple(_reason(waiting) for waiting in dict.fromkeys(plan.waiting)),
        progress=tuple(map(_event, seen.progress)),
        jobs=tuple(map(_job, seen.in_flight)),
        memory=_memory(view, seen.forecast),
        plan=_plan(seen.forecast, seen.file) if seen.forecast is not None else None,
        gateways=agreement,
        events=tuple(map(_event, recent[:SHOWN])),
        generations=tuple(_generations(ledger)),
    )


def _sync(statuses: Iterable[ServerStatus], agreed: bool) -> Sync:
    found = {entry.sync for entry in statuses}
    if Sync.UNKNOWN in found:
        return Sync.UNKNOWN
    return Sync.SYNCED if agreed and Sync.OUT_OF_SYNC not in found else Sync.OUT_OF_SYNC


def _event(event: Event) -> StatusEvent:
    return StatusEvent(**plain(event))


def _reason(entry: Blocked | Waiting) -> ReasonEntry:
    hint = entry.hint if isinstance(entry, Blocked) else ""
    return ReasonEntry(subject=entry.subject, reference=entry.reference, reason=entry.reason, hint=hint)


def _source(facts: Facts, ledger: Ledger) -> SourceEntry:
    record, against, revision = ledger.source, facts.source, facts.desired.revision
    if record is None:
        mode = Mode.WORKTREE if revision.startswith("worktree:") else Mode.COMMIT
        return SourceEntry(
            mode=mode,
            revision=revision,
            paused=against is not None,
            reference=against.reference if against is not None else "",
            reason=against.reason if against is not None else "",
            hint=against.hint if against is not None else "",
        )
    return SourceEntry(
        mode=record.mode,
        ref=record.ref,
        revision=revision,
        refused=record.refused,
        paused=against is not None,
        reference=against.reference if against is not None else record.reference,
        reason=against.reason if against is not None else record.reason,
        hint=against.hint if against is not None else "",
        uncommitted=record.uncommitted,
        accepted=record.accepted,
        accepted_because=record.accepted_because,
    )


def _pin(ledger: Ledger) -> PinEntry | None:
    pin = ledger.pin
    if pin is None:
        return None
    return PinEntry(
        number=pin.number,
        bad=pin.bad,
        at=pin.at,
        reason=pin.reason,
        automatic=pin.automatic,
        proved_at=pin.proved_at,
    )


def _suspensions(ledger: Ledger, now: float) -> Iterator[SuspensionEntry]:
    """Those in force, the one that ends first in front."""
    entries = [(label, s) for label, s in ledger.suspensions.items() if s.until is None or s.until > now]
    for label, entry in sorted(entries, key=lambda item: (item[1].until is None, item[1].until or 0.0, item[0])):
        yield SuspensionEntry(label=label, since=entry.since, reason=entry.reason, until=entry.until, by=entry.by)


def _server(view: View, change: Change, entry: ServerStatus, blocked: Iterable[Blocked]) -> ServerEntry:
    target, live = change.target, change.live
    runs = live is not None and live.live
    found = target.artifact if target is not None else None
    weights = found.value.verdict if isinstance(found, Present) else "unknown" if isinstance(found, Unknown) else ""
    would = found.value.identity if isinstance(found, Present) else ""
    fields = live.fields if live is not None and runs else target.fields if target is not None else {}
    need = target.need.total if target is not None and target.need is not None else None
    attempt = view.facts.ledger.attempts.get(change.label)
    return ServerEntry(
        **plain(entry),
        verdict=change.verdict,
        found=change.reason,
        hint=next((b.hint for b in blocked if b.subject == change.subject), ""),
        aliases=target.spec.aliases if target is not None else (),
        source=target.reference if target is not None else fields.get("source", ""),
        artifact=live.artifact if live is not None and runs else would,
        weights=weights,
        backend=fields.get("backend", target.backend if target is not None else ""),
        runtime=fields.get("runtime", "").partition(" ")[0],
        since=live.since if live is not None and runs else None,
        revision=live.revision if live is not None and runs else "",
        generation=live.generation or None if live is not None and runs else None,
        proved_at=live.proved_at if live is not None and runs else None,
        memory=live.memory if live is not None and runs else need,
        differs=tuple(_differences(change)),
        failures=attempt.count if attempt is not None else 0,
        retry_at=attempt.retry_at if attempt is not None and attempt.count and not runs else None,
    )


def _differences(change: Change) -> Iterator[DifferenceEntry]:
    target, live = change.target, change.live
    if target is None or live is None:
        return
    for name in change.because:
        declared, running = target.fields.get(name, ""), live.fields.get(name, "")
        if name == "artifact" and isinstance(target.artifact, Present):
            declared, running = target.artifact.value.identity, live.artifact
        yield DifferenceEntry(field=name, declared=_cut(declared), running=_cut(running))


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."


def _job(job: InFlight) -> JobEntry:
    far = job.progress
    return JobEntry(
        subject=job.subject,
        kind=job.kind,
        since=job.since,
        text=str(far) if far is not None else "",
        done=far.done if far is not None else 0,
        total=far.total if far is not None else 0,
    )


def _memory(view: View, forecast: Forecast | None) -> StatusMemory:
    facts = view.facts
    budget = memory.budget(facts.host, facts.observed.host)
    known = isinstance(budget, Present)
    limit = budget.value if isinstance(budget, Present) else 0
    held = {server_subject(label): s.memory for label, s in facts.observed.servers.items() if s.live}
    for job in facts.in_flight:
        if job.claim.memory and job.kind in ("launch", "convert"):
            held.setdefault(job.subject, job.claim.memory)
    return StatusMemory(
        budget=limit if known else None,
        reserved=limit - view.headroom,
        headroom=view.headroom if known else None,
        peak=forecast.peak if forecast is not None else None,
        after=memory_used(forecast.final.facts) if forecast is not None else None,
        reservations=tuple(
            ReservationEntry(subject=subject, bytes=taken)
            for subject, taken in sorted(held.items(), key=lambda item: (-item[1], item[0]))
        ),
    )


def _plan(forecast: Forecast, file: str) -> PendingPlan:
    plan = render.document(forecast, file)
    return PendingPlan(
        text=render.as_text(plan),
        command=shlex.join(["reconciler", "apply" if plan.actions else "plan", "-c", file]),
        actions=len(plan.actions),
        destructive=tuple(f"{action.kind} {action.subject}" for action in plan.actions if action.destructive),
        moves=tuple(
            MoveEntry(subject=action.subject, kind=action.kind, reason=action.reason, bytes=action.bytes)
            for action in plan.actions
            if action.kind in _MOVES
        ),
        disk=plan.disk,
    )


def _generations(ledger: Ledger) -> Iterator[GenerationEntry]:
    for entry in ledger.generations:
        current = entry.number == ledger.current
        yield GenerationEntry(
            number=entry.number,
            at=entry.at,
            revision=entry.latest,
            current=current,
            proved_at=entry.proved_at,
            missing=entry.missing,
            failed=entry.failed,
            proofs=tuple(
                ProofEntry(label=label, source=p.reference, artifact=p.artifact, port=p.port, at=p.at)
                for label, p in sorted(entry.servers.items())
            ),
            command="" if current else f"reconciler rollback {entry.number}",
        )
