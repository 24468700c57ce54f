"""Brings weights to where servers load them and takes them away: the hub, verification, conversion, cold storage.

Every plan makes one of these and most use none of it, so what it needs is imported where it is used.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reconciler.adapters.cache.digests import Digests
from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.adapters.durable.locks import alone
from reconciler.model.host import HostFile
from reconciler.model.names import Subject, artifact_subject
from reconciler.model.supply import ConvertOrder, FetchOrder, MoveOrder, Progress, SourceCheck, VerifyOrder
from reconciler.ports.errors import ActionError, ObservationError
from reconciler.ports.host import Clock

from .machine import WORKING_SET

if TYPE_CHECKING:
    from reconciler.adapters.cold.moving import Places
    from reconciler.adapters.durable.copying import Watch
    from reconciler.adapters.durable.files import Files
    from reconciler.adapters.hub.client import HubClient

_WINDOW: Final = 10.0
"""Seconds over which a rate is measured."""
_CONFIG_LIMIT: Final = 64 * 2**20


class Meter:
    """How far one request is."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what, self._done = total, what, 0
        self._marks: list[tuple[float, int]] = [(time.monotonic(), 0)]

    def __call__(self, done: int, total: int) -> None:
        """Told by whoever does it."""
        self._done, self._total = done, total or self._total
        now = time.monotonic()
        self._marks = [mark for mark in self._marks if now - mark[0] <= _WINDOW] or self._marks[-1:]
        if now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, done))

    def stage(self, what: str, done: int) -> None:
        """A part of it begins again with the first byte."""
        if what != self._what:
            self._what, self._marks = what, [(time.monotonic(), 0)]
        self(done, self._total)

    @property
    def progress(self) -> Progress:
        """As of now."""
        at, before = self._marks[0]
        passed = time.monotonic() - at
        rate = max(0.0, (self._done - before) / passed) if passed > 0 else 0.0
        return Progress(done=self._done, total=self._total, what=self._what, rate=rate)


class LocalSupply:
    """The weights of this machine."""

    def __init__(
        self,
        artifacts: LocalArtifacts,
        digests: Digests,
        host_file: HostFile,
        state: Path,
        clock: Clock,
        environ: Mapping[str, str],
    ) -> None:
        """`state` is the state directory; `environ` is what only the child that asks the hub sees all of."""
        self._artifacts, self._digests, self._host_file = artifacts, digests, host_file
        self._state, self._clock, self._environ = state, clock, environ
        self._meters: dict[Subject, Meter] = {}

    def progress(self, subject: Subject) -> Progress | None:
        """How far the request about this subject is."""
        meter = self._meters.get(subject)
        return meter.progress if meter is not None else None

    @contextlib.contextmanager
    def _metered(self, reference: str, total: int, what: str) -> Iterator[Meter]:
        subject, meter = artifact_subject(reference), Meter(total, what)
        self._meters[subject] = meter
        try:
            yield meter
        finally:
            del self._meters[subject]

    # -------------------------------------------------------------------------------------------------------- the hub

    async def check(self, references: Sequence[str]) -> Mapping[str, SourceCheck]:
        """What the hub says about each."""
        return await self._hub().check(references)

    def _hub(self) -> "HubClient":
        from reconciler.adapters.hub.client import HubClient

        return HubClient(self._artifacts.home, self._environ, self._clock, workers=self._host_file.downloads.files)

    async def fetch(self, order: FetchOrder) -> None:
        """Download, then compare all of it. Raises ActionError."""
        with self._metered(order.reference, order.bytes, "downloading") as meter:
            await self._hub().fetch(order, meter)
            meter.stage("verifying", 0)
            await self._compared(order.result.path, order.reference, meter)
        await self._measured(order.result.path, order.runtime)

    async def verify(self, order: VerifyOrder) -> None:
        """Compare, and measure where the order names an environment for it. Raises ActionError."""
        with self._metered(order.reference, order.bytes, "verifying") as meter:
            if order.bytes:
                await self._compared(order.path, order.reference, meter)
        await self._measured(order.path, order.runtime)

    async def _compared(self, path: str, reference: str, meter: Meter) -> None:
        import asyncio
        import threading

        from reconciler.adapters.cache.verification import verify

        stop = threading.Event()
        try:
            promises = self._artifacts.promises(path)
        except ObservationError as error:
            raise ActionError("unreadable", f"{reference} could not be read: {error}") from error
        try:
            bad = await verify(promises, self._digests, meter, stop.is_set)
        except asyncio.CancelledError:
            stop.set()
            raise
        if bad:
            names = ", ".join(bad[:3]) + (", ..." if len(bad) > 3 else "")  # noqa: PLR2004
            place = f"what was converted from {reference}" if "/converted--" in path else reference
            raise ActionError(
                "artifact-corrupt", f"the content of {names} in {place} is not what it was; nothing was removed"
            )

    async def _measured(self, path: str, runtime: tuple[str, ...]) -> None:
        """Remember what the model takes in memory by its own code, or that this cannot be known."""
        if not runtime:
            return
        import asyncio
        import json

        from reconciler.adapters.memory.model_memory import as_document, measure
        from reconciler.adapters.memory.model_memory_key import memory_key

        try:
            text = await asyncio.to_thread(_content, f"{path}/config.json")
            config = json.loads(text)
        except (OSError, ValueError, RecursionError):
            return
        reasons: list[str] = []
        measured = await measure(config, runtime, tell=reasons.append)
        value = {"error": "; ".join(reasons)} if measured is None else as_document(measured)
        if measured is not None and measured.working_set is not None:
            self._digests.remember_measure(WORKING_SET, {"bytes": measured.working_set})
        self._digests.remember_measure(memory_key(text), value)

    # ----------------------------------------------------------------------------------------------------- conversion

    async def convert(self, order: ConvertOrder) -> None:
        """Run the converter. Raises ActionError."""
        from reconciler.adapters.conversion.converter import convert

        with self._metered(order.reference, order.disk, "converting") as meter:
            await convert(order, hub=self._artifacts.home, report=meter, now=self._clock.now)
            # Its digests were made while it was published: this reads nothing but what is not remembered.
            path = f"{self._artifacts.home}/{order.recipe.folder}"
            await self._compared(path, order.reference, meter)

    # --------------------------------------------------------------------------------------------------- cold storage

    async def offload(self, order: MoveOrder) -> None:
        """Move a repository to its volume. Raises ActionError."""
        from reconciler.adapters.cold.moving import offload
        from reconciler.adapters.durable.threads import in_thread

        def work(watch: "Watch") -> None:
            with self._moving(order) as (folder, places):
                _refuse_used(f"{self._artifacts.home}/{folder}", order.repo)
                offload(folder, places, at=self._clock.now(), watch=watch)

        with self._metered(order.reference, order.bytes, "reading") as meter:
            await in_thread(work, meter.stage)

    async def restore(self, order: MoveOrder) -> None:
        """Bring it back; what was copied is compared before it gets its name. Raises ActionError."""
        from reconciler.adapters.cold.restoring import restore
        from reconciler.adapters.durable.threads import in_thread

        def work(watch: "Watch") -> None:
            with self._moving(order) as (folder, places):
                restore(folder, places, at=self._clock.now(), watch=watch)

        with self._metered(order.reference, order.bytes, "reading") as meter:
            await in_thread(work, meter.stage)
            meter.stage("verifying", 0)
            await self._compared(order.artifact.path, order.reference, meter)

    @contextlib.contextmanager
    def _moving(self, order: MoveOrder) -> "Iterator[tuple[str, Places]]":
        """The folder and the places of a move, with the lock of this repository."""
        from reconciler.adapters.cold.moving import Places
        from reconciler.adapters.cold.receipts import repository_folder
        from reconciler.adapters.durable.files import LocalFiles

        home, folder = self._artifacts.home, repository_folder(order.repo)
        record = self._state / "moves"
        record.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = self._host_file.volumes.get(order.volume)
        if place is None:
            raise ActionError("volume-unnamed", f"the host file names no volume {order.volume}; nothing was moved")
        busy = ActionError("move-busy", f"{order.repo} is being moved by another run; nothing was changed")
        # Beside the library's own locks, where its tools look for nothing else.
        os.makedirs(f"{home}/.locks", exist_ok=True)
        with (
            alone(f"{home}/.locks/{folder}.reconciler", busy),
            LocalFiles(home) as hub,
            LocalFiles(str(record)) as notes,
        ):

            def opened() -> "AbstractContextManager[Files]":
                return self._volume(order.volume, hub)

            yield folder, Places(hub=hub, record=notes, volume=order.volume, identity=place.id, open_volume=opened)

    def _volume(self, name: str, hub: "Files") -> "AbstractContextManager[Files]":
        place = self._host_file.volumes[name]
        if place.host is not None:
            from reconciler.adapters.cold.remote_volume import connected

            return connected(place, self._environ)
        from reconciler.adapters.cold.volume import mounted

        return mounted(place.path, place.id, cache=hub, separate=place.separate)


def _refuse_used(folder: str, repo: str) -> None:
    """Any process that was started with a path in the folder keeps it here: a server of another state directory too.

    Raises ActionError. The run records say it of our own servers before; this sees what nobody told us.
    """
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if any(f"{folder}/" in f"{word}/" for word in words):
            program = os.path.basename(next(iter(words), ""))
            raise ActionError(
                "source-in-use",
                f"{repo} stays here: pid {process.pid} ({program}) was started with it; nothing was moved",
                permanent=True,
            )


def _content(path: str) -> bytes:
    from reconciler.adapters.cache.weights import read_file

    return read_file(path, _CONFIG_LIMIT)
