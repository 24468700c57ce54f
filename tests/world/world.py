"""One in-memory host behind all ports: it keeps the truth, answers questions and carries out requests."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import cycle

from reconciler.model.event import Event as Happened
from reconciler.model.hint import Hint
from reconciler.model.host import HostFile
from reconciler.model.ledger import Ledger, ServiceProof
from reconciler.model.names import Subject, gateway_subject, server_subject
from reconciler.model.observed import (
    Absent,
    GatewayState,
    Listener,
    Observation,
    Present,
    ServerProcess,
    Standing,
    Unknown,
)
from reconciler.model.routes import Route
from reconciler.model.target import LaunchOrder
from reconciler.model.units import seconds
from reconciler.ports.errors import ActionError, ObservationError
from reconciler.ports.host import NO_CONTENTS, Host

from . import rules
from .machine import Machine
from .script import Event, Fault, Script, happen
from .supply import Artifacts, Supply
from .truth import Binding, Record, Server, Truth, ordered
from .virtual_time import VirtualTime

_LONG = frozenset({"ensure", "convert", "offload", "restore"})
"""What may take days while it moves."""
_STALLED = 300.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that was put to the world, as it was begun."""

    at: float
    kind: str
    subject: Subject


class World:
    """A machine. Its ports are objects of this module; `host()` hands them out together."""

    def __init__(self, truth: Truth, host_file: HostFile, script: Script, time: VirtualTime | None = None) -> None:
        self.truth = truth.copy()
        self.host_file = host_file
        self.script = script
        self.time = time if time is not None else VirtualTime()
        self.requests: list[Request] = []
        self.writes = 0
        """Requests and saved ledgers: everything that leaves a trace."""
        self.violations: list[str] = []
        self.launching: dict[str, LaunchOrder] = {}
        self.stopping: set[str] = set()
        self.converting: dict[str, int] = {}
        """Launch reference -> bytes that its conversion takes while it is made."""
        self.stopped: set[Binding] = set()
        """Where servers were that ended because they were told to, and did not come back."""
        self.starts: dict[tuple[str, str], list[float]] = {}
        """(label, spec hash) -> when it was started."""
        self.passed: set[str] = set()
        """Label and key of everything that has passed a preflight."""
        self.written: list[tuple[str, tuple[Route, ...]]] = []
        """Every state that a gateway's file has had, after the first."""
        self.history: list[Happened] = []
        """What engines have told, in order."""
        self.start_timeout = seconds(host_file.start_timeout)
        self._durations = cycle(script.durations)
        self._ready_after = cycle(script.starts)
        self._faults: Iterator[Fault | None] = iter(script.faults)
        self._events: list[Event] = sorted(script.events, key=lambda event: event.after)
        self._began = self.time.now
        self._pids = 9000
        self._jitters = cycle(script.jitters)
        self._told = self.time.now
        self.edits: list[float] = []
        """When a person changes the desired state."""

    @property
    def now(self) -> float:
        return self.time.now

    @property
    def ledger(self) -> Ledger:
        return self.truth.ledger

    def host(self) -> Host:
        """The machine as the project sees it."""
        return Host(
            clock=_Clock(self),
            changes=_Changes(self),
            processes=_Processes(self),
            listeners=_Listeners(self),
            artifacts=Artifacts(self),
            supply=Supply(self),
            gateways=_Gateways(self),
            machine=Machine(self),
            state=_State(self),
        )

    def require(self, holds: bool, rule: str, message: str) -> None:
        """Record that a rule was broken, and end whatever broke it."""
        if not holds:
            self.violations.append(f"{rule} at {self.now - self._began:g} s: {message}")
            raise rules.Violated(self.violations[-1])

    def verify(self) -> None:
        """Nobody looks past a violation: every run ends here."""
        assert not self.violations, "; ".join(self.violations)

    def catch_up(self) -> None:
        """Let everything happen that was due."""
        while self._events and self._began + self._events[0].after <= self.now:
            happen(self.truth, self._events.pop(0), self.now)

    @property
    def quiet_at(self) -> float:
        """When the last event of the script has happened."""
        return max((self._began + event.after for event in self.script.events), default=self._began)

    def next_moment(self, after: float) -> float | None:
        """When something happens by itself for the first time after `after`."""
        moments = [self._began + event.after for event in self._events] + self.edits
        for record in self.truth.records.values():
            moments += record.server.moments() if record.server is not None else ()
        for gateway in self.truth.gateways.values():
            moments += gateway.draining.values()
        return min((m for m in moments if after < m < float("inf")), default=None)

    # ------------------------------------------------------------------------------------------------- how requests go

    @asynccontextmanager
    async def request(self, kind: str, subject: Subject) -> AsyncIterator["_Work"]:
        """One request with its fault: nothing before `start`, and the answer goes wrong at the end if it must."""
        self.writes += 1
        self.requests.append(Request(at=self.now, kind=kind, subject=subject))
        work = _Work(self, next(self._faults, None), notices=kind in _LONG)
        yield work
        await work.answer()

    async def pause(self) -> None:
        """A part of a request takes its time."""
        await asyncio.sleep(next(self._durations))
        self.catch_up()

    def start(self, order: LaunchOrder) -> Server:
        """A new process for `order`."""
        self._pids += 1
        self.starts.setdefault((order.label, order.spec_hash), []).append(self.now)
        self.stopped.discard(Binding(label=order.label, port=order.port))
        weights = f"{order.label} {order.fields.get('source', '')}"
        dud = self.script.duds.get(order.label, self.script.duds.get(weights))
        ready = next(self._ready_after)
        return Server(
            pid=self._pids,
            since=self.now,
            ready_at=self.now + ready if dud is None else float("inf"),
            dies_at=self.now + dud if dud is not None else float("inf"),
        )

    def jitter(self) -> float:
        return next(self._jitters)


class _Work:
    """A request under way."""

    def __init__(self, world: World, fault: Fault | None, notices: bool) -> None:
        self._world = world
        self._fault = fault
        self._notices = notices
        """Whether a standstill is noticed long before the deadline of the action."""

    async def _stands_still(self) -> None:
        await (asyncio.sleep(_STALLED) if self._notices else asyncio.Event().wait())
        raise ActionError("stalled", "nothing has moved for five minutes")

    async def start(self) -> None:
        """Until the first effect."""
        await self._world.pause()
        if self._fault is Fault.FAIL:
            raise ActionError("refused", "the machine refused")
        if self._fault is Fault.HANG:
            await self._stands_still()

    async def half(self) -> None:
        """Between two effects."""
        if self._fault is Fault.HALF:
            raise ActionError("interrupted", "the machine gave up half-way")
        await self._world.pause()

    async def answer(self) -> None:
        """After the last effect."""
        if self._fault is Fault.LOST:
            raise ActionError("answer-lost", "the answer was lost")
        if self._fault is Fault.MUTE:
            await self._stands_still()
        await self._world.pause()


class _Port:
    def __init__(self, world: World) -> None:
        self._world = world


class _Clock(_Port):
    def now(self) -> float:
        return self._world.now

    def jitter(self) -> float:
        return self._world.jitter()


class _Changes(_Port):
    """A hint for everything that happens by itself, late by at most one look."""

    async def next(self) -> Hint:
        world = self._world
        while True:
            moment = world.next_moment(world._told) if world.script.hints else None
            if moment is None:
                await asyncio.Event().wait()
            elif moment <= world.now:
                world.catch_up()
                ended = frozenset(label for label, record in world.truth.records.items() if self._fell(record))
                world._told = world.now
                return Hint(ended=ended, heard=not ended)
            else:
                await asyncio.sleep(moment - world.now)

    def _fell(self, record: Record) -> bool:
        return record.server is not None and self._world._told < record.server.dies_at <= self._world.now


class _Processes(_Port):
    def records(self, proofs: Mapping[str, ServiceProof]) -> Mapping[str, ServerProcess]:
        world = self._world
        world.catch_up()
        if world.truth.blind:
            raise ObservationError(world.truth.blind)
        return {
            label: record.look(world.now, label in world.launching and not record.complete)
            for label, record in world.truth.records.items()
        }

    def record(self, label: str, proof: ServiceProof | None) -> ServerProcess | None:
        return self.records({}).get(label)

    @contextmanager
    def _launching(self, order: LaunchOrder) -> Iterator[None]:
        self._world.launching[order.label] = order
        try:
            yield
        finally:
            del self._world.launching[order.label]

    async def launch(self, order: LaunchOrder) -> None:
        world = self._world
        rules.before_launch(world, order)
        unseen = frozenset(kind for kind, gateway in world.truth.gateways.items() if gateway.unreadable)
        records = world.truth.records
        async with world.request("launch", server_subject(order.label)) as work:
            with self._launching(order):
                await work.start()
                record = Record(process=ordered(order, world.now), complete=False)
                records[order.label] = record
                await world.pause()
                if order.port in world.truth.foreign:
                    del records[order.label]
                    raise ActionError("port-occupied", f"somebody took port {order.port} meanwhile")
                rules.at_spawn(world, order, unseen)
                record.server = world.start(order)
                await work.half()
                record.complete = True

    async def stop(self, process: ServerProcess) -> None:
        world = self._world
        rules.before_stop(world, process)
        records = world.truth.records
        async with world.request("stop", server_subject(process.label)) as work:
            world.stopping.add(process.label)
            try:
                await work.start()
                record = records[process.label]
                if record.standing(world.now) not in (Standing.OURS, Standing.GONE):
                    raise ActionError("not-proved", "it cannot be proved ours any more")
                if record.server is not None and record.live(world.now):
                    rules.at_kill(world, process)
                    record.server.dies_at, record.server.stopped = world.now, True
                    world.stopped.add(Binding(label=process.label, port=process.port))
                await work.half()
                records.pop(process.label)
            finally:
                world.stopping.discard(process.label)

    async def adopt(self, process: ServerProcess) -> None:
        world = self._world
        rules.before_adopt(world, process)
        async with world.request("adopt", server_subject(process.label)) as work:
            await work.start()
            record = world.truth.records[process.label]
            if record.standing(world.now) is not Standing.ORPHAN:
                raise ActionError("not-proved", "it is no orphan any more")
            record.complete = True

    async def forget(self, process: ServerProcess) -> None:
        world = self._world
        rules.before_forget(world, process)
        async with world.request("forget", server_subject(process.label)) as work:
            await work.start()
            if world.truth.records[process.label].standing(world.now) is not Standing.GONE:
                raise ActionError("not-proved", "it is not gone")
            del world.truth.records[process.label]


class _Listeners(_Port):
    def look(self, ports: Iterable[int]) -> Mapping[int, Observation[Listener]]:
        self._world.catch_up()
        return {port: self._look(port) for port in ports}

    def _look(self, port: int) -> Observation[Listener]:
        world = self._world
        if port in world.truth.unseen:
            return Unknown(reason="permission denied")
        if port in world.truth.foreign:
            return Present(value=world.truth.foreign[port])
        for record in world.truth.records.values():
            if record.server is not None and record.live(world.now) and record.process.port == port:
                return Present(value=Listener(port=port, pid=record.server.pid))
        return Absent()


class _Gateways(_Port):
    def look(self) -> Mapping[str, Observation[GatewayState]]:
        self._world.catch_up()
        return {kind: gateway.look(self._world.now) for kind, gateway in self._world.truth.gateways.items()}

    async def publish(self, kind: str, routes: tuple[Route, ...]) -> None:
        world = self._world
        rules.before_publish(world, kind, routes)
        gateway = world.truth.gateways[kind]
        async with world.request("publish", gateway_subject(kind)) as work:
            await work.start()
            if gateway.unreadable:
                raise ActionError("gateway-unreadable", gateway.unreadable)
            rules.at_publish(world, kind, routes)
            gateway.write(routes, world.now)
            world.written.append((kind, routes))
            await work.half()


class _State(_Port):
    def ledger(self) -> Ledger:
        return self._world.truth.ledger

    def save(
        self, ledger: Ledger, events: Sequence[Happened] = (), contents: Mapping[str, bytes] = NO_CONTENTS
    ) -> tuple[Happened, ...]:
        world, truth = self._world, self._world.truth
        wanted, before = rules.contents_of(ledger), rules.contents_of(truth.ledger)
        kept = {name: found for name, found in {**truth.contents, **contents}.items() if name in wanted}
        rules.at_save(world, (wanted - before) - kept.keys())
        world.writes += 1
        truth.ledger, truth.contents = ledger, kept
        for number, event in enumerate(events, len(world.history) + 1):
            world.history.append(replace(event, number=number))
        return ()

    def rest(self) -> None:
        pass

    def content(self, digest: str) -> bytes | None:
        found = self._world.truth.contents.get(digest)
        return found if found is not None and sha256(found).hexdigest() == digest else None

    def events(self, after: int = 0, last: int = 10_000) -> tuple[Happened, ...]:
        return tuple(self._world.history[after:][-last:])
