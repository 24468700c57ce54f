"""Real sockets and model caches for the tests of this folder."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import ports
from tests.programs.tiny_cache import TinyCache

Listen = Callable[..., int]


@pytest.fixture
def cache(tmp_path: Path) -> TinyCache:
    """An empty Hugging Face cache."""
    return TinyCache(tmp_path / "hub")


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Listen on an address until the test ends, at a port that the kernel chose; the port is returned."""
    opened: list[socket.socket] = []

    def start(host: str = "127.0.0.1", *, port: int = 0, backlog: int = 8, shared: bool = False) -> int:
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        opened.append(made)
        if ":" in host:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            made.bind((host, port))
        except OSError as error:
            pytest.skip(f"no address {host} here: {error}")
        made.listen(backlog)
        return int(made.getsockname()[1])

    yield start
    for made in opened:
        made.close()


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    """So many ports that nobody has, all different."""
    return ports.free_ports
