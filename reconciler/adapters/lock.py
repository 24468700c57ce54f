"""One reconciler per state directory: a lock that the kernel frees, and a note that says who holds it.

Two locks, in truth: one on the file with the note, as every version has it, and one on the directory itself. A file
can be removed and made again while it is locked, and then two hold a lock on a file of that name (X05).
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from reconciler.model.problem import ExitCode, ReconcilerError

NAME: Final = "reconciler.lock"
PATIENCE: Final = 0.1
"""Seconds for which a lock is asked for: who only looks has it for a moment."""
_PAUSE: Final = 0.005
_NOTE: Final = 512
_PRIVATE: Final = 0o600
_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def held(root: Path, doing: str) -> Iterator[None]:
    """Hold the lock of a state directory. Raises ReconcilerError, naming the holder, when another process does."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    note = _taken(root / NAME, _FILE, root)
    try:
        folder = _taken(root, _FOLDER, root)
        try:
            with suppress(OSError):  # a full disk: what must be written down will say so
                os.truncate(note, 0)
                os.pwrite(note, f"pid {os.getpid()} ({doing})".encode(), 0)
            yield
        finally:
            os.close(folder)
    finally:
        os.close(note)


def is_held(root: Path) -> bool:
    """Whether another process holds the lock at this moment; looking takes no longer than some system calls."""
    return any(_is_taken(path) for path in (root / NAME, root))


def _is_taken(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _taken(path: Path, flags: int, root: Path) -> int:
    """A descriptor with the lock of what is at `path` now. Raises ReconcilerError, and OSError."""
    end = time.monotonic() + PATIENCE
    while True:
        descriptor = os.open(path, flags, _PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(descriptor, path):
                return descriptor
        except BlockingIOError:
            pass
        except OSError:
            if flags == _FOLDER:
                return descriptor  # a file system that locks no folders: the file has to do
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() >= end:
            raise _busy(root)
        time.sleep(_PAUSE)


def _is_there(descriptor: int, path: Path) -> bool:
    """Whether the file that was locked is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _busy(root: Path) -> ReconcilerError:
    holder = ""
    with suppress(OSError):
        holder = (root / NAME).read_bytes()[:_NOTE].decode(errors="replace")
    return ReconcilerError(
        "lock-busy",
        f"another reconciler is at work here: {holder or 'one that has left no note'}; nothing was changed",
        hint="wait for it to end, or end it",
        code=ExitCode.LOCKED,
    )
