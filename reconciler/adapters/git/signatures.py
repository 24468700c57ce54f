"""Verifies the signatures of commits by SSH keys that the host file names; what the repository says never counts.

Only git's return code is believed: for a key that nobody trusts it prints "Good signature" all the same. The shape of
a signature is looked at to tell an unsigned commit from a distrusted one, and because an OpenPGP signature would make
git run a program of its settings, which is pinned to one that fails.
"""

import os
import stat
from collections.abc import Sequence
from itertools import islice
from pathlib import PurePath
from typing import Final

from reconciler.adapters.template_files import KEPT
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import Doubt, shown

from .history import accepting
from .objects import Objects
from .repository import Repository
from .running import Git

MOST: Final = 500
"""Commits that are verified at once; each costs two runs of ssh-keygen, and the loop stands still meanwhile."""
_AT_ONCE: Final = 50
_COMMIT_LIMIT: Final = 2**20
_KEYS_LIMIT: Final = 2**20
_SSH: Final = b"-----BEGIN SSH SIGNATURE-----"
_HEADERS: Final = (b"gpgsig ", b"gpgsig-sha256 ")
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class Signers:
    """The people whose commits are taken."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._verified: set[str] = set()
        """Commits that need not be verified again while the file is the same."""
        self._keys = b""
        """What is in the file."""

    def doubt(self, git: Git, repository: Repository, commits: Sequence[str]) -> Doubt | None:
        """The first commit that is not signed by one of them; None: all are. Raises ReconcilerError."""
        settings = self._settings(repository)
        new = commits[-1]
        waiting = [commit for commit in commits if commit not in self._verified]
        if len(waiting) > MOST:
            return Doubt(
                reference="commits-too-many",
                reason=f"{shown(new)} brings {len(waiting)} commits, and at most {MOST} are verified at once; {KEPT}",
                hint=f"move the branch forward in smaller steps, or {accepting(new)}",
            )
        for part in (waiting[start : start + _AT_ONCE] for start in range(0, len(waiting), _AT_ONCE)):
            doubt = self._doubt(git, settings, part, new)
            if doubt is not None:
                return doubt
            self._verified.update(part)
        return None

    def _doubt(self, git: Git, settings: tuple[str, ...], commits: Sequence[str], new: str) -> Doubt | None:
        with Objects(git) as objects:
            signatures = [_signature(objects.content(commit, "commit", _COMMIT_LIMIT)) for commit in commits]
        by_ssh = all(signature.startswith(_SSH) for signature in signatures)
        if by_ssh and git.run("verify-commit", *commits, settings=settings).code == 0:
            return None
        for commit, signature in zip(commits, signatures, strict=True):
            if not signature:
                return _refused("commit-unsigned", commit, new, "is not signed")
            if not signature.startswith(_SSH):
                return _refused("commit-untrusted", commit, new, "is signed otherwise than by an SSH key")
            if git.run("verify-commit", commit, settings=settings).code:
                said = f"is not signed by a key of {self._path} that is valid for its date"
                return _refused("commit-untrusted", commit, new, said)
        return None

    def _settings(self, repository: Repository) -> tuple[str, ...]:
        """What verify-commit is told, so that nothing of it is left to the repository."""
        self._check(repository)
        return (
            "gpg.format=ssh",
            f"gpg.ssh.program={_program()}",
            f"gpg.ssh.allowedSignersFile={os.path.realpath(self._path)}",
            "gpg.ssh.revocationFile=/dev/null",
            "gpg.minTrustLevel=fully",
            "gpg.program=false",
            "gpg.openpgp.program=false",
            "gpg.x509.program=false",
        )

    def _check(self, repository: Repository) -> None:
        """Who could write the file could sign."""
        place = os.path.realpath(self._path)
        if any(f"{place}/".startswith(f"{os.path.realpath(folder)}/") for folder in repository.places):
            raise _unusable(
                "signers-in-repository",
                f"the allowed signers {self._path} are in the repository whose commits they judge",
                "move the file to where a commit cannot change it, such as beside the host file",
            )
        try:
            handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
            with open(handle, "rb") as file:
                found = os.fstat(handle)
                # Whoever may write a folder on the way could put another one there; also on the way of a link.
                around = [os.stat(folder) for folder in _above(place, os.path.abspath(self._path))]
                keys = file.read(_KEYS_LIMIT + 1) if stat.S_ISREG(found.st_mode) else None
        except OSError as error:
            raise _unusable(
                "signers-unreadable", f"{self._path}: {error.strerror}", "mend source.signers in the host file"
            ) from error
        if keys is None or len(keys) > _KEYS_LIMIT:
            said = f"{self._path} is no plain file of at most {_KEYS_LIMIT} bytes"
            raise _unusable("signers-unreadable", said, "mend source.signers in the host file")
        if any(map(_is_others, (found, *around))):
            said = f"{self._path} or a folder above it belongs to somebody else or can be written by others"
            raise _unusable("signers-untrusted", said, f"make them yours, and chmod go-w '{self._path}'")
        if keys != self._keys:
            self._keys = keys
            self._verified.clear()


def _above(*paths: str) -> set[str]:
    """Every folder on the way to these."""
    return {str(folder) for path in paths for folder in PurePath(path).parents}


def _is_others(found: os.stat_result) -> bool:
    """Whether anybody but us and root can put something there."""
    sticky_folder = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    return found.st_uid not in {os.geteuid(), 0} or bool(found.st_mode & _OTHERS_WRITE and not sticky_folder)


def _signature(commit: bytes) -> bytes:
    """What is in the header of a commit as its signature; empty where there is none."""
    header = commit.split(b"\n\n", 1)[0].split(b"\n")
    found = (line.split(b" ", 1)[1] for line in header if line.startswith(_HEADERS))
    return next(islice(found, 1), b"")


def _program() -> str:
    """Where ssh-keygen is, so that no setting decides that."""
    import shutil

    found = shutil.which("ssh-keygen")
    if found is None:
        raise _unusable("ssh-keygen-missing", "there is no ssh-keygen to verify signatures with", "install OpenSSH")
    return os.path.abspath(found)


def _refused(reference: str, commit: str, new: str, what: str) -> Doubt:
    via = "" if commit == new else f", which {shown(new)} brings,"
    return Doubt(
        reference=reference,
        reason=f"{shown(commit)}{via} {what}; {KEPT}",
        hint=f"have it signed by somebody in the allowed signers; or {accepting(new)}",
    )


def _unusable(reference: str, message: str, hint: str) -> ReconcilerError:
    return ReconcilerError(reference, f"{message}; {KEPT}", hint=hint, code=ExitCode.TRUST)
