"""What was found by reading whole files is remembered in a file that may go, be damaged or be newer."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.adapters.cache.digests import DATABASE, KEPT, VERSION, Digests
from reconciler.ports.errors import ActionError

STAMP = (7, 1_000, 1_700_000_000_123_456_789)
DIGEST = "ab" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def digests(root: Path) -> Digests:
    return Digests(root, lambda: 123.5)


def everything(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*")}


def test_what_was_remembered_is_known_to_everybody(root: Path, digests: Digests) -> None:
    digests.remember("/hub/one", STAMP, DIGEST)
    digests.remember_all({"/hub/two": ((8, 0, 1), "cd" * 20), "/hub/three": (STAMP, DIGEST)})
    assert Digests(root).known(["/hub/one", "/hub/two", "/hub/none"]) == {
        "/hub/one": (STAMP, DIGEST),
        "/hub/two": ((8, 0, 1), "cd" * 20),
    }
    digests.remember("/hub/one", (9, 9, 9), "ef" * 32)
    assert Digests(root).known(["/hub/one"]) == {"/hub/one": ((9, 9, 9), "ef" * 32)}


def test_reading_makes_nothing(root: Path, digests: Digests) -> None:
    assert digests.known(["/hub/one"]) == {}
    assert digests.measure("key") is None
    assert not root.exists()
    digests.remember_all({})
    assert not root.exists()
    digests.remember("/hub/one", STAMP, DIGEST)
    before = everything(root), (root / DATABASE).stat().st_mtime_ns
    assert digests.known(["/hub/one"])
    assert digests.measures(["key"]) == {}
    assert (everything(root), (root / DATABASE).stat().st_mtime_ns) == before
    assert set(before[0]) == {DATABASE}


def test_reading_beside_a_writer_makes_nothing_and_sees_what_was_written(root: Path, digests: Digests) -> None:
    digests.remember("/hub/one", STAMP, DIGEST)
    with closing(sqlite3.connect(root / DATABASE, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM digests")
        assert digests.known(["/hub/one"]) == {"/hub/one": (STAMP, DIGEST)}
        writer.execute("COMMIT")
    assert digests.known(["/hub/one"]) == {}
    assert set(everything(root)) == {DATABASE}


def test_its_folder_and_file_are_for_the_owner_alone(root: Path, digests: Digests) -> None:
    before = os.umask(0)
    try:
        digests.remember("/hub/one", STAMP, DIGEST)
    finally:
        os.umask(before)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / DATABASE).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_could_have_written_vouches_for_nothing(root: Path, digests: Digests, mode: int) -> None:
    digests.remember("/hub/one", STAMP, DIGEST)
    (root / DATABASE).chmod(mode)
    assert digests.known(["/hub/one"]) == {}
    digests.remember("/hub/two", STAMP, DIGEST)
    assert stat.S_IMODE((root / DATABASE).stat().st_mode) == 0o600
    assert set(digests.known(["/hub/one", "/hub/two"])) == {"/hub/two"}


def test_a_link_in_its_place_is_not_followed(root: Path, digests: Digests, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    root.mkdir(mode=0o700)
    (root / DATABASE).symlink_to(victim)
    assert digests.known(["/hub/one"]) == {}
    digests.remember("/hub/one", STAMP, DIGEST)
    assert victim.read_bytes() == b"mine"
    assert not (root / DATABASE).is_symlink()
    assert digests.known(["/hub/one"]) == {"/hub/one": (STAMP, DIGEST)}


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "zeros", "header", "newer", "other table", "no table"])
def test_a_file_that_is_damaged_or_newer_is_ignored_and_rebuilt(root: Path, digests: Digests, damage: str) -> None:
    digests.remember_all({f"/hub/{number}": (STAMP, DIGEST) for number in range(500)})
    path = root / DATABASE
    content = path.read_bytes()
    if damage == "text":
        path.write_bytes(b"no database at all, " * 200)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[:5_000])
    elif damage == "zeros":
        path.write_bytes(content[:100] + bytes(len(content) - 100))
    elif damage == "header":
        path.write_bytes(b"x" + content[1:])
    else:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            if damage == "newer":
                connection.execute(f"PRAGMA user_version = {VERSION + 1}")
            connection.execute("DROP TABLE digests")
            if damage == "other table":
                connection.execute("CREATE TABLE digests (other TEXT)")
    assert digests.known(["/hub/1"]) == {}
    digests.remember("/hub/new", STAMP, DIGEST)
    assert digests.known(["/hub/1", "/hub/new"]) == {"/hub/new": (STAMP, DIGEST)}
    digests.remember_measure("key", {"per_token": 1})
    assert digests.measure("key") == {"per_token": 1}


def test_a_lock_is_no_damage(root: Path, digests: Digests) -> None:
    """A writer that is in the way is waited for, and nothing of it is thrown away."""
    digests.remember("/hub/one", STAMP, DIGEST)
    with closing(sqlite3.connect(root / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ActionError, match="locked") as caught:
            digests.remember("/hub/two", STAMP, DIGEST)
        assert (caught.value.cause, caught.value.permanent) == ("not-remembered", False)
        other.execute("COMMIT")
    assert set(digests.known(["/hub/one", "/hub/two"])) == {"/hub/one"}


def test_measures_are_json_objects(digests: Digests) -> None:
    digests.remember_measure("a", {"per_token": 1, "windows": [{"tokens": 512}]})
    digests.remember_measure("b", {})
    digests.remember_measure("a", {"per_token": 2})
    assert digests.measure("a") == {"per_token": 2}
    assert digests.measures(["a", "b", "c"]) == {"a": {"per_token": 2}, "b": {}}


def test_names_and_inodes_of_any_kind(digests: Digests) -> None:
    odd = "/hub/half a pair \udce4 and 'quotes' %?#"
    digests.remember(odd, (2**64 - 1, 2**62, 2**62), DIGEST)
    assert digests.known([odd]) == {odd: ((2**64 - 1, 2**62, 2**62), DIGEST)}


def test_a_state_directory_of_any_name(tmp_path: Path) -> None:
    digests = Digests(tmp_path / "50% of #1?")
    digests.remember("/hub/one", STAMP, DIGEST)
    assert digests.known(["/hub/one"])
    assert [path.name for path in tmp_path.iterdir()] == ["50% of #1?"]


def test_it_does_not_grow_for_ever_and_is_asked_about_many_at_once(digests: Digests) -> None:
    digests.remember("/hub/first", STAMP, DIGEST)
    many = {f"/hub/{number}": (STAMP, DIGEST) for number in range(KEPT)}
    digests.remember_all(many)
    known = digests.known(["/hub/first", *many])
    assert len(known) == KEPT
    assert "/hub/first" not in known


def swapped(path: Path, before: bytes, after: bytes) -> None:
    """Another content, with the time stamp and the size of the one before."""
    status, content = path.stat(), path.read_bytes()
    assert content.count(before) == 1
    assert len(before) == len(after)
    with path.open("r+b") as file:
        file.write(content.replace(before, after))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(("age", "seen"), [(0.0, "cd" * 32), (1.0, "cd" * 32), (3.0, DIGEST)])
def test_what_was_read_holds_for_the_same_file_once_time_stamps_can_tell(root: Path, age: float, seen: str) -> None:
    """What was read within the grain of a time stamp was served for ever, once that had passed."""
    Digests(root).remember("/hub/one", STAMP, DIGEST)
    now = (root / DATABASE).stat().st_mtime + age
    reader = Digests(root, lambda: now)
    assert reader.known(["/hub/one", "/hub/none"]) == {"/hub/one": (STAMP, DIGEST)}
    swapped(root / DATABASE, DIGEST.encode(), b"cd" * 32)
    assert reader.known(["/hub/one"]) == {"/hub/one": (STAMP, seen)}
    now += 60
    assert reader.known(["/hub/one"]) == {"/hub/one": (STAMP, seen)}


def test_what_somebody_else_writes_is_read_by_who_has_asked_before(root: Path, digests: Digests) -> None:
    digests.remember("/hub/one", STAMP, DIGEST)
    digests.remember_measure("key", {"bytes": 1})
    later = (root / DATABASE).stat().st_mtime + 3
    reader = Digests(root, lambda: later)
    assert reader.known(["/hub/one", "/hub/two"]) == {"/hub/one": (STAMP, DIGEST)}
    assert (reader.measure("key"), reader.measure("other")) == ({"bytes": 1}, None)
    digests.remember("/hub/two", STAMP, DIGEST)
    digests.remember_measure("other", {"bytes": 2})
    assert set(reader.known(["/hub/one", "/hub/two"])) == {"/hub/one", "/hub/two"}
    assert reader.measure("other") == {"bytes": 2}


def test_a_failed_reading_is_not_remembered_as_nothing(root: Path, digests: Digests) -> None:
    digests.remember("/hub/one", STAMP, DIGEST)
    later = (root / DATABASE).stat().st_mtime + 3
    reader = Digests(root, lambda: later)
    with closing(sqlite3.connect(root / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert reader.known(["/hub/one"]) == {}
        other.execute("ROLLBACK")
    assert reader.known(["/hub/one"]) == {"/hub/one": (STAMP, DIGEST)}
