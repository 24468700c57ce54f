"""Keeps the logs small: what has grown too large becomes an older copy, and all logs together have a limit.

Whoever writes a log holds it open for appending and goes on in the same file, so it is copied and emptied, not
renamed; what is written in the microseconds between the two is lost. How many bytes have gone from a log stands
beside it: a position in it counts from its first byte ever, and so stays right (`server_log`).

Only what is ours is touched: a plain file of this user with one name, which is that of a log, in the folder itself.
A person may have put a link in the place of the folder, to where there is room; others may write there, too, and so
only a log that a run record names is ours then.
"""

import asyncio
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, NamedTuple, NoReturn

from reconciler.model.names import LABEL

from .records import SUFFIX, Run
from .server_log import DROPPED, OLDER, dropped

LARGEST: Final = 16 * 2**20
"""Bytes of a log above which it is begun anew, and of its older copy at most."""
ALL_LOGS: Final = 512 * 2**20
"""Bytes of all logs together above which older copies and logs of models that are gone are removed."""
EVERY: Final = 60.0
"""Seconds between two looks at the logs of servers that run."""
_LOG: Final = ".log"
_OWN: Final = "_watch"
"""Our own log (`service/description.py`), which has no run record."""
_CHUNK: Final = 2**20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_READ: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY


class Logs:
    """The logs of one state directory."""

    def __init__(self, root: str | os.PathLike[str], largest: int = LARGEST, all_logs: int = ALL_LOGS) -> None:
        self._root, self._folder = os.fspath(root), os.path.join(root, "logs")
        self._largest, self._all_logs = largest, all_logs

    async def keep_small(self, every: float = EVERY) -> NoReturn:
        """Look again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(every)
            for path in self.too_large():
                begin_anew(path, self._largest)
                await asyncio.sleep(0)  # a copy takes some milliseconds
            self.limit()

    def too_large(self) -> list[str]:
        """The logs that are to begin anew."""
        with suppress(OSError), _opened(self._folder) as folder:
            files = [file for file in _files(folder) if file.name.endswith(_LOG) and file.size > self._largest]
            return [os.path.join(self._folder, file.name) for file in files]
        return []  # none was ever started, or they cannot be seen: there is nothing to do for it

    def limit(self) -> None:
        """Remove the oldest files that nobody writes to any more, until the rest is small enough."""
        with suppress(OSError), _opened(self._folder) as folder:
            files = sorted(_files(folder), key=lambda file: file.changed)
            spare = sum(file.size for file in files) - self._all_logs
            older = [file for file in files if file.name.endswith(OLDER)]
            ended = [file for file in files if file.name.endswith(_LOG) and not self._is_in_use(file.name)]
            for file in (*older, *ended):
                if spare <= 0:
                    return
                with suppress(OSError):
                    os.unlink(file.name, dir_fd=folder.handle)
                    spare -= file.size
                    if file in ended:
                        os.unlink(file.name + DROPPED, dir_fd=folder.handle)

    def _is_in_use(self, name: str) -> bool:
        """Whether a run record speaks of it; `_watch.log` is our own, and has none."""
        label = name.removesuffix(_LOG)
        return label == _OWN or os.path.lexists(os.path.join(self._root, "run", f"{label}{SUFFIX}"))


class _File(NamedTuple):
    name: str
    size: int
    changed: int
    """When it was last written to, nanoseconds."""


class _Folder(NamedTuple):
    handle: int
    path: str
    is_link: bool
    """Whether a link stands in its place, so that others may write there, too."""


@contextmanager
def _opened(path: str) -> Iterator[_Folder]:
    """The folder of logs, held, so that nothing else can take its place meanwhile. Raises OSError."""
    try:
        handle, is_link = os.open(path, _FOLDER | os.O_NOFOLLOW), False
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        handle, is_link = os.open(path, _FOLDER), True
    try:
        yield _Folder(handle, path, is_link)
    finally:
        os.close(handle)


def _files(folder: _Folder) -> Iterator[_File]:
    """Logs that are ours, and what is kept beside them. Raises OSError."""
    with os.scandir(folder.handle) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if _is_plain(status) and _is_ours(folder, entry.name.removesuffix(OLDER).removesuffix(DROPPED)):
                yield _File(entry.name, status.st_size, status.st_mtime_ns)


def _is_plain(status: os.stat_result) -> bool:
    """Whether it is a file of this user that has no other name: what is done to it is done to nothing else."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1


def _is_ours(folder: _Folder, name: str) -> bool:
    """Whether a log may be one of ours by its name."""
    label = name.removesuffix(_LOG)
    if label == name or not (label == _OWN or LABEL.regex.fullmatch(label)):
        return False
    if not folder.is_link:
        return True
    try:
        record = Run(os.path.dirname(folder.path), label).record()
        status = os.stat(name, dir_fd=folder.handle, follow_symlinks=False)
        return record is not None and os.path.samestat(os.stat(record.log), status)
    except OSError:
        return False


def begin_anew(path: str, largest: int = LARGEST) -> None:
    """Empty a log that is larger than `largest`, its end kept beside it; it stays as it is where that fails.

    On a full disk it is emptied all the same: that is the one thing that helps.
    """
    place, name = os.path.split(path)
    with suppress(OSError), _opened(place or ".") as folder:
        handle = os.open(name, _READ, dir_fd=folder.handle)
        try:
            status = os.fstat(handle)
            size = status.st_size
            if size <= largest or not _is_plain(status) or not _is_ours(folder, name):
                return
            try:
                size = _copied(handle, folder, name + OLDER, size - largest)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
            # First the number: a kill between the two makes older lines look new, and never hides new ones.
            _note(folder, name + DROPPED, dropped(path) + size)
            os.ftruncate(handle, 0)
        finally:
            os.close(handle)


def _note(folder: _Folder, name: str, number: int) -> None:
    try:
        with _replaced(folder, name) as file:
            file.write(b"%d" % number)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _FULL:
            raise


def _copied(handle: int, folder: _Folder, name: str, start: int) -> int:
    """Copy what is behind `start`, whole lines, also what is written meanwhile; where it ended. Raises OSError."""
    with _replaced(folder, name) as file:
        at, first = start, start > 0
        while chunk := os.pread(handle, _CHUNK, at):
            at += len(chunk)
            # The first line has lost its beginning, and with it what would show a secret.
            file.write(chunk.partition(b"\n")[2] if first else chunk)
            first = False
    return at


@contextmanager
def _replaced(folder: _Folder, name: str) -> Iterator[BinaryIO]:
    """A new private file, which has this name after the block. Raises OSError, and then nothing has changed."""
    temporary = f"{name}.tmp"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder.handle)
    try:
        with open(os.open(temporary, _NEW, 0o600, dir_fd=folder.handle), "wb") as file:
            yield file
        os.rename(temporary, name, src_dir_fd=folder.handle, dst_dir_fd=folder.handle)
    except OSError:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder.handle)
        raise
