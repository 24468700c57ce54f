"""The machine as this project sees it: reads are synchronous and change nothing, requests are awaited."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from reconciler.model.bundle import Bundle
from reconciler.model.event import Event
from reconciler.model.hint import Hint
from reconciler.model.ledger import Ledger, ServiceProof
from reconciler.model.names import Subject
from reconciler.model.observed import (
    Artifact,
    GatewayState,
    HostFacts,
    Listener,
    Observation,
    ServerProcess,
    Storage,
)
from reconciler.model.routes import Route
from reconciler.model.source import Doubt, Position
from reconciler.model.supply import ConvertOrder, FetchOrder, Holding, MoveOrder, Progress, SourceCheck, VerifyOrder
from reconciler.model.target import LaunchOrder, PreflightOrder

NO_CONTENTS: Mapping[str, bytes] = {}


class Clock(Protocol):
    """The only source of time and chance."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def jitter(self) -> float:
        """A fresh number in [0, 1), for backoff."""
        ...


class Changes(Protocol):
    """Hints that the world may have moved; what moved is found by looking."""

    async def next(self) -> Hint:
        """Return as soon as something may have changed since the last return, with what may have."""
        ...


class Source(Protocol):
    """Where the desired state comes from: the commits of a repository, or a saved file."""

    def position(self) -> Position:
        """Where it is now; cheap, as it is asked at every tick. Raises ReconcilerError when that cannot be seen."""
        ...

    def read(self, revision: str) -> Bundle:
        """All of one revision. Raises ReconcilerError when it cannot be read whole, or is gone by now."""
        ...

    def doubt(self, old: str, new: str) -> Doubt | None:
        """What history and signatures have against going from one revision to another; None: nothing.

        `old` is empty where nothing was in force before. Raises ReconcilerError when that cannot be found out.
        """
        ...

    def behind(self, revision: str) -> int | None:
        """How many newer commits touch what is declared; None where that cannot be said."""
        ...


class Processes(Protocol):
    """The server processes of one state directory."""

    def records(self, proofs: Mapping[str, ServiceProof]) -> Mapping[str, ServerProcess]:
        """label -> its run record with a fresh proof that it is ours. Raises ObservationError when none can be listed.

        `proofs` says who has answered before, so that nobody is asked again too soon.
        """
        ...

    def record(self, label: str, proof: ServiceProof | None) -> ServerProcess | None:
        """What `records` would say of one label now; None where it has no record. Raises ObservationError."""
        ...

    async def launch(self, order: LaunchOrder) -> None:
        """Start one server; done when its record names the process. Raises ActionError."""
        ...

    async def stop(self, process: ServerProcess) -> None:
        """Prove it ours, end it and wait until its port is free and its record gone. Raises ActionError."""
        ...

    async def adopt(self, process: ServerProcess) -> None:
        """Complete the unfinished record of an orphan. Raises ActionError."""
        ...

    async def forget(self, process: ServerProcess) -> None:
        """Remove the record of a process that is gone. Raises ActionError."""
        ...


class Listeners(Protocol):
    """Who accepts connections on this machine."""

    def look(self, ports: Iterable[int]) -> Mapping[int, Observation[Listener]]:
        """One answer per asked port, for every local address."""
        ...


class Artifacts(Protocol):
    """The weights that are on this machine."""

    def look(self, references: Iterable[str]) -> Mapping[str, Observation[Artifact]]:
        """One answer per asked launch reference; nothing else of the cache is read."""
        ...

    def look_again(self, references: Iterable[str]) -> Mapping[str, Observation[Artifact]]:
        """As `look`, for some of what that was asked; it makes the next one no slower."""
        ...

    def storage(self, references: Iterable[str]) -> Storage:
        """What was converted from or moved away of these references, and what room there is."""
        ...

    def inventory(self) -> tuple[Holding, ...]:
        """Everything that is there, declared or not; its cost grows with all of it. Raises ObservationError."""
        ...


class Supply(Protocol):
    """Whatever brings weights to where servers load them, or takes them away. Every request raises ActionError."""

    async def check(self, references: Sequence[str]) -> Mapping[str, SourceCheck]:
        """What the hub says about each; one that cannot be had is an answer and no error."""
        ...

    async def fetch(self, order: FetchOrder) -> None:
        """Download what is missing, and compare all of it with its digests; done when it is sound."""
        ...

    async def verify(self, order: VerifyOrder) -> None:
        """Compare what is there with its digests and measure it; what was found is seen by looking."""
        ...

    async def convert(self, order: ConvertOrder) -> None:
        """Run the converter; its result appears whole or not at all."""
        ...

    async def offload(self, order: MoveOrder) -> None:
        """Move a repository to cold storage; at every instant one complete copy of it exists."""
        ...

    async def restore(self, order: MoveOrder) -> None:
        """Bring it back, verified."""
        ...

    def progress(self, subject: Subject) -> Progress | None:
        """How far the request about this subject is; None where none is under way or nothing is known yet."""
        ...


class Gateways(Protocol):
    """The files of the gateways that the host file names."""

    def look(self) -> Mapping[str, Observation[GatewayState]]:
        """kind -> our routes in its file; a kind that the host file does not name is not in the answer."""
        ...

    async def publish(self, kind: str, routes: tuple[Route, ...]) -> None:
        """Replace our routes atomically, everything else kept. Raises ActionError."""
        ...


class Machine(Protocol):
    """Memory, platform and runtimes."""

    def look(self, backends: Iterable[str]) -> HostFacts:
        """The facts that planning needs, with the command of each asked backend."""
        ...

    async def preflight(self, order: PreflightOrder) -> None:
        """Find out what stands against a launch, without starting a server. Raises ActionError with what does."""
        ...


class StateStore(Protocol):
    """What is remembered between runs."""

    def ledger(self) -> Ledger:
        """The last saved ledger; an empty one where there is none."""
        ...

    def save(
        self, ledger: Ledger, events: Sequence[Event] = (), contents: Mapping[str, bytes] = NO_CONTENTS
    ) -> tuple[Event, ...]:
        """Durable when it returns, all or nothing. The store numbers the events.

        What comes back are events of its own, stored with the others: what has happened to it since the last save.
        `contents` are kept by their digest for as long as a generation, a pin or the source of the ledger names them.
        """
        ...

    def rest(self) -> None:
        """Nothing more is to be saved for now: leave everything in an order that a stranger's hand spoils least."""
        ...

    def content(self, digest: str) -> bytes | None:
        """What was kept under a digest; None where it is not there, or is not what the digest says."""
        ...

    def events(self, after: int = 0, last: int = 10_000) -> tuple[Event, ...]:
        """The last so many events after the one of this number, oldest first; 10,000 are kept."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The ports of one machine, as handed to `observing`, `engine` and the verbs."""

    clock: Clock
    changes: Changes
    processes: Processes
    listeners: Listeners
    artifacts: Artifacts
    supply: Supply
    gateways: Gateways
    machine: Machine
    state: StateStore
