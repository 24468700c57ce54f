"""Long work with files in a thread, which ends when nobody waits for it any more."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from .copying import Watch

T = TypeVar("T")


async def in_thread(work: Callable[[Watch], T], report: Callable[[str, int], None]) -> T:
    """The result of `work`; when the caller is cancelled, the work is told, and waited for until it has ended.

    `report` is called in this event loop, with what is being done and how many bytes of it are done.
    """
    loop, stop = asyncio.get_running_loop(), threading.Event()

    def tell(what: str, done: int) -> None:
        loop.call_soon_threadsafe(report, what, done)

    task = asyncio.ensure_future(asyncio.to_thread(work, Watch(tell, stop.is_set)))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            stop.set()
    if cancelled is not None:
        task.exception()  # it has been looked at
        raise cancelled
    return task.result()
