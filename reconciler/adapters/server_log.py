"""The log of one launch: its size, and its last lines, fit to be shown."""

import os
from typing import Final

from reconciler.model.secret import redacted

from .port_owners import shown

OLDER: Final = ".1"
"""What the name of a log's older copy ends with (`log_rotation`)."""
DROPPED: Final = ".dropped"
"""And the file that says how many bytes have gone from it; a position in a log counts them."""
LINES: Final = 40
"""How much of a log explains a failure."""
_TAIL: Final = 16_384
_WHOLE: Final = 262_144
"""Bytes. A model with a part missing writes two lines for each of its tensors (docs/decisions/0006)."""
_DIGITS: Final = 20
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def size(path: str) -> int:
    """Bytes of a log; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def dropped(path: str) -> int:
    """Bytes that have gone from the beginning of a log; 0 where that is not known."""
    try:
        with open(os.open(path + DROPPED, _READ), "rb") as file:
            return max(0, int(file.read(_DIGITS)))
    except (OSError, ValueError):
        return 0


def position(path: str, size_now: int) -> int:
    """Where the next byte of a log will be, counted from its first byte ever."""
    return dropped(path) + size_now


def tail(path: str, start: int, lines: int = LINES) -> tuple[str, ...]:
    """The last lines that were written after byte `start`, without secrets and escape sequences; empty where none."""
    return tuple(shown(line.rstrip()) for line in _end(path, start, _TAIL) if line.strip())[-lines:]


def end(path: str, start: int) -> tuple[str, ...]:
    """As much of a launch's log as a diagnosis needs, without secrets, and with whatever a terminal would obey."""
    return tuple(_end(path, start, _WHOLE))


def safe(text: str) -> str:
    """Words of a server, fit to be shown."""
    return shown(redacted(text))


def _end(path: str, start: int, most: int) -> list[str]:
    """The whole lines among the last bytes; secrets are looked for before anything is cut to lines."""
    try:
        handle = os.open(path, _READ)
    except OSError:
        return []
    try:
        size_now = os.fstat(handle).st_size
        # A log that was emptied meanwhile is this launch's from its beginning.
        first = start - dropped(path)
        first = first if 0 <= first <= size_now else 0
        begin = max(first, size_now - most)
        content = os.pread(handle, most, begin)
    except OSError:
        return []
    finally:
        os.close(handle)
    if begin > first:
        content = content.partition(b"\n")[2]  # the first line has lost its beginning, and what would show a secret
    return redacted(content.decode("utf-8", "replace")).splitlines()
