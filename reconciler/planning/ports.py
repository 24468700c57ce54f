"""Which port a label gets: the declared one, or a lease from the experimental range that it then keeps."""

from collections.abc import Iterable

from reconciler.model.desired import AUTO_RANGE, DesiredState
from reconciler.model.ledger import Ledger
from reconciler.model.names import port_range
from reconciler.model.observed import Absent, ObservedState, Present


def assign(state: DesiredState, observed: ObservedState, ledger: Ledger) -> dict[str, int | None]:
    """label -> port; None for `port: none`, and for `auto` when the range is exhausted.

    A lease is kept as long as the label is declared, also when somebody else has taken its port meanwhile:
    then a person must know. A run record stands in for a lease that was lost. A new lease avoids ports that are
    declared, leased, or held by anything at all.
    """
    explicit = {s.port for s in state.models.values() if isinstance(s.port, int)}
    ports: dict[str, int | None] = {}
    autos: list[str] = []
    for label, spec in state.models.items():
        if isinstance(spec.port, int):
            ports[label] = spec.port
        elif spec.port == "none":
            ports[label] = None
        else:
            autos.append(label)
    if not autos:
        return ports
    candidates = port_range(state.ports[AUTO_RANGE]) if AUTO_RANGE in state.ports else range(0)
    recorded = {label: process.port for label, process in observed.servers.items()}
    leases = {label: recorded.get(label, ledger.leases.get(label, -1)) for label in autos}
    held = {p.port for p in observed.servers.values() if p.live}
    leased = {lease for lease in leases.values() if lease in candidates}
    taken = explicit | leased | held | _routed(observed) | _listening(observed, candidates)
    free = iter([port for port in candidates if port not in taken])
    for label in sorted(autos):
        lease = leases[label]
        keeps = lease in candidates and lease not in explicit
        ports[label] = lease if keeps else next(free, None)
    return ports


def _routed(observed: ObservedState) -> set[int]:
    """Ports to which a gateway may still send requests that are meant for somebody else."""
    return {port for s in observed.gateways.values() if isinstance(s, Present) for port in s.value.may_dispatch}


def _listening(observed: ObservedState, ports: Iterable[int]) -> set[int]:
    """Ports that something holds, or of which nobody can say: an unknown port is not free."""
    return {port for port in ports if not isinstance(observed.listeners.get(port, Absent()), Absent)}
