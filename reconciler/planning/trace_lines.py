"""The lines of a trace: each fact about one server, and whether it is what it should be."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, assert_never

from reconciler.model.base import noun
from reconciler.model.change import Change, Verdict
from reconciler.model.names import server_subject
from reconciler.model.observed import (
    Absent,
    Inspection,
    Listener,
    Present,
    Provenance,
    ServerProcess,
    Standing,
    Unknown,
)
from reconciler.model.source import shown
from reconciler.model.target import Target
from reconciler.model.view import Facts

from .diff import differences, owner, short
from .explain import spoken_route
from .generations import generation
from .plan import Decision

_SHORT: Final = 12
_NOBODY_WROTE: Final = "it was launched by a version that did not write it down"


class Agreement(StrEnum):
    """Whether something is what it should be."""

    MATCHES = "matches"
    DIFFERS = "differs"
    UNKNOWN = "unknown"
    """It cannot be said; `Line.difference` says why."""


@noun
class Line:
    """One fact."""

    name: str
    found: str
    """As it is."""
    agreement: Agreement | None = None
    """None: there is nothing to compare it with."""
    difference: str = ""
    """How it differs, or why that cannot be said, in one phrase."""


@noun
class Beside:
    """What is looked at for a trace alone."""

    process: Inspection | None = None
    """The process of the server; None where there is none, or where it could not be looked at."""
    listener: Inspection | None = None
    """Who listens on its port; None as above."""
    newest: str = ""
    """The newest revision of the source; empty where that is no commit, or could not be seen."""
    behind: int | None = None
    """How many commits that touch what is declared are newer than the one it was launched from; None: unknown."""
    reason: str = ""
    """Why that is unknown; empty: what is declared is not followed by commit."""


def running(change: Change) -> ServerProcess | None:
    """The process of a label, as long as it may hold its port."""
    return change.live if change.live is not None and change.live.live else None


def in_force(facts: Facts) -> str:
    """The revision whose content servers are launched from at present."""
    ledger = facts.ledger
    if ledger.source is not None and ledger.pin is None:
        return ledger.source.revision
    current = generation(ledger, ledger.current)
    return current.latest if current is not None else facts.desired.revision


def server_lines(decision: Decision, change: Change, beside: Beside) -> Iterator[Line]:
    """Every fact about one server, declared or running."""
    facts, live, target = decision.view.facts, running(change), change.target
    yield _process(facts, change)
    port = live.port if live is not None else target.port if target is not None else None
    if port is not None:
        yield _listener(facts, port, live, beside.listener)
    if live is not None:
        yield _environment(live, beside.process)
        yield _spec(live, target)
        yield _artifact(live, target)
    if target is not None:
        yield _weights(target)
    yield from _template(live, target)
    yield from _routes(decision, change.label)
    if live is None:
        yield Line(name="in force", found=_origin(in_force(facts), facts.ledger.current))
        return
    yield _commit(facts, live, target)
    yield _generation(facts, live)
    yield _behind(facts, live, beside)


def _process(facts: Facts, change: Change) -> Line:
    """Whether what runs under this label is ours, and whether anything of this label should run."""
    live = running(change)
    proof = "ours by its lock, its record and its start" if live and live.standing is Standing.OURS else "not proved"
    found = f"pid {live.pid or 'unknown'}, {proof}" if live else "unknown" if facts.observed.blind else "no process"
    match change.verdict:
        case Verdict.MATCHES | Verdict.STARTING | Verdict.OUTDATED | Verdict.UNHEALTHY | Verdict.STUCK:
            return _same("process", found)
        case Verdict.SUSPENDED | Verdict.ASLEEP | Verdict.CACHED if live is None:
            return _same("process", f"{found}: {change.reason}")
        case Verdict.UNKNOWN:
            return _unsaid("process", found, change.reason)
        case _:
            return _other("process", found, change.reason)


def _listener(facts: Facts, port: int, live: ServerProcess | None, listener: Inspection | None) -> Line:
    """Who holds its port: its own process or one that this has started, or somebody else."""
    match facts.observed.listener(port):
        case Unknown(reason=reason):
            return _unsaid("listener", f"port {port}", reason)
        case Absent() if live is None:
            return _same("listener", f"port {port} is free")
        case Absent():
            return _other("listener", f"port {port} is free", "its process does not listen")
        case Present(value=holder):
            found = f"port {port} is held by {owner(holder)}"
            session = listener.session if listener is not None and listener.pid == holder.pid else 0
            if live is not None and live.pid is not None and live.pid in (holder.pid, session):
                return _same("listener", found)
            if facts.observed.blind is not None or (live is not None and None in (holder.pid, live.pid)):
                return _unsaid("listener", found, "whether that is this server cannot be seen")
            return _other("listener", found, f"that is {_whose(facts, holder)}")
        case never:
            assert_never(never)


def _whose(facts: Facts, holder: Listener) -> str:
    servers = facts.observed.servers.values()
    mine = next((s.label for s in servers if s.live and s.pid is not None and s.pid == holder.pid), None)
    return "not ours" if mine is None else server_subject(mine)


def _environment(live: ServerProcess, process: Inspection | None) -> Line:
    """What the process itself carries, against its record."""
    recorded = Provenance(
        label=live.label, revision=live.revision, generation=str(live.generation), spec_hash=live.spec_hash
    )
    carried = process.carried if process is not None else None
    if carried is None:
        return _unsaid("environment", f"{_told(recorded)}, by its record", "its environment cannot be read")
    if carried == Provenance():
        if live.revision:
            return _other("environment", "nothing", f"its record says {_told(recorded)}")
        return _unsaid("environment", "nothing", _NOBODY_WROTE)
    if carried != recorded:
        return _other("environment", _told(carried), f"its record says {_told(recorded)}")
    return _same("environment", _told(carried))


def _told(said: Provenance) -> str:
    revision = shown(said.revision) or "none"
    return f"label {said.label}, commit {revision}, generation {said.generation}, spec {said.spec_hash}"


def _spec(live: ServerProcess, target: Target | None) -> Line:
    """The fields that it was launched with; what it has loaded has a line of its own."""
    if target is None:
        return Line(name="spec", found=live.spec_hash)
    names = [name for name in differences(target, live) if name in target.fields]
    if not names:
        return _same("spec", live.spec_hash)
    changed = (f"{name} is {short(live.fields.get(name, ''))}, declared {short(target.fields[name])}" for name in names)
    return _other("spec", live.spec_hash, "; ".join(changed))


def _artifact(live: ServerProcess, target: Target | None) -> Line:
    """The weights that it has loaded, against those that are declared."""
    found = f"{live.fields.get('source', 'unknown')}, {live.artifact[:_SHORT] or 'unknown'}"
    match target.artifact if target is not None else None:
        case None:
            return Line(name="artifact", found=found)
        case Present(value=declared) if declared.identity == live.artifact:
            return _same("artifact", found)
        case Present(value=declared):
            reference = target.reference if target is not None else ""
            return _other("artifact", found, f"declared is {reference}, {declared.identity[:_SHORT]}")
        case Absent():
            return _other("artifact", found, "of what is declared nothing is on this machine")
        case Unknown(reason=reason):
            return _unsaid("artifact", found, reason)


def _weights(target: Target) -> Line:
    """The folder of what is declared, and what can be said of its files."""
    match target.artifact:
        case Present(value=artifact) if artifact.sound:
            return _same("weights", f"{artifact.path}, {artifact.verdict}")
        case Present(value=artifact) if artifact.complete:
            return _unsaid("weights", artifact.path, artifact.verdict)
        case Present(value=artifact):
            return _other("weights", artifact.path, artifact.verdict)
        case Absent():
            return _other("weights", target.reference, "it is not on this machine")
        case Unknown(reason=reason):
            return _unsaid("weights", target.reference, reason)
        case never:
            assert_never(never)


def _template(live: ServerProcess | None, target: Target | None) -> Iterator[Line]:
    """The chat template by the digest of its content, with its path in the bundle."""
    field = "chat_template"
    declared = target.fields.get(field) if target is not None else None
    path = f"{target.spec.chat_template}, " if target is not None and target.spec.chat_template else ""
    wanted = f"{path}{declared[:_SHORT]}" if declared else "that of the weights"
    if live is None:
        if declared is not None:
            yield Line(name="template", found=wanted)
        return
    served = live.fields.get(field)
    found = served[:_SHORT] if served else "that of the weights"
    if declared is None:
        yield Line(name="template", found=found)
    elif served is None:
        yield _unsaid("template", "unknown", "its record does not say")
    elif served == declared:
        yield _same("template", wanted)
    else:
        yield _other("template", found, f"declared is {wanted}")


def _routes(decision: Decision, label: str) -> Iterator[Line]:
    """The route as it stands in the file of each gateway, against the one that it should have now."""
    view = decision.view
    for kind in dict.fromkeys([*view.wanted, *view.facts.observed.gateways]):
        state, name = view.facts.observed.gateways.get(kind), f"gateway/{kind}"
        if state is None or isinstance(state, Unknown):
            reason = state.reason if state is not None else "the host file does not say where its files are"
            yield _unsaid(name, "unknown", reason)
            continue
        there = state.value.routes if isinstance(state, Present) else ()
        wanted = next((route for route in view.wanted.get(kind, ()) if route.label == label), None)
        route = next((route for route in there if route.label == label), None)
        found, should = spoken_route(route) or "no route", spoken_route(wanted) or "no route"
        if route == wanted:
            yield _same(name, found)
        elif found == should:
            yield _other(name, found, "its limits or parameters are others")
        else:
            yield _other(name, found, f"it should be {should}")


# ------------------------------------------------------------------------------------------------------------- origin


def _origin(revision: str, number: int) -> str:
    return f"{shown(revision)} (generation {number})" if number else shown(revision)


def _commit(facts: Facts, live: ServerProcess, target: Target | None) -> Line:
    """What it was launched from, against what is in force."""
    name, now = "commit", in_force(facts)
    if not live.revision:
        return _unsaid(name, "unknown", _NOBODY_WROTE)
    if live.revision == now:
        return _same(name, shown(live.revision))
    current = generation(facts.ledger, facts.ledger.current)
    if current is not None and live.revision in (current.revision, *current.revisions):
        return _same(name, f"{shown(live.revision)}, of the same content as {shown(now)}, which is in force")
    same = target is not None and not differences(target, live)
    also = "; nothing of this server has changed with it" if same else ""
    return _other(name, shown(live.revision), f"{shown(now)} is in force{also}")


def _generation(facts: Facts, live: ServerProcess) -> Line:
    name, now = "generation", facts.ledger.current
    if not live.generation:
        return _unsaid(name, "unknown", "none was known when it was launched" if live.revision else _NOBODY_WROTE)
    if not now:
        return _unsaid(name, str(live.generation), "which one is in force is not known")
    if live.generation == now:
        return _same(name, str(live.generation))
    return _other(name, str(live.generation), f"{now} is in force")


def _behind(facts: Facts, live: ServerProcess, beside: Beside) -> Line:
    """How many commits since the one that it was launched from touch what is declared."""
    name, number = "newer commits", beside.behind
    if number is None:
        if beside.reason:
            return _unsaid(name, "unknown", beside.reason)
        return Line(name=name, found="what is declared is not followed by commit")
    waits = beside.newest not in ("", in_force(facts))
    also = f"; the newest, {shown(beside.newest)}, is not in force" if waits else ""
    if not number:
        return _same(name, f"behind by 0{also}")
    commits = "1 commit since then touches" if number == 1 else f"{number} commits since then touch"
    return _other(name, f"behind by {number}", f"{commits} what is declared{also}")


def _same(name: str, found: str) -> Line:
    return Line(name=name, found=found, agreement=Agreement.MATCHES)


def _other(name: str, found: str, difference: str) -> Line:
    return Line(name=name, found=found, agreement=Agreement.DIFFERS, difference=difference)


def _unsaid(name: str, found: str, reason: str) -> Line:
    return Line(name=name, found=found, agreement=Agreement.UNKNOWN, difference=reason)
