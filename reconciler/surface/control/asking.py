"""The asking side: is a loop running here, and what does it say to a request."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import chdir
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from reconciler.model.problem import ExitCode, ReconcilerError

NAME: Final = "reconciler.sock"
FORMAT: Final = 1
LIMIT: Final = 2**20
"""Bytes of one line, either way."""


class Connection:
    """A connection to the loop that is running."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer

    def close(self) -> None:
        """Say nothing more."""
        self._peer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._peer.close()

    def ask(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Send one request; what comes back, line by line, until the other side has ended. Raises ReconcilerError."""
        known = "whether it has remembered what it was told is not known"
        try:
            self._peer.sendall(json.dumps({"format": FORMAT, **request}).encode() + b"\n")
            with self._peer.makefile("rb") as lines:
                while text := lines.readline(LIMIT):
                    answer = json.loads(text)
                    if not isinstance(answer, dict):
                        raise ValueError("it is no object")
                    # It speaks first when what it was told is on the disk.
                    known = "what it was told it has remembered"
                    yield answer
        except (OSError, ValueError) as error:
            raise ReconcilerError(
                "watch-lost",
                f"the running watch stopped answering ({error}); {known}",
                hint="see: reconciler status",
                code=ExitCode.UNSETTLED,
            ) from error


def connect(root: Path, timeout: float | None = None) -> Connection | None:
    """The loop that runs on this state directory; None where none does. `timeout`: seconds for each of its answers."""
    if not os.path.lexists(root / NAME):
        return None
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(timeout)
    try:
        # A path of more than about 100 bytes does not fit into the address of a unix socket.
        with chdir(root):
            peer.connect(NAME)
    except OSError:
        peer.close()
        return None  # left behind by one that was killed
    return Connection(peer)
