"""Reads whole files and compares them with the digests that were promised for them.

A promise of 64 hex digits is the SHA-256 of the content, one of 40 is git's name of it: the SHA-1 of `blob SIZE`,
a zero byte and the content. What was read is remembered with the stamp that the open file had before and after;
a later look compares stamps and reads nothing.
"""

import asyncio
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from reconciler.adapters.clock import SystemClock
from reconciler.ports.errors import ActionError

from .digests import Digests, Known
from .promises import Promise, stamp_of

AT_A_TIME: Final = 2
"""Files that are read at once: one thread hashes slower than most disks read."""
_BUFFER: Final = 4 * 2**20
_REMEMBERED_EVERY: Final = 256 * 2**20
"""Bytes of work that a kill may cost."""
_GIT_DIGITS: Final = 40
_SETTLES: Final = 0.05
_SETTLES_COARSE: Final = 2.0
"""Seconds within which a file system may give two writes the same mtime: a tick of the kernel, or, where it keeps
whole seconds, what FAT needs."""
_SECOND: Final = 10**9
_F_NOCACHE: Final = 48
"""fcntl(2) of macOS: what is read through this descriptor need not stay in memory."""


def never() -> bool:
    """For `verify`: nobody cancels."""
    return False


async def verify(
    promises: Iterable[Promise],
    digests: Digests,
    report: Callable[[int, int], None],
    cancelled: Callable[[], bool] = never,
) -> tuple[str, ...]:
    """Names of the files that are not what was promised; what is remembered of them is not read again.

    `report` is told the bytes done and to do, from a thread, one call at a time; never when there is nothing to
    read. Raises ActionError: `unreadable` where a file could not be read to its end, which says nothing about its
    content; `changed` where one changed meanwhile; `cancelled`. What was read until then is remembered.
    """
    by_path = {promise.path: promise for promise in promises}
    known = digests.known(by_path)
    todo = [promise for path, promise in by_path.items() if promise.kept(known.get(path)) is None]
    reading = _Reading(todo, digests, report, cancelled)
    if todo:
        await reading.all()
    bad = {path for path, promise in by_path.items() if promise.kept(known.get(path)) is False}
    return tuple(sorted(by_path[path].name for path in bad | reading.bad))


class _Reading:
    """The files of one verification, read by a few threads."""

    def __init__(
        self,
        todo: list[Promise],
        digests: Digests,
        report: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self.bad: set[str] = set()
        self._todo = sorted(todo, key=lambda promise: promise.size)  # from the end: the longest first
        self._digests, self._report, self._cancelled = digests, report, cancelled
        self._total, self._done = sum(promise.size for promise in todo), 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._pending: dict[str, Known] = {}
        self._pending_bytes = 0
        self._failures: list[ActionError] = []

    async def all(self) -> None:
        """Raises ActionError, the first of what went wrong."""
        threads = min(AT_A_TIME, len(self._todo))
        pool = ThreadPoolExecutor(threads, thread_name_prefix="verify")
        try:
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(pool, self._work) for _ in range(threads)))
        finally:
            self._stop.set()
            pool.shutdown(wait=False)
            with self._lock:
                self._remember()
        if self._failures:
            raise self._failures[0]

    def _work(self) -> None:
        buffer = memoryview(bytearray(_BUFFER))
        while (promise := self._next()) is not None:
            try:
                known = self._read(promise, buffer)
            except OSError as error:
                self._failed("unreadable", f"{promise.path} cannot be read: {error.strerror or error}")
                continue
            if known is None:
                continue
            with self._lock:
                if known[1] != promise.digest:
                    self.bad.add(promise.path)
                self._pending[promise.path] = known
                self._pending_bytes += promise.size
                if self._pending_bytes >= _REMEMBERED_EVERY:
                    self._remember()

    def _next(self) -> Promise | None:
        with self._lock:
            return self._todo.pop() if self._todo and not self._stopped() else None

    def _stopped(self) -> bool:
        if not self._stop.is_set() and self._cancelled():
            self._stop.set()
            self._failed("cancelled", "the verification was stopped; what was read until then is remembered")
        return self._stop.is_set()

    def _remember(self) -> None:
        found, self._pending, self._pending_bytes = self._pending, {}, 0
        try:
            self._digests.remember_all(found)
        except ActionError as error:
            self._failures.append(error)
            self._stop.set()

    def _failed(self, cause: str, message: str) -> None:
        self._failures.append(ActionError(cause, message))

    # ----------------------------------------------------------------------------------------------- one file

    def _read(self, promise: Promise, buffer: memoryview) -> Known | None:
        """What is in a file; None when it was not read whole. Raises OSError."""
        handle = os.open(promise.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is no plain file any more")
            self._stop.wait(_settling(status))
            before = stamp_of(os.fstat(handle))
            _to_disk(handle)
            digest = self._hash(handle, before[1], len(promise.digest), buffer)
            if digest is None:
                return None
            if stamp_of(os.fstat(handle)) != before:
                self._failed("changed", f"{promise.path} changed while it was read; it does not count as verified")
                return None
            return before, digest
        finally:
            os.close(handle)

    def _hash(self, handle: int, size: int, digits: int, buffer: memoryview) -> str | None:
        """Digest of an open file; None when this was stopped."""
        git = digits == _GIT_DIGITS
        made = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if git else hashlib.sha256()
        at = 0
        while not self._stopped():
            length = os.readv(handle, [buffer]) if at < size else 0  # what is appended meanwhile shows in the stamp
            if not length:
                return made.hexdigest()
            made.update(buffer[:length])
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(handle, at, length, os.POSIX_FADV_DONTNEED)
            at += length
            with self._lock:
                self._done += length
                self._report(min(self._done, self._total), self._total)
        return None


def _settling(status: os.stat_result) -> float:
    """Seconds until another write must give it another mtime."""
    age = SystemClock().now() - status.st_mtime_ns / _SECOND
    needed = _SETTLES if status.st_mtime_ns % _SECOND else _SETTLES_COARSE
    return needed - age if 0 <= age < needed else 0.0


def _to_disk(handle: int) -> None:
    """What was just written could be remembered as read and be gone after a power cut; what is on disk costs nothing.

    The pages that are read afterwards are dropped again: 100 GB of weights would push out everything else.
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno == errno.EIO:
            raise
        # a file system that is only read, or has no such call
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    else:
        import fcntl

        fcntl.fcntl(handle, _F_NOCACHE, 1)
