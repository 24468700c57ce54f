"""Which events somebody who does not watch should be told of: what needs a person, and what has just got worse."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from reconciler.model.base import noun
from reconciler.model.event import Event, EventKind
from reconciler.model.names import ENSEMBLE

from .fallback import HELD

_SERVER: Final = "server/"
_SOURCE: Final = "source/"
_ENDS: Final = ("launch", "stop")
"""Actions after which what served before does not any more."""


class Occasion(StrEnum):
    """What a notification can be about, as the host file names it."""

    HELD = "held"
    """A server failed too often, or in a way that a restart cannot mend."""
    DEGRADED = "degraded"
    """A server that served has failed; it is started again."""
    ROLLED_BACK = "rolled_back"
    BLOCKED = "blocked"
    """Anything else that only a person can settle."""
    PAUSED = "paused"
    """The newest revision of the source is not taken."""

    @property
    def spoken(self) -> str:
        """For people."""
        return self.value.replace("_", " ")


@noun
class Notice:
    """One event that is worth a notification."""

    on: Occasion
    event: Event


def notices(serving: frozenset[str], events: Iterable[Event]) -> tuple[tuple[Notice, ...], frozenset[str]]:
    """What to tell of these events, and the labels that serve after them.

    `serving` are those that served before: only of these a failure is a turn for the worse, and that only once.
    """
    told: list[Notice] = []
    for event in events:
        if (on := _occasion(serving, event)) is not None:
            told.append(Notice(on=on, event=event))
        serving = _serving(serving, event)
    return tuple(told), serving


def _occasion(serving: frozenset[str], event: Event) -> Occasion | None:
    if event.kind is EventKind.ROLLED_BACK:
        return Occasion.ROLLED_BACK
    if event.kind is EventKind.FAILED and event.subject == ENSEMBLE:
        return Occasion.DEGRADED
    if event.kind is EventKind.FAILED:
        return Occasion.DEGRADED if not event.action and _label(event) in serving else None
    if event.kind is not EventKind.BLOCKED:
        return None
    if event.subject.startswith(_SOURCE):
        return Occasion.PAUSED
    return Occasion.HELD if event.reference in HELD else Occasion.BLOCKED


def _serving(serving: frozenset[str], event: Event) -> frozenset[str]:
    label = _label(event)
    if label is None:
        return serving
    if event.kind is EventKind.PROVED:
        return serving | {label}
    failed = event.kind is EventKind.FAILED and not event.action
    ended = event.kind is EventKind.DONE and event.action in _ENDS
    return serving - {label} if failed or ended else serving


def _label(event: Event) -> str | None:
    return event.subject.removeprefix(_SERVER) if event.subject.startswith(_SERVER) else None
