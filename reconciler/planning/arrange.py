"""Which running servers are to leave, and which labels may be launched: port and memory seen as a whole."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from reconciler.model.base import noun
from reconciler.model.change import Change, Verdict
from reconciler.model.names import Subject, server_subject
from reconciler.model.observed import Absent, Present, Standing, Unknown
from reconciler.model.plan import Blocked, Waiting
from reconciler.model.target import Target
from reconciler.model.view import Facts

from .diff import occupied, suspended
from .memory import Admission, admit, rank

_DOWN: Final = (Verdict.MISSING, Verdict.CRASHED)
_USELESS: Final = (Verdict.UNHEALTHY, Verdict.STUCK)


@noun
class Arrangement:
    """The outcome, with a sentence for every label that is not served because of it."""

    leaving: frozenset[str]
    examined: tuple[str, ...]
    """Labels that stay until their successor has passed its preflight."""
    launchable: tuple[str, ...]
    admitted: frozenset[str]
    waiting: tuple[Waiting, ...]
    blocked: tuple[Blocked, ...]
    refused: frozenset[str]
    """Labels that get no memory."""


def arrange(
    facts: Facts,
    changes: Mapping[str, Change],
    holds: Mapping[str, Waiting | Blocked],
    limit: int,
    only: frozenset[Subject] | None = None,
) -> Arrangement:
    """Decide who leaves and who may start, in a way that no later tick of the same change contradicts.

    A server is only replaced when its successor can start: its port is free or is being freed, its memory is
    admitted, nothing holds it back. Replacing fewer servers frees fewer ports and less memory, so the sets shrink
    until they agree. What is not among `only` stays as it is; None: nothing is kept like that.

    A successor whose preflight is still to come may fail it, so nobody leaves who would need what it gives back.
    """
    concerned = {label: change for label, change in changes.items() if only is None or change.subject in only}
    unknown = sorted(kind for kind, state in facts.observed.gateways.items() if isinstance(state, Unknown))
    startable = {label for label, c in concerned.items() if _startable(c) and not isinstance(holds.get(label), Blocked)}
    stopping = {job.subject for job in facts.in_flight if job.kind == "stop"}
    # What is being stopped has left, whatever else one would decide about it now.
    gone = frozenset(label for label, c in changes.items() if c.subject in stopping)
    going = frozenset(label for label, c in concerned.items() if _goes(facts, c)) - gone
    replaced = {label for label in startable if changes[label].verdict is Verdict.OUTDATED} - gone
    blocked: dict[str, Blocked] = {}
    if unknown:
        forced = frozenset(label for label in going if _forced(facts, label))
        for label in sorted((going - forced) | replaced):
            blocked[label] = _cannot_withdraw(label, unknown)
        going, replaced = forced, set()
    agreed = _agreed(facts, changes, limit, startable, gone | going, replaced)
    replaced, stuck, admission = set(agreed.replaced), agreed.stuck, agreed.admission
    blocked |= agreed.blocked
    blocked |= {label: b for label, b in stuck.items() if label not in blocked}
    blocked |= {label: _no_memory(label, admission) for label in admission.refused}
    ready, waiting, unsure = _ready(facts, changes, holds, admission, stuck)
    blocked |= {label: b for b in unsure if (label := b.subject.removeprefix("server/")) not in blocked}
    # A successor that is backing off has its memory reserved, and its predecessor serves until it may start.
    backing_off = {label: hold for label in replaced if isinstance(hold := holds.get(label), Waiting)}
    unproved = {label for label in replaced if _is_unproved(facts, changes[label])}
    sure = _sure(facts, changes, limit, startable, gone | going, replaced, unproved)
    stays = {label: _depends(label) for label in replaced - unproved - sure}
    return Arrangement(
        leaving=gone | going | (sure - backing_off.keys()),
        examined=tuple(label for label in changes if label in unproved and label not in backing_off),
        launchable=ready,
        admitted=admission.admitted,
        waiting=(*waiting, *({**stays, **backing_off}[label] for label in changes if label in stays | backing_off)),
        blocked=tuple(blocked[label] for label in changes if label in blocked),
        refused=frozenset(label for label, entry in blocked.items() if entry.reference == "memory-refused"),
    )


@noun
class _Agreed:
    """Which servers may be replaced together."""

    replaced: frozenset[str]
    stuck: Mapping[str, Blocked]
    """Labels whose port does not become free by it."""
    admission: Admission
    blocked: Mapping[str, Blocked]
    """Why the others are not replaced."""


def _agreed(
    facts: Facts,
    changes: Mapping[str, Change],
    limit: int,
    startable: set[str],
    going: frozenset[str],
    wanted: set[str],
) -> _Agreed:
    """The most of `wanted` for whose successors the others make room, beside those that are `going` anyway."""
    replaced, blocked, holders = wanted, dict[str, Blocked](), facts.observed.holders()
    while True:
        leaving = going | replaced
        stuck = {label: b for label in startable if (b := _port_problem(facts, holders, changes[label], leaving))}
        contenders = {
            label: _need(changes[label])
            for label in startable
            if label not in stuck and _comes_back(changes[label], leaving)
        }
        admission = admit(limit, changes, leaving, contenders, facts.ledger)
        dropped = replaced & (stuck.keys() | admission.refused.keys())
        blocked |= {label: stuck[label] for label in dropped & stuck.keys()}
        blocked |= {label: _no_memory(label, admission) for label in dropped - stuck.keys()}
        if not dropped:
            return _Agreed(replaced=frozenset(replaced), stuck=stuck, admission=admission, blocked=blocked)
        replaced = replaced - dropped


def _sure(
    facts: Facts,
    changes: Mapping[str, Change],
    limit: int,
    startable: set[str],
    going: frozenset[str],
    replaced: set[str],
    unproved: set[str],
) -> set[str]:
    """Labels for whose successors there is room also where those stay that nobody has examined."""
    if not unproved:
        return replaced
    return set(_agreed(facts, changes, limit, startable, going, replaced - unproved).replaced)


def _is_unproved(facts: Facts, change: Change) -> bool:
    """Whether its successor can be examined and has not passed yet."""
    order = change.target.preflight if change.target is not None else None
    return order is not None and facts.ledger.preflights.get(change.label) != order.key


def _depends(label: str) -> Waiting:
    return Waiting(
        subject=server_subject(label),
        reference="waiting-for-preflight",
        reason="it needs a port or memory of a server that stays until its own successor has passed its preflight",
    )


def _startable(change: Change) -> bool:
    """Whether nothing but ports, memory and backoff stands against a launch of the declared spec."""
    target = change.target
    if target is None or target.order is None or not target.always:
        return target is not None and target.order is not None and change.verdict is Verdict.OUTDATED
    return change.verdict in (*_DOWN, *_USELESS, Verdict.OUTDATED, Verdict.OCCUPIED)


def _goes(facts: Facts, change: Change) -> bool:
    """Whether the live server is to end whatever comes after it."""
    live = change.live
    if live is None or live.standing is not Standing.OURS:
        return False
    if change.verdict is Verdict.EXTRANEOUS:
        said_stop = suspended(facts, change.label)
        return facts.desired.state.policy.prune or change.target is not None or said_stop
    if change.verdict is Verdict.STUCK:
        # It may only be slow, so it ends for nothing less than a successor.
        return change.target is not None and change.target.order is not None
    return change.verdict in (Verdict.SUSPENDED, Verdict.UNHEALTHY)


def _forced(facts: Facts, label: str) -> bool:
    """Whether a person said that it ends even while a gateway may still send it requests."""
    return suspended(facts, label) and facts.ledger.suspensions[label].force


def _comes_back(change: Change, leaving: frozenset[str] | set[str]) -> bool:
    return change.verdict in _DOWN or change.label in leaving


def _need(change: Change) -> int:
    target = change.target
    return target.order.memory if target is not None and target.order is not None else 0


def _port_problem(
    facts: Facts, holders: Mapping[int, str], change: Change, leaving: frozenset[str] | set[str]
) -> Blocked | None:
    """Why the declared port will not become free by what is planned."""
    port = _port(change.target)
    if change.live is not None and change.live.live and change.live.port == port:
        return None
    subject = server_subject(change.label)
    holder = holders.get(port)
    if holder in leaving:
        return None
    if holder is not None:
        return Blocked(
            subject=subject,
            reference="port-in-use",
            reason=f"port {port} is used by server/{holder}, which stays; nothing was stopped for it",
            hint=f"look why server/{holder} stays; it has to go or to move first",
        )
    if problem := occupied(facts, port):
        return Blocked(
            subject=subject,
            reference=problem[1],
            reason=f"{problem[2]}; nothing was stopped",
            hint=f"free port {port}, or declare another one",
        )
    return None


def _port(target: Target | None) -> int:
    if target is None or target.port is None:
        raise AssertionError("a startable label has a port")
    return target.port


def _ready(
    facts: Facts,
    changes: Mapping[str, Change],
    holds: Mapping[str, Waiting | Blocked],
    admission: Admission,
    stuck: Mapping[str, Blocked],
) -> tuple[tuple[str, ...], tuple[Waiting, ...], tuple[Blocked, ...]]:
    """Labels that may be launched now, by rank, and what the other admitted ones wait for."""
    claimed = {job.claim.port: job.subject for job in facts.in_flight if job.claim.port is not None}
    busy = {job.subject for job in facts.in_flight}
    held_by = facts.observed.holders()
    ready: list[Target] = []
    waiting: list[Waiting] = []
    blocked: list[Blocked] = []
    for label, change in changes.items():
        target = change.target
        if label in stuck or label not in admission.admitted or change.verdict not in _DOWN or target is None:
            continue
        port, hold, subject = _port(target), holds.get(label), change.subject
        if subject in busy:
            continue
        if isinstance(hold, Waiting):
            waiting.append(hold)
        elif port in held_by:
            waiting.append(_port_wait(label, port, f"server/{held_by[port]} still holds it"))
        elif port in claimed:
            waiting.append(_port_wait(label, port, f"{claimed[port]} is being started on it"))
        elif misled := _misled(facts, label, port):
            waiting.append(misled)
        elif blind := _cannot_be_trusted(facts, label, port):
            blocked.append(blind)
        elif isinstance(facts.observed.listener(port), Absent):
            ready.append(target)
    ready.sort(key=lambda t: rank(t, facts.ledger))
    return tuple(t.label for t in ready), tuple(waiting), tuple(blocked)


def _cannot_be_trusted(facts: Facts, label: str, port: int) -> Blocked | None:
    """Why a newcomer must not take a port: a gateway that cannot be read may send it what is meant for another."""
    unknown = sorted(kind for kind, state in facts.observed.gateways.items() if isinstance(state, Unknown))
    if not unknown or facts.ledger.leases.get(label) == port:
        return None
    return Blocked(
        subject=server_subject(label),
        reference="gateway-unknown",
        reason=f"whether {' and '.join(unknown)} still sends requests for others to port {port} cannot be seen",
        hint=f"mend what stands against reading {', '.join(unknown)}",
    )


def _misled(facts: Facts, label: str, port: int) -> Waiting | None:
    """Why a server of `label` on `port` could be sent a request that is meant for another label; None: it cannot."""
    for kind, state in facts.observed.gateways.items():
        if not isinstance(state, Present) or port not in state.value.may_dispatch:
            continue
        named = {r.label for r in state.value.routes if r.upstream is not None and r.upstream.port == port}
        if others := sorted(named - {label}):
            why, until = f"{kind} still sends requests for {', '.join(others)} to it", None
        elif not named:
            why, until = f"{kind} may still be sending requests for another label to it", state.value.drained_at
        else:
            continue
        return replace(_port_wait(label, port, why), until=until)
    return None


def _port_wait(label: str, port: int, why: str) -> Waiting:
    return Waiting(
        subject=server_subject(label),
        reference="waiting-for-port",
        reason=f"port {port} is not free yet: {why}",
    )


def _no_memory(label: str, admission: Admission) -> Blocked:
    return Blocked(
        subject=server_subject(label),
        reference="memory-refused",
        reason=f"{label} {admission.refused[label][0]}",
        hint=admission.refused[label][1],
    )


def _cannot_withdraw(label: str, unknown: list[str]) -> Blocked:
    return Blocked(
        subject=server_subject(label),
        reference="gateway-unknown",
        reason=f"it should stop, but whether {' and '.join(unknown)} still uses it cannot be seen; it was kept",
        hint=f"mend what stands against reading {', '.join(unknown)}, or: reconciler stop {label} --force",
    )
