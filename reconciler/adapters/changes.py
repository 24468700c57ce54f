"""The first of several hints that the world has moved."""

import asyncio
from collections.abc import Awaitable, Callable

Hint = Callable[[], Awaitable[frozenset[str] | None]]
"""Returns once the world may have moved: labels whose process has ended, or None where it does not know what."""


async def first(*hints: Hint) -> frozenset[str]:
    """Return when the first of them does, with the labels that it names; raise what it raises."""
    tasks = [asyncio.ensure_future(hint()) for hint in hints]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return frozenset().union(*(task.result() or () for task in done))
    finally:
        for task in tasks:
            task.cancel()
