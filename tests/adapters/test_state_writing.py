"""One connection for many saves: as durable as one for each, and never to a file that is not there any more."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from reconciler.adapters.state_dir import StateDir
from reconciler.adapters.state_layout import VERSION, Entry
from reconciler.adapters.state_writing import Writing
from reconciler.model.event import EventKind
from reconciler.model.generation import Generation
from reconciler.model.ledger import EMPTY
from reconciler.model.problem import ReconcilerError

from .remembered import FULL, event, rows

CONTENT = b'{"format":1}' * 3000
DIGEST = sha256(CONTENT).hexdigest()
ENTERED = replace(FULL, generations=(Generation(number=4, at=1.0, revision="a" * 40, content=DIGEST),), current=4)
LOG = "state.db-wal"


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state", lambda: 2.0)


@pytest.fixture
def kept(state: StateDir) -> Iterator[StateDir]:
    """One that keeps its connection, with something of everything in it."""
    with state.kept_open():
        state.save(ENTERED, [event("first")], {DIGEST: CONTENT})
        yield state


def texts(state: StateDir) -> list[str]:
    return [found.text for found in state.events()]


def test_all_saves_go_over_one_connection_that_is_closed_at_the_end(state: StateDir) -> None:
    with state.kept_open():
        logs = []
        for text in ("first", "second", "third"):
            state.save(FULL, [event(text)])
            logs.append((state.root / LOG).stat())
        assert len({log.st_ino for log in logs}) == 1
        assert logs[0].st_size < logs[1].st_size < logs[2].st_size
    assert os.listdir(state.root) == ["state.db"]
    assert texts(state) == ["first", "second", "third"]
    state.save(EMPTY)
    assert os.listdir(state.root) == ["state.db"]


def test_others_see_every_save_at_once(kept: StateDir) -> None:
    stranger = StateDir(kept.root)
    for number in range(5):
        kept.save(replace(ENTERED, leases={"fast": number}), [event(str(number))])
        assert stranger.ledger().leases == {"fast": number}
        assert texts(stranger)[-1] == str(number)
    assert stranger.content(DIGEST) == CONTENT
    assert stranger.damage() == ""


def test_it_is_its_owners_alone(kept: StateDir) -> None:
    assert {path.stat().st_mode & 0o777 for path in kept.root.iterdir()} == {0o600}


def test_what_was_saved_before_a_kill_is_there_after_it(state: StateDir) -> None:
    program = (
        "import os, sys\n"
        "from reconciler.adapters.state_dir import StateDir\n"
        "from reconciler.model.ledger import EMPTY\n"
        "from dataclasses import replace\n"
        "state = StateDir(sys.argv[1])\n"
        "with state.kept_open():\n"
        "    for port in range(50):\n"
        "        state.save(replace(EMPTY, leases={'fast': port}))\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, state.root], check=False)
    assert (state.root / LOG).exists()
    assert state.ledger().leases == {"fast": 49}
    with state.kept_open():
        state.save(FULL)
    assert StateDir(state.root).ledger() == FULL


def test_f32_nothing_is_lost_with_a_database_that_is_removed_under_a_watch(kept: StateDir) -> None:
    for path in kept.root.iterdir():
        path.unlink()
    [told] = kept.save(replace(ENTERED, leases={"fast": 1}), [event("second")])
    assert kept.ledger() == replace(ENTERED, leases={"fast": 1})
    assert kept.content(DIGEST) == CONTENT
    first, second, said = kept.events()
    assert (first.text, second.text) == ("first", "second")
    assert (said.kind, said.reference) == (EventKind.DRIFTED, "state-removed")
    assert replace(said, number=0) == told, "who saves can tell it"
    assert kept.save(ENTERED) == ()
    assert "nothing was lost" in said.text
    assert {path.stat().st_mode & 0o777 for path in kept.root.iterdir()} == {0o600}
    kept.save(FULL, [event("third")])
    assert texts(StateDir(kept.root))[-1] == "third"


def test_nothing_is_lost_with_the_whole_directory_either(kept: StateDir) -> None:
    shutil.rmtree(kept.root)
    kept.save(ENTERED, [event("second")])
    assert texts(kept)[:2] == ["first", "second"]
    assert kept.content(DIGEST) == CONTENT
    assert kept.root.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("rests", [True, False])
def test_one_that_is_put_in_its_place_is_written_and_not_the_one_that_was_open(
    kept: StateDir, tmp_path: Path, rests: bool
) -> None:
    if rests:
        kept.rest()
    other = StateDir(tmp_path / "backup")
    other.save(EMPTY, [event("older")])
    shutil.copy(other.database, tmp_path / "copy")
    os.replace(tmp_path / "copy", kept.database)
    kept.save(FULL, [event("second")])
    assert kept.ledger() == FULL
    assert texts(kept) == ["older", "second"]
    assert kept.damage() == ""


def test_at_rest_everything_is_in_the_database_itself(kept: StateDir, tmp_path: Path) -> None:
    kept.rest()
    assert (kept.root / LOG).stat().st_size == 0
    shutil.copy(kept.database, tmp_path / "state.db")
    assert StateDir(tmp_path).ledger() == ENTERED
    kept.save(FULL, [event("second")])
    assert texts(StateDir(kept.root)) == ["first", "second"]
    kept.rest()
    kept.rest()
    assert (StateDir(kept.root).ledger(), kept.damage()) == (FULL, "")


def test_a_reader_keeps_nobody_from_resting(kept: StateDir) -> None:
    reader = sqlite3.connect(kept.database, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM ledger").fetchall()
    kept.save(FULL)
    kept.rest()
    assert (kept.root / LOG).stat().st_size > 0
    reader.close()
    kept.rest()
    assert (kept.root / LOG).stat().st_size == 0
    assert kept.ledger() == FULL


def test_a_log_that_is_removed_takes_nothing_with_it(kept: StateDir) -> None:
    (kept.root / LOG).unlink()
    kept.save(ENTERED, [event("second")])
    assert texts(StateDir(kept.root)) == ["first", "second"]
    assert kept.damage() == ""


@pytest.mark.parametrize("rests", [True, False])
def test_what_is_damaged_in_its_place_is_seen_by_the_next_save_and_kept_as_it_is(kept: StateDir, rests: bool) -> None:
    if rests:
        kept.rest()
    noise = b"no database at all, " * 4000
    kept.database.write_bytes(noise)
    kept.save(ENTERED, [event("second")], {DIGEST: CONTENT})
    assert kept.ledger() == ENTERED
    assert kept.content(DIGEST) == CONTENT
    assert kept.damage() == ""
    assert (kept.root / "state.db.damaged-1").read_bytes() == noise
    assert texts(kept)[0] == "second"
    kept.save(FULL, [event("third")])
    assert texts(kept)[-1] == "third"


def test_a_save_that_fails_leaves_the_next_one_whole(kept: StateDir) -> None:
    rows(kept.database, "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no more'); END")
    with pytest.raises(ReconcilerError):
        kept.save(EMPTY, [event("second")])
    assert kept.ledger() == ENTERED
    rows(kept.database, "DROP TRIGGER full")
    kept.save(FULL, [event("third")])
    assert kept.ledger() == FULL
    assert texts(kept) == ["first", "third"]


def test_one_connection_writes_a_layout_of_its_own_only(kept: StateDir) -> None:
    with sqlite3.connect(kept.database) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ReconcilerError) as caught:
        kept.save(EMPTY)
    assert caught.value.reference == "state-too-new"
    assert rows(kept.database, "SELECT count(*) FROM events") == [(1,)]


def test_a_touch_takes_nothing_with_it(kept: StateDir) -> None:
    """The log was emptied because the time of the database had changed, with all that was in it."""
    kept.save(ENTERED, [event("second")])
    os.utime(kept.database, (1, 1))
    kept.save(ENTERED, [event("third")])
    assert texts(StateDir(kept.root)) == ["first", "second", "third"]
    os.utime(kept.database, (2, 2))
    kept.rest()
    kept.save(FULL, [event("fourth")])
    assert texts(StateDir(kept.root)) == ["first", "second", "third", "fourth"]


def test_a_disk_that_is_full_for_a_while_takes_nothing_with_it(state: StateDir) -> None:
    """A rest that failed half-way looked like a stranger's hand in the database."""
    program = (
        "import resource, sys\n"
        "from dataclasses import replace\n"
        "from hashlib import sha256\n"
        "from reconciler.adapters.state_dir import StateDir\n"
        "from reconciler.model.generation import Generation\n"
        "from reconciler.model.ledger import EMPTY\n"
        "from tests.adapters.remembered import event\n"
        "state = StateDir(sys.argv[1])\n"
        "contents = {sha256(c).hexdigest(): c for c in (b'a' * 2**20, b'b' * 2**17)}\n"
        "made = [Generation(number=n, at=1.0, revision='r', content=c) for n, c in enumerate(contents)]\n"
        "first, both = (replace(EMPTY, generations=tuple(made[:n])) for n in (1, 2))\n"
        "with state.kept_open():\n"
        "    state.save(first, [event('first')], contents)\n"
        "    state.rest()\n"
        "    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (state.database.stat().st_size + 20_000, hard))\n"
        "    second = dict(list(contents.items())[1:])\n"
        "    state.save(both, [event('second')], second)\n"
        "    state.rest()\n"
        "    log = state.root / 'state.db-wal'\n"
        "    assert log.stat().st_size, 'it could not be emptied'\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "    state.save(both, [event('third')])\n"
        "    state.rest()\n"
        "    assert not log.stat().st_size\n"
    )
    done = subprocess.run([sys.executable, "-c", program, state.root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert texts(state) == ["first", "second", "third"]
    assert state.content(sha256(b"b" * 2**17).hexdigest()) == b"b" * 2**17
    assert state.damage() == ""
    assert os.listdir(state.root) == ["state.db"]


def test_one_that_is_removed_is_back_as_soon_as_nothing_is_to_do(kept: StateDir) -> None:
    for path in kept.root.iterdir():
        path.unlink()
    kept.rest()
    assert (kept.ledger(), texts(kept), kept.content(DIGEST)) == (ENTERED, ["first"], CONTENT)
    kept.save(ENTERED, [event("second")])
    assert [found.reference for found in kept.events()][1:] == ["port-lost", "state-removed"]


def test_one_that_is_removed_is_back_at_the_end(state: StateDir) -> None:
    with state.kept_open():
        state.save(ENTERED, [event("first")], {DIGEST: CONTENT})
        for path in state.root.iterdir():
            path.unlink()
    assert os.listdir(state.root) == ["state.db"]
    assert (state.ledger(), texts(state), state.content(DIGEST)) == (ENTERED, ["first"], CONTENT)


def test_one_that_is_damaged_and_removed_keeps_nobody_from_saving(kept: StateDir) -> None:
    large = b"more than any cache holds" * 2**18
    digest = sha256(large).hexdigest()
    kept.save(replace(ENTERED, generations=(replace(ENTERED.generations[0], content=digest),)), (), {digest: large})
    kept.rest()
    kept.database.write_bytes(b"no database at all, " * 2**19)
    for path in kept.root.iterdir():
        path.unlink()
    kept.save(ENTERED, [event("second")], {DIGEST: CONTENT})
    kept.save(FULL, [event("third")])
    assert (kept.ledger(), kept.damage()) == (FULL, "")
    said = kept.events()[1]
    assert (said.reference, texts(kept)[0], texts(kept)[-1]) == ("state-removed", "second", "third")
    assert "earlier events" in said.text


def test_what_could_not_be_put_back_is_put_back_later(kept: StateDir) -> None:
    (kept.root / "state.db.new").mkdir()
    kept.database.unlink()
    with pytest.raises(ReconcilerError):
        kept.save(FULL, [event("not saved")])
    kept.rest()
    assert not kept.database.exists()
    (kept.root / "state.db.new").rmdir()
    kept.save(ENTERED, [event("second")])
    assert texts(kept)[:2] == ["first", "second"]
    assert kept.content(DIGEST) == CONTENT


def test_one_that_is_put_in_its_place_while_it_is_written_gets_the_save_too(state: StateDir, tmp_path: Path) -> None:
    """Every later save went to the file that nobody could see any more."""
    other = StateDir(tmp_path / "backup")
    other.save(EMPTY, [event("older")])
    state.save(EMPTY)
    meanwhile = [other.database]

    def version(connection: sqlite3.Connection) -> int:
        if meanwhile:
            os.replace(meanwhile.pop(), state.database)
        return VERSION

    writing = Writing(state.database, version)
    writing.keep()
    writing.write(Entry(ledger=FULL, events=(event("second"),), contents={}))
    assert (state.ledger(), texts(state)) == (FULL, ["older", "second"])
    writing.end()
    assert (state.ledger(), texts(state), state.damage()) == (FULL, ["older", "second"], "")
