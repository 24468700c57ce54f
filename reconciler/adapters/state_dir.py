"""The state directory: what is remembered between runs, in SQLite, for its owner alone (0700, 0600)."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reconciler.model.event import Event, EventKind
from reconciler.model.ledger import EMPTY, Ledger
from reconciler.model.problem import ExitCode, ReconcilerError

from .ledger_text import parsed, written

if TYPE_CHECKING:
    import sqlite3

VARIABLE: Final = "RECONCILER_STATE"
DATABASE: Final = "state.db"
VERSION: Final = 2
"""`user_version` of the layout that this code writes; 0 is a database whose first write never ended."""
KEPT_EVENTS: Final = 10_000
_KEY: Final = "ledger"
_LEDGER: Final = "CREATE TABLE IF NOT EXISTS ledger (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT"
_EVENTS: Final = (
    "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, "
    "kind TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL, action TEXT NOT NULL, reference TEXT NOT NULL, "
    "revision TEXT NOT NULL) STRICT"
)
_COLUMNS: Final = ("at", "kind", "subject", "text", "action", "reference", "revision")
_BUSY_SECONDS: Final = 5.0
_TRIES: Final = 3
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def default_root(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """RECONCILER_STATE, else the platform's place: XDG_STATE_HOME, or Application Support on macOS."""
    if named := environ.get(VARIABLE):
        return Path(os.path.abspath(os.path.expanduser(named)))
    if platform == "darwin":
        return Path(os.path.expanduser("~/Library/Application Support/reconciler"))
    base = environ.get("XDG_STATE_HOME")
    # The XDG specification: a relative path is invalid and ignored.
    base = base if base and os.path.isabs(base) else os.path.expanduser("~/.local/state")
    return Path(base, "reconciler")


class StateDir:
    """One state directory; made by the first save, so that reading leaves no trace."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = default_root(os.environ) if root is None else Path(os.path.abspath(root))

    @property
    def database(self) -> Path:
        """The file that holds everything but the run records."""
        return self.root / DATABASE

    def ledger(self) -> Ledger:
        """The last saved ledger; the empty one where there is none. Raises ReconcilerError."""
        if not self.database.exists():
            return EMPTY
        import sqlite3

        try:
            rows = self._read("SELECT value FROM ledger WHERE key = ?", (_KEY,))
            return parsed(str(rows[0][0])) if rows else EMPTY
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._failed(error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._corrupt(f"its ledger is not what was written ({type(error).__name__})") from error

    def events(self, after: int = 0, last: int = KEPT_EVENTS) -> tuple[Event, ...]:
        """The last so many events after the one of this number, oldest first. Raises ReconcilerError."""
        if not self.database.exists():
            return ()
        import sqlite3

        try:
            query = f"SELECT {', '.join(_COLUMNS)}, number FROM events WHERE number > ? ORDER BY number DESC LIMIT ?"
            return tuple(_events(reversed(self._read(query, (after, last), since=2))))
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._failed(error) from error

    def save(self, ledger: Ledger, events: Sequence[Event] = ()) -> None:
        """Durable when it returns, both or neither. Raises ReconcilerError."""
        import sqlite3

        text = written(ledger)
        try:
            self._prepare()
            connection = sqlite3.connect(self.database, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._write(connection, text, events)
            finally:
                connection.close()
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._failed(error) from error

    # ------------------------------------------------------------------------------------------------ inside

    def _read(self, query: str, values: tuple[object, ...], since: int = 1) -> list[tuple[Any, ...]]:
        """The rows of a query, without writing anything; none in a layout older than `since`.

        SQLite makes `-wal` and `-shm` files beside a database in WAL mode even to read it. Where nobody has it
        open there is no log, and it is read as immutable, which makes none; a writer that came meanwhile is seen
        by the log or by the stamp of the file, and then it is read again.
        """
        for _ in range(_TRIES):
            before = self._stamp()
            quiet = not self._log().exists()
            rows: list[tuple[Any, ...]] = []
            failed = None
            try:
                rows = self._select(query, values, since, "mode=ro&immutable=1" if quiet else "mode=ro")
            except Exception as error:
                failed = error
            if not quiet or (self._stamp() == before and not self._log().exists()):
                if failed is not None:
                    raise failed
                return rows
        return self._select(query, values, since, "mode=ro")

    def _select(self, query: str, values: tuple[object, ...], since: int, how: str) -> list[tuple[Any, ...]]:
        import sqlite3

        path = str(self.database).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        connection = sqlite3.connect(f"file:{path}?{how}", uri=True, timeout=_BUSY_SECONDS)
        try:
            return connection.execute(query, values).fetchall() if self._version(connection) >= since else []
        finally:
            connection.close()

    def _write(self, connection: "sqlite3.Connection", text: str, events: Sequence[Event]) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        if self._version(connection) < VERSION:
            connection.execute(_LEDGER)
            connection.execute(_EVENTS)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("INSERT OR REPLACE INTO ledger (key, value) VALUES (?, ?)", (_KEY, text))
        if events:
            places = ", ".join("?" * len(_COLUMNS))
            connection.executemany(
                f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({places})",
                [tuple(_storable(getattr(event, name)) for name in _COLUMNS) for event in events],
            )
            connection.execute(
                "DELETE FROM events WHERE number <= (SELECT MAX(number) FROM events) - ?", (KEPT_EVENTS,)
            )
        connection.execute("COMMIT")

    def _version(self, connection: "sqlite3.Connection") -> int:
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if found > VERSION:
            raise ReconcilerError(
                "state-too-new",
                f"{self.database} was written by a newer reconciler (layout {found}, this one knows {VERSION}); "
                "nothing was changed",
                hint="run the newer version, or name another state directory with RECONCILER_STATE",
                code=ExitCode.ENVIRONMENT,
            )
        return found

    def _prepare(self) -> None:
        """The directory and an empty file with the right owner and modes, whatever the umask."""
        if not self.root.exists():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(mode=0o700, exist_ok=True)
            self.root.chmod(0o700)
        status = self.root.stat()
        if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
            raise ReconcilerError(
                "state-untrusted",
                f"{self.root} belongs to somebody else or can be written by others; nothing was written",
                hint=f"chmod go-w '{self.root}', or name another directory with {VARIABLE}",
                code=ExitCode.ENVIRONMENT,
            )
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        handle = os.open(self.database, flags, 0o600)
        try:
            if stat.S_IMODE(os.fstat(handle).st_mode) != 0o600:  # noqa: PLR2004
                os.fchmod(handle, 0o600)
        finally:
            os.close(handle)

    def _stamp(self) -> tuple[int, int, int]:
        status = self.database.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _log(self) -> Path:
        return self.root / f"{DATABASE}-wal"

    def _failed(self, error: Exception) -> ReconcilerError:
        import sqlite3

        known = isinstance(error, sqlite3.OperationalError | OSError)
        if not known or "malformed" in str(error) or "no such" in str(error):
            return self._corrupt(str(error))
        return ReconcilerError(
            "state-unavailable",
            f"{self.database} cannot be used: {error}",
            hint="mend the directory's permissions or free space on its disk, and run the command again",
            code=ExitCode.ENVIRONMENT,
        )

    def _corrupt(self, why: str) -> ReconcilerError:
        return ReconcilerError(
            "state-corrupt",
            f"{self.database} is damaged: {why}; no server was touched",
            hint=f"move it aside (mv '{self.database}' '{self.database}.damaged'); suspensions and attempts in it "
            "are lost, running servers are found again by their records",
            code=ExitCode.ENVIRONMENT,
        )


def _storable(value: object) -> object:
    """Text of a stranger as SQLite takes it: half a surrogate pair can stand in a file name, and not in UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _events(rows: Iterable[tuple[Any, ...]]) -> Iterator[Event]:
    """The inverse of what is written; an event of a kind that only a newer version knows is left out."""
    kinds = {kind.value: kind for kind in EventKind}
    for row in rows:
        fields = dict(zip((*_COLUMNS, "number"), row, strict=True))
        if fields["kind"] in kinds:
            yield Event(**{**fields, "kind": kinds[fields["kind"]]})
