"""What older versions wrote is read, and upgraded in place by the first save."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.state_dir import StateDir
from reconciler.adapters.state_layout import VERSION
from reconciler.model.base import plain
from reconciler.model.ledger import EMPTY, Ledger, ServiceProof
from reconciler.model.problem import ReconcilerError

from .remembered import FULL, event, rows, version

LEDGER = "CREATE TABLE ledger (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT"
EVENTS = (
    "CREATE TABLE events (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, "
    "subject TEXT NOT NULL, text TEXT NOT NULL, action TEXT NOT NULL, reference TEXT NOT NULL, "
    "revision TEXT NOT NULL) STRICT"
)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def written(state: StateDir, document: Mapping[str, Any], number: int, *tables: str) -> None:
    """A database of an older layout."""
    state.root.mkdir(mode=0o700)
    with sqlite3.connect(state.database, isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for table in tables:
            connection.execute(table)
        connection.execute("INSERT INTO ledger VALUES ('ledger', ?)", (json.dumps(document),))
        connection.execute(f"PRAGMA user_version = {number}")
    connection.close()
    state.database.chmod(0o600)


def without(ledger: Ledger, *fields: str) -> dict[str, Any]:
    """The ledger as a version wrote it that did not know these fields."""
    return {name: value for name, value in plain(ledger).items() if name not in fields}


SINCE_3 = ("generations", "current", "pin", "source", "preflights")


def layout_1(state: StateDir, proofs: dict[str, object]) -> None:
    """The first one: no events, and proofs as the text of an instance."""
    document = without(FULL, "sources", "artifacts", "wishes", "reserved", *SINCE_3) | {"proofs": proofs}
    for suspension in document["suspensions"].values():
        del suspension["force"]
    written(state, document, 1, LEDGER)


def layout_2(state: StateDir) -> None:
    """The second one: generations as sets of artifacts, without a number or a content."""
    sets = [{"at": 1.0, "revision": "worktree:1", "artifacts": ["org/a@main c0ffee", "org/b@main recipe:12"]}]
    written(state, without(FULL, *SINCE_3) | {"generations": sets}, 2, LEDGER, EVENTS)
    values = (1.0, "failed", "server/fast", "old", "", "", "")
    columns = "at, kind, subject, text, action, reference, revision"
    rows(state.database, f"INSERT INTO events ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", *values)


@pytest.mark.parametrize("proofs", [{}, {"fast": "4711:5:1.0:abc"}], ids=["nothing proved", "proved"])
def test_the_first_layout_is_read_and_upgraded_by_a_save(state: StateDir, proofs: dict[str, object]) -> None:
    layout_1(state, proofs)
    content = state.database.read_bytes()
    assert replace(state.ledger(), proofs={}) == FULL
    assert (state.events(), state.content("0" * 64)) == ((), None)
    assert state.database.read_bytes() == content, "reading upgrades nothing"
    assert version(state.database) == 1
    later = replace(state.ledger(), leases={"fast": 8121})
    state.save(later, [event("first")])
    assert version(state.database) == VERSION
    assert state.ledger() == later
    assert [(found.number, found.text) for found in state.events()] == [(1, "first")]


@pytest.mark.fault("X19")
def test_x19_the_second_layout_is_read_and_upgraded_by_a_save(state: StateDir) -> None:
    layout_2(state)
    content = state.database.read_bytes()
    assert state.ledger() == FULL, "of its generations nothing can be brought back"
    assert [(found.number, found.text) for found in state.events()] == [(1, "old")]
    assert state.content("0" * 64) is None
    assert state.database.read_bytes() == content, "reading upgrades nothing"
    assert state.recover() is None
    assert version(state.database) == 2, "looking whether it is whole upgrades nothing either"
    state.save(state.ledger(), [event("new")])
    assert version(state.database) == VERSION
    assert state.ledger() == FULL
    assert [(found.number, found.text) for found in state.events()] == [(1, "old"), (2, "new")]
    assert rows(state.database, "SELECT * FROM contents") == []


def test_an_upgrade_that_is_cut_off_leaves_the_first_layout(state: StateDir) -> None:
    layout_1(state, {})
    rows(state.database, "CREATE TABLE events (something TEXT)")
    with pytest.raises(ReconcilerError) as caught:
        state.save(EMPTY, [event()])
    assert caught.value.reference == "state-unavailable", "it is not damaged, and not set aside"
    assert version(state.database) == 1
    assert state.ledger() == FULL


def test_a_proof_is_kept_with_its_time(state: StateDir) -> None:
    proved = replace(FULL, proofs={"fast": ServiceProof(instance="4711:5:1.0:abc", at=1e9 + 1 / 3)})
    state.save(proved)
    assert state.ledger() == proved
