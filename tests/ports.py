"""Ports that nobody has, for servers that a test starts later.

A port that the kernel chose for a socket that is closed again is anybody's: the next socket without a port of its own,
in the other worker or in any program here, may get it before the server starts. So these are chosen below the range
from which kernels choose by themselves (from 32768 on Linux, from 49152 on macOS), and every process that asks has a
block of its own: it holds the block's first port for as long as it lives.
"""

import socket
from collections.abc import Iterator
from functools import cache
from typing import Final

_FIRST: Final = 20_000
_BLOCK: Final = 500
_BLOCKS: Final = 25


def free_port() -> int:
    """A port that nothing listens on, and that no other test is given for some time."""
    for port in _turns():
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port
    raise AssertionError("the turns never end")


def free_ports(count: int) -> list[int]:
    """So many of them, all different."""
    return [free_port() for _ in range(count)]


@cache
def _turns() -> Iterator[int]:
    """The ports of this process's block, again and again: the one that was given last comes last."""
    block = _block()
    start = block.getsockname()[1] + 1
    return _around(block, range(start, start + _BLOCK - 1))


def _around(block: socket.socket, ports: range) -> Iterator[int]:
    with block:
        while True:
            yield from ports


def _block() -> socket.socket:
    for number in range(_BLOCKS):
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", _FIRST + number * _BLOCK))
        except OSError:
            held.close()
            continue
        return held
    raise AssertionError(f"every block of ports from {_FIRST} on is held by another process")
