"""The plain files of one folder, links followed as far as they are allowed to lead."""

import os
import stat
from collections.abc import Iterable
from functools import cached_property
from typing import Final, NamedTuple

from .model_folder import FoundFile

BLOB: Final = "../../blobs/"
"""How a link of a snapshot begins."""
_OUTSIDE: Final = "leads out of the model cache"
_BROKEN: Final = "its link leads nowhere"


class Refused(Exception):
    """What was found is not followed; the text is the reason."""


class Found(NamedTuple):
    """What is directly in a folder."""

    files: dict[str, FoundFile]
    broken: dict[str, str]
    """File -> why it does not count."""
    blobs: dict[str, str]
    """File -> name of the blob that its link leads to, whatever that name is worth."""

    @property
    def disk_bytes(self) -> int:
        """Bytes of the files, each counted once."""
        return sum({found.stamp[:2]: found.size for found in self.files.values()}.values())


class Allowed:
    """The folders that links may lead into; resolved when the first link has to be."""

    def __init__(self, roots: Iterable[str]) -> None:
        self._roots = tuple(roots)

    @cached_property
    def _real(self) -> tuple[str, ...]:
        return tuple(os.path.realpath(root) for root in self._roots)

    def holds(self, real: str, also: str | None = None) -> bool:
        """Whether a resolved path is in one of them, or in `also`."""
        roots = self._real if also is None else (*self._real, os.path.realpath(also))
        return any(real == root or real.startswith(f"{root.rstrip('/')}/") for root in roots)


def files_of(folder: str, allowed: Allowed, base: str | None = None) -> Found:
    """The plain files directly in a folder, and what is wrong with the others. Raises OSError.

    `base` is the repository that a snapshot belongs to: a link `../../blobs/NAME` to a plain file of it is inside
    by its form, which costs two system calls; every other link is resolved and must lead to what is allowed, or
    stay where it is (H22).
    """
    blobs = None if base is None else _plain_blobs(base)
    found = Found({}, {}, {})
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".incomplete"):
                found.broken[entry.name] = "not finished"
            elif entry.is_symlink():
                _follow(entry, blobs, base or folder, allowed, found)
            elif entry.is_file(follow_symlinks=False):
                found.files[entry.name] = file_at(entry.path, entry.stat(follow_symlinks=False))
    return found


def file_at(path: str, status: os.stat_result) -> FoundFile:
    """A file with its stamp."""
    return FoundFile(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def plain_file(path: str) -> FoundFile | None:
    """The plain file at a path; None where there is none. Raises OSError."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return file_at(path, status) if stat.S_ISREG(status.st_mode) else None


def _follow(entry: "os.DirEntry[str]", blobs: str | None, inside: str, allowed: Allowed, found: Found) -> None:
    target = os.readlink(entry.path)
    if target.endswith(".incomplete"):
        found.broken[entry.name] = "not finished"
        return
    direct = blobs is not None and target.startswith(BLOB) and "/" not in target[len(BLOB) :]
    if direct:
        found.blobs[entry.name] = target[len(BLOB) :]
    try:
        if direct and (blob := plain_file(f"{blobs}{target[len(BLOB) :]}")):
            found.files[entry.name] = blob
            return
        real = os.path.realpath(entry.path)
        status = os.stat(real)
    except FileNotFoundError:
        found.broken[entry.name] = _BROKEN
        return
    if not allowed.holds(real, inside):
        found.broken[entry.name] = _OUTSIDE
    elif stat.S_ISREG(status.st_mode):
        found.files[entry.name] = file_at(real, status)
        folder, _, name = real.rpartition("/")
        if folder.endswith("/blobs"):
            found.blobs.setdefault(entry.name, name)


def _plain_blobs(base: str) -> str | None:
    """`blobs/` of a repository, where it is a folder and no link."""
    try:
        plain = stat.S_ISDIR(os.lstat(f"{base}/blobs").st_mode)
    except FileNotFoundError:
        return None
    return f"{base}/blobs/" if plain else None
