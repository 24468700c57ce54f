"""Waits until a process ends that need not be our child: by pidfd on Linux, by kqueue on macOS."""

import os
import sys
from collections.abc import Iterable


async def any_exit(pids: Iterable[int]) -> None:
    """Return when one of the processes has ended; never, where there is none to wait for."""
    import asyncio

    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    handles: list[int] = []
    try:
        for pid in pids:
            try:
                handle = _watch(pid)
            except ProcessLookupError:
                return
            except OSError:
                continue  # a hint that cannot be had is done without
            handles.append(handle)
            loop.add_reader(handle, ended.set)
        await ended.wait()
    finally:
        for handle in handles:
            loop.remove_reader(handle)
            os.close(handle)


def _watch(pid: int) -> int:
    """A descriptor that can be read once the process has ended. Raises OSError, ProcessLookupError where it has."""
    if sys.platform == "linux":
        return os.pidfd_open(pid)
    return _kqueue(pid)


def _kqueue(pid: int) -> int:
    import select

    if sys.platform == "linux":
        raise AssertionError("Linux has no kqueue")
    queue = select.kqueue()
    try:
        event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
        queue.control([event], 0, 0)
        # The object closes its descriptor when it is collected; this one is closed by its reader.
        return os.dup(queue.fileno())
    finally:
        queue.close()
