"""The tables of the state directory's database, and what one save writes into them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from reconciler.model.base import noun
from reconciler.model.event import Event, EventKind
from reconciler.model.ledger import Ledger

from .ledger_text import written

if TYPE_CHECKING:
    import sqlite3

VERSION: Final = 3
"""`user_version` of the layout that this code writes; 0 is a database whose first write never ended."""
KEPT_EVENTS: Final = 10_000
KEY: Final = "ledger"
COLUMNS: Final = ("at", "kind", "subject", "text", "action", "reference", "revision")
"""Of an event, without its number."""
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS ledger (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, "
    "kind TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL, action TEXT NOT NULL, reference TEXT NOT NULL, "
    "revision TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS contents (digest TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT",
)
"""Those of older layouts are part of the newer ones, so that an upgrade only adds."""


@noun
class Entry:
    """What one save writes, all or nothing."""

    ledger: Ledger
    events: Sequence[Event]
    """They get their numbers here."""
    contents: Mapping[str, bytes]
    history: Sequence[Event] = ()
    """Events of an older database, which keep their numbers."""


def write(connection: "sqlite3.Connection", entry: Entry, version: int) -> None:
    """Write an entry into a database of some older layout or of this one; within a transaction."""
    if version < VERSION:
        for table in _TABLES:
            connection.execute(table)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("INSERT OR REPLACE INTO ledger (key, value) VALUES (?, ?)", (KEY, written(entry.ledger)))
    _write_contents(connection, entry)
    if entry.history or entry.events:
        _write_events(connection, entry)


def _write_contents(connection: "sqlite3.Connection", entry: Entry) -> None:
    """Keep those that the ledger names, and no other."""
    kept = sorted(named(entry.ledger))
    new = [(digest, entry.contents[digest]) for digest in kept if digest in entry.contents]
    connection.executemany("INSERT OR REPLACE INTO contents (digest, bytes) VALUES (?, ?)", new)
    connection.execute(f"DELETE FROM contents WHERE digest NOT IN ({', '.join('?' * len(kept))})", kept)


def _write_events(connection: "sqlite3.Connection", entry: Entry) -> None:
    columns, places = ", ".join(("number", *COLUMNS)), ", ".join("?" * (len(COLUMNS) + 1))
    numbered = [(event.number, event) for event in entry.history]
    rows: list[tuple[int | None, Event]] = [*numbered, *((None, event) for event in entry.events)]
    connection.executemany(
        f"INSERT INTO events ({columns}) VALUES ({places})",
        [(number, *(_storable(getattr(event, name)) for name in COLUMNS)) for number, event in rows],
    )
    connection.execute("DELETE FROM events WHERE number <= (SELECT MAX(number) FROM events) - ?", (KEPT_EVENTS,))


def named(ledger: Ledger) -> frozenset[str]:
    """Digests of the contents that a ledger may go back to."""
    digests = {generation.content for generation in ledger.generations}
    digests |= {part.content for part in (ledger.pin, ledger.source) if part is not None}
    return frozenset(digests - {""})


def events(rows: Iterable[tuple[Any, ...]]) -> Iterator[Event]:
    """Events from their columns and number; one of a kind that only a newer version knows is left out."""
    kinds = {kind.value: kind for kind in EventKind}
    for row in rows:
        fields = dict(zip((*COLUMNS, "number"), row, strict=True))
        if fields["kind"] in kinds:
            yield Event(**{**fields, "kind": kinds[fields["kind"]]})


def _storable(value: object) -> object:
    """Text of a stranger as SQLite takes it: half a surrogate pair can stand in a file name, and not in UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
