"""Everything that one decision knows about one subject, side by side."""

from collections.abc import Iterator
from typing import Final

from reconciler.model.base import noun
from reconciler.model.change import Change
from reconciler.model.ledger import Attempt, ServiceProof, Suspension
from reconciler.model.names import Subject, artifact_subject, gateway_subject, source_subject
from reconciler.model.observed import Absent, Present, ServerProcess, Unknown
from reconciler.model.plan import Blocked, Waiting
from reconciler.model.routes import Route
from reconciler.model.source import shown
from reconciler.model.units import human

from .backoff import is_of
from .diff import owner
from .plan import Decision
from .status import ServerStatus, status

_SHORT: Final = 12
_ARTIFACT: Final = "artifact/"


@noun
class Side:
    """One property as it is declared and as it is."""

    name: str
    desired: str
    """Empty where nothing is declared about it."""
    observed: str
    """Empty where there is nothing to be seen."""


@noun
class Explanation:
    """One subject."""

    subject: Subject
    status: ServerStatus | None
    """None for what is no server."""
    sides: tuple[Side, ...]
    next: tuple[str, ...]
    """What would be done now, in words."""
    waiting: tuple[Waiting, ...]
    blocked: tuple[Blocked, ...]
    attempt: Attempt | None = None
    attempt_differs: bool = False
    """Whether that was with another declaration, or with other weights, than those of now."""
    suspension: Suspension | None = None
    proof: ServiceProof | None = None
    live: ServerProcess | None = None
    command: tuple[str, ...] = ()
    """Command line of its process, or of the one that failed last."""
    log: str = ""
    log_start: int = 0


def subjects(decision: Decision) -> tuple[Subject, ...]:
    """Everything that can be explained."""
    servers = [change.subject for change in decision.view.changes]
    gateways = [gateway_subject(kind) for kind in decision.view.wanted]
    weights = [artifact_subject(target.reference) for target in decision.view.targets.values()]
    record = decision.view.facts.ledger.source
    sources = [source_subject(record.mode)] if record is not None else []
    others = (
        [*sources, *weights, *decision.view.supplies]
        + [b.subject for b in decision.plan.blocked]
        + [w.subject for w in decision.plan.waiting]
    )
    return tuple(dict.fromkeys([*servers, *gateways, *others]))


def explain(decision: Decision, subject: Subject) -> Explanation:
    """What stands on both sides, what would be done, and what stands against it."""
    view, plan = decision.view, decision.plan
    change = next((c for c in view.changes if c.subject == subject), None)
    label = change.label if change is not None else ""
    ledger = view.facts.ledger
    proof = ledger.proofs.get(label)
    live = change.live if change is not None else None
    attempt = ledger.attempts.get(label)
    words = live or attempt
    return Explanation(
        subject=subject,
        status=next((s for s in status(view, plan) if change is not None and s.label == label), None),
        sides=tuple(_sides(decision, change, subject)),
        next=tuple(_next(decision, change, subject)),
        waiting=tuple(w for w in plan.waiting if w.subject == subject),
        blocked=tuple(b for b in plan.blocked if b.subject == subject),
        attempt=attempt,
        attempt_differs=attempt is not None and _is_of_another(attempt, change),
        suspension=ledger.suspensions.get(label),
        proof=proof if proof is not None and live is not None and proof.instance == live.instance else None,
        live=live,
        command=words.command if words is not None else (),
        log=words.log if words is not None else "",
        log_start=words.log_start if words is not None else 0,
    )


def _is_of_another(attempt: Attempt, change: Change | None) -> bool:
    target = change.target if change is not None else None
    return target is not None and not is_of(attempt, target)


def _sides(decision: Decision, change: Change | None, subject: Subject) -> Iterator[Side]:
    if change is not None:
        yield from _server(decision, change)
    elif subject.startswith(_ARTIFACT):
        yield from _weights(decision, subject.removeprefix(_ARTIFACT))
    elif subject.startswith("source/"):
        yield from _source(decision, subject)
    else:
        yield from _gateway(decision, subject)


def _source(decision: Decision, subject: Subject) -> Iterator[Side]:
    """What is followed, and what of it is in force."""
    facts = decision.view.facts
    record = facts.ledger.source
    if record is None or source_subject(record.mode) != subject:
        return
    yield Side(name="followed", desired=record.ref or record.place, observed="")
    yield Side(
        name="revision", desired=shown(record.refused or record.revision), observed=shown(facts.desired.revision)
    )
    yield Side(name="generation", desired="", observed=str(facts.ledger.current or ""))
    if record.accepted:
        yield Side(name="released", desired=shown(record.accepted), observed=record.accepted_because)
    if record.uncommitted:
        yield Side(name="not committed", desired="", observed=", ".join(record.uncommitted))


def _next(decision: Decision, change: Change | None, subject: Subject) -> Iterator[str]:
    """What would be done now for a subject, and for the weights that it waits for."""
    awaits = change.target.awaits if change is not None and change.target is not None else None
    for action in decision.plan.actions:
        if action.subject == subject:
            yield f"{action.kind}: {action.reason}"
        elif awaits is not None and action.subject == awaits.on:
            yield f"{action.kind} {action.subject}: {action.reason}"


def _weights(decision: Decision, reference: str) -> Iterator[Side]:
    """Where the weights of a launch reference are, and what is known of them elsewhere."""
    facts = decision.view.facts
    found, storage = facts.observed.artifact(reference), facts.observed.storage
    yield Side(name="weights", desired=reference, observed=_artifact(found))
    if isinstance(found, Present):
        yield Side(name="path", desired="", observed=found.value.path)
        yield Side(name="on disk", desired="", observed=human(found.value.disk_bytes))
    for made in storage.conversions.get(reference, ()):
        settings = ", ".join(made.recipe.arguments) or "no quantisation"
        yield Side(name="converted", desired="", observed=f"{settings}: {made.artifact.verdict}, {made.artifact.path}")
    if (copy := storage.cold.get(reference)) is not None:
        yield Side(name="moved to", desired="", observed=f"{copy.volume} ({copy.path}), {human(copy.bytes)}")
    if (check := facts.ledger.sources.get(reference)) is not None:
        said = check.reason if check.problem else f"commit {check.commit[:_SHORT]}, {human(check.bytes)} to download"
        yield Side(name="hub", desired="", observed=said)


def _server(decision: Decision, change: Change) -> Iterator[Side]:
    target, live = change.target, change.live
    names = dict.fromkeys([*(target.fields if target else ()), *(live.fields if live else ())])
    for name in names:
        declared = target.fields.get(name, "") if target is not None else ""
        seen = live.fields.get(name, "") if live is not None and live.live else ""
        if declared or seen:
            yield Side(name=name, desired=declared, observed=seen)
    if target is not None:
        yield Side(name="weights", desired=target.reference, observed=_artifact(target.artifact))
        if live is not None and live.live and isinstance(target.artifact, Present):
            there = target.artifact.value.identity
            yield Side(name="artifact", desired=there[:_SHORT], observed=live.artifact[:_SHORT])
        need = "" if target.need is None else human(target.need.total)
        held = "" if live is None or not live.live else human(live.memory)
        yield Side(name="memory", desired=need, observed=held)
        if target.port is not None:
            yield Side(name="listener", desired="", observed=_listener(decision, target.port))


def _artifact(found: object) -> str:
    match found:
        case Present(value=artifact) if artifact.missing:
            return f"{artifact.identity[:_SHORT]}, incomplete: {', '.join(artifact.missing[:3])}"
        case Present(value=artifact):
            return f"{artifact.identity[:_SHORT]}, {artifact.verdict}"
        case Unknown(reason=reason):
            return f"unknown: {reason}"
        case _:
            return "not there"


def _listener(decision: Decision, port: int) -> str:
    match decision.view.facts.observed.listener(port):
        case Present(value=listener):
            return f"{port} is held by {owner(listener)}"
        case Unknown(reason=reason):
            return f"{port} is unknown: {reason}"
        case Absent():
            return f"{port} is free"


def _gateway(decision: Decision, subject: Subject) -> Iterator[Side]:
    kind = subject.removeprefix("gateway/")
    wanted = {route.label: route for route in decision.view.wanted.get(kind, ())}
    state = decision.view.facts.observed.gateways.get(kind)
    there = {r.label: r for r in state.value.routes} if isinstance(state, Present) else {}
    if isinstance(state, Unknown):
        yield Side(name="file", desired="", observed=f"unknown: {state.reason}")
    for label in dict.fromkeys([*wanted, *there]):
        yield Side(name=label, desired=spoken_route(wanted.get(label)), observed=spoken_route(there.get(label)))


def spoken_route(route: Route | None) -> str:
    """Where a route leads, for people; empty where there is none."""
    if route is None:
        return ""
    upstream = route.upstream
    where = "nowhere" if upstream is None else f"{upstream.host}:{upstream.port} as {upstream.served_name}"
    also = f", also {', '.join(route.aliases)}" if route.aliases else ""
    return f"{where}{also}"
