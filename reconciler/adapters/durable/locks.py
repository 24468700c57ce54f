"""Locks between runs that share a model cache, whatever state directory they have; their files are never unlinked."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.ports.errors import ActionError


@contextmanager
def alone(path: str, busy: ActionError) -> Iterator[None]:
    """Hold the lock at `path` for the time of the block. Raises `busy` where another run has it, and OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        yield
    finally:
        os.close(handle)
