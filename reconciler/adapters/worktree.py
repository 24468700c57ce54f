"""The desired state as it lies in a folder: the file and the templates beside it, read whole or not at all.

The path that a person gave is resolved once, when the source is made: a desired file may be linked into a
configuration directory. From then on nothing is followed: what has become a link, a pipe, a device or a folder
since is refused (D14), and a missing file is an error, never an empty desired state (D15). Of the folder two
kinds of files are read, because nothing else can be a template: everything below `templates/`, and `*.jinja`
files that the text names; so the cost does not depend on what else is in the folder.
"""

import os
import re
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from reconciler.model.bundle import REGULAR, Bundle, BundleFile
from reconciler.model.problem import ExitCode, ReconcilerError

TEMPLATES: Final = "templates"
FILE_LIMIT: Final = 2**20
"""Bytes; of the desired file one more is handed over, so that its reader can say that it is too long."""
MAX_FILES: Final = 1_000
MAX_DEPTH: Final = 4
_TRIES: Final = 3
_EXECUTABLE, _LINK, _SUBMODULE = 0o100755, 0o120000, 0o160000
_SUFFIX: Final = b".jinja"
_WORD: Final = re.compile(rb"[A-Za-z0-9_./-]+")
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY
_FAILED: Final = "the last good state stays in force"


class _Changing(Exception):
    """A file was written to while it was read."""


class WorktreeSource:
    """Reads one desired file and its templates from the file system."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._name = os.fspath(path)
        self._folder, self._file = os.path.split(os.path.realpath(self._name))

    def read(self) -> Bundle:
        """What is there now. Raises ReconcilerError when it cannot be read whole."""
        folder = self._open_folder()
        try:
            text = self._stable(folder, self._file, self._name, FILE_LIMIT + 1)
            files = dict(self._files(folder, text))
        finally:
            os.close(folder)
        return Bundle(
            name=self._name,
            revision=f"worktree:{_digest(text, files)}",
            text=text,
            files=files,
            tracked=_is_tracked(self._folder),
        )

    def folders(self) -> Iterator[str]:
        """Every folder in which something is read: what is to be watched. One that is not there is left out."""
        yield self._folder
        for place, inner, _ in os.walk(os.path.join(self._folder, TEMPLATES)):
            yield place
            if place.count("/") - self._folder.count("/") >= MAX_DEPTH:
                inner.clear()
        try:
            with open(os.path.join(self._folder, self._file), "rb") as file:
                named = _mentioned(file.read(FILE_LIMIT))
        except OSError:
            return
        yield from sorted({os.path.join(self._folder, os.path.dirname(path)) for path in named if "/" in path})

    def _open_folder(self) -> int:
        try:
            return os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing() from None
        except OSError as error:
            raise _unreadable(self._folder, error) from error

    def _missing(self) -> ReconcilerError:
        return ReconcilerError(
            "desired-file-missing",
            f"there is no {self._name}; this is not an empty desired state, and {_FAILED}",
            hint="put the file back, or name another one with -c FILE",
            code=ExitCode.INVALID,
        )

    # --------------------------------------------------------------------------------------------- one file

    def _stable(self, folder: int, name: str, shown: str, limit: int) -> bytes:
        """The content of a plain file that was not written to meanwhile (D11)."""
        for _ in range(_TRIES):
            try:
                return self._once(folder, name, shown, limit)
            except _Changing:
                continue
        raise ReconcilerError(
            "desired-file-changing",
            f"{shown} was being written to each of the {_TRIES} times that it was read; {_FAILED}",
            hint="run the command again when the file has been saved",
            code=ExitCode.INVALID,
        )

    def _once(self, folder: int, name: str, shown: str, limit: int) -> bytes:
        try:
            handle = os.open(name, _OPEN, dir_fd=folder)
        except FileNotFoundError:
            raise self._missing() from None
        except OSError as error:
            status = _status(folder, name)
            if status is not None and not stat.S_ISREG(status.st_mode):
                raise _not_a_file(shown, status.st_mode) from None
            raise _unreadable(shown, error) from error
        try:
            before = os.fstat(handle)
            if not stat.S_ISREG(before.st_mode):
                raise _not_a_file(shown, before.st_mode)
            content = _read(handle, limit)
            os.lseek(handle, 0, os.SEEK_SET)
            again = _read(handle, limit)
            after = os.fstat(handle)
        except OSError as error:
            raise _unreadable(shown, error) from error
        finally:
            os.close(handle)
        # Twice, because a time stamp may be coarse and is set before the bytes are.
        if _stamp(before) != _stamp(after) or content != again or len(content) != min(after.st_size, limit):
            raise _Changing
        now = _status(folder, name)
        if now is not None and now.st_ino != after.st_ino:
            raise _Changing  # replaced by a newer file: read that one
        return content

    # -------------------------------------------------------------------------------------------- templates

    def _files(self, folder: int, text: bytes) -> Iterator[tuple[str, BundleFile]]:
        """Everything that the text may refer to, by relative path."""
        below = islice(self._below(folder, TEMPLATES, 1), MAX_FILES + 1)
        names = [*below, *sorted(_mentioned(text))]
        if len(names) > MAX_FILES:
            raise ReconcilerError(
                "bundle-too-large",
                f"{self._folder}/{TEMPLATES} has more than {MAX_FILES} files",
                hint="keep only templates there",
                code=ExitCode.INVALID,
            )
        for name in names:
            found = self._bundle_file(folder, name)
            if found is not None:
                yield name, found

    def _below(self, folder: int, path: str, depth: int) -> Iterator[str]:
        """Relative paths of the files and links below a folder, in the order of their names."""
        try:
            handle = os.open(path, _OPEN_FOLDER, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            status = _status(folder, path)
            if status is not None and stat.S_ISLNK(status.st_mode):
                return
            raise _unreadable(f"{self._folder}/{path}", error) from error
        try:
            with os.scandir(handle) as entries:
                kinds = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in entries)
        finally:
            os.close(handle)
        for name, is_folder in kinds:
            inner = f"{path}/{name}"
            if not is_folder:
                yield inner
            elif depth < MAX_DEPTH:
                yield from self._below(folder, inner, depth + 1)

    def _bundle_file(self, folder: int, path: str) -> BundleFile | None:
        """A file as git would store it; None where there is none, or a thing that git does not store.

        A link anywhere on the way makes the path one: git stores the link and nothing behind it.
        """
        parts = path.split("/")
        for part in ("/".join(parts[:count]) for count in range(1, len(parts) + 1)):
            if (target := _link(folder, part)) is not None:
                return BundleFile(mode=_LINK, content=target)
        status = _status(folder, path)
        if status is None:
            return None
        if stat.S_ISDIR(status.st_mode):
            submodule = _status(folder, f"{path}/.git") is not None
            return BundleFile(mode=_SUBMODULE, content=b"") if submodule else None
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(f"{self._folder}/{path}", status.st_mode)
        if status.st_size > FILE_LIMIT:
            raise ReconcilerError(
                "bundle-too-large",
                f"{self._folder}/{path} is longer than the {FILE_LIMIT} bytes that a template may have",
                hint="shorten it, or move it out of the folder",
                code=ExitCode.INVALID,
            )
        content = self._stable(folder, path, f"{self._folder}/{path}", FILE_LIMIT + 1)
        return BundleFile(mode=_EXECUTABLE if status.st_mode & stat.S_IXUSR else REGULAR, content=content)


def _mentioned(text: bytes) -> set[str]:
    """Relative paths of `*.jinja` files outside of `templates/` that occur in the text."""
    words = {word for word in _WORD.findall(text) if word.endswith(_SUFFIX)}
    paths = {word.decode("ascii") for word in words}
    return {
        path
        for path in paths
        if not path.startswith((f"{TEMPLATES}/", "/")) and not {"", ".", ".."} & set(path.split("/"))
    }


def _read(handle: int, limit: int) -> bytes:
    parts: list[bytes] = []
    left = limit
    while left and (part := os.read(handle, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _link(folder: int, path: str) -> bytes | None:
    """Where a link leads to; None for everything else."""
    try:
        return os.fsencode(os.readlink(path, dir_fd=folder))
    except OSError:
        return None


def _status(folder: int, path: str) -> os.stat_result | None:
    try:
        return os.stat(path, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None


def _digest(text: bytes, files: dict[str, BundleFile]) -> str:
    """Twelve digits that stand for the text and every file with it."""
    import hashlib

    whole = hashlib.sha256(hashlib.sha256(text).digest())
    for name in sorted(files):
        whole.update(f"\0{name}\0{files[name].mode:o}\0".encode("utf-8", "surrogateescape"))
        whole.update(hashlib.sha256(files[name].content).digest())
    return whole.hexdigest()[:12]


def _is_tracked(folder: str) -> bool:
    """Whether the folder is in a git checkout, so that what is in it is shared."""
    here = Path(folder)
    return any(os.path.lexists(place / ".git") for place in (here, *here.parents))


def _not_a_file(shown: str, mode: int) -> ReconcilerError:
    kinds = (
        (stat.S_ISLNK, "a link that leads nowhere or was put there since"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    kind = next((name for test, name in kinds if test(mode)), "a device")
    return ReconcilerError(
        "desired-file-irregular",
        f"{shown} is {kind} and not a plain file; {_FAILED}",
        hint="put a plain file there; a link or a pipe is never read",
        code=ExitCode.INVALID,
    )


def _unreadable(shown: str, error: OSError) -> ReconcilerError:
    return ReconcilerError(
        "desired-file-unreadable",
        f"{shown} cannot be read: {error.strerror}; {_FAILED}",
        hint="mend its permissions, or name another file with -c FILE",
        code=ExitCode.ENVIRONMENT,
    )
