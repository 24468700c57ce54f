"""The server processes of one state directory: started, proved, ended, taken up again and forgotten."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final

from reconciler.model.hint import Hint
from reconciler.model.ledger import ServiceProof
from reconciler.model.observed import (
    RESTARTED_MACHINE,
    Absent,
    Health,
    Present,
    ServerProcess,
    Standing,
    Unknown,
)
from reconciler.model.target import LaunchOrder
from reconciler.ports.errors import ActionError, ObservationError
from reconciler.ports.host import Clock, Listeners

from .exits import Exits
from .process_table import boot_id, seen, unique
from .proof import REBOOTED, Proof, prove
from .records import SUFFIX, Lock, Record, Run

LOCK_SECONDS: Final = 1.0
"""How long a lock is asked for: an observer has it for a moment when it tests it."""
_LOCK_PAUSE: Final = 0.01
GRACE: Final = 20.0
"""Seconds between TERM and KILL: what launchd gives."""
_ARGUMENT_SHOWN: Final = 400
_SIGKILL: Final = 9
NO_PROOFS: Final[Mapping[str, ServiceProof]] = {}
_CANNOT_RUN: Final = frozenset({126, 127})
"""What a shell ends with whose program did not start."""


Judge = Callable[[ServerProcess, ServiceProof | None], ServerProcess]
Diagnose = Callable[[ServerProcess], ServerProcess]


def _unasked(process: ServerProcess, proof: ServiceProof | None) -> ServerProcess:
    return replace(process, asked_since=None)


class LocalProcesses:
    """Servers that hold their lock and outlive us; only one that is proved ours is ever signalled.

    `judge` adds to a proved process what asking it has shown, `diagnose` to a dead one what its log says; `retain`
    hears which labels have a live process; `grace` is the seconds between TERM and KILL. `at` is called at the named
    points of a launch, a stop and a forget between which a kill may come; tests end their process there.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        clock: Clock,
        listeners: Listeners,
        *,
        judge: Judge = _unasked,
        diagnose: Diagnose = lambda process: process,
        retain: Callable[[Collection[str]], None] = lambda labels: None,
        grace: float = GRACE,
        at: Callable[[str], None] = lambda point: None,
    ) -> None:
        self._root = os.path.abspath(root)
        self._clock = clock
        self._listeners = listeners
        self._judge = judge
        self._diagnose = diagnose
        self._retain = retain
        self._grace = grace
        self._at = at
        self._known_boot: str | None = None
        self._live: dict[int, str] = {}
        """Processes that were proved at the last look, with their labels."""
        self._exits = Exits()
        self._children: dict[int, str] = {}
        self._codes: dict[str, tuple[int, int]] = {}
        self._gone: dict[str, str] = {}
        """label -> token of a launch of which nobody is left."""
        self._read: dict[str, tuple[object, Record | None]] = {}
        """label -> stamp and content of its record at the last look."""

    @property
    def _boot(self) -> str | None:
        """Asked when the first record is there to be compared: on macOS it takes the start-up of ctypes."""
        self._known_boot = self._known_boot or boot_id()
        return self._known_boot

    # ------------------------------------------------------------------------------------------------- looking

    def records(self, proofs: Mapping[str, ServiceProof] = NO_PROOFS) -> Mapping[str, ServerProcess]:
        """label -> its record with a fresh proof; nothing is written. Raises ObservationError.

        Of our own children those that have ended are reaped, each by its pid, or they would stay as zombies.
        """
        folder = os.path.join(self._root, "run")
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            self._live = {}
            return {}
        except OSError as error:
            self._live = {}
            raise ObservationError(f"{folder}: {error.strerror}") from error
        labels = [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]
        self._reap()
        live: dict[int, str] = {}
        named = [label for label in labels if label and not label.startswith(".")]
        found = {label: self._server(label, proofs.get(label), live) for label in named}
        self._live = live
        self._read = {label: self._read[label] for label in found if label in self._read}
        self._retain([label for label, server in found.items() if server is not None and server.live])
        return {label: server for label, server in found.items() if server is not None}

    def record(self, label: str, proof: ServiceProof | None) -> ServerProcess | None:
        """What `records` would say of one label now; None where it has no record."""
        self._reap()
        return self._server(label, proof, {})

    def pids(self) -> tuple[int, ...]:
        """The processes that were proved at the last look or started since: to be looked at first for who listens."""
        return (*self._live, *(pid for pid in self._children if pid not in self._live))

    async def exited(self) -> Hint:
        """Once processes have ended that were proved at the last look: whose."""
        ended = await self._exits.next(self._live)
        labels = frozenset(self._live[pid] for pid in ended if pid in self._live)
        self._live = {pid: label for pid, label in self._live.items() if pid not in ended}
        return Hint(ended=labels)

    def close(self) -> None:
        """Wait for nobody's end any more."""
        self._exits.close()

    def _server(self, label: str, known: ServiceProof | None, live: dict[int, str]) -> ServerProcess | None:
        """What one record says; None where it was removed since the folder was listed."""
        run = Run(self._root, label)
        try:
            record = self._recorded(run)
            if record is None:
                return None
            proof = prove(run, record, self._boot)
        except OSError as error:
            return _unseen(label, f"it could not be looked at: {error.strerror or error}")
        live.update(dict.fromkeys(proof.members, label))
        server = record.server(proof.standing, proof.reason)
        if proof.standing is Standing.GONE:
            self._gone[label] = record.token
        else:
            self._gone.pop(label, None)
        match proof.standing, proof.leader:
            case Standing.GONE, _ if proof.reason == REBOOTED:
                return replace(server, cause=RESTARTED_MACHINE)
            case Standing.GONE, _:
                return self._ended(server)
            case Standing.OURS, None:
                # What is left of it can be stopped and does not serve.
                return replace(server, health=Health.ZOMBIE)
            case Standing.OURS, _:
                return self._judge(server, known)
            case Standing.ORPHAN, leader if leader is not None:
                return replace(server, pid=leader.pid)
            case _:
                return server

    def _recorded(self, run: Run) -> Record | None:
        """What a record says, read again when it is another file; who is to act on it reads it anew. Raises OSError."""
        stamp = run.stamp()
        known = self._read.get(run.label)
        if known is None or known[0] != stamp:
            known = self._read[run.label] = stamp, run.record()
        return known[1]

    def _ended(self, server: ServerProcess) -> ServerProcess:
        """A server that is gone, with how it ended as far as that is known, and what it said last."""
        from .server_log import tail

        pid, code = self._codes.get(server.label, (None, 0))
        known = pid is not None and pid == server.pid
        said = tail(server.log, server.log_start, 1)
        parts = (_spoken(code) if known else "", server.detail, *(f"its log ends with: {line}" for line in said))
        ended = replace(server, detail="; ".join(part for part in parts if part))
        if known and code == -_SIGKILL:
            # Whoever did that, such as the kernel for want of memory, left no word in the log.
            return replace(ended, cause="killed")
        return self._diagnose(ended)

    def _reap(self) -> None:
        for pid, label in list(self._children.items()):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                del self._children[pid]
                continue
            if ended:
                del self._children[pid]
                self._codes[label] = pid, os.waitstatus_to_exitcode(status)

    def _look(self, label: str) -> tuple[Run, Record, Proof]:
        """A fresh proof for a request. Raises ActionError."""
        self._reap()
        run = Run(self._root, label)
        try:
            record = run.record()
            if record is not None:
                return run, record, prove(run, record, self._boot)
        except OSError as error:
            raise ActionError("proof-failed", f"it could not be looked at: {error}") from error
        raise ActionError("proof-failed", "its record is gone")

    # ------------------------------------------------------------------------------------------------- launching

    async def launch(self, order: LaunchOrder) -> None:
        """Start one server; done when its record names the process. Raises ActionError."""
        from . import spawn

        run = Run(self._root, order.label)
        try:
            run.prepare()
            spawn.write_order_files(order.files)
            lock = await self._taken(run)
            try:
                self._start(run, order, lock)
            finally:
                os.close(lock)
        except OSError as error:
            raise ActionError("launch-failed", f"it could not be started: {error}") from error

    async def _taken(self, run: Run) -> int:
        """A descriptor that holds the lock. Raises ActionError after LOCK_SECONDS."""
        lock = run.take()
        if lock is None:
            import asyncio

            end = asyncio.get_running_loop().time() + LOCK_SECONDS
            while (lock := run.take()) is None:
                if asyncio.get_running_loop().time() >= end:
                    raise ActionError("already-running", "a server of this label still holds its lock")
                await asyncio.sleep(_LOCK_PAUSE)
        return lock

    def _start(self, run: Run, order: LaunchOrder, lock: int) -> None:
        """All between taking the lock and giving it away. Raises ActionError and OSError."""
        from . import spawn
        from .log_rotation import begin_anew
        from .records import open_high
        from .server_log import position

        token = os.urandom(16).hex()
        env = spawn.environment(os.environ, {**order.env, **spawn.provenance(order)}, token)
        argv = [spawn.executable(order.argv[0], env["PATH"]), *order.argv[1:]]
        self._check_vacant(run, order)
        begin_anew(run.log_path)
        log = open_high(run.log_path, os.O_WRONLY | os.O_APPEND)
        try:
            record = self._intent(run, order, token, position(run.log_path, os.fstat(log).st_size))
            self._at("before-record")
            run.write(record)
            self._at("after-record")
            try:
                pid = spawn.spawn(argv, env, lock=lock, log=log, pid_path=run.pid_path)
            except OSError:
                run.remove()
                raise
        finally:
            os.close(log)
        self._at("after-spawn")
        self._children[pid] = order.label
        # Our child keeps its pid until we reap it, so this is it, even when it has ended already.
        found = seen(pid)
        if found is not None:
            run.write(record.completed(pid, found.started, unique(pid)))
        self._at("after-complete")

    def _check_vacant(self, run: Run, order: LaunchOrder) -> None:
        """Nobody of an earlier launch is left, and nobody listens, as of just before the start (P02)."""
        earlier = run.record()
        # Who is gone with all that he has started does not come back.
        if earlier is not None and self._gone.get(order.label) != earlier.token:
            # We hold the lock: what lives of the earlier launch has given it up, or never had it.
            proof = prove(run, earlier, self._boot, Lock.FREE)
            if proof.standing is not Standing.GONE:
                raise ActionError("already-running", proof.reason)
        match self._listeners.look([order.port])[order.port]:
            case Present(value=listener):
                who = f"pid {listener.pid}" if listener.pid is not None else "a process that this user cannot see"
                raise ActionError("port-occupied", f"port {order.port} was taken meanwhile, by {who}")
            case Unknown(reason=reason):
                raise ActionError("port-unknown", f"whether port {order.port} is free could not be seen: {reason}")
            case Absent():
                pass

    def _intent(self, run: Run, order: LaunchOrder, token: str, log_start: int) -> Record:
        """What is written down before a start. Raises ActionError where no proof would be possible afterwards."""
        if self._boot is None:
            raise ActionError("boot-unknown", "what distinguishes this boot from others cannot be read")
        return Record(
            label=order.label,
            port=order.port,
            host=order.host,
            token=token,
            boot_id=self._boot,
            spec_hash=order.spec_hash,
            fields=order.fields,
            artifact=order.artifact,
            served_name=order.served_name,
            memory=order.memory,
            since=self._clock.now(),
            log=run.log_path,
            log_start=log_start,
            argv=tuple(map(_cut, order.argv)),
            revision=order.revision,
            generation=order.generation,
        )

    # ------------------------------------------------------------------------------------ ending, taking up, forgetting

    async def stop(self, process: ServerProcess) -> None:
        """Prove it ours, end it and wait until its port is free and its record gone. Raises ActionError.

        One that has ended by itself since it was looked at is stopped, if its record still says the same.
        """
        from .stopping import Stopping

        def look() -> tuple[Record, Proof]:
            return self._look(process.label)[1:]

        try:
            await Stopping(process, look, self._listeners, self._at).run(self._grace)
        except OSError as error:
            raise ActionError("stop-failed", f"it could not be ended: {error}") from error
        await self._remove(process)

    async def adopt(self, process: ServerProcess) -> None:
        """Complete the unfinished record of an orphan; one that is complete already is left. Raises ActionError."""
        run, record, proof = self._look(process.label)
        leader = proof.leader
        if leader is None or process.pid not in {None, leader.pid}:
            raise ActionError("proof-failed", proof.reason or "it is not the orphan that it was")
        if proof.standing is Standing.ORPHAN:
            try:
                run.write(record.completed(leader.pid, leader.started, unique(leader.pid)))
            except OSError as error:
                raise ActionError("record-not-written", f"its record could not be completed: {error}") from error

    async def forget(self, process: ServerProcess) -> None:
        """Remove the record of a process that is gone. Raises ActionError."""
        await self._remove(process)

    async def _remove(self, process: ServerProcess) -> None:
        """Remove the record that was looked at, if its process is gone now."""
        run, record, proof = self._look(process.label)
        if proof.standing is not Standing.GONE or (record.pid, record.started) != (process.pid, process.started):
            raise ActionError("proof-failed", proof.reason or "it is not the dead record that it was")
        try:
            # Nobody may start a server on this record while it is being removed; a record of before the last
            # boot names no lock of this one.
            lock = await self._taken(run) if run.lock() is Lock.FREE else None
            try:
                self._at("before-forget")
                current = run.record()
                if current is not None and current.token == record.token:
                    run.remove()
            finally:
                if lock is not None:
                    os.close(lock)
        except OSError as error:
            raise ActionError("record-not-removed", f"its record could not be removed: {error}") from error
        self._codes.pop(record.label, None)
        self._gone.pop(record.label, None)


def _unseen(label: str, why: str) -> ServerProcess:
    return ServerProcess(label=label, port=0, standing=Standing.UNKNOWN, fields={}, detail=why)


def _cut(argument: str) -> str:
    """An argument as a record shows it: a template is one, of up to 128 KiB."""
    if len(argument) <= _ARGUMENT_SHOWN:
        return argument
    return f"{argument[:_ARGUMENT_SHOWN]}... ({len(argument)} characters)"


def _spoken(code: int) -> str:
    if code < 0:
        return f"ended by signal {-code}"
    return "its program could not be started" if code in _CANNOT_RUN else f"ended with exit code {code}"
