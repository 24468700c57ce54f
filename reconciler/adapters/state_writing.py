"""Who writes the database: over a connection for each save, or over one that is kept open between them.

Opening a database and closing it again costs five syncs, and a save over an open one costs one; a server that has died
waits for all of them before it is started again. SQLite goes on with a file that was removed or replaced meanwhile, and
what it writes there is lost; so before each save the files are compared with what the last one left.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import state_layout
from .state_layout import Entry

if TYPE_CHECKING:
    import sqlite3

BUSY_SECONDS: Final = 5.0
_LOG: Final = "-wal"

Stamp = tuple[int, int, int] | None
"""Which file, how long and how old it is; None: there is none."""


class Writing:
    """The one writer of a database; for who holds the lock of its directory."""

    def __init__(self, database: Path, version: Callable[["sqlite3.Connection"], int]) -> None:
        """`version`: the layout of a database; raises where it must not be written."""
        self._database, self._version = database, version
        self._keeps = False
        self._open: sqlite3.Connection | None = None
        self._left: tuple[Stamp, Stamp] = (None, None)
        """What the files were after the last save."""

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
        return self._open is not None and _stamp(self._database) is None

    def ready(self) -> bool:
        """Whether the connection of the last save can take the next one; one that cannot is closed. Raises OSError."""
        now = self._stamps()
        if self._open is not None and self._left != now:
            if self._left[0] != now[0]:
                self._empty_log()
            self.close()
        return self._open is not None

    def write(self, entry: Entry) -> None:
        """One transaction, durable when it returns. Raises sqlite3.Error, OSError and what `version` raises."""
        connection, self._open = self._open or connected(self._database), None
        try:
            written(connection, entry, self._version)
        except BaseException:
            connection.close()
            raise
        if not self._keeps:
            connection.close()
            return
        self._open, self._left = connection, self._stamps()

    def rest(self) -> None:
        """Leave an empty log behind: one with something in it is played into whatever is in the database's place.

        Raises sqlite3.Error. A reader may have the log in use; then it stays, until the next rest.
        """
        log = self._left[1]
        if self._open is None or log is None or not log[1] or self._left != self._stamps():
            return
        self._open.execute("PRAGMA busy_timeout = 0")
        self._open.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._open.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS:.0f}")
        self._left = self._stamps()

    def rescue(self, fresh: Path) -> None:
        """Write all of a database that was removed to another file, which must not be there. Raises sqlite3.Error."""
        assert self._open is not None
        self._open.execute("VACUUM INTO ?", (str(fresh),))
        self.close()

    def close(self) -> None:
        """End the connection, if there is one; what was saved is in the database itself then."""
        connection, self._open = self._open, None
        if connection is not None:
            connection.close()

    def _empty_log(self) -> None:
        """The log that we have left belongs to what the database was, and would be played into what it is now."""
        log, ours = Path(f"{self._database}{_LOG}"), _inode(self._left[1])
        if ours is not None and _inode(_stamp(log)) == ours:
            os.truncate(log, 0)

    def _stamps(self) -> tuple[Stamp, Stamp]:
        return _stamp(self._database), _stamp(Path(f"{self._database}{_LOG}"))


def connected(database: Path) -> "sqlite3.Connection":
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


def written(connection: "sqlite3.Connection", entry: Entry, version: Callable[["sqlite3.Connection"], int]) -> None:
    """Write an entry, all or nothing. Raises sqlite3.Error and what `version` raises."""
    connection.execute("BEGIN IMMEDIATE")
    state_layout.write(connection, entry, version(connection))
    connection.execute("COMMIT")


def _inode(stamp: Stamp) -> int | None:
    return stamp[0] if stamp is not None else None


def _stamp(path: Path) -> Stamp:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
