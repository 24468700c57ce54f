"""Restore: a repository folder comes back from a volume into the model cache, by the protocol of offload.

It is copied to `.NAME.part` in the cache, made durable, read back from the medium and compared, then it gets its name
and everything is made durable again; the receipt goes last. The copy on the volume is kept, which is the safer end: a
later offload of the same content only verifies it and removes the folder.
"""

from contextlib import suppress

from reconciler.adapters.durable.copying import Watch, copy, remove_durably, remove_tree, told
from reconciler.adapters.durable.files import Files, Kind
from reconciler.adapters.durable.manifest import MARKER, Manifest, shape, survey
from reconciler.ports.errors import ActionError

from .moving import Move, Places, cold_manifest
from .receipts import read_receipt


def restore(folder: str, places: Places, *, at: float, watch: Watch | None = None) -> None:
    """Bring a repository folder back, verified; the copy on the volume stays. Where it is already, nothing is copied.

    The caller holds the lock of this model and has found that the cache has room. Raises ActionError:
    `cold-copy-absent`: the volume has no copy of it;
    `cold-copy-bad`: it has one that does not verify, which was kept;
    `destination-differs`: the cache has a folder of this name with files that the copy does not have;
    `copy-differs`: the disk of the cache holds something else than was written;
    `both-copies-bad`, `volume-wrong` and `source-changed` of an offload that was cut off and cannot be finished;
    `cancelled`, `disk-full`, `disk-forbidden`, `disk-failed`, and those of the volume.
    """
    with told(f"restoring {folder} from {places.volume}"):
        Restore(folder, places, watch or Watch()).run(at)


class Restore(Move):
    """One run of the protocol; its methods are its steps."""

    def run(self, at: float) -> None:
        """Do, in their order, the steps that are left. Raises OSError and ActionError."""
        if self.hub.look(self.grave) is not None:
            if self.returned():
                self.forget()
                return
            self.finish(at)
        with self.places.open_volume() as cold:
            want = self.offered(cold)
            if not self.arrived(want):
                self.fetch(cold, want)
                self.publish()
        self.harden(self.hub, want)
        remove_durably(self.hub, self.receipt)
        self.discard(want)
        self.forget()

    def returned(self) -> bool:
        """Whether the folder was only hidden, is complete, and has its name back."""
        if self.hub.look(self.folder) is not None:
            return False
        try:
            rest = survey(self.hub, self.grave, self.watch.stage("reading"))
        except ActionError as error:
            if error.cause == "cancelled":
                raise
            return False
        recorded = self.record()
        whole = rest == recorded or (recorded is None and self._promised(rest, read_receipt(self.hub, self.folder)))
        if whole:
            self.reveal()
        return whole

    def offered(self, cold: Files) -> Manifest:
        """What the copy on the volume should be."""
        want = cold_manifest(cold, self.folder)
        if want is not None:
            return want
        if cold.look(self.folder) is None:
            raise ActionError(
                "cold-copy-absent", f"{self.places.volume} has no copy of {self.folder}; download it", permanent=True
            )
        raise ActionError(
            "cold-copy-bad",
            f"the copy of {self.folder} on {self.places.volume} has no manifest that can be read, so nothing proves "
            "it; it was kept; download it again",
            permanent=True,
        )

    def arrived(self, want: Manifest) -> bool:
        """Whether the cache has this very content already. Raises ActionError where it has other files."""
        entry = self.hub.look(self.folder)
        if entry is None:
            return False
        if entry.kind is Kind.FOLDER:
            if not self.verify(self.hub, self.folder, want, ()):
                return True
            if self.covered(self.folder, want):
                return False
        raise ActionError(
            "destination-differs",
            f"the model cache has {self.folder} with other files than its copy on {self.places.volume}; both were "
            "kept; move the folder away or download what it lacks",
            permanent=True,
        )

    def covered(self, root: str, want: Manifest) -> bool:
        """Whether all that a folder of the cache has is in the copy; blobs and listings are what their names say."""
        here = shape(self.hub, root)
        return all(
            path in want.items and (want.items[path].kind, want.items[path].target) == (item.kind, item.target)
            for path, item in here.items.items()
        )

    def fetch(self, cold: Files, want: Manifest) -> None:
        """Copy to the part folder and verify it; nothing is left of one that does not."""
        remove_tree(self.hub, self.part)
        try:
            copy(cold, self.folder, self.hub, self.part, want, self.watch.stage("copying"))
            self.prove(cold, want)
        except (OSError, ActionError):
            with suppress(OSError):
                remove_tree(self.hub, self.part)
            raise

    def prove(self, cold: Files, want: Manifest) -> None:
        """Compare the part folder with the manifest; where it differs, find out which disk is to blame."""
        path = self.verify(self.hub, self.part, want, ())
        if not path:
            return
        if at_fault := self.verify(cold, self.folder, want, (MARKER,)):
            raise ActionError(
                "cold-copy-bad",
                f"the copy of {self.folder} on {self.places.volume} is damaged ({at_fault}); it was kept, and nothing "
                "was restored; download it again",
                permanent=True,
            )
        raise ActionError(
            "copy-differs",
            f"{path} of {self.folder} was read back from the disk of the model cache and is not what was written; "
            f"nothing was restored, the copy on {self.places.volume} is complete; check that disk",
        )

    def publish(self) -> None:
        """Give the part folder its name; a folder that it covers makes room."""
        if self.hub.look(self.folder) is not None:
            remove_tree(self.hub, self.old)
            self.hub.rename(self.folder, self.old)
        self.hub.rename(self.part, self.folder)
        self.hub.sync("")

    def discard(self, want: Manifest) -> None:
        """Remove the folder that was replaced."""
        if self.hub.look(self.old) is not None and self.covered(self.old, want):
            remove_tree(self.hub, self.old)
            self.hub.sync("")
