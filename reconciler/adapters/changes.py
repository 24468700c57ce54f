"""The first of several hints that the world has moved."""

import asyncio
from collections.abc import Awaitable, Callable


async def first(*hints: Callable[[], Awaitable[None]]) -> None:
    """Return when the first of them does; raise what it raises."""
    tasks = [asyncio.ensure_future(hint()) for hint in hints]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
