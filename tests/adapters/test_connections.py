"""Who is connected to a port, looked at on real sockets; on macOS by the words of netstat."""

import socket
import sys
from collections.abc import Iterator

import pytest

from reconciler.adapters.connections import Connection, connections, parse_netstat
from tests.adapters.servers import until

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux counts")


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as made:
        yield made


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def one(port: int) -> Connection:
    (found,) = connections([port])[port]
    return found


@linux
def test_bytes_are_counted_both_ways_and_who_spoke_last_is_known(listener: socket.socket) -> None:
    port = port_of(listener)
    assert connections([port]) == {port: []}
    with socket.create_connection(listener.getsockname()[:2]) as client:
        first = one(port)
        assert (first.received, first.sent, first.waits) == (0, 0, False)
        until(lambda: _ms(port) >= 20, "time has passed since it was opened")
        client.sendall(b"question")
        until(lambda: one(port).received == 8, "the question has arrived")
        assert one(port).waits, "although nobody has accepted it"
        accepted, _ = listener.accept()
        with accepted:
            until(lambda: _ms(port) >= 20, "time has passed since the question")
            accepted.sendall(b"answers")
            until(lambda: one(port).sent == 7, "the answer has arrived")
            assert one(port) == Connection(first.peer, received=8, sent=7, waits=False)
            client.shutdown(socket.SHUT_WR)
            assert one(port).peer == first.peer, "it stays until the server has closed it"
    until(lambda: connections([port]) == {port: []}, "it is closed")


def _ms(port: int) -> int:
    """Milliseconds since anything was said on the one connection."""
    from reconciler.adapters import sock_diag

    states = 1 << sock_diag.ESTABLISHED
    (message,) = [m for m in sock_diag.sockets(states, 1 << (sock_diag.INFO - 1)) if sock_diag.port(m) == port]
    info = sock_diag.attribute(message, sock_diag.INFO)
    return min(int.from_bytes(info[at : at + 4], sys.byteorder) for at in (44, 52))


@linux
def test_clients_are_told_apart_and_other_ports_left_out(listener: socket.socket) -> None:
    port, address = port_of(listener), listener.getsockname()[:2]
    with socket.create_connection(address), socket.create_connection(address):
        found = connections([port])
        assert list(found) == [port]
        assert len({connection.peer for connection in found[port]}) == 2
    assert connections([]) == {}


COUNTED = """Active Internet connections (including servers)
Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)         rxbytes      txbytes
tcp4       0      0  127.0.0.1.8100         127.0.0.1.50111        ESTABLISHED         812          91
tcp4       0      0  127.0.0.1.50111        127.0.0.1.8100         ESTABLISHED          91         812
tcp6       0      0  ::1.8100               ::1.50112              CLOSE_WAIT            5           0
tcp4       0      0  127.0.0.1.8100         *.*                    LISTEN                0           0
tcp4       0      0  127.0.0.1.8100         127.0.0.1.50113        TIME_WAIT             1           1
tcp4       0      0  127.0.0.1.18100        127.0.0.1.50114        ESTABLISHED           1           1
"""
UNCOUNTED = """Active Internet connections
Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)
tcp4       0      0  127.0.0.1.8100         127.0.0.1.50111        ESTABLISHED
"""


def test_the_table_of_netstat_is_read_by_its_head() -> None:
    first, second = Connection("127.0.0.1.50111", received=812, sent=91), Connection("::1.50112", received=5, sent=0)
    assert parse_netstat(COUNTED, [8100, 8101]) == {8100: [first, second], 8101: []}
    assert parse_netstat(UNCOUNTED, [8100]) == {8100: [Connection("127.0.0.1.50111")]}


@pytest.mark.parametrize("text", ["", "netstat: illegal option -- b\nusage: netstat\n"])
def test_what_is_no_table_says_nothing_about_any_port(text: str) -> None:
    assert parse_netstat(text, [8100]) == {}
