"""Ask every port once and put the answers into one ObservedState; nothing is changed by looking."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.model.desired import AUTO_RANGE, Desired, ModelSpec, launch_reference
from reconciler.model.host import HostFile
from reconciler.model.ledger import Ledger
from reconciler.model.names import port_range
from reconciler.model.observed import Health, ObservedState, ServerProcess, Standing
from reconciler.model.plan import Blocked, InFlight
from reconciler.model.view import Facts
from reconciler.ports.errors import ObservationError
from reconciler.ports.host import Host


def survey(
    host: Host,
    desired: Desired,
    host_file: HostFile,
    ledger: Ledger,
    backends: Iterable[str],
    in_flight: tuple[InFlight, ...] = (),
    source: Blocked | None = None,
) -> Facts:
    """Everything that one decision rests on, as of now."""
    return Facts(
        desired=desired,
        observed=observe(host, desired, ledger, backends),
        ledger=ledger,
        host=host_file,
        now=host.clock.now(),
        in_flight=in_flight,
        source=source,
    )


def glance(host: Host, last: Facts, ledger: Ledger, labels: Iterable[str], in_flight: tuple[InFlight, ...]) -> Facts:
    """The facts of the last look, with what has become of some servers, of their ports and of their weights since.

    Raises ObservationError.
    """
    servers, models = dict(last.observed.servers), last.desired.state.models
    ports = {servers[label].port for label in labels if label in servers}
    for label in labels:
        found = host.processes.record(label, ledger.proofs.get(label))
        servers.pop(label, None)
        if found is not None:
            servers[label] = _proved(found, ledger)
            ports.add(found.port)
    now = host.clock.now()
    listeners = {**last.observed.listeners, **host.listeners.look(sorted(ports))}
    references = sorted(_references(models[label] for label in labels if label in models))
    artifacts = {**last.observed.artifacts, **host.artifacts.look(references)}
    observed = replace(last.observed, at=now, servers=servers, listeners=listeners, artifacts=artifacts)
    return replace(last, observed=observed, ledger=ledger, now=now, in_flight=in_flight)


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
        listeners=host.listeners.look(sorted(_ports(desired, servers, ledger))),
        artifacts=host.artifacts.look(references),
        storage=host.artifacts.storage(references),
        gateways=host.gateways.look(),
        host=host.machine.look(sorted(backends)),
        blind=blind,
    )


def _proved(server: ServerProcess, ledger: Ledger) -> ServerProcess:
    """With the proof that an earlier run has left about this very process; fresh evidence against it counts more."""
    proof = ledger.proofs.get(server.label)
    ours = server.standing is Standing.OURS and server.health is Health.STARTING
    if ours and proof is not None and proof.instance == server.instance:
        return replace(server, health=Health.SERVING, cause="", detail="", proved_at=proof.at)
    return server


def _ports(desired: Desired, servers: Mapping[str, ServerProcess], ledger: Ledger) -> set[int]:
    """Declared and recorded ports, and the range that `port: auto` would choose from."""
    state = desired.state
    ports = {spec.port for spec in state.models.values() if isinstance(spec.port, int)}
    ports |= {server.port for server in servers.values()}
    autos = [label for label, spec in state.models.items() if spec.port == "auto"]
    ports |= {ledger.leases[label] for label in autos if label in ledger.leases}
    if any(label not in ledger.leases for label in autos) and AUTO_RANGE in state.ports:
        ports |= set(port_range(state.ports[AUTO_RANGE]))
    return ports


def _references(models: Iterable[ModelSpec]) -> set[str]:
    """Launch references of models and of their drafts."""
    sources = [source for spec in models for source in (spec.source, spec.draft) if source]
    return {str(launch_reference(source)) for source in sources}
