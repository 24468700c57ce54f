"""The state directory on a real file system, with real SQLite."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.adapters.state_dir import VERSION, StateDir, default_root
from reconciler.model.ledger import EMPTY, Attempt, Ledger, Suspension
from reconciler.model.problem import ExitCode, ReconcilerError

FULL = Ledger(
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


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state dir #1?%")


def refused(state: StateDir) -> ReconcilerError:
    with pytest.raises(ReconcilerError) as caught:
        state.ledger()
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("ledger", [EMPTY, FULL])
def test_what_was_saved_is_read(state: StateDir, ledger: Ledger) -> None:
    state.save(ledger)
    assert state.ledger() == ledger
    assert StateDir(state.root).ledger() == ledger


def test_the_last_one_counts(state: StateDir) -> None:
    state.save(FULL)
    state.save(EMPTY)
    assert state.ledger() == EMPTY


def test_reading_what_is_not_there_leaves_no_trace(state: StateDir) -> None:
    assert state.ledger() == EMPTY
    assert not state.root.exists()


def test_reading_writes_nothing(state: StateDir) -> None:
    state.save(FULL)
    before = {path.name: path.stat().st_mtime_ns for path in (state.root, *state.root.iterdir())}
    assert state.ledger() == FULL
    assert {path.name: path.stat().st_mtime_ns for path in (state.root, *state.root.iterdir())} == before
    assert set(before) == {state.root.name, "state.db"}


def test_a_writer_that_has_not_closed_is_read_through_its_log(state: StateDir) -> None:
    state.save(EMPTY)
    with sqlite3.connect(state.database, isolation_level=None) as held:
        held.execute("PRAGMA wal_autocheckpoint = 0")
        held.execute("SELECT * FROM ledger").fetchall()
        state.save(FULL)
        assert state.ledger() == FULL
    held.close()


def test_a_writer_that_was_killed_in_a_transaction(state: StateDir) -> None:
    state.save(FULL)
    program = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('BEGIN IMMEDIATE')\n"
        "c.execute('DELETE FROM ledger')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, state.database], check=False)
    assert state.ledger() == FULL
    state.save(EMPTY)
    assert state.ledger() == EMPTY


@pytest.mark.fault("S18")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_s18_it_is_its_owners_alone(state: StateDir, umask: int) -> None:
    before = os.umask(umask)
    try:
        state.save(FULL)
        with sqlite3.connect(state.database, isolation_level=None) as held:
            held.execute("SELECT * FROM ledger").fetchall()
            state.save(FULL)
            modes = {path.name: path.stat().st_mode & 0o777 for path in state.root.iterdir()}
        held.close()
    finally:
        os.umask(before)
    assert state.root.stat().st_mode & 0o777 == 0o700
    assert set(modes) == {"state.db", "state.db-wal", "state.db-shm"}
    assert set(modes.values()) == {0o600}


@pytest.mark.fault("S18")
def test_s18_a_directory_that_others_may_write_is_refused(state: StateDir) -> None:
    state.root.mkdir()
    state.root.chmod(0o777)
    with pytest.raises(ReconcilerError) as caught:
        state.save(FULL)
    assert (caught.value.reference, caught.value.code) == ("state-untrusted", ExitCode.ENVIRONMENT)
    assert list(state.root.iterdir()) == []


@pytest.mark.fault("S19")
def test_s19_a_planted_link_is_not_followed(state: StateDir, tmp_path: Path) -> None:
    state.root.mkdir(mode=0o700)
    state.database.symlink_to(tmp_path / "victim")
    with pytest.raises(ReconcilerError):
        state.save(FULL)
    assert not (tmp_path / "victim").exists()


def test_a_newer_layout_is_left_alone(state: StateDir) -> None:
    state.save(FULL)
    with sqlite3.connect(state.database) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    content = state.database.read_bytes()
    error = refused(state)
    assert (error.reference, error.code) == ("state-too-new", ExitCode.ENVIRONMENT)
    with pytest.raises(ReconcilerError) as caught:
        state.save(EMPTY)
    assert caught.value.reference == "state-too-new"
    assert state.database.read_bytes() == content


@pytest.mark.parametrize("content", [b"no database at all, " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_named(state: StateDir, content: bytes) -> None:
    state.root.mkdir(mode=0o700)
    state.database.write_bytes(content)
    error = refused(state)
    assert (error.reference, error.code) == ("state-corrupt", ExitCode.ENVIRONMENT)
    assert str(state.database) in error.message
    assert str(state.database) in error.hint
    with pytest.raises(ReconcilerError):
        state.save(FULL)
    assert state.database.read_bytes() == content


@pytest.mark.parametrize("value", ["", "{}", "[]", "null", '{"attempts": {"a": {"colour": 1}}}'])
def test_a_ledger_that_nobody_wrote_is_damage(state: StateDir, value: str) -> None:
    state.save(FULL)
    with sqlite3.connect(state.database) as connection:
        connection.execute("UPDATE ledger SET value = ?", (value,))
    connection.close()
    assert refused(state).reference == "state-corrupt"


def test_a_lost_table_is_damage(state: StateDir) -> None:
    state.save(FULL)
    with sqlite3.connect(state.database) as connection:
        connection.execute("DROP TABLE ledger")
    connection.close()
    assert refused(state).reference == "state-corrupt"


def test_a_database_whose_first_write_never_ended_is_empty(state: StateDir) -> None:
    state.root.mkdir(mode=0o700)
    state.database.touch(0o600)
    assert state.ledger() == EMPTY
    state.save(FULL)
    assert state.ledger() == FULL


def test_a_folder_in_its_place(state: StateDir) -> None:
    state.database.mkdir(parents=True)
    assert refused(state).code is ExitCode.ENVIRONMENT


@pytest.mark.skipif(sys.platform != "linux", reason="needs a device that is always full")
def test_a_full_disk_is_not_damage(state: StateDir) -> None:
    if shutil.disk_usage("/dev/shm").total == 0:
        pytest.skip("no /dev/shm")
    state.root.mkdir(mode=0o700)
    state.database.symlink_to("/dev/full")
    with pytest.raises(ReconcilerError) as caught:
        state.save(FULL)
    assert caught.value.reference == "state-unavailable"


@pytest.mark.parametrize(
    ("environ", "platform", "root"),
    [
        ({}, "linux", "{home}/.local/state/reconciler"),
        ({"XDG_STATE_HOME": "/x"}, "linux", "/x/reconciler"),
        ({"XDG_STATE_HOME": "relative"}, "linux", "{home}/.local/state/reconciler"),
        ({}, "darwin", "{home}/Library/Application Support/reconciler"),
        ({"XDG_STATE_HOME": "/x"}, "darwin", "{home}/Library/Application Support/reconciler"),
        ({"RECONCILER_STATE": "/s", "XDG_STATE_HOME": "/x"}, "linux", "/s"),
        ({"RECONCILER_STATE": "~/s"}, "darwin", "{home}/s"),
    ],
)
def test_where_it_is(environ: dict[str, str], platform: str, root: str) -> None:
    assert default_root(environ, platform) == Path(root.format(home=os.path.expanduser("~")))


def test_the_environment_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_STATE", str(tmp_path))
    assert StateDir().root == tmp_path
