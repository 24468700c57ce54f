"""One verdict per subject: what is desired against what is observed, nothing left unsaid."""

from collections.abc import Mapping
from typing import Final

from reconciler.model.base import FieldClass
from reconciler.model.change import Change, Verdict
from reconciler.model.names import server_subject
from reconciler.model.observed import Absent, Health, Listener, Present, ServerProcess, Standing, Unknown
from reconciler.model.target import Target
from reconciler.model.units import seconds
from reconciler.model.view import Facts

from . import spec
from .memory import rank

_Judgement = tuple[Verdict, str, str]
"""Verdict, stable reference, one phrase."""

NOT_DECLARED: Final = "not-declared"
NOT_PROVED: Final = "started and not proved yet"


def diff(facts: Facts, targets: Mapping[str, Target]) -> dict[str, Change]:
    """label -> change; declared labels by rank first, then what is ours and not declared, by name."""
    changes = {}
    holders = facts.observed.holders()
    for target in sorted(targets.values(), key=lambda t: rank(t, facts.ledger)):
        changes[target.label] = _declared(facts, target, holders)
    for label in sorted(facts.observed.servers.keys() - targets.keys()):
        live = facts.observed.servers[label]
        verdict, reference, reason = _undeclared(live, "it is no longer declared")
        changes[label] = Change(
            subject=server_subject(label),
            label=label,
            verdict=verdict,
            reference=reference,
            reason=reason,
            live=live,
        )
    return changes


def _declared(facts: Facts, target: Target, holders: Mapping[int, str]) -> Change:
    live = facts.observed.servers.get(target.label)
    because: tuple[str, ...] = ()
    cost: FieldClass | None = None
    if facts.observed.blind is not None:
        judgement = (
            Verdict.UNKNOWN,
            "observation-unknown",
            f"run records could not be read: {facts.observed.blind}",
        )
    elif target.spec.port == "none":
        judgement = _cached(live)
    elif live is not None and live.standing is Standing.OURS:
        because = differences(target, live)
        cost = spec.heaviest(because) if because else None
        judgement = _ours(facts, target, live, because)
    else:
        judgement = _not_running(facts, target, live, holders)
    verdict, reference, reason = judgement
    return Change(
        subject=server_subject(target.label),
        label=target.label,
        verdict=verdict,
        reference=reference,
        reason=reason,
        target=target,
        live=live,
        because=because if verdict is Verdict.OUTDATED else (),
        cost=cost if verdict is Verdict.OUTDATED else None,
    )


def _undeclared(live: ServerProcess, why: str) -> _Judgement:
    match live.standing:
        case Standing.OURS:
            return Verdict.EXTRANEOUS, NOT_DECLARED, why
        case Standing.GONE:
            return Verdict.DEAD_RECORD, NOT_DECLARED, f"its process is gone and {why}"
        case Standing.ORPHAN:
            return (
                Verdict.ORPHANED,
                "launch-interrupted",
                "its launch was interrupted before its record was complete",
            )
        case Standing.UNKNOWN:
            return (
                Verdict.UNKNOWN,
                "proof-failed",
                f"whether its process is ours cannot be proved: {live.detail}",
            )


def _cached(live: ServerProcess | None) -> _Judgement:
    if live is not None:
        return _undeclared(live, "it is declared without a port")
    return Verdict.CACHED, "cached-only", "declared without a port: kept in the cache"


def differences(target: Target, live: ServerProcess) -> tuple[str, ...]:
    """Fields in which the running server is not the declared one; an artifact that is not there differs in nothing."""
    found = target.artifact
    seen = isinstance(found, Present) and found.value.complete
    same = isinstance(found, Present) and found.value.identity == live.artifact
    names = spec.differences(target.fields, live.fields)
    if same:
        # Another spelling of what is served, such as the commit that a branch points to.
        names = tuple(name for name in names if name != "source")
    return (*(("artifact",) if seen and not same else ()), *names)


def suspended(facts: Facts, label: str) -> bool:
    """Whether a person has said stop and neither start nor the time has ended it."""
    suspension = facts.ledger.suspensions.get(label)
    return suspension is not None and (suspension.until is None or suspension.until > facts.now)


def _ours(facts: Facts, target: Target, live: ServerProcess, because: tuple[str, ...]) -> _Judgement:
    if suspended(facts, target.label):
        return Verdict.SUSPENDED, "suspended", facts.ledger.suspensions[target.label].reason
    if live.health is Health.ZOMBIE:
        return Verdict.UNHEALTHY, live.cause or "unable-to-generate", live.detail or "it is alive and cannot generate"
    if because:
        return Verdict.OUTDATED, "spec-changed", _changed(target, live, because)
    if live.health is Health.SERVING:
        return Verdict.MATCHES, "in-sync", "serving as declared"
    if facts.now >= deadline(facts, live):
        return (
            Verdict.STUCK,
            "not-proved-in-time",
            f"no completion within {facts.host.start_timeout} of its start",
        )
    return Verdict.STARTING, live.cause or "starting", live.detail or NOT_PROVED


def deadline(facts: Facts, live: ServerProcess) -> float:
    """Until when it must have been proved; nobody is late who has not been asked."""
    asked = facts.now if live.asked_since is None else live.asked_since
    return max(live.since, asked) + seconds(facts.host.start_timeout)


def _changed(target: Target, live: ServerProcess, because: tuple[str, ...]) -> str:
    parts = []
    for name in because:
        if name == "artifact" and isinstance(target.artifact, Present):
            old, new = live.artifact[:12], target.artifact.value.identity[:12]
        else:
            old, new = short(live.fields.get(name, "")), short(target.fields.get(name, ""))
        parts.append(f"{name}: {old} -> {new}")
    return f"{'; '.join(parts)} ({spec.heaviest(because)})"


def short(value: str) -> str:
    """A field's value for people: a digest is cut, and nothing is said to be nothing."""
    digest = len(value) == 64 and set(value) <= set("0123456789abcdef")  # noqa: PLR2004
    return (value[:12] if digest else value) or "none"


def _not_running(facts: Facts, target: Target, live: ServerProcess | None, holders: Mapping[int, str]) -> _Judgement:
    if live is not None and live.standing is not Standing.GONE:
        return _undeclared(live, "")
    if suspended(facts, target.label):
        return Verdict.SUSPENDED, "suspended", facts.ledger.suspensions[target.label].reason
    if not target.always:
        return Verdict.ASLEEP, "asleep", "on demand, and nobody asks for it"
    if target.port is not None and target.port not in holders and (problem := occupied(facts, target.port)):
        return problem
    if live is not None:
        said = f": {live.detail}" if live.detail else ""
        return Verdict.CRASHED, live.cause or "crashed", f"its process {live.pid} is gone{said}"
    return Verdict.MISSING, "not-running", "it is declared and does not run"


def occupied(facts: Facts, port: int) -> _Judgement | None:
    """Why nothing of ours can listen on `port`, which none of our servers holds; None where it is free."""
    match facts.observed.listener(port):
        case Absent():
            return None
        case Present(value=listener):
            return (
                Verdict.OCCUPIED,
                "port-occupied",
                f"port {port} is held by {owner(listener)}, which is not ours",
            )
        case Unknown(reason=reason):
            return (
                Verdict.UNKNOWN,
                "observation-unknown",
                f"whether port {port} is free could not be seen: {reason}",
            )


def owner(listener: Listener) -> str:
    """The owner of a port, as far as the machine says."""
    if listener.pid is None:
        return "a process that this user cannot see"
    return f"pid {listener.pid}" + (f" ({listener.command})" if listener.command else "")
