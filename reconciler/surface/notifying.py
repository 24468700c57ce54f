"""From the events of a watch to what the receivers of the host file are sent."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from typing import Any, Final

import click

from reconciler.model.document import FORMAT_VERSION
from reconciler.model.event import Event
from reconciler.model.problem import ReconcilerError
from reconciler.model.secret import redacted
from reconciler.planning.notices import Notice, notices
from reconciler.surface.render.text import printable

_LONGEST: Final = 1_000
"""Characters of one sentence; an error from a log can be long, and a pipe takes only so much."""

Send = Callable[[dict[str, Any]], None]


class Notifier:
    """Tells what happens while a watch runs."""

    def __init__(
        self,
        send: Send,
        close: Callable[[], Awaitable[None]],
        *,
        host: str,
        serving: Collection[str],
        generation: Callable[[], int],
    ) -> None:
        """`serving`: labels that serve now; `generation`: the one in force, 0 where none is known."""
        self._send = send
        self._close = close
        self._host = host
        self._serving = frozenset(serving)
        self._generation = generation

    def told(self, events: Iterable[Event]) -> None:
        """Send what of it somebody wants to know; returns at once, whatever becomes of it."""
        told, self._serving = notices(self._serving, events)
        if not told:
            return
        number = 0
        with suppress(ReconcilerError, OSError):
            number = self._generation()
        for notice in told:
            self._send(payload(notice, self._host, number))

    async def close(self) -> None:
        """Send what is still on its way, for a few seconds at most."""
        await self._close()


def payload(notice: Notice, host: str, generation: int) -> dict[str, Any]:
    """One notification. `text` alone is enough for a chat that takes no other key."""
    event = notice.event
    text = _cut(event.text)
    return {
        "format_version": FORMAT_VERSION,
        "type": "notification",
        "on": str(notice.on),
        "host": host,
        "subject": printable(event.subject),
        "text": f"{host}: {notice.on.spoken} {printable(event.subject)}: {text} [{event.reference}]",
        "reference": event.reference,
        "revision": event.revision,
        "generation": generation,
        "at": event.at,
    }


def complain(sentence: str) -> None:
    """What a person at the watch is told of a receiver that cannot be reached."""
    with suppress(OSError):
        click.echo(printable(sentence), err=True)


def _cut(text: str) -> str:
    plain = printable(redacted(text))
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}..."
