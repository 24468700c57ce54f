"""Which files of a folder belong to a desired state, what they may be, and where to look for changes of them."""

import os
import re
import stat
from collections.abc import Iterator
from typing import Final

from reconciler.model.problem import ExitCode, ReconcilerError

TEMPLATES: Final = "templates"
FILE_LIMIT: Final = 2**20
"""Bytes; of the desired file one more is handed over, so that its reader can say that it is too long."""
MAX_FILES: Final = 1_000
MAX_DEPTH: Final = 4
EXECUTABLE: Final = 0o100755
LINK: Final = 0o120000
SUBMODULE: Final = 0o160000
KEPT: Final = "the last good state stays in force"
_SUFFIX: Final = b".jinja"
_WORD: Final = re.compile(rb"[A-Za-z0-9_./-]+")
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY


def mentioned(text: bytes) -> set[str]:
    """Relative paths of `*.jinja` files outside of `templates/` that occur in the text."""
    words = {word for word in _WORD.findall(text) if word.endswith(_SUFFIX)}
    paths = {word.decode("ascii") for word in words}
    return {
        path
        for path in paths
        if not path.startswith((f"{TEMPLATES}/", "/")) and not {"", ".", ".."} & set(path.split("/"))
    }


def below(folder: int, path: str = TEMPLATES, depth: int = 1) -> Iterator[str]:
    """Relative paths of the files and links below a folder, by name; nothing where there is none. Raises OSError."""
    try:
        handle = os.open(path, _OPEN_FOLDER, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        found = status(folder, path)
        if found is not None and stat.S_ISLNK(found.st_mode):
            return
        raise
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
            yield from below(folder, inner, depth + 1)


def link_on_the_way(folder: int, path: str) -> bytes | None:
    """Where the first link of a path leads to; None where none is on it.

    Git stores a link and nothing behind it, so such a path is that link.
    """
    parts = path.split("/")
    for part in ("/".join(parts[:count]) for count in range(1, len(parts) + 1)):
        try:
            return os.fsencode(os.readlink(part, dir_fd=folder))
        except OSError:
            continue
    return None


def status(folder: int, path: str) -> os.stat_result | None:
    """What is at a path itself; None where that cannot be seen."""
    try:
        return os.stat(path, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None


def watched(folder: str, file: str) -> Iterator[str]:
    """Every folder in which a desired file and its templates lie. One that is not there is left out."""
    yield folder
    for place, inner, _ in os.walk(os.path.join(folder, TEMPLATES)):
        yield place
        if place.count("/") - folder.count("/") >= MAX_DEPTH:
            inner.clear()
    try:
        handle = os.open(os.path.join(folder, file), os.O_RDONLY | os.O_NONBLOCK)
        try:
            named = mentioned(os.read(handle, FILE_LIMIT))
        finally:
            os.close(handle)
    except OSError:
        return
    yield from sorted({os.path.join(folder, os.path.dirname(path)) for path in named if "/" in path})


def missing(shown: str, where: str = "") -> ReconcilerError:
    """There is no desired file; `where` says at which revision, if it has one."""
    return ReconcilerError(
        "desired-file-missing",
        f"there is no {shown}{where}; this is not an empty desired state, and {KEPT}",
        hint="put the file back, or name another one with -c FILE",
        code=ExitCode.INVALID,
    )


def too_many(shown: str) -> ReconcilerError:
    """A folder has more files than a bundle may have."""
    return ReconcilerError(
        "bundle-too-large",
        f"{shown} has more than {MAX_FILES} files",
        hint="keep only templates there",
        code=ExitCode.INVALID,
    )


def too_long(shown: str) -> ReconcilerError:
    """A file is longer than a template may be."""
    return ReconcilerError(
        "bundle-too-large",
        f"{shown} is longer than the {FILE_LIMIT} bytes that a template may have",
        hint="shorten it, or move it out of the folder",
        code=ExitCode.INVALID,
    )


def irregular(shown: str, kind: str) -> ReconcilerError:
    """Something else than a plain file is where one belongs."""
    return ReconcilerError(
        "desired-file-irregular",
        f"{shown} is {kind} and not a plain file; {KEPT}",
        hint="put a plain file there; a link or a pipe is never read",
        code=ExitCode.INVALID,
    )
