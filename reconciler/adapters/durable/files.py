"""One folder of one file system, by paths relative to it: what the protocols for weights are written against.

The crash tests run the same protocols on a simulated disk (tests/crash), and a volume of another host is reached
through the same questions. Every method raises OSError, and a failure to look is never told as absence.
"""

import errno
import fcntl
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from types import TracebackType
from typing import Final, Protocol, Self

from reconciler.model.base import noun

PIECE: Final = 4 * 2**20
"""Bytes that are read or written at a time."""
SMALL: Final = 64 * 2**20
"""Bytes of the longest file that is read in one piece."""
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: fsync alone leaves the bytes in the drive's cache (fsync(2) there)."""
_NO_CACHE: Final[int | None] = getattr(fcntl, "F_NOCACHE", 48 if sys.platform == "darwin" else None)
"""macOS: reads and writes of this descriptor leave nothing in the page cache; <sys/fcntl.h> has it as 48."""
_NO_SUCH_REQUEST: Final = (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY)
"""What a file system without the full sync says, such as SMB; it has fsync."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Kind(StrEnum):
    """What a name in a folder stands for."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"
    """A pipe, socket or device."""


@noun
class Entry:
    """What is at a path; a link is not followed."""

    kind: Kind
    size: int = 0
    """Bytes of a file; 0 of anything else."""
    names: int = 1
    """How many names a file has (hard links); 1 of anything else."""


def _unwatched(read: int) -> None:
    """Nobody wants to know how far reading is."""


class Files(Protocol):
    """A folder that is held open; paths are relative to it, with `/`, and `""` is the folder itself.

    No component of a path is followed when it is a link, and `..` is refused: nothing outside is ever reached.
    """

    def device(self) -> str:
        """What tells its file system from every other one, here or on another host."""
        ...

    def look(self, path: str) -> Entry | None:
        """What is there; None: nothing is. Whatever keeps one from looking raises."""
        ...

    def names(self, path: str) -> tuple[str, ...]:
        """What a folder holds, sorted."""
        ...

    def target(self, path: str) -> str:
        """Where a link leads, as it is written."""
        ...

    def read(self, path: str) -> bytes:
        """A small file, of at most SMALL bytes."""
        ...

    def chunks(self, path: str) -> Iterator[bytes]:
        """A file, piece by piece."""
        ...

    def digest(self, path: str, watch: Callable[[int], None] = _unwatched) -> str:
        """SHA-256 in hex of what the medium holds: read back from it and not from memory.

        `watch` is told the length of every piece that was read; what it raises ends the reading.
        """
        ...

    def make_folder(self, path: str) -> None:
        """Make one folder in an existing one; it must be absent."""
        ...

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link; nothing may be there."""
        ...

    def write(self, path: str, chunks: Iterable[bytes]) -> None:
        """Make a file of these pieces; nothing may be there. After an error a part of it may be."""
        ...

    def sync(self, path: str) -> None:
        """Return when the content of a file, or the list of names of a folder, survives a loss of power."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give it another name in one step. A file at `new` is replaced; a folder that is not empty is an error."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file or a link."""
        ...

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        ...


class LocalFiles:
    """A folder of this machine, held by a descriptor.

    When its volume is unmounted, requests fail or reach the old volume; they never reach what then lies at the same
    path (measured with lazy unmounts; faults O06 and O07). Raises OSError when `root` cannot be opened.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; every later request fails."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def device(self) -> str:
        """The number of its file system."""
        return str(os.fstat(self._handle).st_dev)

    def look(self, path: str) -> Entry | None:
        """What is there, by lstat."""
        try:
            with self._folder_of(path) as (folder, name):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            if not os.fstat(self._handle).st_nlink:  # in a folder that was removed everything is absent
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self.root) from None
            return None
        if stat.S_ISREG(status.st_mode):
            return Entry(kind=Kind.FILE, size=status.st_size, names=status.st_nlink)
        if stat.S_ISDIR(status.st_mode):
            return Entry(kind=Kind.FOLDER)
        return Entry(kind=Kind.LINK if stat.S_ISLNK(status.st_mode) else Kind.OTHER)

    def names(self, path: str) -> tuple[str, ...]:
        """What a folder holds, sorted."""
        with self._opened(path, _FOLDER) as handle:
            return tuple(sorted(os.listdir(handle)))

    def target(self, path: str) -> str:
        """Where a link leads, as it is written."""
        with self._folder_of(path) as (folder, name):
            return os.readlink(name, dir_fd=folder)

    def read(self, path: str) -> bytes:
        """A small file."""
        with self._file(path) as handle:
            if os.fstat(handle).st_size > SMALL:
                raise OSError(f"{path} is too long to be read in one piece")
            return b"".join(_pieces(handle))

    def chunks(self, path: str) -> Iterator[bytes]:
        """A file, piece by piece."""
        with self._file(path) as handle:
            yield from _pieces(handle)

    def digest(self, path: str, watch: Callable[[int], None] = _unwatched) -> str:
        """SHA-256 of what the medium holds."""
        digest = hashlib.sha256()
        with self._file(path) as handle:
            _forget_cached(handle)
            for piece in _pieces(handle):
                digest.update(piece)
                watch(len(piece))
        return digest.hexdigest()

    def make_folder(self, path: str) -> None:
        """Make one folder."""
        with self._folder_of(path) as (folder, name):
            os.mkdir(name, dir_fd=folder)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        with self._folder_of(path) as (folder, name):
            os.symlink(target, name, dir_fd=folder)

    def write(self, path: str, chunks: Iterable[bytes]) -> None:
        """Make a file of these pieces."""
        with self._opened(path, _CREATE) as handle:
            if _NO_CACHE is not None:
                with suppress(OSError):
                    fcntl.fcntl(handle, _NO_CACHE, 1)
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(handle, rest) :]

    def sync(self, path: str) -> None:
        """Wait until it survives a loss of power."""
        entry = self.look(path) if path else Entry(kind=Kind.FOLDER)
        flags = _FOLDER if entry is not None and entry.kind is Kind.FOLDER else _READ
        with self._opened(path, flags) as handle:
            _synced(handle)

    def rename(self, old: str, new: str) -> None:
        """Give it another name in one step."""
        with self._folder_of(old) as (before, name), self._folder_of(new) as (after, other):
            os.rename(name, other, src_dir_fd=before, dst_dir_fd=after)

    def remove(self, path: str) -> None:
        """Remove a file or a link."""
        with self._folder_of(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        with self._folder_of(path) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    # ----------------------------------------------------------------------------------------------- descriptors

    @contextmanager
    def _folder_of(self, path: str) -> Iterator[tuple[int, str]]:
        """The folder that a path is in, and its last name; no link is followed on the way."""
        *folders, name = _parts(path)
        handle = os.dup(self._handle)
        try:
            for folder in folders:
                inner = os.open(folder, _FOLDER, dir_fd=handle)
                os.close(handle)
                handle = inner
            yield handle, name
        finally:
            os.close(handle)

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        if path:
            with self._folder_of(path) as (folder, name):
                handle = os.open(name, flags, 0o666, dir_fd=folder)
        else:
            handle = os.open(".", flags, dir_fd=self._handle)
        try:
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def _file(self, path: str) -> Iterator[int]:
        with self._opened(path, _READ) as handle:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(f"{path} is no plain file")
            yield handle


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if {"", ".", ".."} & set(parts):
        raise OSError(f"{path!r} is no path below a folder")
    return parts


def _pieces(handle: int) -> Iterator[bytes]:
    while piece := os.read(handle, PIECE):
        yield piece


def _synced(handle: int) -> None:
    if _FULL_SYNC is not None:
        try:
            fcntl.fcntl(handle, _FULL_SYNC)
            return
        except OSError as error:
            if error.errno not in _NO_SUCH_REQUEST:
                raise
    os.fsync(handle)


def _forget_cached(handle: int) -> None:
    """Let the next reads of this descriptor come from the medium: only clean pages are dropped, so it is synced."""
    _synced(handle)
    if sys.platform == "darwin":
        if _NO_CACHE is not None:
            fcntl.fcntl(handle, _NO_CACHE, 1)
    else:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
