"""Finds what is saved and not committed: compares the names that git would give to the saved files.

This is for a report and decides nothing. What a file holds is read again until two looks at it agree on its time
stamps, because these are coarse; from then on a look costs one `stat` a file.
"""

import os
import stat
from collections.abc import Iterator
from itertools import islice
from typing import Final

from reconciler.adapters.template_files import FILE_LIMIT, LINK, MAX_FILES, SUBMODULE, below, link_on_the_way, status

from .objects import Entry, object_name
from .reading import Listing

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_SURE: Final = 2
"""Looks that must have found the same time stamps before they are believed."""

Stamp = tuple[int, int, int, int]


class Edits:
    """The working files of one desired state."""

    def __init__(self, folder: str, file: str) -> None:
        self._folder, self._file = folder, file
        self._known: dict[str, tuple[Stamp, int, frozenset[str]]] = {}
        """path -> time stamps, how often they were found, and what git could call the content."""

    def against(self, listing: Listing) -> tuple[str, ...]:
        """The paths whose saved content is not that of the commit, sorted. A folder that is gone: all of them."""
        committed = {self._file: listing.desired, **listing.files}
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return tuple(sorted(committed))
        try:
            changed = {path for path, entry in committed.items() if not self._same(folder, path, entry)}
            modules = tuple(f"{path}/" for path, entry in committed.items() if entry.mode == SUBMODULE)
            saved = (path for path in self._saved(folder) if not path.startswith(modules))
            changed.update(path for path in saved if path not in committed)
        finally:
            os.close(folder)
        self._known = {path: known for path, known in self._known.items() if path in committed}
        return tuple(sorted(changed))

    def _saved(self, folder: int) -> Iterator[str]:
        """Templates that are there; what editors and the Finder leave beside them is none."""
        try:
            for path in islice(below(folder), MAX_FILES):
                name = os.path.basename(path)
                if not name.startswith(".") and not name.endswith("~"):
                    yield path
        except OSError:
            return

    def _same(self, folder: int, path: str, entry: Entry) -> bool:
        if entry.mode == SUBMODULE:
            return True  # which commit of it is checked out is said elsewhere, and nothing of it is ever read
        if entry.mode == LINK:
            target = link_on_the_way(folder, path)
            return target is not None and object_name("blob", target, len(entry.name)) == entry.name
        return entry.name in self._names(folder, path, len(entry.name))

    def _names(self, folder: int, path: str, digits: int) -> frozenset[str]:
        """What git could call the saved content; nothing where no plain file can be read."""
        found = status(folder, path)
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_size > FILE_LIMIT:
            return frozenset()
        stamp = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        known = self._known.get(path)
        looks = known[1] if known is not None and known[0] == stamp else 0
        if known is not None and looks >= _SURE:
            return known[2]
        names = _read(folder, path, digits)
        self._known[path] = stamp, looks + 1, names
        return names


def _read(folder: int, path: str, digits: int) -> frozenset[str]:
    """A checkout may have given it the line ends of another system, which a commit takes back."""
    try:
        handle = os.open(path, _OPEN, dir_fd=folder)
    except OSError:
        return frozenset()
    with os.fdopen(handle, "rb") as file:
        content = file.read(FILE_LIMIT + 1)
    return frozenset(object_name("blob", text, digits) for text in {content, content.replace(b"\r\n", b"\n")})
