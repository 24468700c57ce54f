"""What stays behind in the model cache when a repository was moved to cold storage."""

import json
import re
from collections.abc import Mapping
from typing import Final

from reconciler.adapters.durable.files import Files
from reconciler.model.base import noun, plain

VERSION: Final = 1
PREFIX: Final = "offloaded--"
_REPOSITORY: Final = re.compile(r"models--(?P<repo>[A-Za-z0-9][A-Za-z0-9_.-]*)")


@noun
class Receipt:
    """Says where a repository is that is not in the cache. While its folder is there, the folder counts."""

    volume: str
    """Name in the host file."""
    identity: str
    """Identity of the volume."""
    manifest: str
    """Digest of the manifest of the copy."""
    bytes: int
    refs: Mapping[str, str]
    """revision -> commit."""
    commits: tuple[str, ...]
    at: float
    """When it was moved, seconds since the epoch."""


def repository_folder(repo: str) -> str:
    """Folder of `owner/name` in the model cache, and of its copy on a volume."""
    return f"models--{repo.replace('/', '--')}"


def receipt_name(folder: str) -> str:
    """Name of the receipt of a repository folder. Raises ValueError when that is none."""
    match = _REPOSITORY.fullmatch(folder)
    if match is None:
        raise ValueError(f"{folder!r} is no repository folder of a model cache")
    return f"{PREFIX}{match['repo']}.json"


def read_receipt(hub: Files, folder: str) -> Receipt | None:
    """The receipt of a repository folder; None where there is none or it is damaged. Raises OSError."""
    name = receipt_name(folder)
    return parse_receipt(hub.read(name)) if hub.look(name) is not None else None


def receipt_text(receipt: Receipt) -> bytes:
    """What is written."""
    return json.dumps({"version": VERSION, **plain(receipt)}, indent=2).encode() + b"\n"


def parse_receipt(text: bytes) -> Receipt | None:
    """What a receipt says; None where it is damaged or of a newer version."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match data:
        case {
            "version": 1,
            "volume": str(volume),
            "identity": str(identity),
            "manifest": str(manifest),
            "bytes": int(size),
            "refs": dict(refs),
            "commits": list(commits),
            "at": int() | float() as at,
        }:
            return Receipt(
                volume=volume,
                identity=identity,
                manifest=manifest,
                bytes=size,
                refs={str(revision): str(commit) for revision, commit in refs.items()},
                commits=tuple(str(commit) for commit in commits),
                at=float(at),
            )
        case _:
            return None
