"""What was found by reading whole files or building whole models, kept in a file that may be deleted at any time.

It is no state: a damaged file, one of another layout and one that somebody else could have written count as
empty, and the next write makes a new one. SQLite's rollback journal is used and not its log: a database in that
mode is read without a file being made beside it, and a reader waits for a writer instead of a copy of its log.
"""

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reconciler.adapters.clock import SystemClock
from reconciler.ports.errors import ActionError

if TYPE_CHECKING:
    import sqlite3

DATABASE: Final = "cache.db"
VERSION: Final = 1
"""`user_version` of the layout."""
KEPT: Final = 100_000
"""Rows of each table; the ones that were written longest ago go first, and are then found out again."""
_LAYOUT: Final = (
    "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, inode INTEGER NOT NULL, size INTEGER NOT NULL, "
    "mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL, at REAL NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS measures (key TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) STRICT",
)
_KNOWN: Final = "SELECT path, inode, size, mtime_ns, digest FROM digests WHERE path IN ({})"
_MEASURES: Final = "SELECT key, value FROM measures WHERE key IN ({})"
_GRAIN: Final = 2.0
"""Seconds between two time stamps on the file systems that count coarsest."""
_AT_ONCE: Final = 30_000
"""Values of one query, of which SQLite allows 32,766 since 3.32; strict tables need 3.37."""
_READ_SECONDS: Final = 0.5
_WRITE_SECONDS: Final = 5.0
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

Stamp = tuple[int, int, int]
"""Inode, size and mtime in nanoseconds: while these stay, so does the content."""
Known = tuple[Stamp, str]
"""The stamp that a file had while it was read, and the digest of what was read, in hex digits."""


class _Memo:
    """What was read of the file while it was the same; None: there is nothing under that name."""

    def __init__(self, stamp: Stamp | None = None) -> None:
        self.stamp = stamp
        self.known: dict[str, Known | None] = {}
        self.measures: dict[str, dict[str, Any] | None] = {}


class Digests:
    """The memory of one state directory; its file is made by the first write."""

    def __init__(self, root: str | os.PathLike[str], now: Callable[[], float] | None = None) -> None:
        self._root = Path(root)
        self._path = self._root / DATABASE
        self._now = now or SystemClock().now
        self._memo = _Memo()

    @property
    def path(self) -> Path:
        """The file; it may be deleted."""
        return self._path

    def known(self, paths: Iterable[str]) -> dict[str, Known]:
        """What is remembered of these files, whatever they are now; nothing where nothing can be read."""
        asked = {_text(path): path for path in paths}
        memo = self._memory() if asked else None
        if memo is None:
            return {}
        rows = self._select(_KNOWN, [path for path in asked if path not in memo.known])
        if rows is not None:
            memo.known |= dict.fromkeys(asked.keys() - memo.known.keys())
            memo.known |= {path: ((inode % 2**64, size, mtime), digest) for path, inode, size, mtime, digest in rows}
        return {asked[path]: found for path in asked if (found := memo.known.get(path)) is not None}

    def remember(self, path: str, stamp: Stamp, digest: str) -> None:
        """As `remember_all`, for one file."""
        self.remember_all({path: (stamp, digest)})

    def remember_all(self, found: Mapping[str, Known]) -> None:
        """Keep what was found, in one transaction. Raises ActionError when it cannot be written."""
        at = self._now()
        rows = [
            (_text(path), _signed(inode), size, mtime, digest, at)
            for path, ((inode, size, mtime), digest) in found.items()
        ]
        if rows:
            self._write("digests", rows)

    def measure(self, key: str) -> dict[str, Any] | None:
        """What was measured under this key; None where nothing can be read."""
        return self.measures([key]).get(key)

    def measures(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """As `measure`, for many keys in one question."""
        asked = {_text(key): key for key in keys}
        memo = self._memory() if asked else None
        if memo is None:
            return {}
        rows = self._select(_MEASURES, [key for key in asked if key not in memo.measures])
        if rows is not None:
            memo.measures |= dict.fromkeys(asked.keys() - memo.measures.keys())
            memo.measures |= {key: _object(text) for key, text in rows}
        return {asked[key]: found for key in asked if (found := memo.measures.get(key)) is not None}

    def remember_measure(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a JSON object. Raises ActionError when it cannot be written."""
        import json

        self._write("measures", [(_text(key), json.dumps(value), self._now())])

    # ---------------------------------------------------------------------------------------------- reading

    def _select(self, query: str, values: list[str]) -> list[tuple[Any, ...]] | None:
        """The rows for these values; None where nothing can be read."""
        if not values:
            return []
        import sqlite3

        parts = [values[at : at + _AT_ONCE] for at in range(0, len(values), _AT_ONCE)]
        try:
            with closing(self._connect("mode=ro", _READ_SECONDS)) as connection:
                if _version(connection) != VERSION:
                    return None
                return [row for part in parts for row in connection.execute(query.format(_places(part)), part)]
        except sqlite3.Error:
            return None

    def _connect(self, how: str, seconds: float) -> "sqlite3.Connection":
        import sqlite3

        path = str(self._path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        return sqlite3.connect(f"file:{path}?{how}", uri=True, timeout=seconds, isolation_level=None)

    def _memory(self) -> "_Memo | None":
        """What was read of this very file, to be added to; None where nothing is to be read.

        A change of the file within the grain of its time stamp would not be seen, so what is read of one that was
        written just now is not kept.
        """
        status = self._trusted()
        if status is None:
            return None
        stamp = status.st_ino, status.st_size, status.st_mtime_ns
        if self._now() < status.st_mtime + _GRAIN:
            return _Memo()
        if self._memo.stamp != stamp:
            self._memo = _Memo(stamp)
        return self._memo

    def _trusted(self) -> os.stat_result | None:
        """The file, where it is there and only we and root could have written it: it vouches for what is served."""
        try:
            status = os.lstat(self._path)
        except OSError:
            return None
        ours = stat.S_ISREG(status.st_mode) and status.st_uid in {os.geteuid(), 0}
        return status if ours and not status.st_mode & _OTHERS_WRITE else None

    # ---------------------------------------------------------------------------------------------- writing

    def _write(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        import sqlite3

        try:
            try:
                self._insert(table, rows)
            except (sqlite3.Error, _OtherLayoutError) as error:
                if not _damaged(error):
                    raise
                self._discard()
                self._insert(table, rows)
        except (sqlite3.Error, _OtherLayoutError, OSError) as error:
            message = f"{self._path} cannot be written: {error}; what was found is lost"
            raise ActionError("not-remembered", message) from error

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        self._prepare()
        with closing(self._connect("mode=rw", _WRITE_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            version = _version(connection)
            if version not in {0, VERSION}:
                raise _OtherLayoutError(f"its layout is {version}")
            for statement in _LAYOUT:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({_places(rows[0])})", rows)
            connection.execute(f"DELETE FROM {table} WHERE rowid <= (SELECT MAX(rowid) FROM {table}) - {KEPT}")
            connection.execute("COMMIT")

    def _prepare(self) -> None:
        """The folder and an empty file with the right modes, whatever the umask."""
        if not self._root.exists():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root.chmod(0o700)
        if os.path.lexists(self._path) and not self._trusted():
            self._discard()
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)

    def _discard(self) -> None:
        """The journal goes first: it would be applied to the next file of that name."""
        for name in (f"{DATABASE}-journal", f"{DATABASE}-wal", f"{DATABASE}-shm", DATABASE):
            with suppress(FileNotFoundError):
                (self._root / name).unlink()


class _OtherLayoutError(Exception):
    """The file is of a version that this code does not know."""


def _damaged(error: Exception) -> bool:
    """Whether the file is at fault, and not the disk, a lock or a permission."""
    import sqlite3

    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR  # a table that has other columns
    return isinstance(error, _OtherLayoutError | sqlite3.DatabaseError)


def _version(connection: "sqlite3.Connection") -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _object(text: str) -> dict[str, Any] | None:
    """What was measured; None where it is no JSON object."""
    import json

    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    return None


def _places(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _text(name: str) -> str:
    """A name as SQLite takes it: half a surrogate pair can stand in a file name, and not in UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _signed(inode: int) -> int:
    """SQLite's numbers have a sign; inodes of network file systems use all 64 bits."""
    return inode - 2**64 if inode >= 2**63 else inode
