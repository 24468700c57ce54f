"""Protocols with one mistake each: a harness that does not find them proves nothing.

Each is a version of a protocol that somebody could write, or was written: by `mv`, by rsync, by earlier drafts.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

from reconciler.adapters.cold.moving import Offload, cold_manifest
from reconciler.adapters.cold.receipts import Receipt
from reconciler.adapters.cold.restoring import Restore
from reconciler.adapters.conversion.publishing import Publication
from reconciler.adapters.durable.copying import Watch, copy, remove_tree
from reconciler.adapters.durable.files import Files, Kind
from reconciler.adapters.durable.manifest import MARKER, Manifest, shape

from . import worlds
from .disk import Disk, Node, SimulatedFiles
from .scenarios import scenario_of
from .schedules import Schedule, length, pairs, randoms, run, singles
from .worlds import CONVERTED, REPO, Request, Scenario, World


def _usual(scenario: Scenario) -> Iterator[Schedule]:
    return chain(singles(scenario), randoms(scenario, 3_000))


@dataclass(frozen=True)
class Mistake:
    """A scenario with a wrong protocol, the invariant that it breaks, and the kind of fault that shows it."""

    name: str
    scenario: Scenario
    breaks: str
    fault: str
    """Empty: a planted world is enough."""
    schedules: Callable[[Scenario], Iterator[Schedule]] = _usual
    """Among which one must find it."""

    def found(self) -> str | None:
        """The first finding of that invariant by that fault; None: the mistake goes unnoticed."""
        for schedule in self.schedules(self.scenario):
            if self.fault in schedule.first + schedule.second:
                for finding in run(self.scenario, schedule):
                    if f": {self.breaks}: " in finding:
                        return finding
        return None

    def looks_right(self) -> bool:
        """Whether the invariant holds as long as nothing goes wrong."""
        return not any(f": {self.breaks}: " in finding for finding in run(self.scenario, Schedule(0, "")))


# ------------------------------------------------------------------------------------------------- disks that lie


class NoFileSync(SimulatedFiles):
    """Never makes the content of a file durable."""

    def sync(self, path: str) -> None:
        if self._node(path).kind is Kind.FOLDER:
            super().sync(path)


class NoFolderSync(SimulatedFiles):
    """Never makes the names in a folder durable."""

    def sync(self, path: str) -> None:
        if self._node(path).kind is not Kind.FOLDER:
            super().sync(path)


class CachedDigest(SimulatedFiles):
    """Verifies what is in memory and not what is on the medium."""

    def digest(self, path: str, watch: Callable[[int], None] = lambda read: None) -> str:
        return hashlib.sha256(self.read(path)).hexdigest()


class ByPath(SimulatedFiles):
    """Looks its folder up for every request, as `open("/Volumes/cold/...")` does (fault O07)."""

    def held(self) -> tuple[Disk, Node]:
        if self._disk.name == "external" and not self._disk.mounted:
            internal = self.machine.disks["internal"]
            return internal, internal.root.entries[worlds.MOUNT_POINT]
        return super().held()


def through(files: type[SimulatedFiles], request: Request) -> Request:
    """The same request on other files."""

    def ask(world: World) -> None:
        world.files = files
        request(world)

    return ask


# ------------------------------------------------------------------------------------------------------- offload


def move(world: World) -> None:
    """`mv` between file systems: copy, remove."""
    if world.hub.look(REPO) is not None:
        with world.open_volume() as cold:
            _take(world.hub, cold)
        remove_tree(world.hub, REPO)


def rsync(world: World) -> None:
    """`rsync --remove-source-files`: every file is removed when it was copied."""
    if world.hub.look(REPO) is None:
        return
    with world.open_volume() as cold:
        for path, item in shape(world.hub, REPO).items.items():
            here = f"{REPO}/{path}"
            if item.kind is Kind.FOLDER:
                for folder in (REPO, here):
                    if cold.look(folder) is None:
                        cold.make_folder(folder)
                continue
            if cold.look(here) is not None:
                cold.remove(here)
            if item.kind is Kind.LINK:
                cold.link(here, item.target)
            else:
                cold.write(here, world.hub.chunks(here))
            world.hub.remove(here)
    remove_tree(world.hub, REPO)


def _take(hub: Files, cold: Files) -> None:
    remove_tree(cold, REPO)
    cold.make_folder(REPO)
    for path, item in shape(hub, REPO).items.items():
        here = f"{REPO}/{path}"
        if item.kind is Kind.FOLDER:
            cold.make_folder(here)
        elif item.kind is Kind.LINK:
            cold.link(here, item.target)
        else:
            cold.write(here, hub.chunks(here))


class Unverified(Offload):
    """Believes that what was written is there."""

    def verify(self, files: Files, root: str, want: Manifest, without: tuple[str, ...]) -> str:
        return ""


class Unhardened(Offload):
    """Trusts what an earlier run has left in memory (the second draft; only two crashes show it)."""

    def harden(self, files: Files, want: Manifest, extra: tuple[str, ...] = ()) -> None:
        pass


class Overwriting(Offload):
    """Replaces whatever is on the volume (the first draft; fault O10)."""

    def vacant(self, cold: Files, name: str, want: Manifest) -> None:
        pass


class UnverifiedEnd(Offload):
    """Finishes an interrupted run without looking at the copy again (fault O09)."""

    def finish(self, at: float) -> None:
        self.clear(worlds.manifest())


class Unadmitted(Offload):
    """Does not ask whether the folder is complete (fault O11)."""

    def admit(self, source: Manifest) -> None:
        pass


class HiddenInMemory(Offload):
    """Removes before the new name of the folder is durable."""

    def hide(self, source: Manifest) -> None:
        self.hub.rename(self.folder, self.grave)

    def clear(self, want: Manifest) -> None:
        remove_tree(self.hub, self.grave)
        self.forget()


class SignedLast(Offload):
    """Writes the receipt when everything is done."""

    def sign(self, want: Manifest, at: float) -> Receipt:
        return Receipt(volume="", identity="", manifest="", bytes=0, refs={}, commits=(), at=at)

    def clear(self, want: Manifest) -> None:
        super().clear(want)
        super().sign(want, 1.0)


class MarkedUnread(Offload):
    """Does not read the marker back (the third draft)."""

    def prove(self, cold: Files, want: Manifest) -> None:
        if not self.verify(cold, self.part, want, ()):
            cold.write(f"{self.part}/{MARKER}", [want.text])
            cold.sync(f"{self.part}/{MARKER}")
            cold.sync(self.part)


class InPlace(Offload):
    """Copies to the final name."""

    def prepare(self, cold: Files, want: Manifest, distrusted: bool) -> bool:
        if not distrusted and cold_manifest(cold, self.folder) == want:
            return False
        remove_tree(cold, self.folder)
        copy(self.hub, self.folder, cold, self.folder, want, self.watch.stage("copying"))
        return True

    def publish(self, cold: Files, want: Manifest) -> None:
        self.part = self.folder
        self.prove(cold, want)


def by(protocol: type[Offload]) -> Request:
    """An offload by another protocol."""

    def ask(world: World) -> None:
        protocol(REPO, world.places(), Watch()).run(1.0)

    return ask


def back_by(protocol: type[Restore]) -> Request:
    """A restore by another protocol."""

    def ask(world: World) -> None:
        protocol(REPO, world.places(), Watch()).run(1.0)

    return ask


def published_by(protocol: type[Publication]) -> Request:
    """A publication by another protocol."""
    return lambda world: worlds.converting(world, protocol)


def anywhere(world: World) -> None:
    """An offload to whatever lies at the path of the volume (fault O06)."""

    def unchecked() -> AbstractContextManager[Files]:
        return world.volume()

    Offload(REPO, world.places(unchecked), Watch()).run(1.0)


# -------------------------------------------------------------------------------------------- restore, publication


class Unproved(Restore):
    """Believes that what was written is there."""

    def prove(self, cold: Files, want: Manifest) -> None:
        pass


class IntoPlace(Restore):
    """Copies to the final name."""

    def fetch(self, cold: Files, want: Manifest) -> None:
        remove_tree(self.hub, self.folder)
        copy(cold, self.folder, self.hub, self.folder, want, self.watch.stage("copying"))

    def publish(self) -> None:
        pass


class ForgottenFirst(Restore):
    """Removes the receipt before anything is back."""

    def offered(self, cold: Files) -> Manifest:
        if self.hub.look(self.receipt) is not None:
            self.hub.remove(self.receipt)
            self.hub.sync("")
        return super().offered(cold)


class Unsettled(Publication):
    """Leaves it to the converter to make its files durable (fault C04)."""

    def settle(self, written: Manifest) -> None:
        pass


class SealedLast(Publication):
    """Gives it the name before the receipt."""

    def seal(self, receipt: Any) -> None:
        self.staging, staging = self.folder, self.staging
        self.hub.rename(staging, self.folder)
        self.hub.sync(self.parent)
        super().seal(receipt)

    def switch(self) -> None:
        pass


class Forgetful(Publication):
    """Compares the medium with nothing."""

    def remembered(self, path: str) -> str:
        self.hub.sync(f"{self.staging}/{path}")
        return self.hub.digest(f"{self.staging}/{path}")


def not_empty_is_valid(world: World) -> None:
    """Takes whatever has the name for a conversion (fault C02)."""
    parent = CONVERTED.partition("/")[0]
    if world.hub.look(parent) is None:
        world.hub.make_folder(parent)
    if world.hub.look(CONVERTED) is None:
        worlds.convert(world, CONVERTED)
        protocol = Publication(world.hub, CONVERTED, Watch())
        protocol.staging = CONVERTED
        protocol.seal({**worlds.FACTS, "version": 1, "files": protocol.digests(protocol.written())})


def after_the_copy(scenario: Scenario) -> Iterator[Schedule]:
    """A crash at a step about the renaming, and another at every step of the run after it."""
    middle = length(scenario_of(scenario.name)).steps // 2  # of the right protocol
    return pairs(scenario, range(middle - 6, middle + 10), range(1, middle))


def _mistake(
    name: str,
    scenario: Scenario,
    request: Request,
    breaks: str,
    fault: str,
    schedules: Callable[[Scenario], Iterator[Schedule]] = _usual,
) -> Mistake:
    return Mistake(name, replace(scenario, request=request), breaks, fault, schedules)


MISTAKES: Final = (
    _mistake("move", worlds.OFFLOAD, move, "I2", "power"),
    _mistake("rsync", worlds.OFFLOAD, rsync, "I2", "kill"),
    _mistake("no-file-sync", worlds.OFFLOAD, through(NoFileSync, worlds.offloading), "I2", "power"),
    _mistake("no-folder-sync", worlds.OFFLOAD, through(NoFolderSync, worlds.offloading), "I2", "power"),
    _mistake("cached-digest", worlds.OFFLOAD, through(CachedDigest, worlds.offloading), "I2", "corrupt"),
    _mistake("by-path", worlds.OFFLOAD, through(ByPath, worlds.offloading), "I7", "unmount"),
    _mistake("anywhere", worlds.OFFLOAD, anywhere, "I7", "unmount"),
    _mistake("unverified", worlds.OFFLOAD, by(Unverified), "I2", "corrupt"),
    _mistake("unhardened", worlds.OFFLOAD, by(Unhardened), "I2", "kill", after_the_copy),
    _mistake("overwriting", worlds.OCCUPIED, by(Overwriting), "I2", ""),
    _mistake("unverified-end", worlds.OFFLOAD, by(UnverifiedEnd), "I2", "rot"),
    _mistake("unadmitted", worlds.INCOMPLETE, by(Unadmitted), "I6", ""),
    _mistake("hidden-in-memory", worlds.OFFLOAD, by(HiddenInMemory), "I6", "power"),
    _mistake("signed-last", worlds.OFFLOAD, by(SignedLast), "I6", "kill"),
    _mistake("marked-unread", worlds.OFFLOAD, by(MarkedUnread), "I6", "corrupt"),
    _mistake("in-place", worlds.OFFLOAD, by(InPlace), "I6", "kill"),
    _mistake("unproved-restore", worlds.RESTORE, back_by(Unproved), "I6", "corrupt"),
    _mistake("restore-into-place", worlds.RESTORE, back_by(IntoPlace), "I6", "kill"),
    _mistake("receipt-first", worlds.RESTORE, back_by(ForgottenFirst), "I6", "kill"),
    _mistake("unsettled", worlds.PUBLICATION, published_by(Unsettled), "I6", "power"),
    _mistake("sealed-last", worlds.PUBLICATION, published_by(SealedLast), "I6", "kill"),
    _mistake("forgetful", worlds.PUBLICATION, published_by(Forgetful), "I6", "corrupt"),
    _mistake("not-empty-is-valid", worlds.PUBLICATION, not_empty_is_valid, "I5", "kill"),
)
