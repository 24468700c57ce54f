"""A model cache, a state directory and a volume as real folders, and processes that die at a chosen step."""

import hashlib
import json
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from reconciler.adapters.cold.moving import Places, offload
from reconciler.adapters.cold.receipts import Receipt, receipt_name
from reconciler.adapters.cold.restoring import restore
from reconciler.adapters.cold.volume import IDENTITY, check
from reconciler.adapters.durable.copying import Watch
from reconciler.adapters.durable.files import Files, LocalFiles
from reconciler.adapters.durable.manifest import MARKER
from reconciler.ports.errors import ActionError

REPO: Final = "models--acme--Tiny-1B"
GRAVE: Final = f".{REPO}.offloaded"
ID: Final = "ab" * 16
COMMIT: Final = "1" * 40
SHARDS: Final = tuple(f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
CONTENT: Final[Mapping[str, bytes]] = {
    "config.json": b'{"model_type": "tiny"}',
    SHARDS[0]: b"first shard" * 20,
    SHARDS[1]: b"second shard" * 20,
    "model.safetensors.index.json": json.dumps({"weight_map": dict(zip("ab", SHARDS, strict=True))}).encode(),
    "onnx/config.json": b"{}",
}
AT: Final = 1_700_000_000.0
REFUSED: Final = 3
"""Exit status of a child whose request was refused."""


def blob_name(name: str, content: bytes) -> str:
    """Weights are kept by LFS, under their SHA-256; all else by git."""
    if name.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def add_commit(folder: Path, content: Mapping[str, bytes], commit: str = COMMIT, ref: str = "main") -> None:
    """Put one commit into a repository folder, as a finished download leaves it."""
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        pointer = folder / "snapshots" / commit / name
        pointer.parent.mkdir(parents=True, exist_ok=True)
        (folder / "blobs" / blob_name(name, data)).write_bytes(data)
        pointer.symlink_to(f"{'../' * (2 + name.count('/'))}blobs/{blob_name(name, data)}")
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / ref).write_text(commit)


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """path -> content, target of a link, or None for a folder."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """path -> inode and time of the last change; reading or syncing leaves both."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {str(path): ((status := path.lstat()).st_ino, status.st_mtime_ns) for path in paths}


@dataclass
class Failpoint:
    """At the n-th step the process is killed, or the request is answered with an error."""

    at: int
    act: int
    """0: killed; otherwise the number of the error."""
    count: int = 0

    def step(self) -> None:
        """Count one step."""
        self.count += 1
        if self.count == self.at:
            if not self.act:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(self.act, os.strerror(self.act))


class FailingFiles(LocalFiles):
    """Real files, whose changes are steps.

    Where a step fails nothing is synced for real: what a process has written outlives it, only a loss of power takes
    it, and that is for the simulated disks. It makes the loops over all steps ten times as fast.
    """

    def __init__(self, root: str, point: Failpoint) -> None:
        super().__init__(root)
        self._point = point

    def make_folder(self, path: str) -> None:
        self._point.step()
        super().make_folder(path)

    def link(self, path: str, target: str) -> None:
        self._point.step()
        super().link(path, target)

    def write(self, path: str, chunks: Iterable[bytes]) -> None:
        self._point.step()
        super().write(path, self._stepped(chunks))

    def sync(self, path: str) -> None:
        self._point.step()
        if not self._point.at:
            super().sync(path)
        elif path and self.look(path) is None:
            raise FileNotFoundError(path)

    def digest(self, path: str, watch: Callable[[int], None] = lambda read: None) -> str:
        return hashlib.sha256(self.read(path)).hexdigest() if self._point.at else super().digest(path, watch)

    def rename(self, old: str, new: str) -> None:
        self._point.step()
        super().rename(old, new)

    def remove(self, path: str) -> None:
        self._point.step()
        super().remove(path)

    def remove_folder(self, path: str) -> None:
        self._point.step()
        super().remove_folder(path)

    def _stepped(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk[: len(chunk) // 2]
            self._point.step()
            yield chunk[len(chunk) // 2 :]


@dataclass
class Place:
    """Real folders below one."""

    root: Path
    point: Failpoint = field(default_factory=lambda: Failpoint(0, 0))
    opened: int = 0
    """How many connections to the volume there were."""
    between: Callable[[int], None] = lambda number: None
    """Called before each of them with its number."""

    def __post_init__(self) -> None:
        for folder in (self.hub, self.state, self.volume):
            folder.mkdir(parents=True)
        (self.volume / IDENTITY).write_text(ID)

    @property
    def hub(self) -> Path:
        return self.root / "hub"

    @property
    def state(self) -> Path:
        return self.root / "moves"

    @property
    def volume(self) -> Path:
        return self.root / "volume"

    @property
    def source(self) -> Path:
        return self.hub / REPO

    @property
    def cold(self) -> Path:
        return self.volume / REPO

    @property
    def receipt(self) -> Path:
        return self.hub / receipt_name(REPO)

    def blob(self, name: str) -> Path:
        """Where the content of a file of the repository is."""
        return self.source / "blobs" / blob_name(name, CONTENT[name])

    @contextmanager
    def places(self) -> Iterator[Places]:
        """What a request is given."""
        with FailingFiles(str(self.hub), self.point) as hub, FailingFiles(str(self.state), self.point) as record:
            yield Places(hub=hub, record=record, volume="shelf", identity=ID, open_volume=self.open_volume)

    def open_volume(self) -> AbstractContextManager[Files]:
        """A new connection to the volume; it is a folder of the same disk here."""
        self.opened += 1
        self.between(self.opened)
        files = FailingFiles(str(self.volume), self.point)
        check(files, str(self.volume), ID, cache=None)
        return files

    def offload(self, watch: Watch | None = None) -> Receipt:
        """Ask for it."""
        with self.places() as places:
            return offload(REPO, places, at=AT, watch=watch)

    def restore(self, watch: Watch | None = None) -> None:
        """Ask for it."""
        with self.places() as places:
            restore(REPO, places, at=AT, watch=watch)


def in_child(work: Callable[[], object]) -> int:
    """Do it in a process of its own: 0, REFUSED, or the negative number of the signal that ended it."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        except ActionError:
            status = REFUSED
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def persistently(work: Callable[[], object]) -> Callable[[], object]:
    """The same, asked up to three times."""

    def ask() -> object:
        for _ in range(2):
            try:
                return work()
            except ActionError:
                continue
        return work()

    return ask


def filled(root: Path) -> Place:
    """A place with the repository in its cache."""
    made = Place(root)
    add_commit(made.source, CONTENT)
    return made


def refusal(ask: Callable[[], object]) -> ActionError:
    """Why a request was refused; that it was is asserted."""
    with pytest.raises(ActionError) as raised:
        ask()
    return raised.value


def without_marker(folder: Path) -> dict[str, bytes | str | None]:
    """What a copy has of the repository."""
    return {path: content for path, content in tree(folder).items() if path != MARKER}


def complete(place: Place, whole: dict[str, bytes | str | None]) -> list[str]:
    """Where there is a complete copy."""
    folders = {"hub": place.source, "grave": place.hub / GRAVE, "cold": place.cold}
    return [name for name, folder in folders.items() if folder.is_dir() and without_marker(folder) == whole]


def is_cold(place: Place, whole: dict[str, bytes | str | None]) -> None:
    """It is on the volume, and nothing else is left."""
    assert complete(place, whole) == ["cold"]
    assert os.listdir(place.hub) == [receipt_name(REPO)]
    assert sorted(os.listdir(place.volume)) == sorted([".reconciler-volume", REPO])
    assert os.listdir(place.state) == []


def is_back(place: Place, whole: dict[str, bytes | str | None]) -> None:
    """It is in the cache and on the volume, and nothing else is left."""
    assert complete(place, whole) == ["hub", "cold"]
    assert os.listdir(place.hub) == [REPO]
    assert os.listdir(place.state) == []
