"""Who listens on which port, on this machine.

On Linux one netlink dump (`sock_diag`, man 7 sock_diag) answers for every port and every local address: 0.05 ms
for 40 ports (facts/performance.md 3; a parse of /proc/net/tcp takes 3 ms because it lists connections too). It
needs no right, makes no connection to servers that are not ours, and sees what a connection cannot: a listener
with a full backlog, one on another address (P06), two of them on one port (P10).

Where netlink is not to be had, and on macOS, all ports are connected to at once, on 127.0.0.1 and on ::1, because
a listener on ::1 alone is reached by clients of `localhost` (P05). What does not answer within the deadline is
unknown: a stopped process still completes connections, a full backlog swallows them. A listener on another
address of this machine is not seen this way.

`_socket` is used directly: the module `socket` around it costs 3 ms of start-up, this one 0.3 ms.
"""

import _socket
import errno
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from reconciler.model.observed import Absent, Listener, Observation, Present, Unknown

from . import sock_diag
from .port_owners import Found, Owner, Socket, owners_by_lsof, owners_by_proc

DEADLINE: Final = 0.5
"""Seconds for all ports together that do not answer at once."""
_LAST_CHANCE: Final = 0.02
_BATCH: Final = 48
"""Ports connected to at a time, two descriptors each: a macOS shell allows 256."""
_ADDRESSES: Final = ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1"))

_PENDING: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY})
_FREE: Final = frozenset(
    {
        errno.ECONNREFUSED,
        # No such address or family here: nobody can listen on it.
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EPROTONOSUPPORT,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
    }
)

Answers = dict[int, Observation[Listener]]


class LocalListeners:
    """Looks at ports. `known` gives pids to look at first for who listens, cheaply: those of our own servers."""

    def __init__(
        self,
        known: Callable[[], Iterable[int]] = tuple,
        *,
        by_connecting: bool | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self._known = known
        self._connect = sys.platform != "linux" if by_connecting is None else by_connecting
        self._deadline = deadline
        self._owners: Found = {}

    def look(self, ports: Iterable[int]) -> Mapping[int, Observation[Listener]]:
        """One answer per port. Who listens is found out for taken ports only."""
        wanted = sorted(set(ports))
        if not wanted:
            return {}
        if not self._connect:
            try:
                return self._by_netlink(wanted)
            except OSError:
                pass  # a kernel or a sandbox without it
        return self._by_connecting(wanted)

    def _by_netlink(self, wanted: list[int]) -> Answers:
        taken: dict[int, list[Socket]] = {}
        asked, one = set(wanted), wanted[0] if len(wanted) == 1 else 0
        listening = list(_listening(one))
        for found in listening:
            if found.port in asked:
                taken.setdefault(found.port, []).append(found)
        if not one:
            for inode in self._owners.keys() - {found.inode for found in listening}:
                del self._owners[inode]
        sockets = [socket for group in taken.values() for socket in group]
        owners = owners_by_proc(sockets, self._known, self._owners) if taken else {}
        return {
            port: _present(port, [owners.get(s.inode) for s in taken[port]]) if port in taken else Absent()
            for port in wanted
        }

    def _by_connecting(self, wanted: list[int]) -> Answers:
        end = time.monotonic() + self._deadline
        answers: Answers = {}
        for at in range(0, len(wanted), _BATCH):
            answers |= _connect_batch(wanted[at : at + _BATCH], end)
        taken = [port for port, answer in answers.items() if isinstance(answer, Present)]
        if taken:
            owners = owners_by_lsof(taken)
            answers |= {port: _present(port, owners.get(port, [])) for port in taken}
        return answers


def _present(port: int, owners: Iterable[Owner | None]) -> Present[Listener]:
    """The listener of a port; of several processes none is named as the owner, all are in the text."""
    found = list(owners)
    known = sorted({owner for owner in found if owner is not None})
    if len(known) == 1 and None not in found:
        return Present(value=Listener(port=port, pid=known[0].pid, command=known[0].command))
    if not known:
        return Present(value=Listener(port=port))
    names = [f"pid {owner.pid} ({owner.command})" for owner in known]
    if None in found:
        names.append("a process that is hidden from us")
    return Present(value=Listener(port=port, command=f"several processes: {', '.join(names)}"))


# --------------------------------------------------------------------------------------------------- netlink


def _listening(port: int) -> Iterator[Socket]:
    """Every listening TCP socket of this network namespace, or of one port; 0: of all.

    Raises OSError where the kernel does not say.
    """
    for message in sock_diag.sockets(1 << sock_diag.LISTEN, at=port):
        yield Socket(port=sock_diag.port(message), uid=sock_diag.uid(message), inode=sock_diag.inode(message))


# ----------------------------------------------------------------------------------------------- connections


def _connect_batch(ports: list[int], end: float) -> Answers:
    """Connect to some ports on both loopback addresses; `end` is when waiting ends, on the monotonic clock."""
    import select

    poll = select.poll()
    pending: dict[int, tuple[int, _socket.socket]] = {}
    results: dict[int, set[int]] = {port: set() for port in ports}
    try:
        for port in ports:
            for family, address in _ADDRESSES:
                code, handle = _start(family, address, port)
                if code in _PENDING and handle is not None:
                    pending[handle.fileno()] = (port, handle)
                    poll.register(handle.fileno(), select.POLLOUT)
                else:
                    results[port].add(code)
                    if handle is not None:
                        handle.close()
        while pending:
            left = max(end - time.monotonic(), 0.0)
            ready = poll.poll(1000 * max(left, _LAST_CHANCE))
            if not ready:
                break
            for number, _ in ready:
                port, handle = pending.pop(number)
                poll.unregister(number)
                results[port].add(_outcome(handle))
                handle.close()
    finally:
        for port, handle in pending.values():
            results[port].add(errno.ETIMEDOUT)
            handle.close()
    return {port: _verdict(port, codes) for port, codes in results.items()}


def _start(family: int, address: str, port: int) -> tuple[int, "_socket.socket | None"]:
    """Begin one connection: its errno, 0 when it is already made."""
    try:
        handle = _socket.socket(family, _socket.SOCK_STREAM)
    except OSError as error:
        return error.errno or errno.EIO, None
    handle.setblocking(False)
    try:
        code = handle.connect_ex((address, port))
    except OverflowError:
        code = errno.EINVAL
    return (_outcome(handle) if code == 0 else code), handle


def _outcome(handle: "_socket.socket") -> int:
    """How a connection ended: 0 when somebody accepted it."""
    code: int = handle.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
    if code == 0 and handle.getsockname() == handle.getpeername():
        return errno.ECONNREFUSED  # it met itself: the kernel had given it the very port that it asked for
    return code


def _verdict(port: int, codes: set[int]) -> Observation[Listener]:
    if 0 in codes:
        return Present(value=Listener(port=port))
    strange = sorted(codes - _FREE)
    if not strange:
        return Absent()
    if errno.ETIMEDOUT in strange:
        return Unknown(reason=f"a connection to port {port} was neither accepted nor refused in time")
    import os

    return Unknown(reason=f"a connection to port {port} could not be tried: {os.strerror(strange[0])}")
