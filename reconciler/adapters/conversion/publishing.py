"""Publication of a conversion: it is written beside its place, and gets its name when it is whole and durable.

`mlx_lm.convert` 0.32 writes weights first and the rest after them, and syncs nothing (measured; faults C01, C04), so a
loss of power after its end can leave a folder that only looks complete. And it refuses a folder that exists (C03).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from reconciler.adapters.durable.copying import Watch, remove_tree, sync_folders, told, write_durably
from reconciler.adapters.durable.files import Files, Kind
from reconciler.adapters.durable.manifest import Manifest, shape
from reconciler.model.base import plain
from reconciler.ports.errors import ActionError

RECEIPT: Final = "receipt.json"
_TEMPORARY: Final = f".{RECEIPT}.part"
_PLAIN: Final = (Kind.FILE, Kind.FOLDER)
VERSION: Final = 1
_PLACE: Final = re.compile(r"(?P<source>converted--[A-Za-z0-9][A-Za-z0-9_.-]*)/(?P<key>[0-9a-f]{16})")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def staging_folder(folder: str) -> str:
    """Where the conversion `converted--OWNER--NAME/KEY` is written first. Raises ValueError for another name."""
    source, key = _names(folder)
    return f"{source}/.{key}.converting"


def prepare(hub: Files, folder: str, watch: Watch | None = None) -> Mapping[str, Any] | None:
    """Make the place for a conversion ready: the staging folder is absent, its parent is there.

    Not None: it was published before, and is verified and durable; this is its receipt. Raises ActionError
    `destination-foreign` where the place is taken by something that was not published here, and those of disks.
    """
    with told(f"preparing {folder}"):
        staging = staging_folder(folder)
        source, _ = _names(folder)
        if hub.look(source) is None:
            hub.make_folder(source)
            hub.sync("")
        remove_tree(hub, staging)
        receipt = published(hub, folder, watch or Watch())
        if receipt is not None:
            _harden(hub, folder)
            remove_tree(hub, _replaced(folder))
        elif hub.look(folder) is not None and hub.look(f"{folder}/{RECEIPT}") is None:
            raise _foreign(folder)
        return receipt


def publish(hub: Files, folder: str, facts: Mapping[str, Any], watch: Watch | None = None) -> Mapping[str, Any]:
    """Publish what the converter has written into the staging folder; its receipt is returned.

    `facts` are what the receipt says besides `version` and `files`: JSON-ready data. Raises ActionError
    `conversion-empty` or `conversion-unusual` where the staging folder holds no files or something else, `copy-differs`
    where the disk does not give back what was written, `destination-foreign`, `cancelled`, and those of disks.
    """
    with told(f"publishing {folder}"):
        return Publication(hub, folder, watch or Watch()).run(facts)


def published(
    hub: Files, folder: str, watch: Watch | None = None, *, thorough: bool = True
) -> Mapping[str, Any] | None:
    """The receipt of a published folder that is as its receipt says; None: there is none, or it is not.

    `thorough` false compares names and sizes only. Raises OSError where it cannot be looked at.
    """
    if hub.look(folder) is None or hub.look(f"{folder}/{RECEIPT}") is None:
        return None
    receipt = _parsed(hub.read(f"{folder}/{RECEIPT}"))
    if receipt is None:
        return None
    want = receipt["files"]
    found = shape(hub, folder, without=(RECEIPT,))
    sizes = {path: item.size for path, item in found.items.items() if item.kind is not Kind.FOLDER}
    if sizes != {path: entry["size"] for path, entry in want.items()}:
        return None
    count = (watch or Watch()).stage("checking")
    if thorough and any(hub.digest(f"{folder}/{path}", count) != entry["sha256"] for path, entry in want.items()):
        return None
    return receipt


class Publication:
    """One publication; its methods are its steps."""

    def __init__(self, hub: Files, folder: str, watch: Watch) -> None:
        self.hub = hub
        self.folder = folder
        self.staging = staging_folder(folder)
        self.parent, _ = _names(folder)
        self.watch = watch

    def run(self, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do the steps. Raises OSError and ActionError."""
        written = self.written()
        remembered = {path: self.remembered(path) for path, _ in written.files()}
        self.settle(written)
        digests = self.digests(written)
        for path, entry in digests.items():
            if entry["sha256"] != remembered[path]:
                raise ActionError(
                    "copy-differs",
                    f"{path} of {self.folder} was read back from the disk and is not what was written; it was not "
                    "published; check that disk",
                )
        receipt = {**plain(facts), "version": VERSION, "files": digests}
        self.seal(receipt)
        self.switch()
        return receipt

    def written(self) -> Manifest:
        """What the converter left."""
        found = shape(self.hub, self.staging) if self.hub.look(self.staging) is not None else Manifest(items={})
        for path, item in found.items.items():
            if item.kind not in (Kind.FILE, Kind.FOLDER) or path == RECEIPT:
                raise self._refusal(
                    "conversion-unusual", f"the converter has left {path}, which is no plain file of a model"
                )
        if not any(True for _ in found.files()):
            raise self._refusal("conversion-empty", "the converter has written no file")
        return found

    def remembered(self, path: str) -> str:
        """SHA-256 of a file as the converter left it, from memory where that still has it."""
        digest = hashlib.sha256()
        count = self.watch.stage("reading")
        for chunk in self.hub.chunks(f"{self.staging}/{path}"):
            digest.update(chunk)
            count(len(chunk))
        return digest.hexdigest()

    def settle(self, written: Manifest) -> None:
        """Make all that was written durable; the converter did not."""
        for path, _ in written.files():
            self.hub.sync(f"{self.staging}/{path}")
        sync_folders(self.hub, self.staging, written)

    def digests(self, written: Manifest) -> Mapping[str, Any]:
        """Size and SHA-256 of every file, read back from the medium."""
        count = self.watch.stage("checking")
        return {
            path: {"size": item.size, "sha256": self.hub.digest(f"{self.staging}/{path}", count)}
            for path, item in written.files()
        }

    def seal(self, receipt: Mapping[str, Any]) -> None:
        """Write the receipt, last, and read it back."""
        text = json.dumps(receipt, indent=2, sort_keys=True).encode() + b"\n"
        write_durably(self.hub, f"{self.staging}/{RECEIPT}", text)

    def switch(self) -> None:
        """Give the staging folder its name. One that does not verify makes room; it is a damaged one of ours."""
        old = _replaced(self.folder)
        if self.hub.look(self.folder) is not None:
            if self.hub.look(f"{self.folder}/{RECEIPT}") is None:
                raise _foreign(self.folder)
            remove_tree(self.hub, old)
            self.hub.rename(self.folder, old)
        self.hub.rename(self.staging, self.folder)
        self.hub.sync(self.parent)
        self.hub.sync("")  # the parent may be of a run that was killed before it made it durable
        remove_tree(self.hub, old)

    def _refusal(self, cause: str, reason: str) -> ActionError:
        return ActionError(cause, f"{self.folder} was not published: {reason}", permanent=True)


def _harden(hub: Files, folder: str) -> None:
    """Make a published folder durable: a run that was killed may have left it in memory only."""
    here = shape(hub, folder)
    for path, _ in here.files():
        hub.sync(f"{folder}/{path}")
    sync_folders(hub, folder, here)
    source, _ = _names(folder)
    hub.sync(source)
    hub.sync("")


def _names(folder: str) -> tuple[str, str]:
    match = _PLACE.fullmatch(folder)
    if match is None:
        raise ValueError(f"{folder!r} is no place of a conversion")
    return match["source"], match["key"]


def _replaced(folder: str) -> str:
    source, key = _names(folder)
    return f"{source}/.{key}.old"


def _foreign(folder: str) -> ActionError:
    return ActionError(
        "destination-foreign",
        f"{folder} in the model cache has no receipt, so it was not published here; it was kept; move it away",
        permanent=True,
    )


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A receipt whose list of files can be relied on; None: it is damaged or newer."""
    try:
        data = json.loads(text)
        files = data["files"]
        sound = data["version"] == VERSION and all(
            isinstance(entry["size"], int) and _SHA256.fullmatch(entry["sha256"]) for entry in files.values()
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return data if sound and isinstance(data, dict) and files else None
