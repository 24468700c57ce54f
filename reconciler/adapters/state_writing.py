"""Who writes the database: over a connection for each save, or over one that is kept open between them.

Opening a database and closing it again costs five syncs, and a save over an open one costs one; a server that has died
waits for all of them before it is started again. SQLite goes on with a file that was removed or replaced meanwhile, and
what it writes there is lost; so before each save the files are compared with what the last one left.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from . import state_layout
from .state_layout import Entry

if TYPE_CHECKING:
    import sqlite3

BUSY_SECONDS: Final = 5.0
_LOG: Final = "-wal"
_HEADER: Final = 100
"""Bytes at the beginning of a database that tell most others from it (sqlite.org/fileformat.html, 1.3)."""
_TRIES: Final = 3


class _Seen(NamedTuple):
    """A file as it was at some moment."""

    inode: int
    size: int
    modified: int
    head: bytes

    def is_of(self, other: "_Seen | None") -> bool:
        """Whether both may be the same database, read and perhaps touched in between."""
        return other is not None and (self.inode, self.size, self.head) == (other.inode, other.size, other.head)


class Writing:
    """The one writer of a database; for who holds the lock of its directory."""

    def __init__(self, database: Path, version: Callable[["sqlite3.Connection"], int]) -> None:
        """`version`: the layout of a database; raises where it must not be written."""
        self._database, self._version = database, version
        self._log = Path(f"{database}{_LOG}")
        self._keeps = False
        self._open: sqlite3.Connection | None = None
        self._inode = 0
        """Of the database that is open."""
        self._handle = -1
        """Of the same, to look at its header: to close one of our own would end the locks that SQLite has on it."""
        self._left: tuple[_Seen | None, _Seen | None] = (None, None)
        """What database and log were after the last save."""

    def keep(self) -> None:
        """From now on, and until `end`, one connection does for all saves."""
        self._keeps = True

    def end(self) -> None:
        """A connection for each save again, and none before the next one."""
        self._keeps = False
        self.close()

    @property
    def removed(self) -> bool:
        """Whether the database is gone that a connection is still open to, with all that was in it."""
        return self._open is not None and not os.path.lexists(self._database)

    def ready(self) -> bool:
        """Whether the connection of the last save can take the next one; one that cannot is closed. Raises OSError."""
        now = self._seen()
        if self._open is not None and self._left != now:
            if now[0] is None or not now[0].is_of(self._left[0]):
                self._empty_log()
            self.close()
        return self._open is not None

    def write(self, entry: Entry) -> None:
        """One transaction, durable when it returns. Raises sqlite3.Error, OSError and what `version` raises."""
        for _ in range(_TRIES):
            connection = self._open or self._connected()
            self._open = connection
            try:
                self._transact(connection, entry)
            except BaseException:
                self.close()
                raise
            self._left = self._seen()
            if not self._keeps:
                self.close()
                return
            there = self._left[0]
            if there is None or there.inode == self._inode:
                return  # one that is removed is noticed by the next question for it
            # Another one was put in its place meanwhile, and that one counts.
            self._empty_log()
            self.close()

    def rest(self) -> None:
        """Leave an empty log behind: one with something in it is played into whatever is in the database's place.

        Raises sqlite3.Error. A reader may have the log in use; then it stays, until the next rest.
        """
        log = self._left[1]
        if self._open is None or log is None or not log.size or self._left != self._seen():
            return
        self._open.execute("PRAGMA busy_timeout = 0")
        try:
            self._open.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            # What has arrived in the database of a rest that failed is there by our hand too.
            self._left = self._seen()
            self._open.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS:.0f}")

    def rescue(self, fresh: Path) -> None:
        """Write all of a database that was removed to another file, which must not be there. Raises sqlite3.Error."""
        assert self._open is not None
        self._open.execute("VACUUM INTO ?", (str(fresh),))

    def close(self) -> None:
        """End the connection, if there is one; what was saved is in the database itself then."""
        connection, self._open = self._open, None
        handle, self._handle = self._handle, -1
        try:
            if connection is not None:
                connection.close()
        finally:
            if handle >= 0:
                os.close(handle)

    def _connected(self) -> "sqlite3.Connection":
        self._handle = os.open(self._database, os.O_RDONLY | os.O_NOFOLLOW)
        self._inode = os.fstat(self._handle).st_ino
        try:
            return _durable(self._database)
        except BaseException:
            self.close()
            raise

    def _transact(self, connection: "sqlite3.Connection", entry: Entry) -> None:
        connection.execute("BEGIN IMMEDIATE")
        state_layout.write(connection, entry, self._version(connection))
        connection.execute("COMMIT")

    def _empty_log(self) -> None:
        """The log that we have left belongs to what the database was, and would be played into what it is now."""
        ours, there = self._left[1], _seen(self._log)
        if ours is not None and there is not None and there.inode == ours.inode:
            os.truncate(self._log, 0)

    def _seen(self) -> tuple[_Seen | None, _Seen | None]:
        database = _seen(self._database)
        if database is not None and self._handle >= 0 and database.inode == self._inode:
            database = database._replace(head=os.pread(self._handle, _HEADER, 0))
        return database, _seen(self._log)


def _durable(database: Path) -> "sqlite3.Connection":
    """A connection whose transactions are on the disk when they end. Raises sqlite3.Error."""
    import sqlite3

    connection = sqlite3.connect(database, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _seen(path: Path) -> _Seen | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return _Seen(status.st_ino, status.st_size, status.st_mtime_ns, b"")
