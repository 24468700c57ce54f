"""The TCP sockets of this machine as Linux lists them over netlink (man 7 sock_diag); needs no right.

`_socket` is used directly: the module `socket` around it costs 3 ms of start-up, this one 0.3 ms.
"""

import _socket
import errno
import sys
from collections.abc import Iterator
from typing import Final

DEADLINE: Final = 0.5
"""Seconds for an answer of the kernel."""
ESTABLISHED: Final = 1
CLOSE_WAIT: Final = 8
"""The other side has closed, and this one has not."""
LISTEN: Final = 10
INFO: Final = 2
"""The attribute that holds struct tcp_info."""
_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301
_ERROR, _DONE = 2, 3
_HEADER: Final = 16
_MESSAGE: Final = 72
_DUMP_BYTES: Final = 1 << 18


def sockets(states: int, attributes: int = 0, at: int = 0) -> Iterator[bytes]:
    """Every TCP socket in one of the states, each as a struct inet_diag_msg with its attributes behind it.

    `at`: those of this local port alone, chosen by the kernel; 0: those of every port.
    `states` and `attributes` have the bit 1 << number set for each that is wanted, an attribute's being its number
    less one. Raises OSError where the kernel, or a sandbox, does not say.
    """
    with_netlink = getattr(_socket, "AF_NETLINK", None)
    if with_netlink is None:
        raise OSError(errno.EAFNOSUPPORT, "no netlink on this platform")
    handle = _socket.socket(with_netlink, _socket.SOCK_RAW, _SOCK_DIAG)
    try:
        handle.settimeout(DEADLINE)
        for family in (_socket.AF_INET, _socket.AF_INET6):
            # struct inet_diag_req_v2: family, protocol, extensions, padding, states, then a socket id: its local port
            # and nothing else of it.
            head = bytes((family, _socket.IPPROTO_TCP, attributes, 0)) + _u32(states)
            body = head + at.to_bytes(2, "big") + bytes(46)
            kind = _SOCK_DIAG_BY_FAMILY.to_bytes(2, sys.byteorder) + _REQUEST_DUMP.to_bytes(2, sys.byteorder)
            handle.send(_u32(_HEADER + len(body)) + kind + _u32(1) + _u32(0) + body)
            yield from _dump(handle)
    finally:
        handle.close()


def _dump(handle: "_socket.socket") -> Iterator[bytes]:
    """The messages of one answer, each behind a struct nlmsghdr."""
    while True:
        data = handle.recv(_DUMP_BYTES)
        at = 0
        while at + _HEADER <= len(data):
            length = int.from_bytes(data[at : at + 4], sys.byteorder)
            kind = int.from_bytes(data[at + 4 : at + 6], sys.byteorder)
            if kind == _DONE:
                return
            if kind == _ERROR or length < _HEADER:
                code = -int.from_bytes(data[at + 16 : at + 20], sys.byteorder, signed=True)
                raise OSError(code or errno.EIO, "the kernel did not list its sockets")
            yield data[at + _HEADER : at + length]
            at += _aligned(length)


def port(message: bytes) -> int:
    """The local port."""
    return int.from_bytes(message[4:6], "big")


def peer(message: bytes) -> bytes:
    """Port and address of the other side."""
    return message[6:8] + message[24:40]


def uid(message: bytes) -> int:
    """Whose it is."""
    return int.from_bytes(message[64:68], sys.byteorder)


def inode(message: bytes) -> int:
    """Its number; 0 for a connection that nobody has accepted yet."""
    return int.from_bytes(message[68:72], sys.byteorder)


def attribute(message: bytes, wanted: int) -> bytes:
    """What stands behind a message under this number; empty where it is not there."""
    at = _MESSAGE
    while at + 4 <= len(message):
        length = int.from_bytes(message[at : at + 2], sys.byteorder)
        if int.from_bytes(message[at + 2 : at + 4], sys.byteorder) == wanted:
            return message[at + 4 : at + length]
        at += _aligned(max(length, 4))
    return b""


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _u32(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)
