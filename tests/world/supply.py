"""The ports of a world that look at weights, bring them and take them away."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.model.names import Subject, artifact_subject
from reconciler.model.observed import (
    Absent,
    Artifact,
    ColdCopy,
    Observation,
    Present,
    Storage,
    Unknown,
    Volume,
)
from reconciler.model.supply import (
    ConvertOrder,
    FetchOrder,
    Holding,
    MoveOrder,
    Place,
    Progress,
    SourceCheck,
    VerifyOrder,
)
from reconciler.ports.errors import ActionError

from . import rules
from .store import HOME, whole

if TYPE_CHECKING:
    from .world import World

RETRY = 30.0
"""Seconds after which a hub that did not answer is asked again."""


class Artifacts:
    """The port that looks."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def look(self, references: Iterable[str]) -> Mapping[str, Observation[Artifact]]:
        self._world.catch_up()
        return {reference: self._world.truth.artifacts.get(reference, Absent()) for reference in references}

    look_again = look

    def storage(self, references: Iterable[str]) -> Storage:
        store, artifacts = self._world.truth.store, self._world.truth.artifacts
        asked = list(references)
        gone = [r for r in asked if isinstance(artifacts.get(r, Absent()), Absent)]
        volumes: dict[str, Observation[Volume]] = {}
        for name, place in self._world.host_file.volumes.items():
            room = store.volumes.get(name)
            volumes[name] = Absent() if room is None else Present(value=Volume(path=place.path, free=room))
        return Storage(
            conversions={r: made for r in asked if (made := store.conversions.get(r))},
            cold={r: store.cold[r] for r in gone if r in store.cold},
            volumes=volumes,
            free=Unknown(reason="nobody can say") if store.free is None else Present(value=store.free),
            converter="mlx-lm 0.32.2",
            home=HOME,
        )

    def inventory(self) -> tuple[Holding, ...]:
        """What is in the cache of this world."""
        found = self._world.truth.artifacts.items()
        return tuple(
            Holding(
                place=Place.CACHE,
                name=r.partition("@")[0],
                path=a.value.path,
                bytes=a.value.disk_bytes,
                references=(r,),
            )
            for r, a in found
            if isinstance(a, Present)
        )


class Supply:
    """The port that brings and takes away."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def progress(self, subject: Subject) -> Progress | None:
        return None

    async def check(self, references: Sequence[str]) -> Mapping[str, SourceCheck]:
        world = self._world
        world.require(not world.truth.offline, "asked-offline", f"the hub was asked about {references}")
        answers = {}
        for reference in references:
            async with world.request("ensure", artifact_subject(reference)) as work:
                await work.start()
                answers[reference] = self._answer(reference)
        return answers

    def _answer(self, reference: str) -> SourceCheck:
        world, store = self._world, self._world.truth.store
        if store.down:
            said = "the hub does not answer"
            return SourceCheck(at=world.now, problem="hub-unreachable", reason=said, retry_at=world.now + RETRY)
        known = {f"{r.partition('@')[0]}@{check.commit}": check for r, check in store.hub.items()}
        found = store.hub.get(reference) or known.get(reference)
        missing = SourceCheck(at=world.now, problem="source-not-found", reason="the hub has no such repository")
        return replace(found, at=world.now) if found is not None else missing

    @contextmanager
    def _writing(self, reference: str, bytes_: int) -> Iterator[None]:
        """Room that others cannot have meanwhile."""
        store = self._world.truth.store
        rules.before_writing(self._world, reference, bytes_)
        store.claimed[reference] = bytes_
        try:
            yield
        finally:
            del store.claimed[reference]

    def _written(self, bytes_: int) -> None:
        """The disk has this much less room. Raises ActionError where somebody else has taken it meanwhile."""
        store = self._world.truth.store
        if store.free is not None and bytes_ > store.free:
            raise ActionError("disk-full", "somebody else has filled the disk")
        store.free = None if store.free is None else store.free - bytes_

    def _volume(self, order: MoveOrder) -> None:
        if order.volume not in self._world.truth.store.volumes:
            raise ActionError("volume-unmounted", "the volume is not mounted", permanent=True)

    def _well(self, reference: str) -> None:
        if reference in self._world.truth.store.sick:
            raise ActionError("sick", "it cannot be done with this one", permanent=True)

    async def fetch(self, order: FetchOrder) -> None:
        world, store = self._world, self._world.truth.store
        rules.before_fetch(world, order)
        async with world.request("ensure", artifact_subject(order.reference)) as work:
            with self._writing(order.reference, order.bytes):
                await work.start()
                self._well(order.reference)
                if world.truth.artifacts.get(order.reference, Absent()) == Absent():
                    begun = replace(order.result, missing=("model.safetensors",))
                    world.truth.artifacts[order.reference] = Present(value=begun)
                await work.half()
                if store.down:
                    raise ActionError("hub-unreachable", "the hub does not answer")
                self._written(order.bytes)
                store.rotten.discard(order.reference)
                world.truth.artifacts[order.reference] = Present(value=order.result)
                rules.copies_are_kept(world)

    async def verify(self, order: VerifyOrder) -> None:
        world, store = self._world, self._world.truth.store
        rules.before_verify(world, order)
        async with world.request("ensure", artifact_subject(order.reference)) as work:
            await work.start()
            found = world.truth.artifacts.get(order.reference)
            if isinstance(found, Present) and found.value.path == order.path:
                read = _read(found.value, order, order.reference in store.rotten)
                world.truth.artifacts[order.reference] = Present(value=read)
            store.conversions[order.reference] = tuple(
                replace(c, artifact=_read(c.artifact, order, f"{order.reference} {c.recipe.key}" in store.rotten))
                if c.artifact.path == order.path
                else c
                for c in store.conversions.get(order.reference, ())
            )

    async def convert(self, order: ConvertOrder) -> None:
        world, store = self._world, self._world.truth.store
        rules.before_convert(world, order)
        async with world.request("convert", artifact_subject(order.reference)) as work:
            world.converting[order.reference] = order.memory
            try:
                with self._writing(order.reference, order.disk):
                    await work.start()
                    self._well(order.reference)
                    await work.half()
                    if not whole(world.truth.artifacts.get(order.reference)):
                        raise ActionError("source-changed", "the source is gone")
                    self._written(order.disk)
                    others = [c for c in store.conversions.get(order.reference, ()) if c.recipe.key != order.recipe.key]
                    store.conversions[order.reference] = (*others, replace(order.result, made_at=world.now))
                    store.rotten.discard(f"{order.reference} {order.recipe.key}")
                    rules.copies_are_kept(world)
            finally:
                del world.converting[order.reference]

    async def offload(self, order: MoveOrder) -> None:
        world, store = self._world, self._world.truth.store
        rules.before_offload(world, order)
        async with world.request("offload", artifact_subject(order.reference)) as work:
            await work.start()
            self._volume(order)
            found = world.truth.artifacts.get(order.reference)
            if not whole(found) or not isinstance(found, Present) or order.reference in store.rotten:
                raise ActionError("source-corrupt", "the source is not whole", permanent=True)
            if order.reference not in store.cold:
                store.volumes[order.volume] -= order.bytes
            store.cold[order.reference] = ColdCopy(
                volume=order.volume, path=order.path, bytes=order.bytes, artifact=found.value, at=world.now
            )
            await work.half()
            rules.at_removal(world, order)
            # What was damaged meanwhile goes all the same: the copy is whole.
            world.truth.artifacts.pop(order.reference, None)
            store.rotten.discard(order.reference)
            store.free = None if store.free is None else store.free + order.bytes
            rules.copies_are_kept(world)

    async def restore(self, order: MoveOrder) -> None:
        world, store = self._world, self._world.truth.store
        rules.before_restore(world, order)
        async with world.request("restore", artifact_subject(order.reference)) as work:
            with self._writing(order.reference, order.bytes):
                await work.start()
                self._volume(order)
                await work.half()
                self._volume(order)
                self._written(order.bytes)
                store.rotten.discard(order.reference)
                world.truth.artifacts[order.reference] = Present(value=store.cold[order.reference].artifact)
                rules.copies_are_kept(world)


def _read(artifact: Artifact, order: VerifyOrder, rotten: bool) -> Artifact:
    """What is known once all of it was read, and it was measured where the order says so."""
    bad = ("model.safetensors",) if rotten else ()
    return replace(artifact, unverified=0, corrupt=bad, measurable=artifact.measurable and not order.runtime)
