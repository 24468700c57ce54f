"""A damaged database: how it shows, how it is set aside, and what of it the run records still say."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

from reconciler.model.ledger import EMPTY, Ledger
from reconciler.model.problem import ExitCode, ReconcilerError

from .records import SUFFIX, Record, Run

_ASIDE: Final = "damaged"
BESIDE: Final = ("-wal", "-shm")
"""What SQLite keeps beside a database."""
_FOLDER: Final = "run"
_PRIMARY: Final = 0xFF
"""The bits of an SQLite error code that are its class."""
_SPOKEN: Final = ("no such table", "Could not decode")
"""Damage for which SQLite, or its module, has no code of its own."""


class StateDamaged(ReconcilerError):
    """What is on the disk is not what was written there."""

    def __init__(self, database: Path, why: str) -> None:
        super().__init__(
            "state-corrupt",
            f"{database} is damaged: {why}; no server was touched",
            hint=f"the next `reconciler apply` or `reconciler watch` keeps it as {aside(database)} and goes on from "
            "the run records; suspensions and attempts in it may be lost",
            code=ExitCode.ENVIRONMENT,
        )
        self.why = why


def is_damage(error: Exception) -> bool:
    """Whether an error says that the file is not what was written, and not that it cannot be reached or used."""
    import sqlite3

    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    said = isinstance(error, sqlite3.OperationalError) and any(words in str(error) for words in _SPOKEN)
    return said or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def from_records(root: Path) -> Ledger:
    """What the run records know of a ledger that is lost: who was launched, and on which port. Raises OSError.

    The number of the newest generation that they name is current, although nobody knows any more what it was: no
    number is given twice.
    """
    found = tuple(_records(root))
    return Ledger(
        attempts=EMPTY.attempts,
        suspensions=EMPTY.suspensions,
        proved=EMPTY.proved,
        launched=frozenset(record.label for record in found),
        leases={record.label: record.port for record in found},
        current=max((record.generation for record in found), default=0),
    )


def _records(root: Path) -> Iterator[Record]:
    """Those that can be believed; one that cannot be read costs no more than itself."""
    try:
        names = sorted(os.listdir(root / _FOLDER))
    except FileNotFoundError:
        return
    for label in (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX) and not name.startswith(".")):
        try:
            record = Run(str(root), label).record()
        except OSError:
            continue
        if record is not None and not record.flaw:
            yield record


def aside(database: Path) -> Path:
    """The name under which a damaged database is kept; for who holds the lock of its directory."""
    names = (database.with_name(f"{database.name}.{_ASIDE}-{number}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name))


def put_in_place(fresh: Path, database: Path, name: Path) -> None:
    """Keep the database under another name, with what is beside it, and put `fresh` in its place. Raises OSError.

    At every instant one of them is there: who finds none would take the state for an empty one.
    """
    os.link(database, name, follow_symlinks=False)
    for end in BESIDE:
        try:
            os.rename(f"{database}{end}", f"{name}{end}")
        except FileNotFoundError:
            continue
    os.replace(fresh, database)
    _sync(database.parent, os.O_RDONLY | os.O_DIRECTORY)


def put_back(fresh: Path, database: Path) -> None:
    """Put a whole copy where a database was; for its owner alone, and on the disk. Raises OSError."""
    fresh.chmod(0o600)
    _sync(fresh, os.O_RDWR)
    for end in BESIDE:
        # They belong to the database that is gone: beside another one its log would be played into that.
        Path(f"{database}{end}").unlink(missing_ok=True)
    os.replace(fresh, database)
    _sync(database.parent, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    opened = os.open(path, flags)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def account(name: str, why: str, lost: tuple[str, ...], *, rebuilt: bool) -> str:
    """What happened, for people; `name` is that of the damaged database now."""
    gone = f"{', '.join(lost[:-1])} and {lost[-1]}" if len(lost) > 1 else "".join(lost)
    said = f"the state was damaged ({' '.join(why.split())}) and is kept as {name}"
    if rebuilt:
        said += "; who runs on which port was read from the run records"
    said += f"; lost: {gone}" if lost else "; nothing was lost"
    return f"{said}. Say again what is to stay stopped: reconciler stop LABEL" if rebuilt else said
