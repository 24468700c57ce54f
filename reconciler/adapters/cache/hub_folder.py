"""One folder in the layout of huggingface_hub 2.4, and the snapshots that its refs name.

`models--OWNER--NAME/refs/REVISION` holds a commit without a line break, `snapshots/COMMIT/` links to
`../../blobs/HASH`, and a blob may itself be a link into a store shared by the whole cache (facts/backends.md 4). A
revision resolves through `refs/` alone, never by what is newest, and the content of a ref is a commit or nothing: the
library follows an empty one or `../..` to another folder (H07). Leftovers `blobs/*.incomplete` of killed downloads are
never removed by the library (H01) and say nothing about a snapshot, so they are not looked for: a file that is not
finished has no link yet.
"""

import os
import re
import stat
from typing import Final

from reconciler.model.observed import Absent, Artifact, Unknown

from .drafts import Draft, Looked, of_commit
from .found_files import Allowed, Found, Refused, files_of, plain_file
from .model_folder import Recall

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_REF_BYTES: Final = 256
_VOLUMES: Final = re.compile(r"/Volumes/[^/]+|/mnt/[^/]+|/media/[^/]+(/[^/]+)?|/run/media/[^/]+/[^/]+")


def repository_folder(repo: str) -> str:
    """Name of the folder of `owner/name`, in a cache and on a volume."""
    return f"models--{repo.replace('/', '--')}"


def unmounted(path: str) -> Unknown | None:
    """Whether a volume is missing below which `path` should be: then nothing is known about it (H09)."""
    volume = _VOLUMES.match(path)
    if volume is None or os.path.exists(volume[0]):
        return None
    return Unknown(reason=f"there is no {volume[0]}; is the volume mounted?")


class Hub:
    """One folder in the layout of huggingface_hub."""

    def __init__(self, root: str, allowed: Allowed, recall: Recall, *, read_only: bool = False) -> None:
        self._root, self._allowed, self._recall, self._read_only = root, allowed, recall, read_only

    def look(self, repo: str, revision: str) -> Looked:
        """The snapshot of a revision. Raises OSError, and Refused."""
        try:
            base = self._repository(repo)
            pinned = COMMIT.fullmatch(revision) is not None
            commit = revision if pinned else _resolve(base, revision)
        except FileNotFoundError:
            return unmounted(self._root) or Absent()
        path = _snapshot(base, commit)
        try:
            found = files_of(path, self._allowed, base)
        except FileNotFoundError:
            if pinned:
                return Absent()
            name = f"snapshots/{commit} (which refs/{revision} names)"
            return Draft(Artifact(identity=commit, path=path, missing=(name,), read_only=self._read_only))
        return self._judged(base, commit, found)

    def snapshot(self, base: str, commit: str) -> Draft:
        """One commit of the repository in the folder `base`. Raises OSError, and Refused."""
        return self._judged(base, commit, files_of(_snapshot(base, commit), self._allowed, base))

    def _judged(self, base: str, commit: str, found: Found) -> Draft:
        path, listing = f"{base}/snapshots/{commit}", plain_file(f"{base}/trees/{commit}.json")
        return of_commit(commit, path, found, listing, self._recall, read_only=self._read_only)

    def _repository(self, repo: str) -> str:
        """The folder of a repository: itself, or where it leads to, which must be allowed."""
        base = f"{self._root}/{repository_folder(repo)}"
        if not stat.S_ISLNK(os.lstat(base).st_mode):
            if stat.S_ISLNK(os.lstat(f"{base}/snapshots").st_mode):
                raise Refused(f"{base}/snapshots is a link, which no cache has")
            return base
        real = os.path.realpath(base)
        if not self._allowed.holds(real):
            raise Refused(
                f"{base} leads out of the model cache to {real}; name that folder under roots in the host file"
            )
        return real


def _snapshot(base: str, commit: str) -> str:
    path = f"{base}/snapshots/{commit}"
    if os.path.islink(path):
        raise Refused(f"{path} is a link, which no cache has")
    return path


def _resolve(base: str, revision: str) -> str:
    """The commit that a ref names. Raises OSError, and Refused when it names none."""
    path = f"{base}/refs/{revision}"
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        raw = os.read(handle, _REF_BYTES)
    except IsADirectoryError:
        raise FileNotFoundError from None  # `refs/pr` is a folder, not a revision
    finally:
        os.close(handle)
    commit = raw.decode("utf-8", "replace").strip()
    if not COMMIT.fullmatch(commit):
        shown = ascii(commit[:60]) if commit else "nothing"
        raise Refused(f"{path} holds {shown} where a commit of 40 digits belongs; download it again")
    return commit
