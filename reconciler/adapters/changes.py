"""The first of several hints that the world has moved."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import reduce
from operator import or_

from reconciler.model.hint import NOTHING, Hint

Telling = Callable[[], Awaitable[Hint]]
"""Returns once the world may have moved, with what may have."""


async def first(*telling: Telling) -> Hint:
    """Return when the first of them does, with all that is said by then; raise what it raises."""
    tasks = [asyncio.ensure_future(tell()) for tell in telling]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return reduce(or_, (task.result() for task in done), NOTHING)
    finally:
        for task in tasks:
            task.cancel()
