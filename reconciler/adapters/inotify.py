"""The kernel's queue of what happens in folders, on Linux: no thread, and no wakeup while nothing happens."""

import ctypes
import os
import sys
from collections.abc import Iterable
from typing import Final, NamedTuple

_CLOSED_AFTER_WRITING: Final = 0x8
_MOVED_FROM, _MOVED_TO, _CREATED, _DELETED = 0x40, 0x80, 0x100, 0x200
_SELF_DELETED, _SELF_MOVED = 0x400, 0x800
_UNMOUNTED, _OVERFLOW, _FORGOTTEN = 0x2000, 0x4000, 0x8000
_FOLDER: Final = 0x40000000
_ONLY_FOLDERS: Final = 0x1000000
_MASK: Final = (
    _CLOSED_AFTER_WRITING | _MOVED_FROM | _MOVED_TO | _CREATED | _DELETED | _SELF_DELETED | _SELF_MOVED | _ONLY_FOLDERS
)
"""Not every write: a file is of interest once it has been written."""
_LOST: Final = _SELF_DELETED | _SELF_MOVED | _UNMOUNTED | _OVERFLOW | _FORGOTTEN
_READ: Final = 65_536
_HEAD: Final = 16


class Noticed(NamedTuple):
    """What happened in a watched folder."""

    name: str
    """Of the entry; empty where it happened to the folder itself."""
    folder: bool
    """Whether the entry is a folder."""
    lost: bool
    """Whether the folder is not watched any more, or events were dropped."""


def watch(folders: Iterable[str]) -> int:
    """A descriptor that can be read once something has happened in one of the folders. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    queue = _checked(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    try:
        for folder in folders:
            _checked(library.inotify_add_watch(queue, os.fsencode(folder), ctypes.c_uint32(_MASK)))
    except BaseException:
        os.close(queue)
        raise
    return queue


def read(queue: int) -> list[Noticed]:
    """What has happened since the last call."""
    found: list[Noticed] = []
    while True:
        try:
            data = os.read(queue, _READ)
        except BlockingIOError:
            return found
        at = 0
        while at + _HEAD <= len(data):
            # struct inotify_event: watch, mask, cookie, length of the name, the name filled up with zeros.
            mask, length = _u32(data, at + 4), _u32(data, at + 12)
            name = os.fsdecode(data[at + _HEAD : at + _HEAD + length].rstrip(b"\0"))
            found.append(Noticed(name, bool(mask & _FOLDER), bool(mask & _LOST)))
            at += _HEAD + length


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], sys.byteorder)
