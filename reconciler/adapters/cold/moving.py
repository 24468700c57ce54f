"""Offload: a repository folder goes from the model cache to a volume, and at no instant is there no complete copy.

The order of the steps is what survives a crash between any two of them (faults.md 3.4, the fourth protocol); it is not
changed without `make crash`.

1. The folder is read, its blobs are compared with their names, and its manifest is recorded.
2. It is copied to `.NAME.part` on the volume, file by file, each made durable.
3. Through a freshly opened volume all of it is read back from the medium and compared. The manifest is written into
   it as `.complete` and read back; then it gets its name, where no other copy may be.
4. Everything is made durable again: what looks finished may be in memory only, left by a run that was killed.
5. A receipt is written into the cache, the folder is renamed to `.NAME.offloaded` (the grave), then removed.

A run that finds a grave finishes: a copy that verifies lets it go, a grave that is complete gets its name back, and
where neither is whole nothing is touched.
"""

import posixpath
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Final

from reconciler.adapters.durable.copying import (
    Watch,
    copy,
    difference,
    harden,
    remove_durably,
    remove_listed,
    remove_tree,
    told,
    write_durably,
)
from reconciler.adapters.durable.files import Files, Kind
from reconciler.adapters.durable.manifest import MARKER, Item, Manifest, flaws, parse, same_shape, shape, survey
from reconciler.model.base import noun
from reconciler.ports.errors import ActionError

from .receipts import Receipt, read_receipt, receipt_name, receipt_text

_NAMED: Final = 3
"""How many flaws a message names."""


@noun
class Places:
    """Between what a repository is moved."""

    hub: Files
    """The model cache."""
    record: Files
    """A folder of the state directory, for manifests of moves under way; nothing else may be in it."""
    volume: str
    """Name of the volume in the host file."""
    identity: str
    open_volume: Callable[[], AbstractContextManager[Files]]
    """A new connection to the volume each time, its identity checked. Raises ActionError."""


def offload(folder: str, places: Places, *, at: float, watch: Watch | None = None) -> Receipt:
    """Move a repository folder (`models--OWNER--NAME`) to the volume, or finish doing so; the receipt is returned.

    Where it is on the volume already, nothing is written. The caller holds the lock of this model (fault O17), has
    found that nothing needs the folder (O03), and that the volume has room. Raises ValueError for another kind of name,
    and ActionError:
    `source-absent`, `source-incomplete`, `source-corrupt`, `source-shared`, `source-unusual`, `source-changed`:
    the folder is not one that may be moved, or did not hold still;
    `destination-differs`, `destination-foreign`: the volume has something else under this name;
    `copy-differs`, `cold-copy-bad`: the copy is not what was copied, the folder is where it was;
    `both-copies-bad`: neither copy is whole, and nothing was touched;
    `cancelled`, `disk-full`, `disk-forbidden`, `disk-failed`, and those of the volume.
    """
    with told(f"moving {folder} to {places.volume}"):
        return Offload(folder, places, watch or Watch()).run(at)


def cold_manifest(volume: Files, folder: str) -> Manifest | None:
    """The manifest of a copy on a volume; None: there is no copy, or not one of ours, or its manifest is damaged.

    What it says was true when the copy was made. Raises OSError.
    """
    if volume.look(f"{folder}/{MARKER}") is None:
        return None
    try:
        return parse(volume.read(f"{folder}/{MARKER}"))
    except (ValueError, RecursionError):
        return None


class Move:
    """What offload and restore have in common: the names, the record, and the end of an interrupted offload."""

    def __init__(self, folder: str, places: Places, watch: Watch) -> None:
        self.folder = folder
        self.part, self.old, self.grave = (f".{folder}.{word}" for word in ("part", "old", "offloaded"))
        self.receipt = receipt_name(folder)
        self.recorded = f"{folder}.json"
        self.places = places
        self.hub = places.hub
        self.watch = watch

    def record(self) -> Manifest | None:
        """What was to be moved by the run before; None where nothing is recorded or the record is damaged."""
        if self.places.record.look(self.recorded) is None:
            return None
        try:
            return parse(self.places.record.read(self.recorded))
        except (ValueError, RecursionError):
            return None

    def verify(self, files: Files, root: str, want: Manifest, without: tuple[str, ...]) -> str:
        """A path of a copy that is not as it should be, read from the medium; empty: it is complete."""
        return difference(files, root, want, self.watch.stage("checking"), without=without)

    def harden(self, files: Files, want: Manifest, extra: tuple[str, ...] = ()) -> None:
        """Make the copy and its name durable, again."""
        harden(files, self.folder, want, extra)

    def forget(self) -> None:
        """Remove the record of a move that is over."""
        if self.places.record.look(self.recorded) is not None:
            self.hub.sync("")
            remove_durably(self.places.record, self.recorded)

    def finish(self, at: float) -> None:
        """Bring an offload to its end that was cut off after the folder was hidden."""
        receipt = read_receipt(self.hub, self.folder)
        if receipt is not None and receipt.identity != self.places.identity:
            raise ActionError(
                "volume-wrong",
                f"{self.folder} was moved to the volume {receipt.volume} ({receipt.identity}) and not to this "
                f"{self.places.volume}; nothing was touched; connect that one",
            )
        recorded = self.record()
        with self.places.open_volume() as cold:
            kept = cold_manifest(cold, self.folder)
            known = kept == recorded or (recorded is None and self._promised(kept, receipt))
            whole = kept is not None and known and not self.verify(cold, self.folder, kept, (MARKER,))
            if kept is not None and whole:
                self.harden(cold, kept, (MARKER,))
        if kept is None or not whole:
            self.unhide(recorded, receipt)
            raise ActionError(
                "cold-copy-bad",
                f"the copy of {self.folder} on {self.places.volume} does not verify any more; the folder is back in "
                "the model cache, complete",
            )
        if receipt is None:
            self.sign(kept, at)
        self.clear(kept)

    def unhide(self, recorded: Manifest | None, receipt: Receipt | None) -> None:
        """Give the grave its name back, where it is complete. Raises ActionError `both-copies-bad` where it is not."""
        try:
            rest = survey(self.hub, self.grave, self.watch.stage("reading"))
        except ActionError as error:
            if error.cause == "cancelled":
                raise
            rest = None
        complete = rest is not None and (rest == recorded or (recorded is None and self._promised(rest, receipt)))
        if not complete or self.hub.look(self.folder) is not None:
            raise ActionError(
                "both-copies-bad",
                f"neither {self.grave} in the model cache nor the copy of {self.folder} on {self.places.volume} is as "
                "it was recorded, or both names are taken; nothing was touched; a person has to look at them",
                permanent=True,
            )
        self.reveal()

    def reveal(self) -> None:
        """Rename the grave to the folder."""
        self.hub.rename(self.grave, self.folder)
        self.hub.sync("")
        remove_durably(self.hub, self.receipt)

    def sign(self, want: Manifest, at: float) -> Receipt:
        """Write the receipt; it is durable before the folder is hidden."""
        refs = {path: item for path, item in want.files() if path.startswith("refs/")}
        receipt = Receipt(
            volume=self.places.volume,
            identity=self.places.identity,
            manifest=want.digest,
            bytes=want.size,
            refs={path.removeprefix("refs/"): self.commit_of(want, item) for path, item in refs.items()},
            commits=want.commits,
            at=at,
        )
        write_durably(self.hub, self.receipt, receipt_text(receipt))
        return receipt

    @staticmethod
    def commit_of(want: Manifest, ref: Item) -> str:
        """The commit that a ref names, found by its digest among the snapshots; empty: none of them."""
        import hashlib

        for commit in want.commits:
            if ref.digest in (hashlib.sha256(commit.encode() + end).hexdigest() for end in (b"", b"\n")):
                return commit
        return ""

    def clear(self, want: Manifest) -> None:
        """Remove the grave, of which a verified copy exists, for good."""
        self.hub.sync("")
        remove_listed(self.hub, self.grave, want)
        self.hub.sync("")
        self.forget()

    @staticmethod
    def _promised(manifest: Manifest | None, receipt: Receipt | None) -> bool:
        return manifest is not None and receipt is not None and manifest.digest == receipt.manifest


class Offload(Move):
    """One run of the protocol; its methods are its steps."""

    def run(self, at: float) -> Receipt:
        """Do, in their order, the steps that are left. Raises OSError and ActionError."""
        if self.hub.look(self.grave) is not None:
            self.finish(at)
        entry = self.hub.look(self.folder)
        if entry is None:
            return self.gone()
        if entry.kind is not Kind.FOLDER:
            raise ActionError(
                "source-shared", f"{self.folder} is a link to another place; nothing was moved", permanent=True
            )
        remove_tree(self.hub, self.part)
        source = survey(self.hub, self.folder, self.watch.stage("reading"))
        whole = self.begun(source) or source
        if whole is source:
            self.admit(source)
            self.note(source)
            self.bring(source)
        receipt = self.sign(whole, at)
        self.hide(source)
        self.clear(whole)
        return receipt

    def gone(self) -> Receipt:
        """The receipt of a folder that is not in the cache any more."""
        receipt = read_receipt(self.hub, self.folder)
        if receipt is None:
            raise ActionError("source-absent", f"{self.folder} is not in the model cache", permanent=True)
        self.forget()
        return receipt

    def begun(self, source: Manifest) -> Manifest | None:
        """What an earlier run copied whole, where the folder has lost a part of it since; None: nothing like that."""
        recorded = self.record()
        if recorded is None or recorded == source or not recorded.contains(source):
            return None
        with self.places.open_volume() as cold:
            if cold_manifest(cold, self.folder) != recorded:
                return None
            if path := self.verify(cold, self.folder, recorded, (MARKER,)):
                raise ActionError(
                    "both-copies-bad",
                    f"{self.folder} in the model cache has lost files, and its copy on {self.places.volume} is damaged "
                    f"({path}); nothing was touched; a person has to look at them",
                    permanent=True,
                )
            self.harden(cold, recorded, (MARKER,))
        return recorded

    def admit(self, source: Manifest) -> None:
        """Refuse a folder that is not complete by what it says itself."""
        if found := flaws(self.hub, self.folder, source):
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            raise ActionError(
                "source-incomplete",
                f"{self.folder} is not complete and was kept: {'; '.join(found[:_NAMED])}{more}; download it again",
                permanent=True,
            )

    def note(self, source: Manifest) -> None:
        """Record what is to be moved, before anything is switched."""
        record = self.places.record
        if self.record() != source:
            write_durably(record, self.recorded, source.text)
        else:
            record.sync(self.recorded)
            record.sync("")

    def bring(self, want: Manifest) -> None:
        """See to a copy on the volume that verifies and is durable. A damaged one is made anew, once."""
        for distrusted in (False, True):
            with self.places.open_volume() as cold:
                copied = self.prepare(cold, want, distrusted)
            with self.places.open_volume() as cold:
                if copied:
                    self.publish(cold, want)
                elif self.verify(cold, self.folder, want, (MARKER,)):
                    continue
                self.harden(cold, want, (MARKER,))
                self.discard(cold, want)
                return

    def prepare(self, cold: Files, want: Manifest, distrusted: bool) -> bool:
        """Copy to the part folder, unless the volume says that it has this very copy; whether it was copied."""
        remove_tree(cold, self.part)
        if not distrusted and cold_manifest(cold, self.folder) == want:
            return False
        self.vacant(cold, self.folder, want)
        try:
            copy(self.hub, self.folder, cold, self.part, want, self.watch.stage("copying"))
        except (OSError, ActionError):
            with suppress(OSError):
                remove_tree(cold, self.part)
            raise
        return True

    def vacant(self, cold: Files, name: str, want: Manifest) -> None:
        """Refuse to replace what is on the volume, unless it is ours and all that it has is in `want` too (O10)."""
        if cold.look(name) is None:
            return
        if cold.look(f"{name}/{MARKER}") is None:
            raise ActionError(
                "destination-foreign",
                f"{self.places.volume} has a folder {name} that was not made by an offload; it was kept, and nothing "
                "was moved; move it away",
                permanent=True,
            )
        kept = cold_manifest(cold, name)
        if kept is None:
            held = shape(cold, name, without=(MARKER,)).items.keys()
            covered = held <= want.items.keys()
        else:
            covered = want.covers(kept)
        if not covered:
            raise ActionError(
                "destination-differs",
                f"{self.places.volume} has another copy of {self.folder}, with files that are not in the model cache; "
                "it was kept, and nothing was moved; move it away if it is not needed",
                permanent=True,
            )

    def publish(self, cold: Files, want: Manifest) -> None:
        """Verify the part folder through this connection, mark it and give it its name."""
        try:
            self.prove(cold, want)
        except (OSError, ActionError):
            with suppress(OSError):
                remove_tree(cold, self.part)
            raise
        self.vacant(cold, self.folder, want)
        if cold.look(self.folder) is not None:
            self.discard(cold, want)
            cold.rename(self.folder, self.old)
        cold.rename(self.part, self.folder)
        cold.sync("")

    def prove(self, cold: Files, want: Manifest) -> None:
        """Compare the part folder with the manifest, write that into it, and read it back."""
        if path := self.verify(cold, self.part, want, ()):
            self.unchanged(self.folder, want)
            raise ActionError(
                "copy-differs",
                f"{path} of {self.folder} was read back from {self.places.volume} and is not what was written; the "
                "copy was removed, the model cache is unchanged; check that disk",
            )
        write_durably(cold, posixpath.join(self.part, MARKER), want.text)
        cold.sync(self.part)

    def discard(self, cold: Files, want: Manifest) -> None:
        """Remove the copy that was replaced."""
        if cold.look(self.old) is None:
            return
        if cold.look(f"{self.old}/{MARKER}") is not None:
            self.vacant(cold, self.old, want)
        remove_tree(cold, self.old)
        cold.sync("")

    def hide(self, source: Manifest) -> None:
        """Rename the folder to the grave, if it still is what was copied."""
        self.unchanged(self.folder, source)
        self.hub.rename(self.folder, self.grave)
        self.hub.sync("")
        try:
            self.unchanged(self.grave, source)
        except ActionError:
            self.reveal()
            raise

    def unchanged(self, root: str, source: Manifest) -> None:
        """Refuse a folder that something has written to since it was read."""
        import hashlib

        path = same_shape(shape(self.hub, root), source)
        for ref, item in source.files():
            if not path and ref.startswith("refs/"):
                path = "" if hashlib.sha256(self.hub.read(f"{root}/{ref}")).hexdigest() == item.digest else ref
        if path:
            raise ActionError(
                "source-changed",
                f"{self.folder} was changed while it was copied ({path}), so it was kept; try again",
            )
