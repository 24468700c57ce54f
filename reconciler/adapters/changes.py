"""Hints that the world has moved: something says so, or some time has passed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

GLANCE: Final = 1.0
"""Seconds: a look costs a few milliseconds, and while something is starting a person is waiting."""


async def next_hint(*hints: Callable[[], Awaitable[None]]) -> None:
    """Return at the first hint, or after `GLANCE`."""
    tasks = [asyncio.ensure_future(hint()) for hint in hints]
    try:
        await asyncio.wait(tasks, timeout=GLANCE, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
