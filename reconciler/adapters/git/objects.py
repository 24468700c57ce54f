"""Reads objects of a repository through one `git cat-file --batch`, and compares each with its name."""

import hashlib
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import IO, Final, Self

from reconciler.adapters.template_files import KEPT
from reconciler.model.base import noun
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import shown

from .refs import is_commit
from .running import Git, end, excerpt, kill

FOLDER: Final = 0o040000
_TREE_LIMIT: Final = 64 * 2**20
_PIECE: Final = 2**16
_NOT_FETCHED: Final = "promisor remote"
"""What git says of an object that a partial clone leaves to be fetched."""
_MODE: Final = re.compile(rb"[0-7]{1,7}")
_SHORT: Final = 40
"""Digits of a name in a repository of SHA-1."""


@noun
class Entry:
    """One name of a tree."""

    mode: int
    name: str
    """Of the object, in hex."""


class Objects:
    """The objects of one repository, for as long as one revision is read."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._late = False

    def __enter__(self) -> Self:
        self._process = self._git.start("cat-file", "--batch")
        self._timer = threading.Timer(self._git.patience, self._give_up)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()
        end(self._process)

    def tree_of(self, commit: str) -> str:
        """The tree of a commit. Raises ReconcilerError."""
        content = self.content(commit, "commit", _TREE_LIMIT)
        word, _, name = content.split(b"\n", 1)[0].decode("ascii", "replace").partition(" ")
        if word != "tree" or not is_commit(name):
            raise self._damaged(f"the commit {shown(commit)} is damaged")
        return name

    def tree(self, name: str) -> Mapping[bytes, Entry]:
        """What a folder holds. Raises ReconcilerError."""
        content, start = self.content(name, "tree", _TREE_LIMIT), 0
        found: dict[bytes, Entry] = {}
        width = len(name) // 2
        while start < len(content):
            space, nul = content.find(b" ", start), content.find(b"\0", start)
            stop = nul + 1 + width
            mode = content[start:space]
            if not start < space < nul or stop > len(content) or not _MODE.fullmatch(mode):
                raise self._damaged(f"the tree {shown(name)} is damaged")
            found[content[space + 1 : nul]] = Entry(mode=int(mode, 8), name=content[nul + 1 : stop].hex())
            start = stop
        return found

    def content(self, name: str, kind: str, limit: int) -> bytes:
        """An object by its whole name. Raises ReconcilerError.

        A longer blob is cut, and cannot be compared with its name then; whoever asks refuses it for its length.
        """
        out = self._asked(name)
        header = out.readline().decode("ascii", "replace").split()
        if header[1:] == ["missing"]:
            raise self._unreadable(name, kind, missing=True)
        if len(header) != 3 or header[0] != name or not header[2].isdigit():  # noqa: PLR2004
            raise self._unreadable(name, kind)
        found, size = header[1], int(header[2])
        content = out.read(min(size, limit))
        left = size - len(content) + 1  # and the line end
        while left and (piece := out.read(min(left, _PIECE))):
            left -= len(piece)
        if left:
            raise self._unreadable(name, kind)
        if found != kind:
            raise self._damaged(f"{shown(name)} is a {found} and no {kind}")
        if size > limit and kind != "blob":
            raise self._damaged(f"the {kind} {shown(name)} has more than {limit} bytes")
        if size <= limit and object_name(kind, content, len(name)) != name:
            raise self._damaged(f"the content of {shown(name)} is not what its name says")
        return content

    def _asked(self, name: str) -> IO[bytes]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):  # where it has ended, reading says so
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
        return process.stdout

    def _give_up(self) -> None:
        self._late = True
        kill(self._process)

    def _unreadable(self, name: str, kind: str, *, missing: bool = False) -> ReconcilerError:
        """Why there was no content; `missing`: git says that there is no such object."""
        said = self._said()
        if self._late:
            return self._git.hung()
        if not (missing and not excerpt(said)) and _NOT_FETCHED not in said:
            return self._git.failed(f"the {kind} {shown(name)} cannot be read", said)
        return ReconcilerError(
            "object-missing",
            f"the {kind} {shown(name)} is not in the repository in {self._git.folder}; {KEPT}",
            hint="fetch it: nothing is ever fetched from here, and a partial or shallow clone lacks what was not "
            f"checked out; `git -C '{self._git.folder}' fsck` says what else is missing",
            code=ExitCode.ENVIRONMENT,
        )

    def _damaged(self, what: str) -> ReconcilerError:
        return self._git.hung() if self._late else self._git.failed(what, self._said())

    def _said(self) -> str:
        """What it printed before it ended, which it does when nothing more is asked."""
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        with suppress(OSError):
            self._process.stdin.close()
        return self._process.stderr.read(_PIECE).decode("utf-8", "replace")


def object_name(kind: str, content: bytes, digits: int) -> str:
    """The name that git gives to a content: SHA-1, or SHA-256 where names have 64 digits."""
    made = hashlib.sha1(usedforsecurity=False) if digits == _SHORT else hashlib.sha256()
    made.update(f"{kind} {len(content)}\0".encode())
    made.update(content)
    return made.hexdigest()
