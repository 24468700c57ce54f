"""The weights of one machine twice: of the in-memory world, and real files, a real volume and a hub over HTTP."""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from reconciler.adapters.cache.digests import Digests
from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.cold.volume import initialise
from reconciler.adapters.supply import LocalSupply
from reconciler.model.host import ColdVolume, HostFile
from reconciler.model.observed import Artifact, Observation, Present
from reconciler.model.supply import RemoteFile, SourceCheck
from reconciler.ports.host import Artifacts, Supply
from tests.adapters.hub_parts import environment
from tests.programs.fake_hub import Hub, Kind, Repo, commit, serving
from tests.programs.tiny_cache import TinyCache, model_files, write_folder
from tests.world.script import Script
from tests.world.store import HOME, Store
from tests.world.truth import Truth
from tests.world.virtual_time import EPOCH, VirtualTime, run
from tests.world.world import World

T = TypeVar("T")

REPO: Final = "org/one"
REFERENCE: Final = f"{REPO}@main"
"""May be put into the cache."""
OFFERED: Final = "org/two@main"
"""May be had from the hub."""
WITHHELD: Final = "org/three@main"
"""At the hub, and nobody has been let in."""
COLD: Final = "backroom"
_SIZE: Final = 1_000
_WEIGHTS: Final = "model.safetensors"


class Weights(ABC):
    """Ports that look at weights and move them, and what may befall these from outside."""

    artifacts: Artifacts
    supply: Supply
    place: str
    """Where its volume is mounted."""
    commit: str
    """Of what the hub offers."""

    @abstractmethod
    def do(self, request: Coroutine[Any, Any, T]) -> T:
        """Await one request."""

    @abstractmethod
    def put(self) -> None:
        """A whole repository that nobody has read."""

    @abstractmethod
    def spoil(self) -> None:
        """One byte of its weights is another, and no look shows it."""

    @abstractmethod
    def mount(self, mounted: bool) -> None:
        """Connect the volume, or pull it out."""

    @abstractmethod
    def unplug(self) -> None:
        """Nobody reaches the hub any more."""

    @abstractmethod
    def go_offline(self) -> None:
        """Nobody may ask the hub any more."""

    def found(self, reference: str = REFERENCE) -> Observation[Artifact]:
        """What a look shows."""
        return self.artifacts.look([reference])[reference]

    def here(self, reference: str = REFERENCE) -> Artifact:
        """The same, of what must be there."""
        found = self.found(reference)
        assert isinstance(found, Present), found
        return found.value


class InMemory(Weights):
    """The world."""

    def __init__(self) -> None:
        self.place, self.commit = "/mnt/backroom", "c2"
        volumes = {COLD: ColdVolume(path=self.place, id="0" * 32)}
        files = (RemoteFile(name=_WEIGHTS, size=_SIZE), RemoteFile(name="config.json", size=10))
        said = SourceCheck(at=EPOCH, commit=self.commit, files=files, weight_bytes=_SIZE, converted=True)
        gated = SourceCheck(at=EPOCH, problem="source-gated", reason="nobody has been let in", hint="ask for access")
        store = Store(hub={OFFERED: said, WITHHELD: gated}, volumes={COLD: 2**40})
        self.world = World(Truth(store=store, offline=False), HostFile(volumes=volumes), Script(durations=(0.0,)))
        self.artifacts, self.supply = self.world.host().artifacts, self.world.host().supply
        self._time: VirtualTime = self.world.time

    def do(self, request: Coroutine[Any, Any, T]) -> T:
        return run(request, self._time)

    def put(self) -> None:
        made = Artifact(
            identity="c1",
            path=f"{HOME}/models--org--one/snapshots/c1",
            unverified=_SIZE,
            weight_bytes=_SIZE,
            disk_bytes=_SIZE,
            converted=True,
        )
        self.world.truth.artifacts[REFERENCE] = Present(value=made)

    def spoil(self) -> None:
        self.world.truth.store.rotten.add(REFERENCE)

    def mount(self, mounted: bool) -> None:
        if mounted:
            self.world.truth.store.volumes[COLD] = 2**40
        else:
            del self.world.truth.store.volumes[COLD]

    def unplug(self) -> None:
        self.world.truth.store.down = True

    def go_offline(self) -> None:
        self.world.truth.offline = True


class OnDisk(Weights):
    """The real adapters: files below one folder, and a hub on this machine."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.hub, self.commit = hub, commit(hub.repos[OFFERED.partition("@")[0]].folder)
        self._volume = folder / "volume"
        self._volume.mkdir()
        self.place = str(self._volume)
        self._cache = TinyCache(folder / "hf" / "hub")
        self._cache.root.mkdir(parents=True)
        self._commit = ""
        volumes = {COLD: ColdVolume(path=self.place, id=initialise(self.place), separate=False)}
        self._environ = environment(hub, folder / "hf")
        digests = Digests(folder / "state")
        self.artifacts = LocalArtifacts(str(self._cache.root), volumes=volumes, digests=digests)
        self.supply = LocalSupply(
            self.artifacts, digests, HostFile(volumes=volumes), folder / "state", SystemClock(), self._environ
        )

    def do(self, request: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(request)

    def put(self) -> None:
        self._commit = self._cache.add(REPO, model_files())

    def spoil(self) -> None:
        blob = self._cache.blob(REPO, self._commit, _WEIGHTS)
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    def mount(self, mounted: bool) -> None:
        away = self._volume.with_name("pulled out")
        os.rename(*((away, self._volume) if mounted else (self._volume, away)))

    def unplug(self) -> None:
        self._environ["HF_ENDPOINT"] = "http://127.0.0.1:9"

    def go_offline(self) -> None:
        self._environ["HF_HUB_OFFLINE"] = "1"


@contextmanager
def in_memory(folder: Path) -> Iterator[Weights]:
    """The world; no rule of it may be broken by what the test does."""
    made = InMemory()
    yield made
    made.world.verify()


@contextmanager
def on_disk(folder: Path) -> Iterator[Weights]:
    """This machine, in a folder of the test."""
    offered = folder / "offered"
    write_folder(offered, model_files(length=80))
    repos = {OFFERED.partition("@")[0]: Repo(offered), WITHHELD.partition("@")[0]: Repo(offered, Kind.GATED)}
    with serving(repos) as hub:
        yield OnDisk(folder, hub)
