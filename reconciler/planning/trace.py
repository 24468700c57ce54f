"""Where a server comes from: process, port, weights, template, routes and commit, compared with what is declared."""

from reconciler.model.base import noun
from reconciler.model.change import Change
from reconciler.model.names import Subject, server_subject
from reconciler.model.observed import Inspection, Listener, Present, Standing

from .diff import owner
from .explain import spoken_route
from .plan import Decision
from .status import status
from .trace_lines import Agreement, Beside, Line, in_force, running, server_lines


@noun
class Trace:
    """What is known about the origin of one server, or of a stranger."""

    subject: Subject
    answer: str
    """One sentence."""
    pid: int | None = None
    port: int | None = None
    since: float = 0.0
    """When it was launched, seconds since the epoch; 0.0: it does not run, or is not ours."""
    standing: Standing | None = None
    """What the proof of its process says; None: there is no process, or it was never ours."""
    started: int | None = None
    """Start time of its process on the monotonic clock of this boot, in ticks."""
    revision: str = ""
    """What it was launched from."""
    generation: int = 0
    declared: str = ""
    """The revision that everything is held against."""
    revision_in_force: str = ""
    generation_in_force: int = 0
    behind: int | None = None
    """How many newer commits touch what is declared; None: that cannot be said."""
    lines: tuple[Line, ...] = ()
    command: tuple[str, ...] = ()
    """Command line of its process; long arguments are cut."""

    def names(self, agreement: Agreement) -> tuple[str, ...]:
        """Names of the lines of which this was found, in their order."""
        return tuple(line.name for line in self.lines if line.agreement is agreement)


def traceable(decision: Decision) -> tuple[str, ...]:
    """Everything of ours that has a name: labels, aliases and ports."""
    changes = decision.view.changes
    aliases = (alias for target in decision.view.targets.values() for alias in target.spec.aliases)
    ports = (str(port) for change in changes for port in _ports(change))
    return tuple(dict.fromkeys([*(change.label for change in changes), *aliases, *ports]))


def number(said: str) -> int:
    """The port or pid that somebody has typed; 0 where it is neither."""
    return int(said) if said.isascii() and said.isdecimal() else 0


def meant(decision: Decision, said: str) -> str | None:
    """The label that somebody means by a label, an alias, a port or the pid of a server; None: nothing of ours.

    Of two labels at one port it is the one whose process has it, and of a port and an equal pid it is the port.
    """
    changes = {change.label: change for change in decision.view.changes}
    name = said.removeprefix("server/")
    if name in changes:
        return name
    aliased = (label for label, target in decision.view.targets.items() if name in target.spec.aliases)
    wanted = number(said)
    if not wanted:
        return next(aliased, None)
    by_process = (c.label for c in changes.values() if c.live is not None and c.live.live and c.live.port == wanted)
    by_port = (c.label for c in changes.values() if wanted in _ports(c))
    return next((label for found in (aliased, by_process, by_port) for label in found), of_process(decision, wanted))


def of_process(decision: Decision, pid: int) -> str | None:
    """The label whose process has this pid; None: it is nobody's of ours."""
    servers = decision.view.facts.observed.servers.values()
    return next((server.label for server in servers if server.live and server.pid == pid), None)


def _ports(change: Change) -> tuple[int, ...]:
    sides = (change.live, change.target)
    # A damaged record may name no port: 0.
    return tuple(side.port for side in sides if side is not None and side.port)


# ---------------------------------------------------------------------------------------------------------- strangers


def stranger_on(decision: Decision, listener: Listener) -> Trace:
    """Somebody on a port that is neither declared nor recorded."""
    lines = []
    for kind, state in decision.view.facts.observed.gateways.items():
        for route in state.value.routes if isinstance(state, Present) else ():
            if route.upstream is not None and route.upstream.port == listener.port:
                lines.append(Line(name=f"gateway/{kind}", found=f"{route.label} -> {spoken_route(route)}"))
    return Trace(
        subject=Subject(f"port/{listener.port}"),
        answer=f"port {listener.port} is held by {owner(listener)}, which is not ours",
        pid=listener.pid,
        port=listener.port,
        lines=tuple(lines),
    )


def stranger(process: Inspection) -> Trace:
    """A process that is not of a server of ours."""
    command = f" ({process.command})" if process.command else ""
    claims = process.carried.label if process.carried is not None else ""
    copied = f"; its environment names server/{claims}, which proves nothing" if claims else ""
    return Trace(
        subject=Subject(f"pid/{process.pid}"),
        answer=f"pid {process.pid}{command} is not of a server of ours{copied}",
        pid=process.pid,
    )


def trace(decision: Decision, label: str, beside: Beside) -> Trace:
    """Where the server of a label comes from; it may be declared, or run, or both."""
    view = decision.view
    change = next(change for change in view.changes if change.label == label)
    entry = next(entry for entry in status(view, decision.plan) if entry.label == label)
    live = running(change)
    return Trace(
        subject=server_subject(label),
        answer=f"{entry.sync}, {entry.health}. {entry.reason} [{entry.reference}]",
        pid=entry.pid,
        port=entry.port,
        since=live.since if live is not None else 0.0,
        standing=live.standing if live is not None else None,
        started=live.started if live is not None else None,
        revision=live.revision if live is not None else "",
        generation=live.generation if live is not None else 0,
        declared=view.facts.desired.revision,
        revision_in_force=in_force(view.facts),
        generation_in_force=view.facts.ledger.current,
        behind=beside.behind,
        command=live.command if live is not None else (),
        lines=tuple(server_lines(decision, change, beside)),
    )
