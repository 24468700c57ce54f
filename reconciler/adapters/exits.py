"""Waits for the end of processes that need not be our children: by pidfds on Linux, by kqueue on macOS.

One descriptor stands for all of them, and each process is entered once: a wait for forty costs no more than one for
one, and it is begun anew after every look.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol


class _Queue(Protocol):
    """What the kernel tells about ends."""

    def fileno(self) -> int:
        """Readable once something has ended."""
        ...

    def enter(self, pid: int) -> None:
        """Wait for this one too. Raises OSError; ProcessLookupError where it has ended."""
        ...

    def leave(self, pid: int) -> None:
        """Wait for it no longer."""
        ...

    def ended(self) -> list[int]:
        """Those that have."""
        ...

    def close(self) -> None:
        """Wait for nobody any more."""
        ...


async def any_exit(pids: Iterable[int]) -> None:
    """Return when one of the processes has ended; never, where there is none to wait for."""
    exits = Exits()
    try:
        await exits.next(pids)
    finally:
        exits.close()


class Exits:
    """The ends of processes."""

    def __init__(self) -> None:
        self._queue: _Queue | None = None
        self._entered: set[int] = set()

    async def next(self, pids: Iterable[int]) -> frozenset[int]:
        """Those of the processes that have ended, as soon as one has; never, where there is none to wait for."""
        import asyncio

        wanted = frozenset(pids)
        try:
            handle = self._opened().fileno()
        except OSError:
            await asyncio.Event().wait()  # no descriptor is left: a hint that cannot be had is done without
        while not (ended := self._ended(wanted)):
            loop, told = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(handle, told.set)
            try:
                await told.wait()
            finally:
                loop.remove_reader(handle)
        return ended

    def close(self) -> None:
        """Give back every descriptor; the next wait begins anew."""
        if self._queue is not None:
            self._queue.close()
        self._queue = None
        self._entered.clear()

    def _opened(self) -> _Queue:
        self._queue = self._queue or (_Pidfds() if sys.platform == "linux" else _Kqueue())
        return self._queue

    def _ended(self, wanted: frozenset[int]) -> frozenset[int]:
        """Enter whoever is not yet; of those that are wanted the ones that have ended."""
        queue = self._opened()
        ended = set(queue.ended())
        for pid in ended | (self._entered - wanted):
            queue.leave(pid)
            self._entered.discard(pid)
        for pid in wanted - self._entered - ended:
            try:
                queue.enter(pid)
            except ProcessLookupError:
                ended.add(pid)
            except OSError:
                continue  # a hint that cannot be had is done without
            else:
                self._entered.add(pid)
        return wanted & ended


class _Pidfds:
    """Linux: descriptors that stand for a process, not for its number."""

    _epoll: Any

    def __init__(self) -> None:
        import select

        if sys.platform != "linux":
            raise AssertionError("pidfds are Linux")
        self._epoll = select.epoll()
        self._handles: dict[int, int] = {}
        self._pids: dict[int, int] = {}

    def fileno(self) -> int:
        return int(self._epoll.fileno())

    def enter(self, pid: int) -> None:
        if sys.platform != "linux":
            raise AssertionError("pidfds are Linux")
        handle = os.pidfd_open(pid)
        try:
            self._epoll.register(handle)
        except BaseException:
            os.close(handle)
            raise
        self._handles[pid], self._pids[handle] = handle, pid

    def leave(self, pid: int) -> None:
        handle = self._handles.pop(pid)
        del self._pids[handle]
        self._epoll.unregister(handle)  # a child that was forked and runs nothing yet may have a copy of it
        os.close(handle)

    def ended(self) -> list[int]:
        return [self._pids[handle] for handle, _ in self._epoll.poll(0)]

    def close(self) -> None:
        for handle in self._pids:
            os.close(handle)
        self._epoll.close()


class _Kqueue:
    """macOS: it tells each end once."""

    _kqueue: Any

    def __init__(self) -> None:
        import select

        if sys.platform == "linux":
            raise AssertionError("Linux has no kqueue")
        self._kqueue = select.kqueue()
        self._pids: set[int] = set()

    def fileno(self) -> int:
        return int(self._kqueue.fileno())

    def enter(self, pid: int) -> None:
        self._change(pid, "KQ_EV_ADD")
        self._pids.add(pid)

    def leave(self, pid: int) -> None:
        self._pids.discard(pid)
        with suppress(OSError):  # one that has ended is gone from the queue
            self._change(pid, "KQ_EV_DELETE")

    def ended(self) -> list[int]:
        if not self._pids:
            return []
        return [int(event.ident) for event in self._kqueue.control(None, len(self._pids), 0)]

    def close(self) -> None:
        self._kqueue.close()

    def _change(self, pid: int, flag: str) -> None:
        import select

        if sys.platform == "linux":
            raise AssertionError("Linux has no kqueue")
        event = select.kevent(pid, select.KQ_FILTER_PROC, getattr(select, flag), select.KQ_NOTE_EXIT)
        self._kqueue.control([event], 0, 0)
