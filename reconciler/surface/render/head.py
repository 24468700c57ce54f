"""What a status says first: what stands still because somebody said so, or because the source is not trusted."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from reconciler.model.base import plain
from reconciler.model.source import shown
from reconciler.model.status_document import PinEntry, SourceEntry, StatusDocument, SuspensionEntry
from reconciler.model.units import spoken
from reconciler.surface.render.text import printable


def lines(document: StatusDocument) -> Iterator[str]:
    """One line for each suspension that was said at once, for the pin, and for a source that is paused."""
    said: dict[SuspensionEntry, list[str]] = {}
    for entry in document.suspensions:
        said.setdefault(_unlabelled(entry), []).append(entry.label)
    for entry, labels in said.items():
        yield printable(_suspended(entry, labels, document.at))
    if document.pin is not None:
        yield printable(_pinned(document.pin))
    if document.source.paused:
        yield printable(_paused(document.source))
    if document.source.uncommitted:
        edits = ", ".join(document.source.uncommitted)
        yield printable(f"not committed, and so ignored: edits of {edits}")


def following(document: StatusDocument, *, watched: bool) -> str:
    """What is held against the machine, and whether a watch keeps it so."""
    source = document.source
    revision = shown(source.revision)
    if not watched and document.pin is not None:
        return printable(f"no watch runs; compared with generation {document.pin.number}, which is pinned")
    if not watched:
        return printable(f"no watch runs; compared with {document.file} at {revision}")
    number = f", generation {document.generation}" if document.generation else ""
    followed = source.ref if source.mode == "commit" else document.file
    if document.pin is not None:
        return printable(f"kept at {revision}{number}, while {followed} is at {shown(document.pin.bad)}")
    return printable(f"following {followed} at {revision}{number}")


def data(document: StatusDocument) -> Iterator[dict[str, Any]]:
    """The same for a script."""
    for entry in document.suspensions:
        yield {"type": "suspension", **plain(entry)}
    if document.pin is not None:
        yield {"type": "pin", **plain(document.pin)}
    if document.source.paused:
        yield {"type": "paused", **plain(document.source)}


def _unlabelled(entry: SuspensionEntry) -> SuspensionEntry:
    return SuspensionEntry(label="", since=entry.since, reason=entry.reason, until=entry.until, by=entry.by)


def _suspended(entry: SuspensionEntry, labels: list[str], now: float) -> str:
    end = "has no end: reconciler start"
    if entry.until is not None:
        end = f"{spoken(max(0.0, entry.until - now))} left, until {_when(entry.until)}"
    who = f"{entry.by}, " if entry.by else ""
    return f"suspended {', '.join(labels)}: {entry.reason} ({who}{_when(entry.since)}); {end}"


def _pinned(pin: PinEntry) -> str:
    who = "by itself" if pin.automatic else "a person"
    proved = "" if pin.proved_at is not None else ", not proved yet"
    return (
        f"pinned to generation {pin.number}{proved}: {pin.reason} ({who}, {_when(pin.at)}); "
        f"until something newer than {shown(pin.bad) or 'what is declared now'} is declared"
    )


def _paused(source: SourceEntry) -> str:
    hint = f"; {source.hint}" if source.hint else ""
    return f"paused source/{source.mode} at {shown(source.revision)}: {source.reason}{hint} [{source.reference}]"


def _when(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment).astimezone():%Y-%m-%d %H:%M}"
