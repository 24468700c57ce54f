"""What is true about the machine, apart from what an observation says: processes, records, ports, gateways."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf

from reconciler.model.ledger import EMPTY, Ledger
from reconciler.model.observed import (
    Absent,
    Artifact,
    GatewayState,
    Health,
    Listener,
    Observation,
    Present,
    ServerProcess,
    Standing,
    Unknown,
)
from reconciler.model.routes import Route
from reconciler.model.target import LaunchOrder

from .store import Store


@dataclass(kw_only=True)
class Server:
    """A process that serves, or tries to."""

    pid: int
    since: float
    ready_at: float
    """When it answers its first completion; infinite: never."""
    dies_at: float = inf
    wedged_at: float = inf
    """From when on it is alive and cannot generate."""
    stopped: bool = False
    """Whether it ended because it was told to."""

    def alive(self, now: float) -> bool:
        return now < self.dies_at

    def health(self, now: float) -> Health:
        if now >= self.wedged_at:
            return Health.ZOMBIE
        return Health.SERVING if now >= self.ready_at else Health.STARTING

    def moments(self) -> Iterator[float]:
        yield from (self.ready_at, self.dies_at, self.wedged_at)


@dataclass(kw_only=True)
class Record:
    """A run record with its lock: what the state directory says about one label."""

    process: ServerProcess
    """What was ordered; standing, health and pid are judged afresh at every look."""
    server: Server | None = None
    """None: the record was written and nothing was started yet."""
    complete: bool = True
    """False: written before the start and not finished, so that a live process is an orphan."""
    doubt: str = ""
    """Why the proof contradicts itself; the process may be anybody's."""

    def standing(self, now: float, locked: bool = False) -> Standing:
        """`locked`: a launch is under way and holds the lock although no process has it yet."""
        if self.doubt:
            return Standing.UNKNOWN
        if self.server is None or not self.server.alive(now):
            return Standing.UNKNOWN if locked else Standing.GONE
        return Standing.OURS if self.complete else Standing.ORPHAN

    def live(self, now: float) -> bool:
        """Whether its process holds its port and memory."""
        return self.server is not None and self.server.alive(now)

    def look(self, now: float, locked: bool) -> ServerProcess:
        """What an observation says about it."""
        standing = self.standing(now, locked)
        server = self.server
        return replace(
            self.process,
            standing=standing,
            health=server.health(now) if server is not None else Health.STARTING,
            pid=server.pid if server is not None else None,
            started=server.pid * 100 if server is not None and self.complete else None,
            since=server.since if server is not None else self.process.since,
            detail=self.doubt,
        )


def ordered(order: LaunchOrder, now: float) -> ServerProcess:
    """What the record of a launch says."""
    return ServerProcess(
        label=order.label,
        port=order.port,
        standing=Standing.OURS,
        since=now,
        spec_hash=order.spec_hash,
        fields=order.fields,
        artifact=order.artifact,
        served_name=order.served_name,
        host=order.host,
        memory=order.memory,
        revision=order.revision,
        generation=order.generation,
    )


@dataclass(frozen=True, kw_only=True)
class Binding:
    """A label that a gateway sends to a port."""

    label: str
    port: int


def bindings(routes: tuple[Route, ...]) -> set[Binding]:
    """Where `routes` lead."""
    return {Binding(label=r.label, port=r.upstream.port) for r in routes if r.upstream is not None}


@dataclass(kw_only=True)
class Gateway:
    """A gateway's file, and what the running gateway still does of an older one."""

    routes: tuple[Route, ...] | None = None
    """None: there is no file."""
    drain: float = 0.0
    """How long a withdrawn route may still be used."""
    draining: dict[Binding, float] = field(default_factory=dict)
    """Withdrawn route -> until when it may be used."""
    tells: bool = True
    """Whether it says when the last withdrawn route is drained."""
    unreadable: str = ""

    def lingering(self, now: float) -> set[Binding]:
        return {binding for binding, until in self.draining.items() if now < until}

    def dispatches(self, now: float) -> set[Binding]:
        """Every way that a request may take."""
        return bindings(self.routes or ()) | self.lingering(now)

    def write(self, routes: tuple[Route, ...], now: float) -> None:
        gone = bindings(self.routes or ()) - bindings(routes)
        self.routes = routes
        self.draining |= dict.fromkeys(gone, now + self.drain)

    def look(self, now: float) -> Observation[GatewayState]:
        if self.unreadable:
            return Unknown(reason=self.unreadable)
        if self.routes is None:
            return Absent()
        lingering = self.lingering(now)
        known = self.tells and bool(lingering)
        return Present(
            value=GatewayState(
                routes=self.routes,
                may_dispatch=frozenset(binding.port for binding in self.dispatches(now)),
                drained_at=max(self.draining[binding] for binding in lingering) if known else None,
            )
        )


@dataclass(kw_only=True)
class Truth:
    """Everything that a world starts with."""

    records: dict[str, Record] = field(default_factory=dict)
    foreign: dict[int, Listener] = field(default_factory=dict)
    """Port -> a process that is not ours and listens on it."""
    unseen: set[int] = field(default_factory=set)
    """Ports of which the machine does not say whether they are free."""
    artifacts: dict[str, Observation[Artifact]] = field(default_factory=dict)
    store: Store = field(default_factory=Store)
    offline: bool = True
    """Whether nobody may ask the hub."""
    gateways: dict[str, Gateway] = field(default_factory=dict)
    memory_total: Observation[int] = field(default_factory=lambda: Present(value=2**40))
    platform: str = "darwin"
    blind: str = ""
    """Why run records cannot be listed."""
    ledger: Ledger = EMPTY
    contents: dict[str, bytes] = field(default_factory=dict)
    """Digest -> what the state directory keeps under it."""

    def copy(self) -> "Truth":
        """An equal truth that shares nothing that can change."""
        return replace(
            self,
            records={
                label: replace(r, server=replace(r.server) if r.server is not None else None)
                for label, r in self.records.items()
            },
            foreign=dict(self.foreign),
            unseen=set(self.unseen),
            artifacts=dict(self.artifacts),
            store=self.store.copy(),
            gateways={k: replace(g, draining=dict(g.draining)) for k, g in self.gateways.items()},
            contents=dict(self.contents),
        )
