"""The declared models in the Hugging Face cache and in plain folders; nothing else of the cache is read.

Facts about the layout, of huggingface_hub 2.4 (facts/backends.md 4): `models--OWNER--NAME/refs/REVISION` holds a
commit without a line break, `snapshots/COMMIT/` links to `../../blobs/HASH`, and a blob may itself be a link into
a store shared by the whole cache. A revision resolves through `refs/` alone, never by what is newest, and the
content of a ref is a commit or nothing: the library follows an empty one or `../..` to another folder (H07).
Leftovers `blobs/*.incomplete` of killed downloads are never removed by the library (H01) and say nothing about a
snapshot, so they are not looked for: a file that is not finished has no link yet.

The cost is a few system calls per file of the named repositories. Paths are text and not `pathlib`, which costs
more than the calls.
"""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from typing import Final

from reconciler.model.observed import Absent, Artifact, Observation, Present, Unknown

from .model_folder import FoundFile, Memo, Recall, judge

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_REPO: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")
_BLOB: Final = "../../blobs/"
_OUTSIDE: Final = "leads out of the model cache"
_BROKEN: Final = "its link leads nowhere"
_LOADED: Final = (".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
_STAMP_DIGITS: Final = 16
_REF_BYTES: Final = 256
_VOLUMES: Final = re.compile(r"/Volumes/[^/]+|/mnt/[^/]+|/media/[^/]+(/[^/]+)?|/run/media/[^/]+/[^/]+")


def cache_root(environ: Mapping[str, str]) -> str:
    """HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub, as huggingface_hub/constants.py has it.

    Its other two names are honoured too: HUGGINGFACE_HUB_CACHE behind HF_HUB_CACHE, XDG_CACHE_HOME for ~/.cache.
    """
    home = environ.get("HF_HOME") or os.path.join(
        environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "huggingface"
    )
    chosen = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return os.path.abspath(os.path.expandvars(os.path.expanduser(chosen)))


class _Refused(Exception):
    """What was found is not followed; the text is the reason."""


class LocalArtifacts:
    """Looks at launch references: `owner/name@revision` in one cache, or an absolute folder.

    `roots` are folders of the host file into which links of a model may lead besides the cache. `memo` is what an
    earlier look remembered (`memory`): headers and documents of files that have not changed are not read again.
    """

    def __init__(self, cache: str | None = None, *, roots: Iterable[str] = (), memo: Memo | None = None) -> None:
        self._cache = cache_root(os.environ) if cache is None else cache
        self._roots = tuple(roots)
        self._recall = Recall(memo)
        self._real: tuple[str, ...] | None = None

    @property
    def memory(self) -> Memo:
        """What the last look read, for the next one."""
        return self._recall.memo

    def look(self, references: Iterable[str]) -> Mapping[str, Observation[Artifact]]:
        """One answer per reference; a failure to look is unknown, never absence."""
        self._real = None
        found = {reference: self._one(reference) for reference in references}
        self._recall.turn()
        return found

    def _one(self, reference: str) -> Observation[Artifact]:
        try:
            if reference.startswith("/"):
                return self._folder(reference)
            return self._snapshot(reference)
        except _Refused as error:
            return Unknown(reason=str(error))
        except OSError as error:
            return Unknown(reason=f"{error.filename or reference}: {error.strerror or error}")

    # ------------------------------------------------------------------------------------------- references

    def _snapshot(self, reference: str) -> Observation[Artifact]:
        repo, _, revision = reference.partition("@")
        if not (_REPO.fullmatch(repo) and revision) or {"", ".", ".."} & set(revision.split("/")):
            return Unknown(reason=f"{reference!r} is no reference of the form owner/name@revision")
        base = f"{self._cache}/models--{repo.replace('/', '--')}"
        try:
            base = self._allowed(base)
            pinned = _COMMIT.fullmatch(revision) is not None
            commit = revision if pinned else _resolve(base, revision)
        except FileNotFoundError:
            return self._unmounted(self._cache) or Absent()
        path = f"{base}/snapshots/{commit}"
        if os.path.islink(path):
            raise _Refused(f"{path} is a link, which no cache has")
        try:
            files, broken = self._files(path, base)
        except FileNotFoundError:
            if pinned:
                return Absent()
            name = f"snapshots/{commit} (which refs/{revision} names)"
            return Present(value=Artifact(identity=commit, path=path, missing=(name,)))
        listing = _found(f"{base}/trees/{commit}.json")
        return Present(value=self._artifact(commit, path, files, broken, listing))

    def _folder(self, path: str) -> Observation[Artifact]:
        real = os.path.realpath(path)
        try:
            files, broken = self._files(real, None)
        except FileNotFoundError:
            return self._unmounted(real) or Absent()
        return Present(value=self._artifact(_content_stamp(files), real, files, broken, None))

    def _artifact(
        self,
        identity: str,
        path: str,
        files: Mapping[str, FoundFile],
        broken: Mapping[str, str],
        listing: FoundFile | None,
    ) -> Artifact:
        judged = judge(files, listing, self._recall)
        judged.missing |= broken
        return Artifact(
            identity=identity,
            path=path,
            missing=judged.wrong(),
            foreign=judged.foreign,
            code=judged.code,
            shards=judged.shards,
            weight_bytes=judged.weight_bytes,
            kv_bytes_per_token=judged.kv_bytes_per_token,
            has_tool_template=judged.has_tool_template,
        )

    def _unmounted(self, path: str) -> Unknown | None:
        """Whether a volume is missing below which `path` should be: then nothing is known about it (H09)."""
        volume = _VOLUMES.match(path)
        if volume is None or os.path.exists(volume[0]):
            return None
        return Unknown(reason=f"there is no {volume[0]}; is the volume mounted?")

    # ------------------------------------------------------------------------------------------------ files

    def _files(self, folder: str, base: str | None) -> tuple[dict[str, FoundFile], dict[str, str]]:
        """The plain files directly in a folder, links followed, and what is wrong with the others.

        In a snapshot a link `../../blobs/NAME` to a plain file is inside by its form, which costs two system
        calls; every other link is resolved and must stay in the folder, the cache or an allowed root (H22).
        """
        blobs = None if base is None else self._plain_blobs(base)
        files: dict[str, FoundFile] = {}
        broken: dict[str, str] = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(".incomplete"):
                    broken[name] = "not finished"
                elif entry.is_symlink():
                    found = self._linked(entry.path, blobs, base or folder)
                    if isinstance(found, FoundFile):
                        files[name] = found
                    elif found:
                        broken[name] = found
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    files[name] = _file(entry.path, status)
        return files, broken

    def _linked(self, path: str, blobs: str | None, inside: str) -> FoundFile | str:
        """The file behind a link; a text says why it does not count, an empty one that it need not."""
        target = os.readlink(path)
        if target.endswith(".incomplete"):
            return "not finished"
        try:
            if blobs is not None and target.startswith(_BLOB) and "/" not in (name := target[len(_BLOB) :]):
                blob = blobs + name
                status = os.lstat(blob)
                if stat.S_ISREG(status.st_mode):
                    return _file(blob, status)
            real = os.path.realpath(path)
            status = os.stat(real)
        except FileNotFoundError:
            return _BROKEN
        if not self._inside(real, inside):
            return _OUTSIDE
        return _file(real, status) if stat.S_ISREG(status.st_mode) else ""

    def _plain_blobs(self, base: str) -> str | None:
        """`blobs/` of a repository, where it is a folder and no link."""
        try:
            plain = stat.S_ISDIR(os.lstat(f"{base}/blobs").st_mode)
        except FileNotFoundError:
            return None
        return f"{base}/blobs/" if plain else None

    def _allowed(self, base: str) -> str:
        """The folder of a repository: itself, or where it leads to, which must be allowed."""
        if not stat.S_ISLNK(os.lstat(base).st_mode):
            if stat.S_ISLNK(os.lstat(f"{base}/snapshots").st_mode):
                raise _Refused(f"{base}/snapshots is a link, which no cache has")
            return base
        real = os.path.realpath(base)
        if not self._inside(real, self._cache):
            raise _Refused(f"{base} {_OUTSIDE} to {real}; name that folder under roots in the host file")
        return real

    def _inside(self, real: str, folder: str) -> bool:
        if self._real is None:
            self._real = tuple(os.path.realpath(root) for root in (self._cache, *self._roots))
        allowed = (*self._real, os.path.realpath(folder))
        return any(real == root or real.startswith(f"{root}/") for root in allowed)


def _resolve(base: str, revision: str) -> str:
    """The commit that a ref names. Raises OSError, and _Refused when it names none."""
    path = f"{base}/refs/{revision}"
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        raw = os.read(handle, _REF_BYTES)
    except IsADirectoryError:
        raise FileNotFoundError from None  # `refs/pr` is a folder, not a revision
    finally:
        os.close(handle)
    commit = raw.decode("utf-8", "replace").strip()
    if not _COMMIT.fullmatch(commit):
        shown = ascii(commit[:60]) if commit else "nothing"
        raise _Refused(f"{path} holds {shown} where a commit of 40 digits belongs; download it again")
    return commit


def _file(path: str, status: os.stat_result) -> FoundFile:
    return FoundFile(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def _found(path: str) -> FoundFile | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return _file(path, status) if stat.S_ISREG(status.st_mode) else None


def _content_stamp(files: Mapping[str, FoundFile]) -> str:
    """What distinguishes the content of a plain folder from what it held before: names, sizes and times."""
    import hashlib

    loaded = sorted((name, *found.stamp[2:]) for name, found in files.items() if name.endswith(_LOADED))
    return f"files:{hashlib.sha256(repr(loaded).encode()).hexdigest()[:_STAMP_DIGITS]}"
