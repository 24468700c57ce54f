"""Small worlds for the crash tests: a repository, a volume, a conversion, and what must always be true of them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Final

from reconciler.adapters.cold.moving import Places, offload
from reconciler.adapters.cold.receipts import parse_receipt, receipt_name
from reconciler.adapters.cold.restoring import restore
from reconciler.adapters.cold.volume import IDENTITY, check
from reconciler.adapters.conversion.publishing import RECEIPT, Publication, prepare, staging_folder
from reconciler.adapters.durable.copying import Watch
from reconciler.adapters.durable.files import Files, Kind
from reconciler.adapters.durable.manifest import MARKER, Manifest, survey
from reconciler.ports.errors import ActionError

from .disk import Disk, Machine, Node, SimulatedFiles, flipped

REPO: Final = "models--a--m"
ID: Final = "0123456789abcdef" * 2
COMMIT: Final = "c" * 40
CONVERTED: Final = "converted--a--m/0123456789abcdef"
MOUNT_POINT: Final = "mnt"
HUB: Final = "hub"
STATE: Final = "moves"
GRAVE: Final = f".{REPO}.offloaded"


def git_name(content: bytes) -> str:
    """How git names a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


WEIGHTS: Final = b"weights " * 3
CONFIG: Final = b'{"model_type": "x"}'
TOKENIZER: Final = b"{}"
BLOBS: Final = {hashlib.sha256(WEIGHTS).hexdigest(): WEIGHTS, git_name(CONFIG): CONFIG, git_name(TOKENIZER): TOKENIZER}
_WEIGHTS_BLOB, _CONFIG_BLOB, _TOKENIZER_BLOB = BLOBS
REPOSITORY: Final[Mapping[str, bytes | str]] = {
    **{f"blobs/{name}": content for name, content in BLOBS.items()},
    "refs/main": COMMIT.encode(),
    f"snapshots/{COMMIT}/model.safetensors": f"../../blobs/{_WEIGHTS_BLOB}",
    f"snapshots/{COMMIT}/config.json": f"../../blobs/{_CONFIG_BLOB}",
    f"snapshots/{COMMIT}/tok/tokenizer.json": f"../../../blobs/{_TOKENIZER_BLOB}",
}
"""path -> content, or the target of a link."""
OUTPUT: Final = {"model.safetensors": b"converted " * 3, "config.json": b'{"q": 4}', "tok/vocab.json": b"[]"}
FACTS: Final = {"recipe": "bits=4"}


def plant(root: Node, path: str, content: bytes | str) -> None:
    """Put a file, or a link for a text, into a simulated tree; its folders are made."""
    *folders, name = path.split("/")
    for folder in folders:
        root = root.entries.setdefault(folder, Node(Kind.FOLDER))
    node = Node(Kind.FILE) if isinstance(content, bytes) else Node(Kind.LINK, content)
    node.content = content if isinstance(content, bytes) else b""
    node.durable = node.content
    root.entries[name] = node


def found(root: Node, path: str) -> Node | None:
    """The node at a path."""
    node: Node | None = root
    for name in path.split("/"):
        node = node.entries.get(name) if node is not None else None
    return node


def holds(root: Node, folder: str, content: Mapping[str, bytes | str]) -> bool:
    """Whether a folder has all of this, as reading it back from the medium would give it."""
    base = found(root, folder)
    if base is None:
        return False
    for path, expected in content.items():
        node = found(base, path)
        if node is None or (node.truth if node.kind is Kind.FILE else node.target) != expected:
            return False
    return True


class World:
    """One simulated machine with a model cache, a state directory and an external disk."""

    files: type[SimulatedFiles] = SimulatedFiles
    """What requests go through; a seeded mistake may put something else here."""
    rotten = False
    """Whether the copy on the volume was damaged between two runs."""

    def __init__(self, internal: Node, external: Node, seed: int, fragile: str) -> None:
        self.internal, self.external = Disk("internal", internal), Disk("external", external)
        self.machine = Machine(seed, (self.internal, self.external), fragile)

    def clone(self, seed: int) -> "World":
        """The same again, all of it durable."""
        world = World(self.internal.root.clone(), self.external.root.clone(), seed, self.machine.fragile)
        world.rotten = self.rotten
        return world

    @property
    def hub(self) -> SimulatedFiles:
        """The model cache."""
        return self.files(self.machine, self.internal, HUB)

    def volume(self) -> SimulatedFiles:
        """What opening the path of the volume gives: where it is not mounted, a folder of the internal disk."""
        if self.external.mounted:
            return self.files(self.machine, self.external)
        return self.files(self.machine, self.internal, MOUNT_POINT)

    def open_volume(self) -> AbstractContextManager[Files]:
        """A new connection to the volume, its identity checked."""
        volume = self.volume()
        check(volume, "the volume", ID, cache=self.hub)
        return volume

    def places(self, open_volume: Callable[[], AbstractContextManager[Files]] | None = None) -> Places:
        """The places of this world."""
        return Places(
            hub=self.hub,
            record=self.files(self.machine, self.internal, STATE),
            volume="cold",
            identity=ID,
            open_volume=open_volume or self.open_volume,
        )

    def rot(self) -> None:
        """Flip a bit of the copy on the volume, if it is not the last one."""
        node = found(self.external.root, f"{REPO}/blobs/{_WEIGHTS_BLOB}")
        if node is not None and set(self.copies()) - {REPO}:
            node.content = node.durable = flipped(node.truth)
            node.dirty, self.rotten = False, True

    def copies(self) -> list[str]:
        """Where there is a complete copy of the repository."""
        inside, outside = self.internal.root, self.external.root
        places = ((inside, f"{HUB}/{REPO}"), (inside, f"{HUB}/{GRAVE}"), (outside, REPO), (outside, f".{REPO}.old"))
        return [path for root, path in places if holds(root, path, REPOSITORY)]

    def under_the_mount_point(self) -> list[str]:
        """What was written where the volume is not."""
        return sorted(self.internal.root.entries[MOUNT_POINT].entries)

    def litter(self) -> list[str]:
        """Every name beside the folders that belong there."""
        folders = (self.internal.root.entries[HUB], self.internal.root.entries[STATE], self.external.root)
        expected = {REPO, receipt_name(REPO), IDENTITY, CONVERTED.partition("/")[0]}
        return [name for folder in folders for name in folder.entries if name not in expected]


Request = Callable[[World], object]


@dataclass(frozen=True)
class Scenario:
    """Something that is asked for, the world before it, and what must hold at every instant and in the end."""

    name: str
    template: Callable[[], World]
    request: Request
    always: Callable[[World], list[str]]
    finally_: Callable[[World], list[str]]
    first: Request | None = None
    """What was asked for in the run that meets the first faults; None: the same."""
    fragile_copy: bool = False
    """Whether the copy on the volume may also rot between two runs."""


def empty(fragile: str = "external") -> World:
    internal, external = Node(Kind.FOLDER), Node(Kind.FOLDER)
    for name in (MOUNT_POINT, HUB, STATE):
        internal.entries[name] = Node(Kind.FOLDER)
    plant(external, IDENTITY, f"{ID}\n".encode())
    return World(internal, external, 0, fragile)


@cache
def warm() -> World:
    """The repository is in the cache, the volume is empty."""
    world = empty()
    for path, content in REPOSITORY.items():
        plant(world.internal.root, f"{HUB}/{REPO}/{path}", content)
    return world.clone(0)


@cache
def manifest() -> Manifest:
    """Of the repository."""
    return survey(warm().clone(0).hub, REPO, lambda length: None)


@cache
def cold() -> World:
    """The repository was moved to the volume; what is written to the internal disk may rot."""
    world = warm().clone(0)
    offloading(world)
    return World(world.internal.root.clone(), world.external.root.clone(), 0, "internal")


@cache
def base() -> World:
    """There is a model cache and nothing in it; what is written to the internal disk may rot."""
    return empty("internal").clone(0)


def offloading(world: World) -> None:
    """Ask for the offload."""
    offload(REPO, world.places(), at=1.0)


def restoring(world: World) -> None:
    """Ask for the restore."""
    restore(REPO, world.places(), at=1.0)


def returning(world: World) -> None:
    """Ask for the restore of what may never have left: then the volume need not have a copy."""
    try:
        restoring(world)
    except ActionError as error:
        if error.cause != "cold-copy-absent" or world.hub.look(REPO) is None:
            raise


def converting(world: World, protocol: type[Publication] = Publication) -> None:
    """Ask for the conversion, by a converter that writes its files and syncs nothing (fault C04)."""
    hub = world.hub
    if prepare(hub, CONVERTED) is None:
        convert(world, staging_folder(CONVERTED))
        protocol(hub, CONVERTED, Watch()).run(FACTS)


def convert(world: World, destination: str) -> None:
    """Write the converted model as a child process does; it refuses a destination that exists (fault C03)."""
    world.hub.make_folder(destination)
    world.hub.make_folder(f"{destination}/tok")
    for path, content in OUTPUT.items():
        world.hub.write(f"{destination}/{path}", [content[:10], content[10:]])


def last_copy(world: World) -> list[str]:
    bad = [] if world.copies() else ["I2: there is no complete copy any more"]
    if under := world.under_the_mount_point():
        bad.append(f"I7: written under the mount point: {under}")
    hub = world.internal.root.entries[HUB]
    if REPO in hub.entries and not holds(world.internal.root, f"{HUB}/{REPO}", REPOSITORY):
        bad.append("I6: the cache shows a folder that is not complete")
    if REPO in world.external.root.entries and not world.rotten and not holds(world.external.root, REPO, REPOSITORY):
        bad.append("I6: the volume shows a copy that is not complete")
    receipt = hub.entries.get(receipt_name(REPO))
    if REPO not in hub.entries and (receipt is None or parse_receipt(receipt.truth) is None):
        bad.append("I6: the folder is hidden and nothing says where it is")
    return bad


def is_cold(world: World) -> list[str]:
    bad = [] if world.copies() == [REPO] else [f"I5: not converged: {world.copies()}"]
    if REPO in world.internal.root.entries[HUB].entries:
        bad.append("I5: the folder is still in the cache")
    if not holds(world.external.root, REPO, {MARKER: manifest().text}):
        bad.append("I6: the copy is not marked as complete")
    receipt = found(world.internal.root, f"{HUB}/{receipt_name(REPO)}")
    said = parse_receipt(receipt.truth) if receipt is not None else None
    if said is None or (said.manifest, said.refs) != (manifest().digest, {"main": COMMIT}):
        bad.append("I5: the receipt is missing or says something else")
    return bad + [f"I8: litter: {name}" for name in world.litter()]


def is_warm(world: World) -> list[str]:
    bad = [] if f"{HUB}/{REPO}" in world.copies() else [f"I5: not converged: {world.copies()}"]
    if receipt_name(REPO) in world.internal.root.entries[HUB].entries:
        bad.append("I8: litter: the receipt")
    return bad


def _could_go(world: World) -> list[str]:
    """Back in the cache; what an offload that was given up has left is cleared by the next one."""
    bad = is_warm(world)
    later = world.clone(0)
    offloading(later)
    return bad + [f"{reason}, after another offload" for reason in is_cold(later)]


def is_back(world: World) -> list[str]:
    kept = [] if holds(world.external.root, REPO, REPOSITORY) else ["I5: the copy on the volume is gone"]
    return is_warm(world) + kept + [f"I8: litter: {name}" for name in world.litter()]


def _half_published(world: World) -> list[str]:
    bad = [f"I7: written under the mount point: {under}" for under in world.under_the_mount_point()]
    if found(world.internal.root, f"{HUB}/{CONVERTED}/{RECEIPT}") is None:
        if found(world.internal.root, f"{HUB}/{CONVERTED}") is not None:
            bad.append("I6: a conversion without a receipt has its name")
    elif not holds(world.internal.root, f"{HUB}/{CONVERTED}", OUTPUT):
        bad.append("I6: a half-written conversion has its name")
    return bad


def _is_published(world: World) -> list[str]:
    bad = [] if holds(world.internal.root, f"{HUB}/{CONVERTED}", OUTPUT) else ["I5: the conversion is not there"]
    receipt = found(world.internal.root, f"{HUB}/{CONVERTED}/{RECEIPT}")
    said = json.loads(receipt.truth) if receipt is not None else {}
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in OUTPUT.items()}
    if {path: entry["sha256"] for path, entry in said.get("files", {}).items()} != digests:
        bad.append("I5: the receipt is missing or says something else")
    folder = found(world.internal.root, f"{HUB}/{CONVERTED.partition('/')[0]}")
    names = folder.entries if folder is not None else {}
    return bad + [f"I8: litter: {name}" for name in names if name != CONVERTED.partition("/")[2]]


OTHER_COMMIT: Final = "d" * 40
OTHER: Final[Mapping[str, bytes | str]] = {
    f"blobs/{git_name(b'other')}": b"other",
    "refs/main": OTHER_COMMIT.encode(),
    f"snapshots/{OTHER_COMMIT}/config.json": f"../../blobs/{git_name(b'other')}",
}
"""A complete copy of another commit."""


@cache
def occupied() -> World:
    """The repository is in the cache, and the volume has a complete copy of another commit."""
    world = empty()
    for path, content in OTHER.items():
        plant(world.internal.root, f"{HUB}/{REPO}/{path}", content)
    offloading(world)
    for path, content in REPOSITORY.items():
        plant(world.internal.root, f"{HUB}/{REPO}/{path}", content)
    return world.clone(0)


@cache
def incomplete() -> World:
    """A blob of the repository is missing in the cache."""
    world = warm().clone(0)
    del world.internal.root.entries[HUB].entries[REPO].entries["blobs"].entries[_CONFIG_BLOB]
    return world.clone(0)


def refused(cause: str) -> Request:
    """An offload that ends with a refusal."""

    def ask(world: World) -> None:
        try:
            offloading(world)
        except ActionError as error:
            if error.cause != cause:
                raise
        else:
            raise ActionError("not-refused", f"an offload was not refused with {cause}")

    return ask


def _both_kept(world: World) -> list[str]:
    kept = holds(world.internal.root, f"{HUB}/{REPO}", REPOSITORY)
    other = any(holds(world.external.root, place, OTHER) for place in (REPO, f".{REPO}.old"))
    return [f"I2: {name} is gone" for name, there in (("the folder", kept), ("the other copy", other)) if not there]


def _rest_kept(world: World) -> list[str]:
    rest = {path: content for path, content in REPOSITORY.items() if not path.endswith(_CONFIG_BLOB)}
    kept = holds(world.internal.root, f"{HUB}/{REPO}", rest)
    bad = [] if kept else ["I2: what there was of the folder is gone"]
    if REPO in world.external.root.entries:
        bad.append("I6: a copy of an incomplete folder has its name")
    return bad


OCCUPIED: Final = Scenario("occupied", occupied, refused("destination-differs"), _both_kept, _both_kept)
INCOMPLETE: Final = Scenario("incomplete", incomplete, refused("source-incomplete"), _rest_kept, _rest_kept)
OFFLOAD: Final = Scenario("offload", warm, offloading, last_copy, is_cold, fragile_copy=True)
TURNED_BACK: Final = Scenario("turned-back", warm, returning, last_copy, _could_go, first=offloading, fragile_copy=True)
RESTORE: Final = Scenario("restore", cold, restoring, last_copy, is_back)
PUBLICATION: Final = Scenario("publication", base, converting, _half_published, _is_published)
