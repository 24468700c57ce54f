"""A database that is not what was written: set aside, and begun anew from what can still be known."""

import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from reconciler.adapters import state_damage
from reconciler.adapters.records import Record, Run
from reconciler.adapters.state_dir import StateDir
from reconciler.adapters.state_layout import VERSION
from reconciler.model.event import EventKind
from reconciler.model.generation import Generation
from reconciler.model.ledger import EMPTY
from reconciler.model.names import ENSEMBLE
from reconciler.model.problem import ExitCode, ReconcilerError

from .remembered import FULL, event, rows, version

NOW = 1_700_000_000.0
CONTENT = b'{"format":1}' * 3000
DIGEST = sha256(CONTENT).hexdigest()
ENTERED = replace(FULL, generations=(Generation(number=4, at=1.0, revision="a" * 40, content=DIGEST),), current=4)
OTHERS = [b"no database at all, " * 100, b"SQLite format 3\0" + b"\xff" * 5000]


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state", lambda: NOW)


def saved(state: StateDir) -> bytes:
    """A state with something of everything; the bytes of its database."""
    state.save(ENTERED, [event("first"), event("second")], {DIGEST: CONTENT})
    return state.database.read_bytes()


def launched(state: StateDir, label: str, port: int, generation: int = 0) -> None:
    """A server was started, and its record says so."""
    run = Run(str(state.root), label)
    run.prepare()
    run.write(
        Record(
            label=label,
            port=port,
            host="127.0.0.1",
            token="t",
            boot_id="b",
            spec_hash="s",
            fields={},
            artifact="a",
            served_name="n",
            memory=1,
            since=1.0,
            log="",
            log_start=0,
            argv=(),
            generation=generation,
        )
    )


def refused(do: Callable[[], object]) -> ReconcilerError:
    with pytest.raises(ReconcilerError) as caught:
        do()
    assert (caught.value.reference, caught.value.code) == ("state-corrupt", ExitCode.ENVIRONMENT)
    return caught.value


def aside(state: StateDir, number: int = 1) -> Path:
    return state.root / f"state.db.damaged-{number}"


def overwrite(state: StateDir, offset: int, content: bytes) -> None:
    """Other bytes at one place, as a bad disk would have them."""
    with state.database.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def root_page(state: StateDir, table: str) -> int:
    """Where the pages of a table begin."""
    size = int(rows(state.database, "PRAGMA page_size")[0][0])
    page = int(rows(state.database, "SELECT rootpage FROM sqlite_schema WHERE name = ?", table)[0][0])
    return (page - 1) * size


# ------------------------------------------------------------------------------------------------------ who only reads


@pytest.mark.parametrize("content", OTHERS)
def test_who_only_reads_says_so_and_touches_nothing(state: StateDir, content: bytes) -> None:
    state.root.mkdir(mode=0o700)
    state.database.write_bytes(content)
    for read in (state.ledger, state.events, lambda: state.content("0" * 64)):
        error = refused(read)
        assert str(state.database) in error.message
        assert str(aside(state)) in error.hint
    assert os.listdir(state.root) == ["state.db"]
    assert state.database.read_bytes() == content


@pytest.mark.parametrize(
    "value", ["", "{}", "[]", "null", '{"attempts": {"a": {"colour": 1}}}', b"\xff\xfe{}"], ids=repr
)
def test_a_ledger_that_nobody_wrote_is_damage(state: StateDir, value: str | bytes) -> None:
    saved(state)
    rows(state.database, "UPDATE ledger SET value = CAST(? AS TEXT)", value)
    refused(state.ledger)
    assert [found.text for found in state.events()] == ["first", "second"]
    lost = state.recover()
    assert lost is not None
    assert state.ledger() == EMPTY
    assert [found.text for found in state.events()] == ["first", "second", lost.text], "what can be read is kept"


@pytest.mark.parametrize("table", ["ledger", "events", "contents"])
def test_a_lost_table_is_damage(state: StateDir, table: str) -> None:
    saved(state)
    rows(state.database, f"DROP TABLE {table}")
    reads: dict[str, Callable[[], object]] = {
        "ledger": state.ledger,
        "events": state.events,
        "contents": lambda: state.content(DIGEST),
    }
    refused(reads.pop(table))
    for read in reads.values():
        assert read()
    assert state.recover() is not None
    assert state.recover() is None


def test_a_content_that_is_not_what_its_name_says_is_not_given(state: StateDir) -> None:
    saved(state)
    assert state.content(DIGEST) == CONTENT
    rows(state.database, "UPDATE contents SET bytes = ?", CONTENT[:-1] + b"!")
    assert state.content(DIGEST) is None
    assert state.recover() is None, "one content less is no damage of the rest"


# --------------------------------------------------------------------------------------------------- the start of a run


def test_nothing_is_done_about_what_is_whole_or_not_there(state: StateDir) -> None:
    assert state.recover() is None
    assert not state.root.exists()
    before = saved(state)
    assert state.recover() is None
    assert state.database.read_bytes() == before
    assert os.listdir(state.root) == ["state.db"]


def test_a_database_whose_first_write_never_ended_is_whole(state: StateDir) -> None:
    state.root.mkdir(mode=0o700)
    state.database.touch(0o600)
    assert state.recover() is None


@pytest.mark.fault("X19")
def test_x19_a_newer_layout_is_left_alone(state: StateDir) -> None:
    saved(state)
    rows(state.database, f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(ReconcilerError) as caught:
        state.recover()
    assert (caught.value.reference, caught.value.code) == ("state-too-new", ExitCode.ENVIRONMENT)
    assert version(state.database) == VERSION + 1
    assert os.listdir(state.root) == ["state.db"]


@pytest.mark.parametrize("content", OTHERS)
def test_it_is_kept_beside_and_begun_anew_from_the_run_records(state: StateDir, content: bytes) -> None:
    saved(state)
    launched(state, "fast", 8120, generation=7)
    launched(state, "deep", 8100, generation=5)
    (state.root / "run" / "torn.json").write_text('{"version": 1, "port"')
    (state.root / "run" / "loop.json").symlink_to("loop.json")
    state.database.write_bytes(content)
    lost = state.recover()
    assert aside(state).read_bytes() == content
    assert state.ledger() == replace(
        EMPTY, launched=frozenset({"fast", "deep"}), leases={"fast": 8120, "deep": 8100}, current=7
    )
    assert lost is not None
    assert (lost.kind, lost.subject, lost.reference, lost.at) == (EventKind.FAILED, ENSEMBLE, "state-damaged", NOW)
    for word in ("suspensions", "pins", "generations", "counted failures", "earlier events", "state.db.damaged-1"):
        assert word in lost.text
    assert "\n" not in lost.text
    assert state.events() == (replace(lost, number=1),)
    assert state.recover() is None


def test_it_is_its_owners_alone(state: StateDir) -> None:
    saved(state)
    overwrite(state, 0, b"x" * 100)
    before = os.umask(0)
    try:
        state.recover()
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in state.root.iterdir()} == {
        "state.db": 0o600,
        "state.db.damaged-1": 0o600,
    }


def test_what_is_beside_it_goes_with_it(state: StateDir) -> None:
    """The log of a database would be played into the one that takes its place."""
    saved(state)
    for end in state_damage.BESIDE:
        Path(f"{state.database}{end}").write_bytes(end.encode())
    overwrite(state, 0, b"x" * 100)
    assert state.recover() is not None
    for end in state_damage.BESIDE:
        assert not Path(f"{state.database}{end}").exists()
        assert Path(f"{aside(state)}{end}").exists()
    state.save(FULL)
    assert state.ledger() == FULL


def test_every_one_of_them_is_kept(state: StateDir) -> None:
    for number in (1, 2, 3):
        state.root.mkdir(mode=0o700, exist_ok=True)
        state.database.write_bytes(OTHERS[0] + bytes([number]))
        assert state.recover() is not None
        assert aside(state, number).read_bytes()[-1] == number


def test_lost_events_cost_nothing_else(state: StateDir) -> None:
    saved(state)
    overwrite(state, root_page(state, "events"), b"\xee" * 4096)
    assert state.ledger() == ENTERED
    refused(state.events)
    lost = state.recover()
    assert lost is not None
    assert "lost: earlier events" in lost.text
    assert "suspensions" not in lost.text
    assert state.ledger() == ENTERED
    assert state.content(DIGEST) == CONTENT
    assert state.events() == (replace(lost, number=1),)


def test_lost_contents_cost_nothing_else(state: StateDir) -> None:
    saved(state)
    overwrite(state, root_page(state, "contents"), b"\xee" * 4096)
    lost = state.recover()
    assert lost is not None
    assert "lost: what generations consisted of" in lost.text
    assert state.ledger() == ENTERED
    assert state.content(DIGEST) is None
    assert [found.text for found in state.events()] == ["first", "second", lost.text]


@pytest.mark.fault("X19")
def test_x19_half_of_a_file_is_damage(state: StateDir) -> None:
    whole = saved(state)
    os.truncate(state.database, len(whole) // 2)
    lost = state.recover()
    assert lost is not None
    assert state.recover() is None
    state.save(FULL, [event("on")])
    assert state.ledger() == FULL
    assert state.events()[-1].text == "on"


# --------------------------------------------------------------------------------------------------------- in the midst


@pytest.mark.parametrize("content", OTHERS)
def test_a_save_that_meets_it_loses_nothing_that_it_was_given(state: StateDir, content: bytes) -> None:
    saved(state)
    launched(state, "fast", 8199, generation=9)
    state.database.write_bytes(content)
    state.save(ENTERED, [event("third")], {DIGEST: CONTENT})
    assert aside(state).read_bytes() == content
    assert state.ledger() == ENTERED, "what is in memory is more than any record says"
    assert state.content(DIGEST) == CONTENT
    third, lost = state.events()
    assert (third.text, lost.reference) == ("third", "state-damaged")
    assert "lost: earlier events" in lost.text
    assert version(state.database) == VERSION


def test_a_save_that_meets_it_keeps_what_can_be_read(state: StateDir) -> None:
    saved(state)
    overwrite(state, root_page(state, "ledger"), b"\xee" * 4096)
    later = replace(ENTERED, leases={"fast": 8121})
    state.save(later, [event("third")])
    assert state.ledger() == later
    assert state.content(DIGEST) == CONTENT
    found = state.events()
    assert [(one.number, one.text) for one in found[:3]] == [(1, "first"), (2, "second"), (3, "third")]
    assert found[3].text.endswith("nothing was lost")


def test_it_stays_where_it_is_while_nothing_can_be_written(state: StateDir) -> None:
    saved(state)
    state.database.write_bytes(OTHERS[0])
    (state.root / "state.db.new").mkdir()
    for do in (state.recover, lambda: state.save(FULL)):
        with pytest.raises(ReconcilerError) as caught:
            do()
        assert caught.value.code is ExitCode.ENVIRONMENT
        assert state.database.read_bytes() == OTHERS[0]
        assert not aside(state).exists()
    (state.root / "state.db.new").rmdir()
    assert state.recover() is not None


def test_one_that_was_cut_off_is_begun_again(state: StateDir) -> None:
    """A kill leaves the new one beside, or the damaged one under both names."""
    saved(state)
    state.database.write_bytes(OTHERS[0])
    (state.root / "state.db.new").write_bytes(b"half of it")
    os.link(state.database, aside(state))
    assert state.recover() is not None
    assert aside(state, 2).read_bytes() == OTHERS[0]
    assert sorted(os.listdir(state.root)) == ["state.db", "state.db.damaged-1", "state.db.damaged-2"]
    assert state.recover() is None


@pytest.mark.parametrize("spoil", ["no room", "locked"])
def test_what_only_cannot_be_written_now_is_not_set_aside(
    state: StateDir, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(state)
    connection = sqlite3.connect(state.database, isolation_level=None)
    try:
        if spoil == "locked":
            monkeypatch.setattr("reconciler.adapters.state_writing.BUSY_SECONDS", 0.05)
            connection.execute("BEGIN IMMEDIATE")
        else:
            connection.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'full'); END")
        with pytest.raises(ReconcilerError) as caught:
            state.save(EMPTY, [event("third")])
    finally:
        connection.close()
    assert caught.value.reference == "state-unavailable"
    assert not aside(state).exists()
    assert state.ledger() == ENTERED


def test_a_planted_link_is_not_followed(state: StateDir, tmp_path: Path) -> None:
    state.root.mkdir(mode=0o700)
    victim = tmp_path / "victim"
    victim.write_bytes(OTHERS[0])
    state.database.symlink_to(victim)
    with pytest.raises(ReconcilerError):
        state.save(FULL)
    state.recover()
    assert victim.read_bytes() == OTHERS[0]
    assert not state.database.is_symlink()
