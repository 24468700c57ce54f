"""The state directory: what is remembered between runs, in SQLite, for its owner alone (0700, 0600)."""

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reconciler.model.base import plain
from reconciler.model.ledger import EMPTY, Attempt, Ledger, Suspension
from reconciler.model.problem import ExitCode, ReconcilerError

if TYPE_CHECKING:
    import sqlite3

VARIABLE: Final = "RECONCILER_STATE"
DATABASE: Final = "state.db"
VERSION: Final = 1
"""`user_version` of the layout that this code writes; 0 is a database whose first write never ended."""
_KEY: Final = "ledger"
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
            text = self._read()
            return EMPTY if text is None else _parse(text)
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._failed(error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._corrupt(f"its ledger is not what was written ({type(error).__name__})") from error

    def save(self, ledger: Ledger) -> None:
        """Durable when it returns. Raises ReconcilerError."""
        import json
        import sqlite3

        text = json.dumps(plain(ledger), separators=(",", ":"))
        try:
            self._prepare()
            connection = sqlite3.connect(self.database, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._write(connection, text)
            finally:
                connection.close()
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._failed(error) from error

    # ------------------------------------------------------------------------------------------------ inside

    def _read(self) -> str | None:
        """The stored text, without writing anything.

        SQLite makes `-wal` and `-shm` files beside a database in WAL mode even to read it. Where nobody has it
        open there is no log, and it is read as immutable, which makes none; a writer that came meanwhile is seen
        by the log or by the stamp of the file, and then it is read again.
        """
        for _ in range(_TRIES):
            before = self._stamp()
            quiet = not self._log().exists()
            text, failed = None, None
            try:
                text = self._select("mode=ro&immutable=1" if quiet else "mode=ro")
            except Exception as error:
                failed = error
            if not quiet or (self._stamp() == before and not self._log().exists()):
                if failed is not None:
                    raise failed
                return text
        return self._select("mode=ro")

    def _select(self, how: str) -> str | None:
        import sqlite3

        path = str(self.database).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        connection = sqlite3.connect(f"file:{path}?{how}", uri=True, timeout=_BUSY_SECONDS)
        try:
            if self._version(connection) == 0:
                return None
            row = connection.execute("SELECT value FROM ledger WHERE key = ?", (_KEY,)).fetchone()
        finally:
            connection.close()
        return None if row is None else str(row[0])

    def _write(self, connection: "sqlite3.Connection", text: str) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        if self._version(connection) == 0:
            connection.execute("CREATE TABLE ledger (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("INSERT OR REPLACE INTO ledger (key, value) VALUES (?, ?)", (_KEY, text))
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


def _parse(text: str) -> Ledger:
    """The inverse of `plain`. Raises ValueError, KeyError or TypeError."""
    import json

    document: dict[str, Any] = json.loads(text)
    return Ledger(
        attempts={name: Attempt(**fields) for name, fields in document["attempts"].items()},
        suspensions={name: Suspension(**fields) for name, fields in document["suspensions"].items()},
        proved=frozenset(document["proved"]),
        proofs=dict(document["proofs"]),
        launched=frozenset(document["launched"]),
        leases={name: int(port) for name, port in document["leases"].items()},
        reserved=frozenset(document.get("reserved", ())),
    )
