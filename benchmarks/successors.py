"""Who listens on a port, and when somebody else answers there."""

import os
import select
import socket
import sys
import time
from collections.abc import Mapping, Sequence

from reconciler.adapters.listeners import LocalListeners
from reconciler.adapters.sock_diag import LISTEN, sockets
from reconciler.model.observed import Present

POLL = 0.0005
"""Seconds between two looks for a new process: whoever looks all the time is in the way on two processors."""
_QUESTION = b'{"model":"x","messages":[{"role":"user","content":"ping"}]}'
_REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_QUESTION),
    _QUESTION,
)


def owners(ports: Sequence[int]) -> Mapping[int, int]:
    """port -> inode of who listens there: another one is another process."""
    wanted = set(ports)
    found = ((int.from_bytes(body[4:6]), int.from_bytes(body[68:72], sys.byteorder)) for body in sockets(1 << LISTEN))
    return {port: inode for port, inode in found if port in wanted}


def listener(port: int) -> int:
    """The process that listens on a port."""
    found = LocalListeners().look([port])[port]
    assert isinstance(found, Present)
    assert found.value.pid is not None
    return found.value.pid


def _answers(port: int) -> bool:
    """Whether a whole answer comes back, asked with as little as possible."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as peer:
            peer.sendall(_REQUEST)
            text = b""
            while part := peer.recv(4096):
                text += part
            return b"choices" in text
    except OSError:
        return False


class Successor:
    """Waits until another process than the present one answers on a port.

    While the present one lives this sleeps, and then a refused connection is all that a look costs: whoever asks the
    kernel for every socket each millisecond takes from everybody a good part of the two processors.
    """

    def __init__(self, port: int) -> None:
        self._port, self.pid = port, listener(port)
        self._life = os.pidfd_open(self.pid)

    def wait(self) -> float:
        """When it answers, on the monotonic clock."""
        end = time.monotonic() + 60
        select.select([self._life], [], [], 60)
        os.close(self._life)
        while not _answers(self._port):
            if time.monotonic() > end:
                raise SystemExit(f"bench: nobody new answers on port {self._port}")
            time.sleep(POLL)
        return time.monotonic()
