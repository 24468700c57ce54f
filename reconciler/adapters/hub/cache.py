"""One repository's folder in the Hugging Face cache, as huggingface_hub 2.4 lays it out, for whoever writes to it.

`blobs/DIGEST` holds content, `snapshots/COMMIT/NAME` links to it, `refs/REVISION` holds a commit without a line break.
Nothing that was there is removed but partial files that bear our mark.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable
from typing import Final

from reconciler.adapters.cache.hub_folder import repository_folder
from reconciler.model.supply import RemoteFile

MARK: Final = ".reconciler.incomplete"
"""How a partial file of `programs/hub.py` ends; nobody else writes such names."""
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class RepoFolder:
    """Where the files of one commit of a repository go. Everything raises OSError."""

    def __init__(self, cache: str, repo: str, commit: str, revision: str) -> None:
        folder = repository_folder(repo)
        self._base = f"{cache}/{folder}"
        self._locks = f"{cache}/.locks/{folder}"
        self._commit = commit
        self._revision = revision
        self._snapshot = f"{self._base}/snapshots/{commit}"
        self._ref = f"{self._base}/refs/{revision}"

    def lacking(self, files: Iterable[RemoteFile]) -> list[RemoteFile]:
        """Those that are not there in their listed length; content is compared elsewhere."""
        return [file for file in files if not self._whole(file)]

    def prepare(self) -> None:
        """Make the folders that blobs and locks go to."""
        os.makedirs(f"{self._base}/blobs", exist_ok=True)
        os.makedirs(self._locks, exist_ok=True)

    def link(self, name: str, blob: str) -> None:
        """Let the snapshot have a file, and a revision that is not here yet be this commit.

        So a download that is cut off is seen as a part of this commit. Where there are no links the blob is moved,
        as the library does.
        """
        if not os.path.lexists(self._ref):
            self.point()
        path, target = f"{self._snapshot}/{name}", f"{self._base}/blobs/{blob}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        staged = f"{self._base}/.link.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)
        try:
            os.symlink(os.path.relpath(target, os.path.dirname(path)), staged)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.replace(target, path)
        else:
            os.replace(staged, path)

    def point(self) -> None:
        """Let the revision be this commit."""
        if self._revision == self._commit:
            return
        with contextlib.suppress(OSError), open(self._ref, encoding="utf-8") as file:
            if file.read() == self._commit:
                return
        os.makedirs(os.path.dirname(self._ref), exist_ok=True)
        staged = f"{self._base}/.ref.{os.getpid()}.{self._commit}"  # not in refs/, where it would be a revision
        with open(staged, "w", encoding="utf-8") as file:
            file.write(self._commit)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, self._ref)
        _sync(os.path.dirname(self._ref))

    def finish(self) -> None:
        """All files are there: make that durable, point at it, and remove what earlier attempts have begun in vain."""
        for folder, _, _ in os.walk(self._snapshot):
            _sync(folder)
        _sync(f"{self._base}/blobs")
        self.point()
        self._sweep()

    def _whole(self, file: RemoteFile) -> bool:
        path = f"{self._snapshot}/{file.name}"
        return os.path.isfile(path) and os.path.getsize(path) == file.size

    def _sweep(self) -> None:
        """Remove partial files of ours that nobody is writing: those of a commit that is not wanted any more."""
        for name in os.listdir(f"{self._base}/blobs"):
            if name.endswith(MARK):
                with contextlib.suppress(BlockingIOError, FileNotFoundError):
                    self._remove(name)

    def _remove(self, name: str) -> None:
        """Under the lock of its blob, which is how huggingface_hub locks it too (filelock: flock)."""
        lock = os.open(f"{self._locks}/{name.removesuffix(MARK)}.lock", os.O_RDWR | os.O_CREAT, 0o664)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(f"{self._base}/blobs/{name}")
        finally:
            os.close(lock)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
