"""The desired state as it lies in a folder: the file and the templates beside it, read whole or not at all.

The path that a person gave is resolved once, when the source is made: a desired file may be linked into a
configuration directory. From then on nothing is followed: what has become a link, a pipe, a device or a folder
since is refused (D14), and a missing file is an error, never an empty desired state (D15). Of the folder two
kinds of files are read, because nothing else can be a template: everything below `templates/`, and `*.jinja`
files that the text names; so the cost does not depend on what else is in the folder.
"""

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from reconciler.model.bundle import REGULAR, Bundle, BundleFile
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import Doubt, Position

from .template_files import (
    EXECUTABLE,
    FILE_LIMIT,
    KEPT,
    LINK,
    MAX_FILES,
    SUBMODULE,
    TEMPLATES,
    below,
    irregular,
    link_on_the_way,
    mentioned,
    missing,
    status,
    too_long,
    too_many,
    watched,
)

_TRIES: Final = 3
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class _Changing(Exception):
    """A file was written to while it was read."""


class WorktreeSource:
    """Reads one desired file and its templates from the file system."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._name = os.fspath(path)
        self._folder, self._file = os.path.split(os.path.realpath(self._name))
        self._found: Bundle | None = None

    def position(self) -> Position:
        """What is there now. Raises ReconcilerError when it cannot be read whole.

        It is read every time: that costs less than a tenth of a millisecond, and time stamps are coarse (D11).
        """
        self._found = self.bundle()
        return Position(revision=self._found.revision)

    def read(self, revision: str) -> Bundle:
        """What was there when the position was asked for. Raises ReconcilerError where that is gone by now."""
        if self._found is None or self._found.revision != revision:
            self._found = self.bundle()
        if self._found.revision != revision:
            raise ReconcilerError(
                "desired-file-changed",
                f"{self._name} is not what it was as {revision}; {KEPT}",
                hint="nothing is to be done: the newer content is looked at next",
                code=ExitCode.UNSETTLED,
            )
        return self._found

    def doubt(self, old: str, new: str) -> Doubt | None:
        """Nothing: a saved file has no history and no signature."""
        return None

    def behind(self, revision: str) -> int | None:
        """Unknown: what was saved in between is gone."""
        return None

    def bundle(self) -> Bundle:
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
        return watched(self._folder, self._file)

    def _open_folder(self) -> int:
        try:
            return os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise missing(self._name) from None
        except OSError as error:
            raise _unreadable(self._folder, error) from error

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
            f"{shown} was being written to each of the {_TRIES} times that it was read; {KEPT}",
            hint="run the command again when the file has been saved",
            code=ExitCode.INVALID,
        )

    def _once(self, folder: int, name: str, shown: str, limit: int) -> bytes:
        try:
            handle = os.open(name, _OPEN, dir_fd=folder)
        except FileNotFoundError:
            raise missing(self._name) from None
        except OSError as error:
            found = status(folder, name)
            if found is not None and not stat.S_ISREG(found.st_mode):
                raise _not_a_file(shown, found.st_mode) from None
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
        now = status(folder, name)
        if now is not None and now.st_ino != after.st_ino:
            raise _Changing  # replaced by a newer file: read that one
        return content

    # -------------------------------------------------------------------------------------------- templates

    def _files(self, folder: int, text: bytes) -> Iterator[tuple[str, BundleFile]]:
        """Everything that the text may refer to, by relative path."""
        try:
            names = [*islice(below(folder), MAX_FILES + 1), *sorted(mentioned(text))]
        except OSError as error:
            raise _unreadable(f"{self._folder}/{error.filename or TEMPLATES}", error) from error
        if len(names) > MAX_FILES:
            raise too_many(f"{self._folder}/{TEMPLATES}")
        for name in names:
            found = self._bundle_file(folder, name)
            if found is not None:
                yield name, found

    def _bundle_file(self, folder: int, path: str) -> BundleFile | None:
        """A file as git would store it; None where there is none, or a thing that git does not store."""
        if (target := link_on_the_way(folder, path)) is not None:
            return BundleFile(mode=LINK, content=target)
        found = status(folder, path)
        if found is None:
            return None
        if stat.S_ISDIR(found.st_mode):
            submodule = status(folder, f"{path}/.git") is not None
            return BundleFile(mode=SUBMODULE, content=b"") if submodule else None
        if not stat.S_ISREG(found.st_mode):
            raise _not_a_file(f"{self._folder}/{path}", found.st_mode)
        if found.st_size > FILE_LIMIT:
            raise too_long(f"{self._folder}/{path}")
        content = self._stable(folder, path, f"{self._folder}/{path}", FILE_LIMIT + 1)
        return BundleFile(mode=EXECUTABLE if found.st_mode & stat.S_IXUSR else REGULAR, content=content)


def _read(handle: int, limit: int) -> bytes:
    parts: list[bytes] = []
    left = limit
    while left and (part := os.read(handle, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


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
    return irregular(shown, kind)


def _unreadable(shown: str, error: OSError) -> ReconcilerError:
    return ReconcilerError(
        "desired-file-unreadable",
        f"{shown} cannot be read: {error.strerror}; {KEPT}",
        hint="mend its permissions, or name another file with -c FILE",
        code=ExitCode.ENVIRONMENT,
    )
