"""Ask every port and put the answers into one ObservedState; nothing is changed by looking."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from reconciler.model.desired import AUTO_RANGE, Desired, ModelSpec, launch_reference
from reconciler.model.ledger import Ledger
from reconciler.model.names import port_range
from reconciler.model.observed import Health, ObservedState, ServerProcess, Standing
from reconciler.ports.errors import ObservationError
from reconciler.ports.host import Host


def observe(host: Host, desired: Desired, ledger: Ledger, backends: Iterable[str]) -> ObservedState:
    """One look at what the desired state names and at our own records; its cost depends on nothing else."""
    servers: Mapping[str, ServerProcess] = {}
    blind: str | None = None
    try:
        servers = host.processes.records(ledger.proofs)
    except ObservationError as error:
        blind = str(error)
    references = sorted(_references(desired.state.models.values()) | ledger.wishes.keys())
    return ObservedState(
        at=host.clock.now(),
        servers={label: _proved(server, ledger) for label, server in servers.items()},
        listeners=host.listeners.look(sorted(_ports(desired, servers.values(), ledger))),
        artifacts=host.artifacts.look(references),
        storage=host.artifacts.storage(references),
        gateways=host.gateways.look(),
        host=host.machine.look(sorted(backends)),
        blind=blind,
    )


def glance(host: Host, last: ObservedState, desired: Desired, ledger: Ledger, labels: Collection[str]) -> ObservedState:
    """One look at all servers and gateways, and at ports and weights where these are about some labels.

    Those are `labels`, and whoever is not what he was at the last look. Raises ObservationError.
    """
    found = host.processes.records(ledger.proofs)
    servers = {label: _proved(server, ledger) for label, server in found.items()}
    moved = {label for label in servers.keys() | last.servers.keys() if servers.get(label) != last.servers.get(label)}
    renewed = _renewed(host, last, desired, ledger, servers, {*labels, *moved})
    return replace(renewed, gateways=host.gateways.look())


def glimpse(
    host: Host, last: ObservedState, desired: Desired, ledger: Ledger, labels: Collection[str]
) -> ObservedState:
    """The last look, with what has become of some servers, of their ports and of their weights since.

    Raises ObservationError.
    """
    servers = dict(last.servers)
    for label in labels:
        found = host.processes.record(label, ledger.proofs.get(label))
        servers.pop(label, None)
        if found is not None:
            servers[label] = _proved(found, ledger)
    return _renewed(host, last, desired, ledger, servers, labels)


def _renewed(
    host: Host,
    last: ObservedState,
    desired: Desired,
    ledger: Ledger,
    servers: Mapping[str, ServerProcess],
    labels: Collection[str],
) -> ObservedState:
    """The last look with other servers, and with the ports and weights of some labels as they are now."""
    models = {label: desired.state.models[label] for label in labels if label in desired.state.models}
    ports = _fixed(models) | {ledger.leases[label] for label in labels if label in ledger.leases}
    ports |= {seen[label].port for seen in (servers, last.servers) for label in labels if label in seen}
    references = sorted(_references(models.values()))
    return replace(
        last,
        at=host.clock.now(),
        servers=servers,
        listeners={**last.listeners, **host.listeners.look(sorted(ports))} if ports else last.listeners,
        artifacts={**last.artifacts, **host.artifacts.look_again(references)} if references else last.artifacts,
    )


def _proved(server: ServerProcess, ledger: Ledger) -> ServerProcess:
    """With the proof that an earlier run has left about this very process; fresh evidence against it counts more."""
    proof = ledger.proofs.get(server.label)
    ours = server.standing is Standing.OURS and server.health is Health.STARTING
    if ours and proof is not None and proof.instance == server.instance:
        return replace(server, health=Health.SERVING, cause="", detail="", proved_at=proof.at)
    return server


def _fixed(models: Mapping[str, ModelSpec]) -> set[int]:
    return {spec.port for spec in models.values() if isinstance(spec.port, int)}


def _ports(desired: Desired, servers: Iterable[ServerProcess], ledger: Ledger) -> set[int]:
    """Declared and recorded ports, and the range that `port: auto` would choose from."""
    state = desired.state
    ports = _fixed(state.models) | {server.port for server in servers}
    autos = [label for label, spec in state.models.items() if spec.port == "auto"]
    ports |= {ledger.leases[label] for label in autos if label in ledger.leases}
    if any(label not in ledger.leases for label in autos) and AUTO_RANGE in state.ports:
        ports |= set(port_range(state.ports[AUTO_RANGE]))
    return ports


def _references(models: Iterable[ModelSpec]) -> set[str]:
    """Launch references of models and of their drafts."""
    sources = [source for spec in models for source in (spec.source, spec.draft) if source]
    return {str(launch_reference(source)) for source in sources}
