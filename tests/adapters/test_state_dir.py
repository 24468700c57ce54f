"""The state directory on a real file system, with real SQLite."""

import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from reconciler.adapters import state_writing
from reconciler.adapters.state_dir import StateDir, default_root
from reconciler.adapters.state_layout import KEPT_EVENTS, VERSION
from reconciler.model.generation import Generation
from reconciler.model.ledger import EMPTY, Ledger
from reconciler.model.problem import ExitCode, ReconcilerError

from .remembered import FULL, event, rows


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


# -------------------------------------------------------------------------------------------------------------- events


def test_the_last_events_are_kept_and_numbers_go_on(state: StateDir) -> None:
    assert KEPT_EVENTS == 10_000
    state.save(EMPTY, [event(str(number)) for number in range(1, KEPT_EVENTS + 3)])
    state.save(FULL, [event("the last")])
    kept = state.events()
    assert [found.number for found in kept] == list(range(4, KEPT_EVENTS + 4))
    assert (kept[0].text, kept[-1].text) == ("4", "the last")
    assert [found.text for found in state.events(KEPT_EVENTS + 1)] == [str(KEPT_EVENTS + 2), "the last"]
    state.save(FULL, [event()] * KEPT_EVENTS)
    assert state.events()[0].number == KEPT_EVENTS + 4, "a number is given once"


@pytest.mark.fault("S31")
def test_any_text_of_a_stranger_is_kept(state: StateDir) -> None:
    """A name in the index of a downloaded model can be half a character: JSON lets it through."""
    texts = ["a\nb\0c\x1b[31m", "\u202e \U0001f600", "'; DROP TABLE events; --", "x" * 100_000, "\ud800.safetensors"]
    for text in texts:
        state.save(FULL, [event(text)])
    assert [found.text for found in state.events()][:-1] == texts[:-1]
    assert len(state.events()) == len(texts)
    assert state.ledger() == FULL


def test_neither_is_saved_where_one_cannot_be(state: StateDir) -> None:
    state.save(EMPTY, [event("first")])
    with sqlite3.connect(state.database) as held:
        held.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no more'); END")
    held.close()
    with pytest.raises(ReconcilerError):
        state.save(FULL, [event("second")])
    assert state.ledger() == EMPTY
    assert [found.text for found in state.events()] == ["first"]


def test_a_content_is_neither_kept_nor_lost_where_its_ledger_cannot_be_saved(state: StateDir) -> None:
    old, new = (replace(FULL, generations=(generation(content),)) for content in (b"old", b"new"))
    state.save(old, contents={named(b"old"): b"old"})
    rows(state.database, "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no more'); END")
    with pytest.raises(ReconcilerError):
        state.save(new, [event("second")], {named(b"new"): b"new"})
    assert state.ledger() == old
    assert (state.content(named(b"old")), state.content(named(b"new"))) == (b"old", None)


def test_reading_a_content_writes_nothing(state: StateDir) -> None:
    assert state.content(named(b"a")) is None
    assert not state.root.exists()
    state.save(replace(FULL, generations=(generation(b"a"),)), contents={named(b"a"): b"a"})
    before = {path.name: path.stat().st_mtime_ns for path in (state.root, *state.root.iterdir())}
    assert state.content(named(b"a")) == b"a"
    assert {path.name: path.stat().st_mtime_ns for path in (state.root, *state.root.iterdir())} == before


def named(content: bytes) -> str:
    return sha256(content).hexdigest()


def generation(content: bytes) -> Generation:
    return Generation(number=1, at=1.0, revision="r", content=named(content))


def test_neither_is_saved_while_another_writes(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_writing, "BUSY_SECONDS", 0.05)
    state.save(EMPTY, [event("first")])
    with sqlite3.connect(state.database, isolation_level=None) as held:
        held.execute("BEGIN IMMEDIATE")
        with pytest.raises(ReconcilerError) as caught:
            state.save(FULL, [event("second")])
        assert caught.value.reference == "state-unavailable"
        assert (state.ledger(), len(state.events())) == (EMPTY, 1)
    held.close()


def test_reading_events_writes_nothing(state: StateDir) -> None:
    assert state.events() == ()
    assert not state.root.exists()
    state.save(FULL, [event()])
    before = {path.name: path.stat().st_mtime_ns for path in (state.root, *state.root.iterdir())}
    assert len(state.events()) == 1
    assert {path.name: path.stat().st_mtime_ns for path in (state.root, *state.root.iterdir())} == before


def test_an_event_of_a_newer_version_is_left_out(state: StateDir) -> None:
    state.save(FULL, [event(), event()])
    with sqlite3.connect(state.database) as connection:
        connection.execute("UPDATE events SET kind = 'unheard-of' WHERE number = 1")
    connection.close()
    assert [found.number for found in state.events()] == [2]


@pytest.mark.req("S1-04")
def test_another_place_is_honoured_with_its_folders_made_and_a_folder_for_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "not" / "there" / "yet"
    monkeypatch.setenv("RECONCILER_STATE", str(named))
    StateDir().save(FULL)
    assert (named / "state.db").is_file()
    assert StateDir(named).ledger() == FULL
    monkeypatch.setenv("RECONCILER_STATE", str(tmp_path / "other"))
    (tmp_path / "other" / "state.db").mkdir(mode=0o700, parents=True)
    (tmp_path / "other").chmod(0o700)
    with pytest.raises(ReconcilerError) as caught:
        StateDir().save(FULL)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert str(tmp_path / "other") in caught.value.message
    assert list((tmp_path / "other" / "state.db").iterdir()) == []
    assert StateDir(named).ledger() == FULL
