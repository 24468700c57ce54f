"""Ports: which are ours by declaration, whether they get in one another's way, and who can reach them."""

from collections.abc import Iterator, Sequence

from reconciler.model.base import noun
from reconciler.model.desired import DesiredState
from reconciler.model.doctor import Finding, LentPorts, Listening
from reconciler.model.host import HostFile
from reconciler.model.names import port_range

from .said import ok, problem, warning

_LOOPBACK = ("127.", "::1")


@noun
class Claim:
    """Ports that something of ours uses, both ends included."""

    what: str
    first: int
    last: int

    @property
    def ports(self) -> str:
        """As people write it."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def meets(self, first: int, last: int) -> bool:
        """Whether a range has a port of it."""
        return self.first <= last and first <= self.last


def claims(state: DesiredState | None, host: HostFile) -> tuple[Claim, ...]:
    """Every claim of the declared state, where there is one, and of this machine; ranges before what lies in them."""
    found = []
    if state is not None:
        for name, text in state.ports.items():
            declared = port_range(text)
            found.append(Claim(what=f"the range {name}", first=declared[0], last=declared[-1]))
        for label, model in state.models.items():
            if isinstance(model.port, int):
                found.append(Claim(what=label, first=model.port, last=model.port))
        if state.gateways.front is not None:
            port = state.gateways.front.port
            found.append(Claim(what="the front door", first=port, last=port))
    if isinstance(host.status_page.port, int):
        found.append(Claim(what="the status page", first=host.status_page.port, last=host.status_page.port))
    return tuple(found)


def collisions(claimed: Sequence[Claim], lent: LentPorts | None) -> Iterator[Finding]:
    """Ports that two of ours want, and ports that the system lends to outgoing connections.

    A range and the model whose fixed port lies in it belong together, and so does a model with nothing else.
    """
    met = list(_met(claimed))
    for one, other in met:
        text = f"{other.what} ({other.ports}) is in the way of {one.what} ({one.ports})"
        yield problem("ports-collide", text, f"give {other.what} a port outside {one.ports}")
    if lent is not None:
        taken = [claim for claim in claimed if _is_lent(claim, lent)]
        if taken:
            listed = ", ".join(f"{claim.what} ({claim.ports})" for claim in taken)
            text = (
                f"the system lends {lent.first}-{lent.last} to outgoing connections, so any of these may be taken "
                f"when its server starts: {listed}"
            )
            yield warning("ports-lent", text, f"choose ports below {lent.first}")
            return
    if not met:
        range_ = (
            f", none in {lent.first}-{lent.last}, which is lent to outgoing connections" if lent is not None else ""
        )
        yield ok(f"{len(claimed)} claims on ports, none in the way of another{range_}")


def exposed(listening: Sequence[Listening], claimed: Sequence[Claim], host: HostFile) -> Iterator[Finding]:
    """Our ports that are reached from other machines: a backend asks nobody for a key (fault S09)."""
    wide = sorted({found.port for found in listening if found.wide})
    seen = False
    for port in wide:
        claim = next((claim for claim in reversed(claimed) if claim.meets(port, port)), None)
        if claim is None:
            continue
        seen = True
        text = f"port {port} ({claim.what}) is open on every address of this machine, to whoever reaches it"
        if host.bind.startswith(_LOOPBACK):
            yield problem("port-open", text, f"see who it is: lsof -nP -iTCP:{port} -sTCP:LISTEN")
        else:
            fix = "set bind: 127.0.0.1 in the host file, and let clients come through the gateway"
            yield warning("port-open-by-bind", f"{text}; bind is {host.bind} in the host file", fix)
    if not seen:
        yield ok("no port of ours is open on every address of this machine")


def _met(claimed: Sequence[Claim]) -> Iterator[tuple[Claim, Claim]]:
    """Claims that the parser of the desired state cannot compare: those of this machine with all others."""
    alone = ("the status page", "the front door")
    for at, one in enumerate(claimed):
        for other in claimed[at + 1 :]:
            if (one.what in alone or other.what in alone) and one.meets(other.first, other.last):
                yield one, other


def _is_lent(claim: Claim, lent: LentPorts) -> bool:
    """Whether some port of it is lent; those that are reserved are not."""
    low, high = max(claim.first, lent.first), min(claim.last, lent.last)
    at = low
    for first, last in sorted(lent.reserved):
        if first <= at <= last:
            at = last + 1
    return at <= high
