"""What a repository folder holds, path by path, so that a copy of it can be proved to be one.

The layout is that of huggingface_hub 2.4: `blobs/HASH`, `snapshots/COMMIT/NAME` as links `../../blobs/HASH`,
`refs/REVISION` with a commit, `trees/COMMIT.json`. A blob of 64 hex digits is named by its SHA-256 (git LFS), one of
40 by git's SHA-1 of it, and the library never compares either (measured; fault H05): here it is done.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from reconciler.model.base import noun
from reconciler.ports.errors import ActionError

from .files import Entry, Files, Kind

VERSION: Final = 1
MARKER: Final = ".complete"
"""Holds the manifest of a copy on a volume, in its top folder, since all of it was read back and compared."""
NOTES: Final = ".no_exist"
"""Empty files by which the library remembers what a hub does not have; no content, so no part of a copy."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_GIT: Final = re.compile(r"[0-9a-f]{40}")
_UPWARDS: Final = re.compile(r"(\.\./)*(?!\.\.?(/|$))[^/]+(/(?!\.\.?(/|$))[^/]+)*")
_LINKS: Final = 8
"""How many links may lead to each other."""


@noun
class Item:
    """What is at one path of a repository folder."""

    kind: Kind
    size: int = 0
    digest: str = ""
    """SHA-256 of a file; empty where only the shape is compared."""
    target: str = ""


@noun
class Manifest:
    """path -> item, for everything below a repository folder but the folder itself."""

    items: Mapping[str, Item]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(item.size for item in self.items.values())

    @property
    def text(self) -> bytes:
        """The one JSON text of this content."""
        items = {path: _document(item) for path, item in self.items.items()}
        return json.dumps({"version": VERSION, "items": items}, sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def commits(self) -> tuple[str, ...]:
        """The commits that it has snapshots of."""
        parts = (path.split("/") for path in self.items if path.startswith("snapshots/"))
        return tuple(sorted({part[1] for part in parts if _GIT.fullmatch(part[1])}))

    def files(self) -> Iterator[tuple[str, Item]]:
        """The files, in order."""
        return ((path, item) for path, item in self.items.items() if item.kind is Kind.FILE)

    def folders(self) -> Iterator[str]:
        """The folders, inner ones first."""
        return (path for path, item in reversed(list(self.items.items())) if item.kind is Kind.FOLDER)

    def contains(self, other: "Manifest") -> bool:
        """Whether everything of `other` is here, the same."""
        return other.items.items() <= self.items.items()

    def covers(self, other: "Manifest") -> bool:
        """Whether no content is lost with `other`: all of it is here, but for revisions that name another commit."""
        return all(
            self.items.get(path) == item or (path.startswith("refs/") and path in self.items)
            for path, item in other.items.items()
        )


def parse(text: bytes) -> Manifest:
    """Read a manifest. Raises ValueError for one that is damaged, newer, or names a path outside of its folder."""
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("version") != VERSION or not isinstance(data.get("items"), dict):
        raise ValueError("it is no manifest of this version")
    items = {path: _item(path, entry) for path, entry in sorted(data["items"].items())}
    for path in items:
        parent = posixpath.dirname(path)
        if parent and (parent not in items or items[parent].kind is not Kind.FOLDER):
            raise ValueError(f"{path} is in no folder")
    return Manifest(items=items)


def leads_inside(path: str, target: str) -> bool:
    """Whether a link at `path` leads to a place in the same repository folder, by its text.

    `..` counts only at the start: behind a name it would be relative to where another link leads.
    """
    if not _UPWARDS.fullmatch(target):
        return False
    reached = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return reached != ".." and not reached.startswith("../")


def walk(files: Files, root: str, *, without: tuple[str, ...] = (NOTES,)) -> Iterator[tuple[str, Entry]]:
    """Everything below a folder, outer paths first; names of its top level in `without` are left out."""
    waiting = [name for name in reversed(files.names(root)) if name not in without]
    while waiting:
        path = waiting.pop()
        full = f"{root}/{path}"
        entry = files.look(full)
        if entry is None:
            raise OSError(f"{full} went away while it was looked at")
        yield path, entry
        if entry.kind is Kind.FOLDER:
            waiting += [f"{path}/{name}" for name in reversed(files.names(full))]


def shape(files: Files, root: str, *, without: tuple[str, ...] = (NOTES,)) -> Manifest:
    """What is below a folder, without reading any file: kinds, sizes and targets."""
    items = {}
    for path, entry in walk(files, root, without=without):
        target = files.target(f"{root}/{path}") if entry.kind is Kind.LINK else ""
        items[path] = Item(kind=entry.kind, size=entry.size, target=target)
    return Manifest(items=dict(sorted(items.items())))


def same_shape(one: Manifest, other: Manifest) -> str:
    """A path at which two manifests differ in more than digests; empty: there is none."""
    if one.items.keys() != other.items.keys():
        return min(one.items.keys() ^ other.items.keys())
    for path, item in one.items.items():
        that = other.items[path]
        if (item.kind, item.size, item.target) != (that.kind, that.size, that.target):
            return path
    return ""


def survey(files: Files, root: str, watch: Callable[[int], None]) -> Manifest:
    """Read a repository folder of the cache. Raises OSError, and ActionError where it is not one that can be moved.

    Causes: `source-unusual` (something that is no file, folder or link), `source-shared` (a file with a second name,
    or a link that leads out of the folder), `source-corrupt` (a blob that is not what its name promises).
    """
    items = {}
    for path, entry in walk(files, root):
        if path == MARKER or entry.kind is Kind.OTHER:
            raise _unfit("source-unusual", root, f"{path} is nothing that a model cache holds")
        if entry.names > 1:
            raise _unfit(
                "source-shared", root, f"{path} has a second name (a hard link), so it may be in use elsewhere"
            )
        target = digest = ""
        if entry.kind is Kind.LINK:
            target = files.target(f"{root}/{path}")
            if not leads_inside(path, target):
                raise _unfit("source-shared", root, f"{path} leads out of the folder, to {target}")
        elif entry.kind is Kind.FILE:
            digest = _read(files, root, path, entry.size, watch)
        items[path] = Item(kind=entry.kind, size=entry.size, digest=digest, target=target)
    return Manifest(items=dict(sorted(items.items())))


def flaws(files: Files, root: str, manifest: Manifest) -> tuple[str, ...]:
    """What is missing of a surveyed folder, one phrase each; it can only miss what another of its files names."""
    found = [f"{path} leads to nothing" for path, item in manifest.items.items() if not _reached(manifest, path, item)]
    for path, _ in manifest.files():
        if path.startswith("refs/"):
            commit = files.read(f"{root}/{path}").decode("utf-8", "replace").strip()
            if f"snapshots/{commit}" not in manifest.items:
                found.append(f"{path} names {commit[:40] or 'nothing'}, which is not there")
    if not manifest.commits:
        found.append("there is no snapshot")
    for path, item in manifest.items.items():
        if path.endswith(".safetensors.index.json") and path.startswith("snapshots/"):
            found += _unindexed(files, root, manifest, path, item)
    return tuple(found)


def _unindexed(files: Files, root: str, manifest: Manifest, path: str, item: Item) -> Iterator[str]:
    """The shards that an index names and that are not beside it."""
    reached = _reached(manifest, path, item)
    if reached is None:
        return
    try:
        names = set(json.loads(files.read(f"{root}/{reached}"))["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        yield f"{path} is damaged"
        return
    folder = posixpath.dirname(path)
    yield from (f"{folder}/{name} is missing" for name in sorted(names) if f"{folder}/{name}" not in manifest.items)


def _reached(manifest: Manifest, path: str, item: Item) -> str | None:
    """The path that links lead to in the end; None: to nothing."""
    for _ in range(_LINKS):
        if item.kind is not Kind.LINK:
            return path
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), item.target))
        found = manifest.items.get(path)
        if found is None:
            return None
        item = found
    return None


def _read(files: Files, root: str, path: str, size: int, watch: Callable[[int], None]) -> str:
    """The SHA-256 of a file; a blob is compared with its name."""
    sha, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    folder, _, name = path.rpartition("/")
    is_git = folder == "blobs" and _GIT.fullmatch(name) is not None
    for chunk in files.chunks(f"{root}/{path}"):
        sha.update(chunk)
        if is_git:
            git.update(chunk)
        watch(len(chunk))
    digest = sha.hexdigest()
    promised = folder == "blobs" and _SHA256.fullmatch(name) is not None
    if (promised and digest != name) or (is_git and git.hexdigest() != name):
        raise _unfit("source-corrupt", root, f"{path} is not what its name promises; download it again")
    return digest


def _unfit(cause: str, root: str, reason: str) -> ActionError:
    return ActionError(cause, f"{root} was not moved and nothing of it was changed: {reason}", permanent=True)


def _document(item: Item) -> Mapping[str, Any]:
    match item.kind:
        case Kind.FILE:
            return {"size": item.size, "sha256": item.digest}
        case Kind.LINK:
            return {"target": item.target}
        case Kind.FOLDER:
            return {}
        case Kind.OTHER:
            raise ValueError("a manifest lists files, folders and links")


def _item(path: str, entry: object) -> Item:
    if {"", ".", ".."} & set(path.split("/")) or path == MARKER or not isinstance(entry, dict):
        raise ValueError(f"{path!r} is no path of a repository folder")
    match entry:
        case {"size": int(size), "sha256": str(digest)} if size >= 0 and _SHA256.fullmatch(digest):
            return Item(kind=Kind.FILE, size=size, digest=digest)
        case {"target": str(target)} if leads_inside(path, target):
            return Item(kind=Kind.LINK, target=target)
        case _ if not entry:
            return Item(kind=Kind.FOLDER)
        case _:
            raise ValueError(f"{path} is damaged")
