"""What the tests of the state directory remember, and what they look at beside its own answers."""

import sqlite3
from pathlib import Path
from typing import Any, Final

from reconciler.model.event import Event, EventKind
from reconciler.model.ledger import Attempt, Ledger, Suspension
from reconciler.model.names import server_subject

FULL: Final = Ledger(
    attempts={
        "fast": Attempt(
            spec_hash="abc",
            cause="load-failed",
            count=3,
            first=1.5,
            last=2.25,
            retry_at=1e9 + 1 / 3,
            evidence="12:34",
            permanent=True,
            error="no \u202e such\nfile \U0001f600",
        )
    },
    suspensions={
        "deep": Suspension(since=1.0, reason="a person said so"),
        "vl": Suspension(since=2.0, reason="", until=3.0),
    },
    proved=frozenset({"fast", "deep"}),
    launched=frozenset({"deep"}),
    leases={"fast": 8120, "deep": 8100},
)


def event(text: str = "", at: float = 1.0) -> Event:
    """Something that happened."""
    return Event(
        at=at,
        kind=EventKind.FAILED,
        subject=server_subject("fast"),
        text=text,
        action="launch",
        reference="port-lost",
        revision="worktree:1",
    )


def rows(database: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """What a stranger finds in a database, or does to it."""
    connection = sqlite3.connect(database)
    try:
        with connection:
            return connection.execute(query, values).fetchall()
    finally:
        connection.close()


def version(database: Path) -> int:
    """The layout that a database says it has."""
    return int(rows(database, "PRAGMA user_version")[0][0])
