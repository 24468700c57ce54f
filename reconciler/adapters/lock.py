"""One reconciler per state directory: a lock that the kernel frees, and a note that says who holds it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from reconciler.model.problem import ExitCode, ReconcilerError

NAME: Final = "reconciler.lock"
_NOTE: Final = 512
_PRIVATE: Final = 0o600


@contextmanager
def held(root: Path, doing: str) -> Iterator[None]:
    """Hold the lock of a state directory. Raises ReconcilerError, naming the holder, when another process does.

    The file is never unlinked: a lock on a file that somebody has replaced would be held twice.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = root / NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(descriptor) from error
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} ({doing})".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(root: Path) -> bool:
    """Whether another process holds the lock at this moment; looking takes no longer than a system call."""
    try:
        descriptor = os.open(root / NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _busy(descriptor: int) -> ReconcilerError:
    holder = os.pread(descriptor, _NOTE, 0).decode(errors="replace") or "a process that is just starting"
    return ReconcilerError(
        "lock-busy",
        f"another reconciler is at work here: {holder}; nothing was changed",
        hint="wait for it to end, or end it",
        code=ExitCode.LOCKED,
    )
