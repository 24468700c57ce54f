"""The state directory: what is remembered between runs, in SQLite, for its owner alone (0700, 0600)."""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reconciler.model.event import Event, EventKind
from reconciler.model.ledger import EMPTY, Ledger
from reconciler.model.names import ENSEMBLE
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.ports.host import NO_CONTENTS

from . import state_damage, state_layout
from .clock import SystemClock
from .ledger_text import parsed
from .state_damage import BESIDE, StateDamaged
from .state_layout import COLUMNS, KEPT_EVENTS, KEY, VERSION, Entry
from .state_writing import BUSY_SECONDS, Writing

if TYPE_CHECKING:
    import sqlite3

VARIABLE: Final = "RECONCILER_STATE"
DATABASE: Final = "state.db"
_FRESH: Final = f"{DATABASE}.new"
_TRIES: Final = 3
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_FORGOTTEN: Final = ("suspensions", "pins", "generations", "counted failures", "wishes about weights")
"""What a ledger holds that no run record knows."""


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

    def __init__(self, root: str | os.PathLike[str] | None = None, now: Callable[[], float] | None = None) -> None:
        self.root = default_root(os.environ) if root is None else Path(os.path.abspath(root))
        self._now = now or SystemClock().now
        self._writing = Writing(self.root / DATABASE, self._version)
        self._unsaid: tuple[Event, ...] = ()
        """What has happened to the database and no save has said yet."""

    @property
    def database(self) -> Path:
        """The file that holds everything but the run records."""
        return self.root / DATABASE

    def ledger(self) -> Ledger:
        """The last saved ledger; the empty one where there is none. Raises ReconcilerError."""
        with self._told():
            rows = self._read("SELECT value FROM ledger WHERE key = ?", (KEY,))
        try:
            return parsed(str(rows[0][0])) if rows else EMPTY
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            said = f"its ledger is not what was written ({type(error).__name__})"
            raise StateDamaged(self.database, said) from error

    def events(self, after: int = 0, last: int = KEPT_EVENTS) -> tuple[Event, ...]:
        """The last so many events after the one of this number, oldest first. Raises ReconcilerError."""
        query = f"SELECT {', '.join(COLUMNS)}, number FROM events WHERE number > ? ORDER BY number DESC LIMIT ?"
        with self._told():
            return tuple(state_layout.events(reversed(self._read(query, (after, last), since=2))))

    def content(self, digest: str) -> bytes | None:
        """What was kept under a sha256; None where it is not there, or is not that. Raises ReconcilerError."""
        import hashlib

        with self._told():
            rows = self._read("SELECT bytes FROM contents WHERE digest = ?", (digest,), since=3)
        found: bytes | None = rows[0][0] if rows else None
        return found if found is not None and hashlib.sha256(found).hexdigest() == digest else None

    def save(
        self, ledger: Ledger, events: Sequence[Event] = (), contents: Mapping[str, bytes] = NO_CONTENTS
    ) -> tuple[Event, ...]:
        """Durable when it returns, all or nothing; what has happened to the database meanwhile. Raises ReconcilerError.

        `contents` are kept by their sha256 for as long as the ledger names them. A database that proves to be
        damaged is set aside and written anew, with an event that says what was lost; so who saves has the lock.
        """
        with self._told():
            self._put_back()
            entry = Entry(ledger=ledger, events=(*events, *self._unsaid), contents=contents)
            try:
                self._check_root()
                if not self._writing.ready():
                    self._make(self.database)
                self._writing.write(entry)
            except Exception as error:
                if not state_damage.is_damage(error):
                    raise
                self._unsaid = (*self._unsaid, self._renew(entry, str(error)))
            said, self._unsaid = self._unsaid, ()
            return said

    def rest(self) -> None:
        """Move what was saved over an open connection into the database itself, as far as that can be done now.

        Nothing that was saved needs it to be safe; what fails here fails again at the next save, and is said then.
        """
        with suppress(ReconcilerError), self._told():
            self._put_back()
            self._writing.rest()

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Until the end of the block one connection does for all saves; for who holds the lock for as long."""
        self._writing.keep()
        try:
            yield
        finally:
            with suppress(ReconcilerError), self._told():
                self._put_back()
            with self._told():
                self._writing.end()

    def recover(self) -> Event | None:
        """Look whether the database is whole; where it is not, set it aside and begin another one.

        For who holds the lock, before the first look at the ledger. The event that comes back says what was lost, and
        is stored; None: nothing is damaged. Raises ReconcilerError.
        """
        with self._told():
            why = self.damage()
            if not why:
                return None
            lost: tuple[str, ...] = ()
            try:
                ledger = self.ledger()
            except StateDamaged:
                ledger, lost = state_damage.from_records(self.root), _FORGOTTEN
            return self._renew(Entry(ledger=ledger, events=(), contents=NO_CONTENTS), why, lost)

    # ------------------------------------------------------------------------------------------------ inside

    def _read(self, query: str, values: tuple[object, ...], since: int = 1) -> list[tuple[Any, ...]]:
        """The rows of a query, without writing anything; none where there is no file, or a layout older than `since`.

        SQLite makes `-wal` and `-shm` files beside a database in WAL mode even to read it. Where nobody has it
        open there is no log, and it is read as immutable, which makes none; a writer that came meanwhile is seen
        by the log or by the stamp of the file, and then it is read again.
        """
        if not self.database.exists():
            return []
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
        connection = sqlite3.connect(f"file:{path}?{how}", uri=True, timeout=BUSY_SECONDS)
        try:
            return connection.execute(query, values).fetchall() if self._version(connection) >= since else []
        finally:
            connection.close()

    def _put_back(self) -> None:
        """Write a database that was removed while it was open to its place again; the next save says so."""
        if not self._writing.removed:
            return
        said = f"{self.database} was removed while it was in use"
        try:
            self._check_root()
            fresh = self._fresh()
            self._writing.rescue(fresh)
            state_damage.put_back(fresh, self.database)
            said += ", and is written again; nothing was lost"
        except Exception as error:
            if not state_damage.is_damage(error):
                raise
            said += f" and cannot be read any more ({error}); earlier events and what generations consisted of are lost"
        self._writing.close()
        event = Event(at=self._now(), kind=EventKind.DRIFTED, subject=ENSEMBLE, text=said, reference="state-removed")
        self._unsaid = (*self._unsaid, event)

    def _fresh(self) -> Path:
        """Where a database is written that is to be put in the place of another; nothing is there."""
        fresh = self.root / _FRESH
        for end in ("", *BESIDE):
            Path(f"{fresh}{end}").unlink(missing_ok=True)
        return fresh

    def damage(self) -> str:
        """What is wrong with the database; empty where nothing is. Raises where it cannot be looked at."""
        try:
            with self._told():
                rows = self._read("PRAGMA quick_check(1)", ())
            if rows and rows[0][0] != "ok":
                return str(rows[0][0])
            # Whether the tables are there, and what is in them is what was written.
            self.ledger()
            self.events(last=1)
            self.content("")
        except StateDamaged as error:
            return error.why
        return ""

    def _renew(self, entry: Entry, why: str, lost: tuple[str, ...] = ()) -> Event:
        """Write a database anew, with all that can still be read of the damaged one, and put it in its place.

        `lost`: what the ledger of the entry lacks, where it was put together from run records.
        """
        self._writing.close()
        rebuilt = bool(lost)
        wanted = state_layout.named(entry.ledger)
        contents = {name: found for name in wanted if (found := self._legible(name)) is not None} | {**entry.contents}
        history: tuple[Event, ...] = ()
        try:
            history = self.events()
        except StateDamaged:
            lost = (*lost, "earlier events")
        if wanted - contents.keys():
            lost = (*lost, "what generations consisted of")
        name = state_damage.aside(self.database)
        text = state_damage.account(name.name, why, lost, rebuilt=rebuilt)
        event = Event(at=self._now(), kind=EventKind.FAILED, subject=ENSEMBLE, text=text, reference="state-damaged")
        fresh = self._fresh()
        self._check_root()
        self._make(fresh)
        whole = Entry(ledger=entry.ledger, events=(*entry.events, event), contents=contents, history=history)
        Writing(fresh, self._version).write(whole)
        state_damage.put_in_place(fresh, self.database, name)
        return event

    def _legible(self, digest: str) -> bytes | None:
        try:
            return self.content(digest)
        except StateDamaged:
            return None

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

    def _check_root(self) -> None:
        """The directory, with the right owner and modes, whatever the umask."""
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

    def _make(self, database: Path) -> None:
        """A file, empty if new, with the right modes; not for one that is open: closing it here ends SQLite's locks."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        handle = os.open(database, flags, 0o600)
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

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong with the database as a ReconcilerError."""
        try:
            yield
        except ReconcilerError:
            raise
        except Exception as error:
            import sqlite3

            if not isinstance(error, sqlite3.Error | OSError):
                raise
            if state_damage.is_damage(error):
                raise StateDamaged(self.database, str(error)) from error
            raise ReconcilerError(
                "state-unavailable",
                f"{self.database} cannot be used: {error}",
                hint="mend the directory's permissions or free space on its disk, and run the command again",
                code=ExitCode.ENVIRONMENT,
            ) from error
