"""Reads HEAD and refs from their files, in a hundredth of the time of asking git; asks where those do not say."""

import os
import re
import stat
from typing import Final

from .repository import Repository
from .running import Git

BRANCHES: Final = "refs/heads/"
_IN_FILES: Final = (BRANCHES, "refs/remotes/", "refs/tags/")
"""Refs that all working trees share, and that only one kind of ref storage does not keep in files."""
_ELSEWHERE: Final = "refs/heads/.invalid"
"""What HEAD says where refs are not kept in files (reftable)."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VALID: Final = re.compile(r"refs(/(?!\.)[^/\x00-\x20\x7f~^:?*\[\\]+(?<!\.lock)(?<!\.))+")
_LINKS: Final = 5
"""How often a ref may name another one; git allows as much."""
_TRIES: Final = 3
_NO_SUCH: Final = 1

Stamp = tuple[int, int, int]


def is_commit(revision: str) -> bool:
    """Whether it is the whole name of a commit."""
    return _COMMIT.fullmatch(revision) is not None


def is_ref(name: str) -> bool:
    """Whether git takes it for a whole ref, so that it can be neither a path out of `refs/` nor an option."""
    return _VALID.fullmatch(name) is not None and ".." not in name and "@{" not in name


class Refs:
    """The refs of one repository."""

    def __init__(self, repository: Repository, git: Git) -> None:
        self._in = repository
        self._git = git
        self._packed: tuple[Stamp, dict[str, str]] | None = None
        self._peeled: dict[str, str] = {}

    def branch(self) -> str | None:
        """The ref that is checked out; None where HEAD is detached. Raises OSError, ReconcilerError."""
        path = os.path.join(self._in.git_dir, "HEAD")
        text = os.readlink(path) if os.path.islink(path) else _text(path)
        if text.startswith("ref:"):
            text = text[4:].strip()
        if text == _ELSEWHERE:
            text = os.fsdecode(self._git.run("symbolic-ref", "-q", "HEAD").out).strip()
        return text if is_ref(text) else None

    def commit(self, ref: str) -> str | None:
        """The commit that a whole ref names; None where there is none. Raises OSError, ReconcilerError."""
        for _ in range(_TRIES):  # one that is being packed or renamed is for a moment in neither place
            found = self._in_files(ref)
            if found is not None:
                return found if ref.startswith(BRANCHES) else self._peel(found)
        return self._asked(ref)

    def _in_files(self, ref: str) -> str | None:
        for _ in range(_LINKS):
            if not ref.startswith(_IN_FILES) or not is_ref(ref):
                return None
            try:
                text = _text(os.path.join(self._in.common_dir, ref))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return self._packed_refs().get(ref)
            if not text.startswith("ref:"):
                return text if is_commit(text) else None
            ref = text[4:].strip()
        return None

    def _packed_refs(self) -> dict[str, str]:
        """The refs that git has put together in one file, which is only ever replaced."""
        path = os.path.join(self._in.common_dir, "packed-refs")
        try:
            with open(path, "rb") as file:
                found = os.fstat(file.fileno())
                stamp = found.st_ino, found.st_size, found.st_mtime_ns
                if self._packed is None or self._packed[0] != stamp:
                    lines = (os.fsdecode(line).split(" ", 1) for line in file.read().splitlines())
                    self._packed = stamp, {parts[1]: parts[0] for parts in lines if is_commit(parts[0])}
        except FileNotFoundError:
            return {}
        return self._packed[1]

    def _peel(self, name: str) -> str | None:
        """The commit behind an annotated tag; of anything else the same."""
        if name not in self._peeled:
            found = self._asked(name)
            if found is None:
                return None
            self._peeled = {name: found}
        return self._peeled[name]

    def _asked(self, name: str) -> str | None:
        """As git says it. Raises ReconcilerError where the ref is there and damaged."""
        answer = self._git.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        found = answer.out.decode("ascii", "replace").strip()
        if answer.code == 0 and is_commit(found):
            return found
        if answer.code not in (0, _NO_SUCH) or (is_ref(name) and self._is_damaged(name)):
            raise self._git.failed(f"{name} cannot be read", answer.err)
        return None

    def _is_damaged(self, ref: str) -> bool:
        """Whether there is a file for it all the same."""
        try:
            return stat.S_ISREG(os.stat(os.path.join(self._in.common_dir, ref)).st_mode)
        except OSError:
            return False


def _text(path: str) -> str:
    with open(path, "rb") as file:
        return os.fsdecode(file.read(4096)).strip()
