"""A simulated machine: disks that forget what was not synced, and fail, vanish or rot at a chosen step.

Every change is a step, counted over all disks; so is every sync. At a step the machine may die (the page cache
stays), lose power, answer with an error, lose the external disk, or write something else than it was told.

After a loss of power each folder has a prefix of the changes that were made to it since its last sync, and each file
that was not synced is what it was before, what was written, a part of it, or as many zeros (ALICE, OSDI'14; SQLite's
test6.c).
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random

from reconciler.adapters.durable.files import Entry, Kind

PIECE = 16
"""Bytes that the simulated disk reads at a time."""


class Crash(BaseException):
    """The machine stops here."""


class Node:
    """A file, folder or link: what the page cache has, and what the medium has."""

    __slots__ = ("content", "dirty", "durable", "durable_entries", "entries", "kind", "pending", "rotten", "target")

    def __init__(self, kind: Kind, target: str = "") -> None:
        self.kind = kind
        self.target = target
        self.content = b""
        self.durable = b""
        self.dirty = False
        self.rotten = False
        """What is synced of it next will be something else."""
        self.entries: dict[str, Node] = {}
        self.durable_entries: dict[str, Node] = {}
        self.pending: list[tuple[str | None, str | None, Node]] = []
        """Changes since the last sync: (name that goes, name that comes, node)."""

    def clone(self) -> "Node":
        """A copy of a tree that is durable."""
        node = Node(self.kind, self.target)
        node.content = node.durable = self.content
        node.entries = {name: entry.clone() for name, entry in self.entries.items()}
        node.durable_entries = dict(node.entries)
        return node

    @property
    def truth(self) -> bytes:
        """What reading it back from the medium gives."""
        if not self.dirty:
            return self.durable
        return flipped(self.content) if self.rotten else self.content

    def sync(self) -> None:
        """Bring it to the medium."""
        if self.kind is Kind.FOLDER:
            self.durable_entries = dict(self.entries)
            self.pending = []
        elif self.dirty:
            self.durable, self.dirty, self.rotten = self.truth, False, False

    def settle(self) -> None:
        """Bring all of a tree to the medium."""
        self.sync()
        for entry in self.entries.values():
            entry.settle()

    def lose_power(self, random: Random) -> None:
        """Become what a loss of power leaves."""
        if self.kind is Kind.FILE:
            if self.dirty:
                written = self.truth
                cut = written[: random.randint(0, len(written))]
                self.durable = random.choice((self.durable, written, cut, bytes(len(written))))
            self.content, self.dirty, self.rotten = self.durable, False, False
            return
        entries = dict(self.durable_entries)
        for old, new, node in self.pending[: random.randint(0, len(self.pending))]:
            if old is not None:
                entries.pop(old, None)
            if new is not None:
                entries[new] = node
        self.entries, self.durable_entries, self.pending = entries, dict(entries), []
        for entry in entries.values():
            entry.lose_power(random)


def flipped(content: bytes) -> bytes:
    """The same with one bit wrong."""
    return bytes([content[0] ^ 0x40]) + content[1:] if content else content


@dataclass(slots=True)
class Faults:
    """What happens to a machine, each at most once; numbers count from the moment they are set, 0 is never."""

    crash: int = 0
    power: bool = False
    """Whether the crash is a loss of power."""
    error: int = 0
    code: int = errno.EIO
    unmount: int = 0
    corrupt: int = 0
    """Step that writes something else, if it writes to the external disk or to the one named."""
    unreadable: int = 0
    """Which reading request answers with an error."""
    rot: bool = False
    """Whether the copy on the volume is damaged after the run."""


class Disk:
    """One file system."""

    def __init__(self, name: str, root: Node | None = None) -> None:
        self.name = name
        self.root = root or Node(Kind.FOLDER)
        self.mounted = True


class Machine:
    """The disks of one machine, and the counter of what happens to them."""

    def __init__(self, seed: int, disks: Iterable[Disk], fragile: str) -> None:
        self.random = Random(seed)
        self.disks = {disk.name: disk for disk in disks}
        self.fragile = fragile
        """Name of the disk that may write something else than it was told."""
        self.steps = self.reads = self.writes = 0
        """How many steps and reading requests there were, and how many of the steps changed something."""
        self._base = (0, 0)
        self.faults = Faults()

    def begin(self, faults: Faults) -> None:
        """From now on these faults happen."""
        self.faults = faults
        self._base = (self.steps, self.reads)

    def step(self, disk: Disk, path: str, *, changes: bool = True) -> bool:
        """Count one step; whether what it writes is corrupted."""
        self.steps += 1
        faults, step = self.faults, self.steps - self._base[0]
        if step == faults.crash:
            raise Crash(f"{step} {path}")
        if step == faults.unmount:
            self.disks["external"].mounted = False
        if step == faults.error:
            raise OSError(faults.code, os.strerror(faults.code), path)
        self.writes += changes
        return step == faults.corrupt and disk.name == self.fragile

    def read(self, path: str) -> None:
        """Count one reading request."""
        self.reads += 1
        if self.reads - self._base[1] == self.faults.unreadable:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def crashed(self, *, power: bool) -> None:
        """Start again after a crash; the external disk is plugged in again."""
        self.begin(Faults())
        for disk in self.disks.values():
            if power:
                disk.root.lose_power(self.random)


class SimulatedFiles:
    """A folder of a simulated disk, held open; see Files."""

    def __init__(self, machine: Machine, disk: Disk, folder: str = "") -> None:
        self.machine = machine
        self._disk = disk
        self._root = disk.root
        for name in folder.split("/") if folder else ():
            self._root = self._root.entries[name]

    def __enter__(self) -> "SimulatedFiles":
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def held(self) -> tuple[Disk, Node]:
        """The disk and folder that requests go to."""
        if not self._disk.mounted:
            raise OSError(errno.EIO, os.strerror(errno.EIO), self._disk.name)
        return self._disk, self._root

    def device(self) -> str:
        """Name of the disk."""
        return self.held()[0].name

    def look(self, path: str) -> Entry | None:
        """What is there."""
        self.machine.read(path)
        _, node = self.held()
        for name in path.split("/"):
            if node.kind is not Kind.FOLDER:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            found = node.entries.get(name)
            if found is None:
                return None
            node = found
        return Entry(kind=node.kind, size=len(node.content))

    def names(self, path: str) -> tuple[str, ...]:
        """What a folder holds."""
        self.machine.read(path)
        return tuple(sorted(self._node(path, Kind.FOLDER).entries))

    def target(self, path: str) -> str:
        """Where a link leads."""
        self.machine.read(path)
        return self._node(path, Kind.LINK).target

    def read(self, path: str) -> bytes:
        """A small file, from the page cache."""
        self.machine.read(path)
        return self._node(path, Kind.FILE).content

    def chunks(self, path: str) -> Iterator[bytes]:
        """A file, from the page cache."""
        content = self.read(path)
        for start in range(0, len(content), PIECE):
            yield content[start : start + PIECE]

    def digest(self, path: str, watch: Callable[[int], None] = lambda read: None) -> str:
        """SHA-256 of what the medium has; pages that were not synced cannot be dropped, so they count."""
        self.machine.read(path)
        node = self._node(path, Kind.FILE)
        if not node.dirty:
            node.content = node.durable
        watch(len(node.content))
        return hashlib.sha256(node.content).hexdigest()

    def make_folder(self, path: str) -> None:
        """Make one folder."""
        self._add(path, Node(Kind.FOLDER))

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        self._add(path, Node(Kind.LINK, target))

    def write(self, path: str, chunks: Iterable[bytes]) -> None:
        """Make a file, piece by piece."""
        node = Node(Kind.FILE)
        self._add(path, node)
        for chunk in chunks:
            disk, _ = self.held()
            rotten = self.machine.step(disk, path)
            self.held()  # it may have gone with this step
            node.rotten |= rotten
            node.content += chunk
            node.dirty = True

    def sync(self, path: str) -> None:
        """Bring it to the medium."""
        node = self._node(path)
        self.machine.step(self.held()[0], path, changes=False)
        self.held()
        node.sync()

    def rename(self, old: str, new: str) -> None:
        """Give it another name in the same folder."""
        (folder, before), (other, after) = self._place(old), self._place(new)
        if folder is not other:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), new)
        node, taken = self._entry(folder, before), folder.entries.get(after)
        if taken is not None and taken.entries:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), new)
        self._step(old)
        del folder.entries[before]
        folder.entries[after] = node
        folder.pending.append((before, after, node))

    def remove(self, path: str) -> None:
        """Remove a file or a link."""
        folder, name = self._place(path)
        if self._entry(folder, name).kind is Kind.FOLDER:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._drop(path, folder, name)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        folder, name = self._place(path)
        if self._entry(folder, name).entries:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self._drop(path, folder, name)

    # ----------------------------------------------------------------------------------------------------- nodes

    def _step(self, path: str) -> None:
        self.machine.step(self.held()[0], path)
        self.held()

    def _add(self, path: str, node: Node) -> None:
        folder, name = self._place(path)
        if name in folder.entries:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._step(path)
        folder, name = self._place(path)  # where a path leads now, for those who do not hold the folder
        folder.entries[name] = node
        folder.pending.append((None, name, node))

    def _drop(self, path: str, folder: Node, name: str) -> None:
        self._step(path)
        folder.pending.append((name, None, folder.entries.pop(name)))

    def _place(self, path: str) -> tuple[Node, str]:
        folder, _, name = path.rpartition("/")
        return self._node(folder, Kind.FOLDER), name

    def _entry(self, folder: Node, name: str) -> Node:
        if name not in folder.entries:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return folder.entries[name]

    def _node(self, path: str, kind: Kind | None = None) -> Node:
        _, node = self.held()
        for name in path.split("/") if path else ():
            node = self._entry(node, name)
        if kind is not None and node.kind is not kind:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return node
