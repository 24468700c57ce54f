"""The files of one server: the lock that says whether it lives, the record that says which it is, pid and log.

The lock and the record are two files (docs/architecture.md, section 6). `run/LABEL.lock` is flocked by the server
as long as it lives, and is never renamed or unlinked: its inode is the lock. `run/LABEL.json` is replaced whole.
`run/LABEL.pid` is what the server says of itself before its program starts: its pid and the token of its launch,
so that a launch that was cut off between the start and the record is found without a search.
"""

import fcntl
import os
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, Final

from reconciler.model.base import noun, plain
from reconciler.model.observed import ServerProcess, Standing

from .port_owners import shown

VERSION: Final = 1
SUFFIX: Final = ".json"
_LIMIT: Final = 2**20
_LAST_PID: Final = 2**31 - 1
_LAST_PORT: Final = 65_535
_LAST_SECOND: Final = 2**40
_TAIL: Final = 4096
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_HIGH: Final = 10


class Lock(Enum):
    """What a look at a lock file says."""

    HELD = "held"
    FREE = "free"
    MISSING = "missing"


@noun
class Record:
    """What is written down about one launch."""

    label: str
    port: int
    host: str
    token: str
    boot_id: str
    spec_hash: str
    fields: Mapping[str, str]
    artifact: str
    served_name: str
    memory: int
    """Bytes."""
    since: float
    """Seconds since the epoch."""
    log: str
    log_start: int
    """Bytes of the log that are older than this launch, those that are gone by now too (`log_rotation`)."""
    argv: tuple[str, ...]
    """For people; long arguments are cut."""
    pid: int | None = None
    """None: the launch was not completed."""
    started: int | None = None
    unique: int | None = None
    revision: str = ""
    """As `ServerProcess.revision`; a record of an earlier version has none."""
    generation: int = 0
    flaw: str = ""
    """Why it proves nothing, when it was read from a damaged file."""
    newer: bool = False
    """Written by a version whose protocol this one does not know."""

    def completed(self, pid: int, started: int, unique: int | None) -> "Record":
        """The record of the same launch with its process named."""
        return replace(self, pid=pid, started=started, unique=unique)

    def server(self, standing: Standing, detail: str) -> ServerProcess:
        """What an observation says about the process of this record."""
        return ServerProcess(
            label=self.label,
            port=self.port,
            standing=standing,
            pid=self.pid,
            started=self.started,
            since=self.since,
            spec_hash=self.spec_hash,
            fields=self.fields,
            artifact=self.artifact,
            served_name=self.served_name,
            host=self.host,
            memory=self.memory,
            detail=detail,
            command=self.argv,
            log=self.log,
            log_start=self.log_start,
            revision=self.revision,
            generation=self.generation,
        )


class Run:
    """The files of one label in a state directory."""

    def __init__(self, root: str, label: str) -> None:
        self.label = label
        self._folders = (root, os.path.join(root, "run"), os.path.join(root, "logs"))
        base = os.path.join(self._folders[1], label)
        self.record_path, self.lock_path, self.pid_path = base + SUFFIX, base + ".lock", base + ".pid"
        self.log_path = os.path.join(self._folders[2], f"{label}.log")

    def prepare(self) -> None:
        """Make the folders, for their owner alone. Raises OSError."""
        for folder in self._folders:
            os.makedirs(folder, mode=0o700, exist_ok=True)

    def stamp(self) -> tuple[int, int, int] | None:
        """What distinguishes this record from the ones that were there before; None where there is none."""
        try:
            status = os.lstat(self.record_path)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def record(self) -> Record | None:
        """The record, with its flaw where it is damaged; None where there is none. Raises OSError."""
        try:
            handle = os.open(self.record_path, _READ)
        except FileNotFoundError:
            return None
        with open(handle, "rb") as file:
            text = file.read(_LIMIT)
        return parse(self.label, text)

    def write(self, record: Record) -> None:
        """Replace the record; whole and on the disk when this returns. Raises OSError."""
        import json

        data = plain(record)
        del data["flaw"], data["newer"]
        head = {"version": VERSION, "phase": "starting" if record.pid is None else "running"}
        write_file(self.record_path, json.dumps(head | data, separators=(",", ":")).encode())

    def remove(self) -> None:
        """Remove the record, last, and what belongs to it; never the lock. Raises OSError."""
        for path in (self.pid_path, self.record_path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue

    def lock(self) -> Lock:
        """Whether somebody holds the lock: a shared test lock is taken and given back. Raises OSError."""
        try:
            handle = os.open(self.lock_path, _READ)
        except FileNotFoundError:
            return Lock.MISSING
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Lock.HELD
        finally:
            os.close(handle)
        return Lock.FREE

    def take(self) -> int | None:
        """A descriptor that holds the lock alone; None while somebody else has it. Raises OSError."""
        handle = open_high(self.lock_path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(self.lock_path)):
                return handle
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # held by another, or the file was replaced between the two calls
        return None

    def announced(self, token: str) -> int | None:
        """The pid that the server of this token wrote before its program started; None where it did not get there."""
        try:
            with open(os.open(self.pid_path, _READ), "rb") as file:
                pid, written = file.read(_TAIL).split()
            return int(pid) if written.decode("ascii") == token else None
        except (OSError, ValueError):
            return None


def open_high(path: str, flags: int) -> int:
    """Open or make a private file, at a number of 10 or more. Raises OSError.

    A file action that copies a descriptor to a number below can so never meet its own source or another's.
    """
    low = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    finally:
        os.close(low)


def write_file(path: str, content: bytes) -> None:
    """Replace a file atomically, 0600. Raises OSError, and then nothing has changed."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def parse(label: str, text: bytes) -> Record:
    """What a record says; where it is damaged, what can be read of it, and the flaw."""
    import json

    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("it is no JSON object")
    except (ValueError, RecursionError) as error:
        return _record(label, {}, f"its record is damaged: {shown(str(error))}")
    version = data.get("version")
    if isinstance(version, int) and version > VERSION:
        return replace(_record(label, data, "its record was written by a newer version"), newer=True)
    wrong = [name for name, right in _expected(label, data).items() if not right]
    return _record(label, data, f"its record is damaged: {', '.join(wrong)}" if wrong else "")


def _expected(label: str, data: Mapping[str, Any]) -> Mapping[str, bool]:
    """What must hold of a record before anything is concluded from it."""
    pid, started = _number(data, "pid"), _number(data, "started")
    unfinished = data.get("phase") == "starting" and data.get("pid") is None
    # 0 and 1 would make a signal to the group one to ourselves or to everybody.
    named = pid is not None and 1 < pid <= _LAST_PID and started is not None
    return {
        "version": data.get("version") == VERSION,
        "label": data.get("label") == label,
        "port": 0 < (_number(data, "port") or 0) <= _LAST_PORT,
        "token": bool(_text(data, "token")),
        "boot_id": bool(_text(data, "boot_id")),
        "pid": unfinished or (data.get("phase") == "running" and named),
    }


def _record(label: str, data: Mapping[str, Any], flaw: str) -> Record:
    since, argv, port = data.get("since"), data.get("argv"), _number(data, "port") or 0
    return Record(
        label=label,
        port=port if port <= _LAST_PORT else 0,
        host=_text(data, "host") or "127.0.0.1",
        token=_text(data, "token"),
        boot_id=_text(data, "boot_id"),
        spec_hash=_text(data, "spec_hash"),
        fields=_texts(data.get("fields")),
        artifact=_text(data, "artifact"),
        served_name=_text(data, "served_name"),
        memory=_number(data, "memory") or 0,
        since=float(since) if isinstance(since, int | float) and 0 <= since <= _LAST_SECOND else 0.0,
        log=_text(data, "log"),
        log_start=_number(data, "log_start") or 0,
        argv=tuple(map(str, argv)) if isinstance(argv, list) else (),
        pid=_number(data, "pid"),
        started=_number(data, "started"),
        unique=_number(data, "unique"),
        revision=_text(data, "revision"),
        generation=_number(data, "generation") or 0,
        flaw=flaw,
    )


def _number(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _texts(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        return {}
    return {name: text for name, text in value.items() if isinstance(text, str)}
