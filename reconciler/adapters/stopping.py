"""Ends one server that is proved ours: TERM to its group, grace, KILL, until its lock and its port are free."""

import errno
import os
import select
import sys
from collections.abc import Callable, Iterable
from typing import Final

from reconciler.model.observed import Absent, Present, ServerProcess, Standing
from reconciler.ports.errors import ActionError
from reconciler.ports.host import Listeners

from .process_table import token
from .proof import Proof
from .records import Record

KILL_SECONDS: Final = 10.0
PORT_SECONDS: Final = 2.0
"""How long the port of a server that is gone is waited for; whoever has it then is a stranger."""
_ROUNDS: Final = 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1
_FREE_PAUSE: Final = 0.005
_FREE_READINGS: Final = 2
"""A lock is free when it was so twice: a child between its spawn and its program has all descriptors for a moment."""
_TRIES: Final = 5
_GROUP: Final = 4
"""PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9."""

Look = Callable[[], tuple[Record, Proof]]
"""A fresh proof; raises ActionError where the record is no longer there, OSError where it cannot be looked at."""


class Stopping:
    """The stop of one server."""

    def __init__(self, process: ServerProcess, look: Look, listeners: Listeners, at: Callable[[str], None]) -> None:
        self._process = process
        self._look = look
        self._listeners = listeners
        self._at = at

    async def run(self, grace: float) -> None:
        """Done when nothing of the server is left. Raises ActionError; the record is not touched."""
        import signal

        self._at("before-term")
        # CONT, because a process that was stopped takes TERM only once it goes on.
        self._signal(self._certain(), signal.SIGTERM, signal.SIGCONT)
        self._at("after-term")
        if await self._ended(grace):
            return
        # Again and again: whom the leader leaves behind is seen, and proved, once the leader has ended.
        for _ in range(_ROUNDS):
            proof = self._proof()
            self._signal(proof, signal.SIGKILL)
            if await self._ended(KILL_SECONDS / _ROUNDS):
                return
            if proof.standing is Standing.GONE:
                break  # only its port is left, and has been waited for
        proof = self._proof()
        if proof.standing is Standing.UNKNOWN:
            raise ActionError("proof-failed", proof.reason)
        raise ActionError("stuck", f"it has not ended {KILL_SECONDS:.0f} s after SIGKILL: {self._left(proof)}")

    def _certain(self) -> Proof:
        """A proof that it is ours, or gone already. Raises ActionError."""
        proof = self._proof()
        if proof.standing not in {Standing.OURS, Standing.GONE}:
            raise ActionError("proof-failed", proof.reason or "it is not adopted yet")
        return proof

    def _proof(self) -> Proof:
        """A fresh proof of the very process that was asked for. Raises ActionError."""
        record, proof = self._look()
        asked = (self._process.pid, self._process.started)
        if (record.pid, record.started) != asked:
            raise ActionError("proof-failed", f"its record is of pid {record.pid} now, not of pid {asked[0]}")
        return proof

    def _signal(self, first: Proof, *numbers: int) -> None:
        """Signal what is proved ours, and nobody else.

        The handles are taken between two proofs that name the same processes: they can be nobody else's after it.
        """
        for _ in range(_TRIES):
            handles = _handles(first.members)
            try:
                proof = self._proof()
                if proof.standing is not Standing.OURS:
                    return
                if handles.keys() == set(proof.members):
                    for number in numbers:
                        _send(proof, handles, number)
                    return
                first = proof
            finally:
                _close(handles.values())

    async def _ended(self, seconds: float) -> bool:
        """Whether the server is gone and its port free before the time is up."""
        import asyncio

        now = asyncio.get_running_loop().time
        end, pause, readings = now() + seconds, _FIRST_PAUSE, 0
        port_end = end
        while True:
            readings = readings + 1 if self._proof().standing is Standing.GONE else 0
            if readings == 1:
                port_end = now() + PORT_SECONDS
            if readings >= _FREE_READINGS and self._port_is_left(late=now() >= port_end):
                return True
            if now() >= (end if not readings else max(end, port_end + pause)):
                return False
            await asyncio.sleep(_FREE_PAUSE if readings else pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _port_is_left(self, late: bool) -> bool:
        """Whether nothing of this server listens on its port; `late`: an owner that is not named is a stranger."""
        match self._listeners.look([self._process.port])[self._process.port]:
            case Absent():
                return True
            case Present(value=listener) if listener.pid is not None:
                carried, own = token(listener.pid), self._look()[0].token
                return carried != own and (late or carried is not None)
            case _:
                return late

    def _left(self, proof: Proof) -> str:
        if proof.standing is Standing.GONE:
            return f"port {self._process.port} is still taken by a process with its token"
        return proof.reason or f"pid {', '.join(map(str, proof.members))}"


def _handles(pids: Iterable[int]) -> dict[int, int | None]:
    """pid -> a pidfd; None where the system has none. A process that has just ended is left out."""
    handles: dict[int, int | None] = {}
    for pid in pids:
        try:
            handles[pid] = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        except ProcessLookupError:
            continue
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            handles[pid] = None
    return handles


def _close(handles: Iterable[int | None]) -> None:
    for handle in handles:
        if handle is not None:
            os.close(handle)


def _send(proof: Proof, handles: dict[int, int | None], number: int) -> None:
    """One signal to the leader's group, or to each of those that it left behind."""
    for pid, handle in handles.items():
        try:
            if proof.leader is None:
                _send_one(pid, handle, number)
            else:
                _send_group(pid, handle, number)
        except ProcessLookupError:
            continue
        except PermissionError as error:
            raise ActionError("signal-refused", f"pid {pid} may not be signalled") from error


def _send_one(pid: int, handle: int | None, number: int) -> None:
    import signal

    if sys.platform == "linux" and handle is not None:
        signal.pidfd_send_signal(handle, number)
    else:
        os.kill(pid, number)


def _send_group(pid: int, handle: int | None, number: int) -> None:
    """The leader of a session leads its group, and so the group has its pid."""
    import signal

    if sys.platform == "linux" and handle is not None:
        try:
            signal.pidfd_send_signal(handle, number, None, _GROUP)
            return
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        if select.select([handle], [], [], 0)[0]:
            return  # it has ended since it was proved: its pid may be another's by now
    os.killpg(pid, number)
