"""A queue for every receiver, one delivery at a time, so that none holds up the loop, its end, or another receiver."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

from reconciler.model.base import noun

QUEUE: Final = 100
"""Notifications that may wait for one receiver; of more the oldest are dropped."""
GRACE: Final = 3.0
"""Seconds for which the end waits for what has not arrived yet."""
_NAMED: Final = 3
"""How many of those that were lost are named."""

Payload = Mapping[str, Any]


class Undelivered(Exception):
    """It has not arrived, and is not tried again; the message is one phrase."""


@noun
class Receiver:
    """Somebody who wants to be told."""

    name: str
    """As messages call it; without anything that is secret in its address."""
    on: Collection[str]
    deliver: Callable[[bytes], Awaitable[None]]
    """Raises Undelivered."""


class Couriers:
    """All receivers of one watch."""

    def __init__(self, receivers: Sequence[Receiver], complain: Callable[[str], None], grace: float = GRACE) -> None:
        """`complain` is told, in one sentence each, of whom nothing reaches."""
        self._couriers = [_Courier(receiver, complain) for receiver in receivers]
        self._grace = grace

    def send(self, payload: Payload) -> None:
        """Have everybody told who wants to be told of `payload["on"]`; returns at once. Wants a running event loop."""
        for courier in self._couriers:
            courier.take(payload)

    async def close(self) -> None:
        """Bring what still waits, for as long as the grace, and give up the rest."""
        tasks = [task for courier in self._couriers if (task := courier.ending()) is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for courier in self._couriers:
            courier.ended()


class _Courier:
    """The queue of one receiver, and the task that empties it."""

    def __init__(self, receiver: Receiver, complain: Callable[[str], None]) -> None:
        self._receiver = receiver
        self._complain = complain
        self._queue: deque[Payload] = deque()
        self._under_way: Payload | None = None
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lost = _Lost()
        """What was dropped since the last delivery."""
        self._ending = False
        self._failing = False

    def take(self, payload: Payload) -> None:
        if payload["on"] not in self._receiver.on or self._ending:
            return
        if len(self._queue) >= QUEUE:
            self._lost.add(self._queue.popleft())
        self._queue.append(payload)
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name=f"tell {self._receiver.name}")
        self._more.set()

    def ending(self) -> asyncio.Task[None] | None:
        """The task, which ends with its queue from now on; None where nobody was ever told anything."""
        self._ending = True
        self._more.set()
        return self._task

    def ended(self) -> None:
        """Say what was given up."""
        cut_off = [self._under_way] if self._under_way is not None else []
        for payload in (*cut_off, *self._queue):
            self._lost.add(payload)
        if self._lost.count:
            self._complain(f"{self._receiver.name}: {self._lost} did not arrive before the end")

    async def _work(self) -> None:
        while self._queue or not self._ending:
            if self._queue:
                self._under_way = self._queue.popleft()
                await self._bring(self._under_way)
                self._under_way = None
            else:
                self._more.clear()
                await self._more.wait()

    async def _bring(self, payload: Payload) -> None:
        dropped = self._lost.count
        if dropped:
            self._complain(f"{self._receiver.name} does not keep up: {self._lost} dropped")
            self._lost = _Lost()
        try:
            await self._receiver.deliver(json.dumps({**payload, "dropped": dropped}, ensure_ascii=False).encode())
        except Exception as error:  # whatever a receiver does, the others and the watch go on
            why = str(error) if isinstance(error, Undelivered) else f"{type(error).__name__}: {error}"
            if not self._failing:
                self._complain(f"{self._receiver.name} was not told: {why}; that is said once, until it works again")
            self._failing = True
        else:
            self._failing = False


class _Lost:
    """How many were lost, and the first of them: a receiver may hang for long."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, payload: Payload) -> None:
        self.count += 1
        if len(self._first) < _NAMED:
            self._first.append(f"{payload['on']} {payload['subject']}")

    def __str__(self) -> str:
        """`5 notifications (held server/fast, ...)`, the oldest first."""
        more = ", ..." if self.count > _NAMED else ""
        return f"{self.count} notification{'s' if self.count > 1 else ''} ({', '.join(self._first)}{more})"
