"""Events as lines: for a person who is watching, for a person who looks back, and for a script."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from reconciler.model.base import plain
from reconciler.model.event import Event, EventKind
from reconciler.surface.render.text import printable


def line(event: Event) -> str:
    """What a person sees while it happens."""
    match event.kind:
        case EventKind.STARTED:
            said = f"{event.action} {event.subject}: {event.text}"
        case EventKind.WAITING:
            said = f"wait {event.subject}: {event.text}"
        case EventKind.FAILED:
            said = f"failed {event.action or event.subject}"
            said += f" {event.subject}" if event.action else ""
            said += f": {event.text} [{event.reference}]"
        case EventKind.BLOCKED:
            said = f"blocked {event.subject}: {event.text} [{event.reference}]"
        case (
            EventKind.REVISION
            | EventKind.PROGRESS
            | EventKind.WISHED
            | EventKind.DONE
            | EventKind.PROVED
            | EventKind.CLEARED
            | EventKind.SUSPENDED
            | EventKind.RESUMED
            | EventKind.RETRIED
            | EventKind.ACCEPTED
            | EventKind.UNCOMMITTED
            | EventKind.DRIFTED
            | EventKind.ROLLING_BACK
            | EventKind.ROLLED_BACK
            | EventKind.SETTLED
        ):
            said = f"{event.kind} {event.subject}: {event.text}"
    return printable(said)


def dated(event: Event) -> str:
    """What a person sees who looks back: with the local time."""
    when = datetime.fromtimestamp(event.at).astimezone()
    return f"{when:%Y-%m-%d %H:%M:%S}  {line(event)}"


def data(event: Event) -> dict[str, Any]:
    """What a script reads."""
    return {"type": "event", **plain(event)}


def spoken(events: Iterable[Event]) -> Iterator[Event]:
    """Those that are worth a line while they happen: an end shows in what is done next."""
    return (event for event in events if event.kind is not EventKind.DONE)
