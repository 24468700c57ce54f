"""What the content of a file should be, by the name of its blob, the listing of its commit or a receipt.

Facts, of huggingface_hub 2.4: a blob is named by what the hub says its content is, 64 hex digits of SHA-256 for a
large file and git's 40 for a small one. The listing of a commit (`trees/COMMIT.json`) has both for every file and
is independent of where a link leads. A file of the store that the whole cache shares is named by its Xet hash,
which is no digest of the plain content: there the name of the link in the repository counts.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from .digests import Known, Stamp
from .model_folder import FoundFile, Recall
from .weights import Damaged, read_file

_DIGEST: Final = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_GIT_DIGITS: Final = 40
_LOADED: Final = (".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")


class Promise(NamedTuple):
    """What the content of one file should be."""

    name: str
    """In its model folder."""
    path: str
    """The plain file that holds it."""
    stamp: Stamp
    """When it was looked at."""
    digest: str
    """Hex digits: 64 are its SHA-256, 40 git's name of it."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.stamp[1]

    def kept(self, known: Known | None) -> bool | None:
        """Whether what is remembered of it is what was promised; None where nothing is remembered of this content."""
        if known is None or known[0] != self.stamp or len(known[1]) != len(self.digest):
            return None
        return known[1] == self.digest


def stamp_of(status: os.stat_result) -> Stamp:
    """What distinguishes this content of a file from what it held before."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def is_loaded(name: str) -> bool:
    """Whether a server may read a file of this name: weights, configuration, tokenizer, templates, code."""
    return name.endswith(_LOADED)


def of_snapshot(
    files: Mapping[str, FoundFile], blobs: Mapping[str, str], listing: FoundFile | None, recall: Recall
) -> tuple[Promise, ...]:
    """The promises for the files of a snapshot that a server may read; `blobs`: file -> name of its blob."""
    listed = recall("promises", listing, _listed) if listing is not None else {}
    made = []
    for name, found in files.items():
        if is_loaded(name) and (digest := _digest(blobs.get(name, ""), listed.get(name, ("", "")))):
            made.append(promise(name, found, digest))
    return tuple(made)


def promise(name: str, found: FoundFile, digest: str) -> Promise:
    """A promise for the file as it was found."""
    return Promise(name, found.path, found.stamp[1:], digest)


def compared(promises: Iterable[Promise], known: Mapping[str, Known]) -> tuple[tuple[str, ...], int]:
    """Names of files whose remembered digest is another, and bytes of those of which none is remembered."""
    corrupt: list[str] = []
    unread: dict[str, int] = {}
    for one in promises:
        kept = one.kept(known.get(one.path))
        if kept is None:
            unread[one.path] = one.size
        elif not kept:
            corrupt.append(one.name)
    return tuple(sorted(corrupt)), sum(unread.values())


def _digest(blob: str, listed: tuple[str, str]) -> str:
    """What the listing says goes before the name: a link may lead to the blob of another file."""
    sha256, git = listed
    if sha256:
        return sha256
    if git and (not blob or len(blob) == _GIT_DIGITS):
        return git
    return blob if _DIGEST.fullmatch(blob) else ""


def _listed(found: FoundFile) -> dict[str, tuple[str, str]]:
    """file -> (SHA-256, git's name), either may be empty; nothing where the listing is not of a known format."""
    try:
        document = json.loads(read_file(found.path))
        entries = document["files"] if document["format_version"] == 1 else {}
        return {name: _entry(entry) for name, entry in entries.items() if is_loaded(name)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Damaged):
        return {}


def _entry(entry: Mapping[str, Any]) -> tuple[str, str]:
    if "lfs_sha256" in entry:
        sha256 = str(entry["lfs_sha256"])
        return (sha256 if _SHA256.fullmatch(sha256) else ""), ""  # its git name is that of a pointer
    git = str(entry.get("blob_id"))
    return "", (git if len(git) == _GIT_DIGITS and _DIGEST.fullmatch(git) else "")
