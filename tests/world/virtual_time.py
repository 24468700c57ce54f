"""Time that jumps instead of passing: an event loop that never sleeps, so that a run is fast and repeatable."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

EPOCH: Final = 100_000.0
"""Where virtual time starts; small, so that sums of eighths of seconds are exact."""
MAX_STEPS: Final = 20_000
"""Turns of one loop; more means that something runs without time passing."""


class Stalled(AssertionError):
    """Nothing is scheduled and nothing is ready, or the loop turns and turns: the run would never end."""


class Killed(Exception):
    """The run was cut off where `kill_after` said."""


class VirtualTime:
    """The one clock of a world; it outlives the loops that move it."""

    def __init__(self, now: float = EPOCH) -> None:
        self.now = now


class _Jumper:
    """Stands in for a selector: instead of waiting it moves the clock to the next timer."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        self._loop.turn(timeout)
        return []

    def close(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without files, threads or waiting."""

    def __init__(self, time: VirtualTime, kill_after: int | None = None) -> None:
        super().__init__()
        self._virtual = time
        self._kill_after = kill_after
        self._selector = _Jumper(self)
        self.steps = 0
        self.main: asyncio.Task[Any] | None = None

    def time(self) -> float:
        return self._virtual.now

    def turn(self, timeout: float | None) -> None:
        """One turn of the loop: cut the run off, or let time jump as far as `timeout`."""
        self.steps += 1
        if self.steps == self._kill_after and self.main is not None and not self.main.done():
            self.main.cancel()
        elif timeout is None:
            raise Stalled("nothing is scheduled: the run waits for ever")
        elif self.steps > MAX_STEPS:
            raise Stalled(f"{MAX_STEPS} turns at {self._virtual.now}: nothing makes progress")
        elif timeout > 0:
            # A sum may round to just below the timer; jumping to the timer itself cannot.
            due: float = self._scheduled[0].when()  # type: ignore[attr-defined]
            self._virtual.now = max(self._virtual.now, due)

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run(main: Coroutine[Any, Any, T], time: VirtualTime, kill_after: int | None = None) -> T:
    """Run to the end in virtual time. Raises Killed when it was cut off at turn `kill_after`."""
    loop = VirtualLoop(time, kill_after)
    try:
        loop.main = loop.create_task(main)
        try:
            result: T = loop.run_until_complete(loop.main)
        except asyncio.CancelledError:
            raise Killed from None
        return result
    finally:
        loop.steps = 0
        loop.run_until_complete(_end(asyncio.all_tasks(loop)))
        loop.close()


async def _end(left: set[asyncio.Task[Any]]) -> None:
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
